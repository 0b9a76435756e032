"""One episode: a fresh cluster under load and faults, then healed; then progress is demanded."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

import trio

from bench.processes.clients import Clients, running
from bench.processes.faults import Fault, Scene
from bench.processes.network import Network
from bench.processes.nodes import STORE_FAILED, Broken, Cluster, a_cluster
from bench.processes.stores import Disk, disks

GROUPS: Final = 4
WARM_SECONDS: Final = 3.0
CALM: Final = (0.5, 3.0)
"""Between faults."""
PROGRESS_SECONDS: Final = 30.0
"""From healing until writes work everywhere, all nodes are ready, and all replicas hold the same."""

HASHES_SECONDS: Final = 25.0
EPISODE_SECONDS: Final = 900.0
"""Nothing takes so long; what does hangs."""


@dataclass(frozen=True)
class Plan:
    """What is to happen in an episode."""

    number: int
    seed: str
    nodes: int
    faults: Sequence[type[Fault]]
    workloads: Sequence[str]
    seconds: float
    """Of load, about."""
    longest: float = float("inf")
    """Of any fault."""


@dataclass
class Happened:
    """A fault as it happened. Times are of the machine's monotonic clock."""

    name: str
    begin: float
    text: str = ""
    end: float = 0.0


@dataclass
class Outcome:
    """What came of an episode."""

    number: int
    seed: str
    nodes: int
    workloads: list[str]
    begin: float = 0.0
    end: float = 0.0
    healed: float = 0.0
    progress_seconds: float | None = None
    faults: list[Happened] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    verdicts: dict[str, dict[str, Any]] = field(default_factory=dict)
    kept: str | None = None
    """The directory in which everything was left, of a failed episode."""

    @property
    def is_good(self) -> bool:
        """No violation, no hang, nothing undone."""
        return not self.problems

    def to_json(self) -> str:
        """As the report reads it."""
        return json.dumps(asdict(self))


class Episode:
    """An episode under way."""

    def __init__(
        self, plan: Plan, cluster: Cluster, clients: Clients, outcome: Outcome, mounted: dict[str, Disk]
    ) -> None:
        self._disks: Final = mounted
        self._plan: Final = plan
        self._cluster: Final = cluster
        self._clients: Final = clients
        self._outcome: Final = outcome
        self._random: Final = Random(plan.seed)

    async def run(self) -> None:
        """Faults, healing, and the demand that work goes on. Raises :class:`Broken`."""
        await trio.sleep(WARM_SECONDS)
        async with trio.open_nursery() as nursery:
            notes = self._outcome.notes
            scene = Scene(self._cluster, self._clients, self._random, nursery, self._disks, notes)
            await self._faults(scene)
            nursery.cancel_scope.cancel()
        await self._heal()
        self._outcome.healed = time.monotonic()
        # A node that is damaged is missing for good, which it may find out only when it is asked for hashes:
        # that question waits for it, and so does the next one.
        may_lose = any(kind.IS_LAST for kind in self._plan.faults)
        seconds = PROGRESS_SECONDS + (2 * HASHES_SECONDS if may_lose else 0.0)
        with trio.move_on_after(seconds) as scope:
            await self._progress()
        if scope.cancelled_caught:
            raise Broken(f"no progress within {seconds:.0f} s after healing: {self._missing}")
        self._outcome.progress_seconds = time.monotonic() - self._outcome.healed
        told = await self._clients.ask("stop")
        if told["hung"]:
            raise Broken(f"calls that never end: {'; '.join(told['hung'])}")

    async def _faults(self, scene: Scene) -> None:
        """One after the other; now and then a second one on top of the first."""
        waiting = [kind(scene) for kind in self._plan.faults]
        while waiting:
            first = waiting.pop(0)
            second = None
            if waiting and not first.IS_LAST and not waiting[0].IS_LAST and self._random.randrange(4) == 0:
                other = waiting[0]
                second = waiting.pop(0) if other.TOUCHES != first.TOUCHES else None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._happen, first, 0.0)
                if second is not None:
                    nursery.start_soon(self._happen, second, self._random.uniform(0.0, 2.0))
            await trio.sleep(self._random.uniform(*CALM))

    async def _happen(self, fault: Fault, delay: float) -> None:
        seconds = min(self._random.uniform(*fault.SECONDS), self._plan.longest)
        await trio.sleep(delay)
        self._cluster.check()
        happened = Happened(fault.NAME, time.monotonic())
        self._outcome.faults.append(happened)
        try:
            happened.text = await fault.begin()
            await trio.sleep(seconds)
        finally:
            with trio.CancelScope(shield=True):
                await fault.end()
            happened.end = time.monotonic()

    async def _heal(self) -> None:
        """Starts again what ended, which it may only for a reason."""
        self._cluster.check()
        for name in self._cluster.names:
            said = await self._cluster.clear_away(name)
            if said is None:
                continue
            self._outcome.notes.append(said)
            if STORE_FAILED not in said:
                # It came upon damage while it ran; started again, it would only say so once more.
                self._cluster.lost.add(name)
        nodes = self._cluster.nodes.values()
        await self._cluster.start_all(
            [node.name for node in nodes if not node.is_up and node.name not in self._cluster.lost]
        )

    async def _progress(self) -> None:
        self._missing = "no write"
        while True:
            await self._heal()
            told = await self._clients.ask("write", 5.0)
            if "error" in told:
                self._missing = f"writes: {told['error']}"
                await trio.sleep(0.2)
                continue
            told = await self._clients.ask("hashes", HASHES_SECONDS)
            if told.get("differing"):
                raise Broken(f"replicas hold different state in groups {told['differing']}")
            wanting = self._wanting(told)
            if not wanting and told["ready"]:
                return
            self._missing = "; ".join(wanting) or "not ready"
            await trio.sleep(0.2)

    def _wanting(self, told: dict[str, Any]) -> list[str]:
        """Why it is not over yet; what concerns nodes that are lost for good is none."""
        lost = self._cluster.lost
        gone = {at for at, name in enumerate(self._cluster.names, 1) if name in lost}
        missing = [[group, node] for group, node in told.get("missing", []) if node not in gone]
        away = [name for name in told.get("away", []) if name not in lost]
        return [
            *([str(told["error"])] if "error" in told else []),
            *([f"no hash from group and node {missing}"] if missing else []),
            *([f"not connected: {', '.join(away)}"] if away else []),
        ]


async def play(plan: Plan, network: Network, directory: Path) -> Outcome:
    """Plays an episode, whatever it comes to; its histories are in ``directory`` then, and not judged yet."""
    outcome = Outcome(plan.number, plan.seed, plan.nodes, list(plan.workloads), begin=time.monotonic())
    names = network.nodes[: plan.nodes]
    try:
        store = next((kind.STORE for kind in plan.faults if kind.STORE), None)
        async with (
            a_cluster(network, names, directory, groups=GROUPS) as cluster,
            disks(store, cluster) as mounted,
        ):
            await cluster.start_all(names)
            async with running(cluster, plan.workloads, Random(plan.seed).randrange(1 << 32)) as clients:
                try:
                    with trio.fail_after(EPISODE_SECONDS):
                        await Episode(plan, cluster, clients, outcome, mounted).run()
                finally:
                    outcome.samples = clients.samples
                    outcome.problems += [f"{name} showed a traceback" for name in cluster.tracebacks()]
    except* Broken as group:
        outcome.problems += [str(error) for error in _leaves(group)]
    except* Exception as group:
        outcome.problems += ["".join(traceback.format_exception(error)) for error in _leaves(group)]
    outcome.end = time.monotonic()
    for lines in (outcome.problems, outcome.notes):
        lines[:] = [line.replace(f"{directory}/", "").replace(str(directory), "…") for line in lines]
    return outcome


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
