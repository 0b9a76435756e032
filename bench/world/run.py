"""One seed from beginning to end: a safety phase full of faults, then healing, then progress or failure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Final

from bench.histories import HistoryViolation
from bench.workloads import CounterWorkload, RegisterWorkload, ValueWorkload, Workload
from bench.workloads_held import ElectionWorkload, KeyLockWorkload, LockWorkload, PresenceWorkload
from bench.workloads_names import NamesWorkload
from bench.workloads_queues import ListWorkload, QueueWorkload
from bench.workloads_reads import ReadWorkload
from bench.workloads_sets import SetWorkload
from bench.workloads_watches import WatchWorkload
from bench.workloads_watchlogs import PinnedWatchLogWorkload, WatchLogWorkload
from bench.world.clients import SimClient
from bench.world.clock import Heap, Seed, Trace
from bench.world.cluster import Cluster
from bench.world.faults import KINDS, Nemesis, Plan
from bench.world.tasks import SimGround, Task
from bench.world.wires import Door
from primitives import errors
from primitives.errors import InvariantViolation
from primitives.ids import NodeId
from raftgroup import types as raft

VIOLATIONS: Final = (InvariantViolation, raft.InvariantViolation, HistoryViolation, errors.QuorateError)
"""What a run raises when something does not hold."""


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
    workloads: tuple[str, ...] = ("counter", "register", "lock")
    fault_ms: int = 8000
    heal_ms: int = 60_000
    """Within so much simulated time after healing everything must be done."""
    sessions_ms: tuple[int, ...] = (1000, 2000, 5000)
    """Session timeouts to draw from, one for each run."""
    faults: tuple[str, ...] = KINDS
    """Kinds to draw from; each seed has its own mix."""


_WORKLOADS: Final[dict[str, type[Workload]]] = {
    kind.NAME: kind for kind in (
        CounterWorkload, RegisterWorkload, LockWorkload, ValueWorkload, SetWorkload, QueueWorkload,
        ListWorkload, ElectionWorkload, KeyLockWorkload, PresenceWorkload, ReadWorkload, WatchWorkload,
        WatchLogWorkload, PinnedWatchLogWorkload, NamesWorkload,
    )
}  # fmt: skip


def make_workload(name: str) -> Workload:
    """A fresh workload of that name; raises KeyError."""
    return _WORKLOADS[name]()


class World:
    """Everything of one run. ``echo`` gets each line of the trace."""

    def __init__(self, number: int, setting: Setting, echo: Callable[[str], None] | None = None) -> None:
        self.setting: Final = setting
        self.seed: Final = Seed(number)
        self.heap: Final = Heap()
        self.trace: Final = Trace(self.heap, echo)
        self.cluster: Final = Cluster(
            self.heap, self.trace, self.seed, nodes=setting.nodes, groups=setting.groups,
            replicas=setting.replicas,
        )  # fmt: skip
        self.workloads: Final = [make_workload(name) for name in setting.workloads]
        plan = Plan.draw(self.seed.stream("plan"), setting.faults)
        self.nemesis: Final = Nemesis(
            self.heap, self.seed.stream("faults"), self.trace, self.cluster, plan
        )
        self.calls = 0
        """Calls of workloads that came to an end."""
        self.clients: list[SimClient] = []
        self._doors: dict[NodeId, Door] = {}
        self._made = 0
        self._closing = False
        self._open = 0
        """Callers that have not ended."""
        self._failure: BaseException | None = None
        self._timeout_ms = self.seed.stream("timeout").choice(setting.sessions_ms)
        self.cluster.started = self._node_started
        self.cluster.stopped = self._node_stopped
        self.cluster.client_disturbed = self._disturb_client
        self.trace("world", f"seed {number}, {setting}, sessions of {self._timeout_ms} ms, {plan}")

    def run(self) -> None:
        """Runs the seed; raises one of ``VIOLATIONS``."""
        self._begin()
        self._run_until(self.setting.fault_ms)
        self._heal()
        deadline = self.heap.now_ms + self.setting.heal_ms
        self._demand("every call ends", deadline, lambda: self._open == 0)
        self._finish(deadline)
        for client in self.clients:
            client.close()
        self._demand("every session ends", deadline, self.cluster.has_no_sessions)
        self._demand("replicas converge", deadline, self.cluster.has_converged)
        self.cluster.check_hashes()
        self.trace("world", f"done: {self.calls} calls\n{self.cluster.report()}")

    # --- Phases -------------------------------------------------------------------------------------

    def _begin(self) -> None:
        random = self.seed.stream("start")
        for node in self.cluster.nodes:
            self.heap.at(random.randint(0, 300), partial(self._start_node, node))
        for _ in range(self.setting.clients):
            self.heap.at(random.randint(0, 1500), self._start_client)
        self.nemesis.start()

    def _start_node(self, node: NodeId) -> None:
        if not self.cluster.is_up(node):
            self.cluster.restart(node)

    def _heal(self) -> None:
        self.trace("world", "everything is healed")
        self._closing = True
        self.cluster.restarts_failed = True
        self.nemesis.heal()
        self.cluster.network.heal()
        for client in self.clients:
            client.heal()

    def _finish(self, deadline: int) -> None:
        """Each workload looks at the outcome through a client of its own."""
        client = self._new_client()
        for at, workload in enumerate(self.workloads):
            ground = SimGround(self.heap, self.seed.stream(f"finish/{at}"), client)
            self._run_task(client, workload.finish(client, ground))
        self._demand("the outcome can be read", deadline, lambda: self._open == 0)

    def _run_until(self, when_ms: int) -> None:
        self.heap.run_until(when_ms, lambda: self._failure is not None)
        if self._failure is not None:
            raise self._failure

    def _demand(self, what: str, deadline: int, holds: Callable[[], bool]) -> None:
        while not holds():
            if self.heap.now_ms >= deadline:
                raise InvariantViolation(
                    f"no progress within {self.setting.heal_ms} ms after healing: it is demanded that {what};"
                    f" {self._open} calls are open\n{self.cluster.report()}\n{self._clients_report()}"
                )
            self._run_until(self.heap.now_ms + 20)

    def _clients_report(self) -> str:
        return "\n".join(client.report() for client in self.clients)

    # --- Clients ------------------------------------------------------------------------------------

    def _new_client(self) -> SimClient:
        self._made += 1
        client = SimClient(
            number=self._made, heap=self.heap, trace=self.trace, seed=self.seed, cluster=self.cluster,
            doors=self._doors, timeout_ms=self._timeout_ms,
        )  # fmt: skip
        self.clients.append(client)
        return client

    def _start_client(self) -> None:
        if self._closing:
            return
        client = self._new_client()
        for caller in range(self.setting.callers):
            workload = self.workloads[(client.number + caller) % len(self.workloads)]
            random = self.seed.stream(f"caller/{client.number}/{caller}")
            ground = SimGround(self.heap, random, client)
            self._run_task(client, self._call(workload, client, ground, f"c{client.number}.{caller}"))

    async def _call(self, workload: Workload, client: SimClient, ground: SimGround, who: str) -> None:
        while not self._closing:
            self.trace(who, f"calls {workload.NAME}")
            await workload.call(client, ground)
            self.calls += 1
            self.trace(who, f"is done with {workload.NAME}")
            await ground.sleep_ms(ground.random.choice((0, 1, 10, 100)))

    def _run_task(self, client: SimClient, coroutine: Any) -> None:
        self._open += 1
        task: Task[None] = Task(coroutine, self._task_ended)
        client.track(task, counted=True)
        task.start()

    def _task_ended(self, task: Task[Any]) -> None:
        self._open -= 1
        if task.error is not None and self._failure is None:
            self._failure = task.error

    def _disturb_client(self, random: Random) -> None:
        alive = [client for client in self.clients if client.alive]
        if not alive or self._closing:
            return
        client = random.choice(alive)
        kind = random.choice(("pause", "pause", "drop", "disconnect", "isolate", "die"))
        self.trace("fault", f"client {client.number}: {kind}")
        if kind == "pause":
            client.pause(random.choice((200, 1500, 8000)))
        elif kind == "drop":
            client.drop_one(random)
        elif kind == "disconnect":
            client.disconnect()
        elif kind == "isolate":
            client.isolate(random.choice((500, 3000, 9000)))
        else:
            self._open -= client.die()
            for workload in self.workloads:
                workload.died(client)
            self.heap.after(random.randint(0, 1000), self._start_client)

    def _node_started(self, node: NodeId) -> None:
        self._doors[node] = Door(self.cluster.up[node])

    def _node_stopped(self, node: NodeId) -> None:
        self._doors.pop(node).shut()


def run_seed(
    number: int, setting: Setting | None = None, echo: Callable[[str], None] | None = None
) -> World:
    """Runs a seed; raises one of ``VIOLATIONS`` if something does not hold."""
    world = World(number, setting if setting is not None else Setting(), echo)
    world.run()
    return world


def repeat_command(number: int, setting: Setting) -> str:
    """The command line that repeats a run."""
    parts = [f"python -m bench.world --seed {number}"]
    default = Setting()
    for name in ("nodes", "groups", "replicas", "clients", "callers", "fault_ms"):
        if getattr(setting, name) != getattr(default, name):
            parts.append(f"--{name.replace('_', '-')} {getattr(setting, name)}")
    for name in ("workloads", "sessions_ms", "faults"):
        value: Sequence[object] = getattr(setting, name)
        if value != getattr(default, name):
            parts.append(f"--{name.replace('_', '-')} {','.join(str(part) for part in value)}")
    return " ".join(parts)
