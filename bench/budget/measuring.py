"""Takes the accounts of a cluster and its client under load, and profiles them under the same load again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from bench.budget.accounts import Account, Accounting, mean
from bench.budget.profilers import Profiler
from bench.budget.results import CLIENT, LEADER, OTHER, Loaded, Part
from bench.budget.stacks import Profile
from bench.budget.steps import step_of
from bench.runs.loader import BEYOND_SECONDS
from bench.runs.quorate_subject import QUORATE, DevCluster
from bench.runs.results import Load, Shape
from bench.runs.runner import Watcher, run_load
from router.client import connect
from router.url import parse_url

WARM_UP: Final = 1.0
PROFILED: Final = 0.8
"""Of the time of a load: the profiler takes a while to begin, and is to end before the load does."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """Processes of a cluster under load."""

    leader: int
    others: Sequence[int]


class Profiling:
    """Profiles processes from where the warm-up ended; see :class:`bench.runs.runner.Watcher`."""

    def __init__(self, profiler: Profiler, nodes: Nodes, seconds: float, directory: Path) -> None:
        self._profiler: Final = profiler
        self._nodes: Final = nodes
        self._seconds: Final = seconds
        self._directory: Final = directory
        self._loader: int | None = None
        self._is_begun = False

    def begin(self, loader: int) -> None:
        """The second call is that behind the warm-up."""
        if self._loader is not None:
            pids = [loader, self._nodes.leader, *self._nodes.others[:1]]
            self._profiler.start(pids, self._seconds * PROFILED, self._directory)
            self._is_begun = True
        self._loader = loader

    def end(self) -> None:
        """Its time is over already."""

    def profiles(self) -> Mapping[str, Profile]:
        """What was seen, by process. Raises CannotProfile."""
        found = self._profiler.finish()
        pids = {CLIENT: self._loader or 0, LEADER: self._nodes.leader}
        if self._nodes.others:
            pids[OTHER] = self._nodes.others[0]
        return {name: found.get(pid, Counter()) for name, pid in pids.items()}


def measure(
    cluster: DevCluster, shape: Shape, seconds: float, profiler: Profiler | None, directory: Path,
    flames: Callable[[str, Profile], None],
) -> Loaded:  # fmt: skip
    """One load: its accounts, then a profile of the same, which ``flames`` is told. Raises StepFailed,
    CannotProfile, or ProcessLookupError if a node ended."""
    nodes = _nodes(cluster)
    accounting = Accounting([nodes.leader, *nodes.others])
    load = _load(cluster, shape, seconds, accounting)
    profiles: Mapping[str, Profile] = {}
    if profiler is not None:
        profiling = Profiling(profiler, nodes, seconds, directory)
        try:
            _load(cluster, shape, seconds, profiling)
            profiles = profiling.profiles()
        finally:
            profiler.abandon()
        for name, profile in profiles.items():
            flames(name, profile)
    each = 1e6 / load.operations
    leader, *others = accounting.servers
    accounts = {CLIENT: _client(accounting.loader, load), LEADER: leader}
    if others:
        accounts[OTHER] = mean(others)
    return Loaded(
        callers=shape.callers, operations_per_second=load.operations / load.seconds, p50_ms=load.p50_ms,
        nodes=len(accounting.servers),
        parts=[
            Part(process=name, account=account.scaled(each), samples=_samples(name, profiles.get(name)))
            for name, account in accounts.items()
        ],
    )  # fmt: skip


def _samples(process: str, profile: Profile | None) -> dict[str, int]:
    found: Counter[str] = Counter()
    for stack, count in (profile or {}).items():
        found[step_of(stack, client=process == CLIENT)] += count
    return dict(found)


def _client(account: Account, load: Load) -> Account:
    """Without what it did behind the measurement, where it counts up what it saw."""
    if load.cpu_seconds is None or not account.total:
        return account
    return account.scaled(min(load.cpu_seconds / account.total, 1.0))


def _load(cluster: DevCluster, shape: Shape, seconds: float, watcher: Watcher) -> Load:
    command = QUORATE.load(cluster, shape, seconds, min(WARM_UP, seconds))
    return run_load(command, seconds + WARM_UP + BEYOND_SECONDS, watcher)


def _nodes(cluster: DevCluster) -> Nodes:
    """Which of them leads most groups."""
    addresses = list(parse_url(cluster.target).addresses)
    at = trio.run(_leading, cluster.target, addresses)
    return Nodes(cluster.pids[at], [pid for number, pid in enumerate(cluster.pids) if number != at])


async def _leading(url: str, addresses: Sequence[str]) -> int:
    """The number of the node that leads most groups, in the order of the addresses."""
    async with connect(url) as client:
        told = await client.status()
    leads = Counter(group["leader"] for group in told["groups"])
    clients = {node["node"]: node["client"] for node in told["nodes"]}
    return max(range(len(addresses)), key=lambda at: sum(
        count for node, count in leads.items() if clients.get(node) == addresses[at]
    ))  # fmt: skip
