"""One seed from beginning to end: a safety phase full of faults, then healing, then progress or failure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from bench.checker.record import Recorder
from bench.histories import HistoryViolation
from bench.recording import RECORDED, spoken
from bench.workloads import Workload
from bench.world.clients import SimClient
from bench.world.clock import Heap, Seed, Trace
from bench.world.cluster import Cluster
from bench.world.nemesis import Nemesis, Plan, draw_plan
from bench.world.setting import Setting, make_workload, repeat_command
from bench.world.target import Details
from bench.world.tasks import SimGround, Task
from bench.world.wires import Door
from primitives import errors
from primitives.errors import InvariantViolation
from primitives.ids import NodeId
from raftgroup import types as raft

__all__ = ["VIOLATIONS", "Setting", "World", "make_workload", "repeat_command", "run_seed"]

BURST_CALLERS_MAX: Final = 24
"""Of all bursts at a time."""
CLIENTS_MAX: Final = 16
"""Beyond so many that live, bursts come from those that are there."""
VIOLATIONS: Final = (InvariantViolation, raft.InvariantViolation, HistoryViolation, errors.QuorateError)
"""What a run raises when something does not hold."""


class World:
    """Everything of one run. ``echo`` gets each line of the trace; ``plan`` is what happens instead of the
    faults that the seed draws; ``history`` gets each line of what callers were told, see
    ``bench.checker.record``."""

    def __init__(
        self, number: int, setting: Setting, echo: Callable[[str], None] | None = None,
        plan: Plan | None = None, history: Callable[[str], object] | None = None,
    ) -> None:  # fmt: skip
        self.setting: Final = setting
        self.seed: Final = Seed(number)
        self.heap: Final = Heap()
        self.trace: Final = Trace(self.heap, echo)
        self.cluster: Final = Cluster(
            self.heap, self.trace, self.seed, nodes=setting.nodes, groups=setting.groups,
            replicas=setting.replicas,
        )  # fmt: skip
        self.workloads: Final = [make_workload(name) for name in setting.workloads]
        write = history if echo is None or history is None else self._told_aside(history)
        self._recorder = write and Recorder(write, lambda: self.heap.now_ms * 1000, seed=number)
        self._recorded: Final = [
            name for workload in self.workloads if workload.NAME in RECORDED
            if isinstance(name := getattr(workload, "name", None), str)
        ]  # fmt: skip
        if plan is None:
            plan = draw_plan(
                self.seed.stream("plan"), self.cluster.nodes, setting.faults, setting.fault_ms
            )
        self.nemesis: Final = Nemesis(self.heap, self.cluster, plan)
        self.calls_of: Final[Counter[str]] = Counter()
        """By workload, calls that came to an end."""
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
        self.cluster.burst_began = self._burst
        self._bursting = 0
        """Callers of bursts."""
        self.trace("world", f"seed {number}, {setting}, sessions of {self._timeout_ms} ms")
        self.trace("world", f"{len(plan)} faults are planned")

    @property
    def calls(self) -> int:
        """Calls of workloads that came to an end."""
        return self.calls_of.total()

    def run(self) -> None:
        """Runs the seed; raises one of ``VIOLATIONS``."""
        self._begin()
        self._run_until(self.setting.fault_ms)
        self._heal()
        self._end_calls()
        # A leader takes a jump of its clock for a pause of its process, and puts off what leases end by.
        deadline = self.heap.now_ms + self.setting.heal_ms + max(self.cluster.jumped_ms.values())
        self._finish(deadline)
        for client in self.clients:
            client.close()
        self._demand("every session ends", deadline, self.cluster.has_no_sessions)
        self._demand("replicas converge", deadline, self.cluster.has_converged)
        self.cluster.check_hashes()
        self.trace("world", f"done: {self.calls} calls\n{self.cluster.report()}")

    def _told_aside(self, history: Callable[[str], object]) -> Callable[[str], object]:
        """Writes a history's lines, and says in the trace what they mean."""

        def write(line: str) -> None:
            history(line)
            said = spoken(line)
            if said is not None:
                self.trace.aside(*said)

        return write

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

    def _end_calls(self) -> None:
        """Every call ends. Many may stand in line for one lock after a burst: each has a time of its own."""
        while self._open:
            deadline = self.heap.now_ms + self.setting.heal_ms
            self._demand("a call that is open ends", deadline, partial(self._has_fewer_open, self._open))

    def _has_fewer_open(self, count: int) -> bool:
        return self._open < count

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
            history=None if self._recorder is None else (self._recorder, self._recorded),
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
            self.calls_of[workload.NAME] += 1
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

    def _burst(self, clients: int, length_ms: int) -> None:
        """So many callers more, on clients of their own as long as there are few, for a while."""
        if self._closing:
            return
        self.trace("fault", f"{clients} more callers for {length_ms} ms")
        alive = [client for client in self.clients if client.alive]
        for at in range(min(clients, BURST_CALLERS_MAX - self._bursting)):
            if len(alive) < CLIENTS_MAX:
                alive.append(self._new_client())
                client = alive[-1]
            else:
                client = alive[at % len(alive)]
            self._bursting += 1
            who = f"c{client.number}.b{self._bursting}"
            ground = SimGround(self.heap, self.seed.stream(f"burst/{self.heap.now_ms}/{at}"), client)
            workload = self.workloads[at % len(self.workloads)]
            until_ms = self.heap.now_ms + length_ms
            self._run_task(client, self._call_fast(workload, client, ground, who, until_ms))
            self.heap.at(until_ms, self._burst_ended)

    def _burst_ended(self) -> None:
        self._bursting -= 1

    async def _call_fast(
        self, workload: Workload, client: SimClient, ground: SimGround, who: str, until_ms: int
    ) -> None:
        while not self._closing and self.heap.now_ms < until_ms:
            self.trace(who, f"calls {workload.NAME}")
            await workload.call(client, ground)
            self.calls_of[workload.NAME] += 1
            await ground.sleep_ms(1)

    def _disturb_client(self, details: Details) -> None:
        alive = [client for client in self.clients if client.alive]
        if not alive or self._closing:
            return
        client = alive[details["pick"] % len(alive)]
        kind, length_ms = details["how"], details["length_ms"]
        self.trace("fault", f"client {client.number}: {kind}")
        if kind == "pause":
            client.pause(length_ms)
        elif kind == "drop":
            client.drop_one(details["pick"])
        elif kind == "disconnect":
            client.disconnect()
        elif kind == "isolate":
            client.isolate(length_ms)
        else:
            self._open -= client.die()
            for workload in self.workloads:
                workload.died(client)
            self.heap.after(length_ms, self._start_client)

    def _node_started(self, node: NodeId) -> None:
        self._doors[node] = Door(self.cluster.up[node])

    def _node_stopped(self, node: NodeId) -> None:
        self._doors.pop(node).shut()


def run_seed(
    number: int, setting: Setting | None = None, echo: Callable[[str], None] | None = None,
    plan: Plan | None = None,
) -> World:  # fmt: skip
    """Runs a seed; raises one of ``VIOLATIONS`` if something does not hold."""
    world = World(number, setting if setting is not None else Setting(), echo, plan)
    world.run()
    return world
