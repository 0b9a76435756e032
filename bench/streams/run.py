"""One seed from beginning to end: faults, then healing, then progress, and nothing left behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import structlog
import trio

from bench.checker.record import Recorder
from bench.histories import HistoryViolation
from bench.recording import RECORDED
from bench.streams.clients import ClientProcess, StreamGround
from bench.streams.cluster import StreamCluster
from bench.streams.faults import KINDS, kinds_for
from bench.streams.internet import Internet
from bench.streams.machines import WHO
from bench.streams.schedule import TrioHeap, run_decided
from bench.workloads import Workload
from bench.world.clock import Seed, Trace
from bench.world.nemesis import Nemesis, Plan, draw_plan
from bench.world.outcomes import search
from bench.world.setting import make_workload
from bench.world.target import Details
from primitives.errors import InvariantViolation, Unavailable
from primitives.ids import NodeId
from router.client import Client
from router.openers import Openers

POLL_MS: Final = 20
PROMPT_CALLS: Final = 15
PROMPT_MS: Final = 30
"""A command's way takes some ten milliseconds here; the nodes' ticks are fifty apart."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a run is made of. The same for a seed means the same run."""

    nodes: int = 3
    groups: int = 2
    """Data groups."""
    replicas: int = 3
    clients: int = 3
    callers: int = 2
    """Callers of each client; each takes up a workload for itself."""
    workloads: tuple[str, ...] = ("counter", "register", "lock", "queue", "watch")
    fault_ms: int = 5000
    heal_ms: int = 60_000
    """Within so much simulated time after healing everything must be done."""
    sessions_ms: tuple[int, ...] = (1000, 2000, 5000)
    """Session timeouts to draw from, one for each run."""
    faults: tuple[str, ...] = KINDS
    """Kinds to draw from; each seed has its own mix."""


class World:
    """Everything of one run. ``echo`` gets each line of the trace; ``plan`` is what happens instead of the
    faults that the seed draws."""

    def __init__(
        self, number: int, setting: Setting, echo: Callable[[str], None] | None = None,
        plan: Plan | None = None,
    ) -> None:  # fmt: skip
        self.setting: Final = setting
        self.seed: Final = Seed(number)
        self.heap: Final = TrioHeap()
        self.trace: Final = Trace(self.heap, echo)
        self.internet: Final = Internet(self.heap, self.seed.stream("network"), self.trace)
        self.cluster: Final = StreamCluster(
            self.heap, self.trace, self.seed, self.internet, nodes=setting.nodes, groups=setting.groups,
            replicas=setting.replicas,
        )  # fmt: skip
        self.workloads: Final = [make_workload(name) for name in setting.workloads]
        self.calls = 0
        """Calls of workloads that came to an end."""
        self.history: Final[list[str]] = []
        """What callers were told, in the format of ``bench.checker.record``."""
        self._recorder: Final = Recorder(self.history.append, lambda: self.heap.now_ms * 1000, seed=number)
        self._recorded: Final = [
            name for workload in self.workloads if workload.NAME in RECORDED
            if isinstance(name := getattr(workload, "name", None), str)
        ]  # fmt: skip
        self._clients: Final[list[ClientProcess]] = []
        self._made = 0
        self._closing = False
        self._nursery: trio.Nursery | None = None
        self._timeout_ms: Final = self.seed.stream("timeout").choice(setting.sessions_ms)
        kinds = kinds_for(self.cluster)
        if plan is None:
            plan = draw_plan(
                self.seed.stream("plan"), self.cluster.nodes, setting.faults, setting.fault_ms, kinds
            )
        self.nemesis: Final = Nemesis(self.heap, self.cluster, plan, kinds)
        self.cluster.client_disturbed = self._disturb_client
        self.ended_ms = 0

    def run(self) -> None:
        """Runs the seed; raises what shows that something does not hold."""
        with _logged(self.trace):
            try:
                run_decided(self.seed.stream("schedule"), self.heap, self._main)
            except BaseExceptionGroup as group:
                raise _first(group) from None
        _, wrong = search(self.history)
        if wrong is not None:
            raise HistoryViolation(wrong)

    async def _main(self) -> None:
        heap = self.heap
        self.trace(
            "world",
            f"seed {self.seed.number}, {self.setting}, sessions of {self._timeout_ms} ms",
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(heap.run)
            async with trio.open_nursery() as self._nursery:
                self.cluster.nursery = self._nursery
                self._begin()
                await trio.sleep(self.setting.fault_ms / 1000)
                self._heal()
                await self._settle(heap.now_ms + self.setting.heal_ms)
                for node in self.cluster.nodes:
                    self.cluster.stop(node)
            # The nursery is empty: no node's task is left, and no client's.
            self.ended_ms = heap.now_ms
            nursery.cancel_scope.cancel()
        self.trace("world", f"done: {self.calls} calls")

    # --- Phases ---------------------------------------------------------------------------------------

    def _begin(self) -> None:
        random = self.seed.stream("start")
        for node in self.cluster.nodes:
            self.heap.at(random.randint(0, 300), partial(self._start_node, node))
        for _ in range(self.setting.clients):
            self.heap.at(random.randint(0, 1000), self._start_client)
        self.nemesis.start()

    def _start_node(self, node: NodeId) -> None:
        if not self.cluster.is_up(node):
            self.cluster.restart(node)

    def _heal(self) -> None:
        self.trace("world", "everything is healed")
        self._closing = True
        self.cluster.restarts_failed = True
        self.nemesis.heal()

    async def _settle(self, deadline_ms: int) -> None:
        """What is demanded of a cluster that nothing disturbs any more."""
        cluster = self.cluster
        await self._demand("every node serves", deadline_ms, cluster.is_serving)
        await self._demand("every client ends", deadline_ms, self._no_clients)
        await self._with_client(deadline_ms, "the outcome can be read", self._finish)
        await self._with_client(deadline_ms, "calls are prompt", self._measure)
        await self._with_client(deadline_ms, "every session ends", self._await_sessions)
        await self._demand("replicas converge", deadline_ms, cluster.has_converged)
        await self._demand("no connection of clients is left", deadline_ms, self._only_peers)

    async def _demand(self, what: str, deadline_ms: int, holds: Callable[[], bool]) -> None:
        while not holds():
            if self.heap.now_ms >= deadline_ms:
                self._give_up(what)
            # A node that was told to stop before the healing may end after it.
            for node in self.cluster.nodes:
                self._start_node(node)
            await self._moment()
        self.trace("world", what)

    def _give_up(self, what: str) -> None:
        clients = ", ".join(one.name for one in self._clients if not one.has_ended)
        raise InvariantViolation(
            f"no progress within {self.setting.heal_ms} ms after healing: it is demanded that {what}; "
            f"clients left: {clients or 'none'}\n{self.cluster.report()}"
        )

    def _no_clients(self) -> bool:
        return all(client.has_ended for client in self._clients)

    def _only_peers(self) -> bool:
        peers = len(self.cluster.nodes) - 1
        return all(len(self.cluster.hosts[node].sockets) == peers for node in self.cluster.nodes)

    async def _with_client(
        self, deadline_ms: int, what: str, body: Callable[[Client, Openers], Awaitable[None]]
    ) -> None:
        with trio.move_on_after((deadline_ms - self.heap.now_ms) / 1000) as scope:
            await self._new_client().run(body)
        if scope.cancelled_caught:
            self._give_up(what)
        self.trace("world", what)

    async def _finish(self, client: Client, openers: Openers) -> None:
        """Each workload looks at the outcome."""
        for at, workload in enumerate(self.workloads):
            await workload.finish(openers, StreamGround(self.heap, self.seed.stream(f"finish/{at}")))

    async def _measure(self, client: Client, openers: Openers) -> None:
        """Where nothing disturbs, no command waits for a timer: somebody rings for each step on its way."""
        counter = client.counter("quiet")
        await counter.get()
        took_ms = []
        for _ in range(PROMPT_CALLS):
            began = trio.current_time()
            await counter.increment()
            took_ms.append((trio.current_time() - began) * 1000)
        if sorted(took_ms)[PROMPT_CALLS // 2] > PROMPT_MS:
            shown = ", ".join(f"{one:.0f}" for one in took_ms)
            raise InvariantViolation(f"calls on a quiet cluster wait for something: they took {shown} ms")

    async def _await_sessions(self, client: Client, openers: Openers) -> None:
        """Until no group knows a session any more: this client's calls need none."""
        for group in range(self.setting.groups + 1):
            while await self._sessions(client, group):
                await self._moment()

    async def _moment(self) -> None:
        await trio.sleep(POLL_MS / 1000)

    async def _sessions(self, client: Client, group: int) -> bool:
        try:
            page = await client.admin("sessions", group, 0)
        except Unavailable:
            return True
        return bool(page["sessions"])

    # --- Clients --------------------------------------------------------------------------------------

    def _new_client(self) -> ClientProcess:
        self._made += 1
        client = ClientProcess(
            self._made, self.heap, self.trace, self.seed, self.internet, nodes=self.setting.nodes,
            timeout_ms=self._timeout_ms, history=(self._recorder, self._recorded),
        )  # fmt: skip
        self._clients.append(client)
        return client

    def _start_client(self) -> None:
        if self._closing or self._nursery is None:
            return
        process = self._new_client()
        self._nursery.start_soon(process.run, partial(self._use, process.number))

    async def _use(self, number: int, client: Client, openers: Openers) -> None:
        async with trio.open_nursery() as nursery:
            for caller in range(self.setting.callers):
                workload = self.workloads[(number + caller) % len(self.workloads)]
                random = self.seed.stream(f"caller/{number}/{caller}")
                ground = StreamGround(self.heap, random)
                nursery.start_soon(self._call, workload, openers, ground, f"c{number}.{caller}")

    async def _call(self, workload: Workload, openers: Openers, ground: StreamGround, who: str) -> None:
        while not self._closing:
            self.trace(who, f"calls {workload.NAME}")
            await workload.call(openers, ground)
            self.calls += 1
            self.trace(who, f"is done with {workload.NAME}")
            await ground.sleep_ms(ground.random.choice((0, 1, 10, 100)))

    def _disturb_client(self, details: Details) -> None:
        alive = [one for one in self._clients if one.openers and not (one.is_dying or one.has_ended)]
        if not alive or self._closing:
            return
        process, how = alive[details["pick"] % len(alive)], details["how"]
        self.trace("fault", f"{process.name}: {how} for {details['length_ms']} ms")
        if how == "drop":
            self.internet.reset(details["pick"], process.name)
        elif how == "disconnect":
            self.internet.disconnect(process.name)
        elif how == "die":
            self._end(process, silently=details["pick"] % 2 > 0)
            self.heap.after(details["length_ms"], self._start_client)
        else:
            self._isolate(process, details)

    def _end(self, process: ClientProcess, *, silently: bool) -> None:
        process.die(silently=silently)
        if process.openers is not None:
            for workload in self.workloads:
                workload.died(process.openers)

    def _isolate(self, process: ClientProcess, details: Details) -> None:
        """From one node or from all, in one direction or in both."""
        pick, nodes = details["pick"], self.cluster.nodes
        pairs = [(process.name, f"n{node}") for node in (nodes if pick % 2 else nodes[: pick % 4 // 2 + 1])]
        if pick % 3:
            pairs += [(target, source) for source, target in pairs]
        self.internet.cut(pairs)
        self.heap.after(details["length_ms"], partial(self.internet.open, pairs))


@contextmanager
def _logged(trace: Trace) -> Iterator[None]:
    """What nodes log goes into the trace."""
    def note(_: object, level: str, event: Any) -> Any:
        text = event.pop("event")
        trace(WHO.get(), f"{level}: {text} {event}" if event else f"{level}: {text}")
        raise structlog.DropEvent

    former = structlog.get_config() if structlog.is_configured() else None
    structlog.configure(processors=[note], cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.reset_defaults()
        if former is not None:
            structlog.configure(**former)


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    """The error at the bottom of a group: the first, if there are several."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def run_seed(
    number: int, setting: Setting | None = None, echo: Callable[[str], None] | None = None,
    plan: Plan | None = None,
) -> World:  # fmt: skip
    """Runs a seed; raises if something does not hold."""
    world = World(number, setting if setting is not None else Setting(), echo, plan)
    world.run()
    return world


def repeat_command(number: int, setting: Setting) -> str:
    """The command line that repeats a run."""
    parts = [f"python -m bench.streams --seed {number}"]
    default = Setting()
    for name in ("nodes", "groups", "replicas", "clients", "callers", "fault_ms"):
        if getattr(setting, name) != getattr(default, name):
            parts.append(f"--{name.replace('_', '-')} {getattr(setting, name)}")
    for name in ("workloads", "sessions_ms", "faults"):
        value: Sequence[object] = getattr(setting, name)
        if value != getattr(default, name):
            parts.append(f"--{name.replace('_', '-')} {','.join(str(part) for part in value)}")
    return " ".join(parts)
