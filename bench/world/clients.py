"""One client's process: the real session core, its connections, and the callers that use its handles."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from xxhash import xxh3_64_intdigest

from bench.checker.record import Recorder
from bench.recording import Scribe
from bench.world.clock import PPM, Clock, Heap, Seed, Trace
from bench.world.cluster import Cluster
from bench.world.port import SimPort
from bench.world.target import CLOCK_DRIFT_PPM_MAX
from bench.world.tasks import Pause, Task
from bench.world.wires import REFUSAL_MS, TIMEOUT_MS, Door, Wire
from primitives.errors import InvariantViolation
from primitives.handle import LeaseState
from primitives.holding import RELEASED, Held
from primitives.ids import NodeId
from router.openers import Openers
from router.session import Output, SessionCore
from router.session_settings import SessionSettings

POLLS_MAX: Final = 10_000
"""Polls in a row without anything coming from outside: then the core spins."""


class SimClient(Openers):
    """A client with an identity and a session of its own."""

    def __init__(
        self, *, number: int, heap: Heap, trace: Trace, seed: Seed, cluster: Cluster,
        doors: dict[NodeId, Door], timeout_ms: int, addresses: Sequence[str] | None = None,
        history: tuple[Recorder, Collection[str]] | None = None,
    ) -> None:  # fmt: skip
        """``addresses`` of nodes that it is given; drawn by the seed unless they are named. ``history``:
        where calls are written down, and the names of the objects whose calls are."""
        self.number: Final = number
        self.alive = True
        self._heap = heap
        self._trace = trace
        self._cluster = cluster
        self._doors = doors
        self._who = f"c{number}"
        self._random = seed.stream(f"wires/{number}")
        random = seed.stream(f"client/{number}")
        rate = PPM + random.randint(-CLOCK_DRIFT_PPM_MAX, CLOCK_DRIFT_PPM_MAX)
        self.clock: Final = Clock(heap, start_ms=random.randint(0, 1 << 30), rate_ppm=rate)
        known = [node.client_address for node in cluster.founding.nodes]
        self._addresses = {node.client_address: node.id for node in cluster.founding.nodes}
        self.core: Final = SessionCore(
            random.randbytes(16), addresses or random.sample(known, random.randint(1, len(known))),
            seed.stream(f"session/{number}"), name=self._who, settings=SessionSettings(timeout_ms=timeout_ms),
        )  # fmt: skip
        super().__init__("", SimPort(self))
        self._scribe = history and Scribe(history[0], self._who, history[1], self._watch_grant)
        self._wires: dict[int, Wire] = {}
        self._tasks: list[Task[Any]] = []
        self._counted: list[Task[Any]] = []
        self._backlog: list[Callable[[], None]] = []
        self._paused = False
        self._cuts = 0
        self._polling = False
        self._dirty = False
        self._leaving = False
        self._wake_at = -1
        self.touch()

    # --- What callers use ---------------------------------------------------------------------------

    def open(self, type_name: str, name: str, *, namespace: str | None = None, **options: Any) -> Any:
        """See :class:`router.openers.Openers`."""
        handle = super().open(type_name, name, namespace=namespace, **options)
        return handle if self._scribe is None else self._scribe.handle(handle)

    def _watch_grant(self, grant: Held, name: str) -> None:
        """Writes down when the grant's lease is lost, by this client's clock, dead or paused as it may be."""
        if self._scribe is None or grant.state == RELEASED:
            return
        left_ms = math.ceil(grant.remaining() * 1000)
        if grant.state == LeaseState.LOST:
            self._scribe.recorder.expire("lock", name, grant.token)
        else:
            self._heap.after(
                self.clock.true_delay_ms(max(left_ms, 1)), lambda: self._watch_grant(grant, name)
            )

    def now_ms(self) -> int:
        """By this client's own clock."""
        return self.clock.monotonic_ms()

    def after(self, delay_ms: int, action: Callable[[], None]) -> None:
        """See :class:`bench.world.tasks.Process`. The delay is by this client's clock."""
        self._heap.after(self.clock.true_delay_ms(delay_ms), lambda: self._run(action))

    def at_once(self, action: Callable[[], None]) -> None:
        """See :class:`bench.world.tasks.Process`."""
        if self._polling:
            action()
            return
        self._polling = True
        try:
            action()
        finally:
            self._polling = False
        if self._dirty:
            self.touch()

    def track(self, task: Task[Any], *, counted: bool = False) -> None:
        """The task ends with this process. ``counted``: :meth:`die` tells how many such had not ended."""
        self._tasks = [other for other in self._tasks if not other.is_done]
        self._tasks.append(task)
        if counted:
            self._counted.append(task)

    def touch(self) -> None:
        """Something was asked of the core, or happened to it: has it polled."""
        self._dirty = True
        if self._polling:
            return
        self._polling = True
        try:
            for _ in range(POLLS_MAX):
                if not self._dirty or not self.alive:
                    return
                self._dirty = False
                self._carry_out(self.core.poll(self.now_ms()))
        finally:
            self._polling = False
        raise InvariantViolation(f"client {self.number}'s core has more to do after each poll")

    # --- Faults -------------------------------------------------------------------------------------

    @property
    def is_cut_off(self) -> bool:
        """See :class:`bench.world.wires.Caller`."""
        return self._cuts > 0

    def pause(self, length_ms: int) -> None:
        """The process is stopped for a while, as by SIGSTOP; its clock runs on."""
        if not self._paused:
            self._paused = True
            self._heap.after(length_ms, self._resume)

    def disconnect(self) -> None:
        """All its connections break."""
        for wire in list(self._wires.values()):
            wire.snap()

    def drop_one(self, pick: int) -> None:
        """One of its connections breaks: the ``pick``-th, counted round."""
        if self._wires:
            self._wires[sorted(self._wires)[pick % len(self._wires)]].snap()

    def isolate(self, length_ms: int) -> None:
        """Nothing gets to it or from it for a while."""
        self._cuts += 1
        self._heap.after(length_ms, self._rejoin)

    def die(self) -> int:
        """The process is gone. Returns how many of its counted tasks had not ended."""
        self.alive = False
        open_ = 0
        for task in self._counted:
            open_ += not task.is_done and not task.dropped
        for task in self._tasks:
            task.drop()
        for wire in list(self._wires.values()):
            wire.snap(client_knows=True)
        self._wires.clear()
        return open_

    def heal(self) -> None:
        """Ends what was done to it."""
        if self._cuts:
            self._cuts = 1
            self._rejoin()
        self._resume()

    def close(self) -> None:
        """Lets its leases go, then the process ends."""
        self._leaving = True
        self.touch()

    def report(self) -> str:
        """Where it stands, for people."""
        if not self.alive:
            return f"c{self.number}: gone"
        now = self.now_ms()
        groups = "; ".join(
            f"g{group} {session.standing.value} number {session.number}"
            for group, session in sorted(self.core.groups.items())
        )
        tasks = sum(not task.is_done for task in self._counted)
        return f"c{self.number}: {self.core.state(now)}, {len(self._wires)} wires, {tasks} tasks; {groups}"

    # --- Connections --------------------------------------------------------------------------------

    def hears(self, connection: int, data: bytes) -> None:
        """See :class:`bench.world.wires.Caller`."""
        self._run(lambda: self._received(connection, data))

    def loses(self, connection: int) -> None:
        """See :class:`bench.world.wires.Caller`."""
        self._run(lambda: self._lost(connection))

    def _received(self, connection: int, data: bytes) -> None:
        if connection in self._wires:
            digest = xxh3_64_intdigest(data)
            self._trace(self._who, f"hears on {connection}: {len(data)} bytes, {digest:016x}")
            self.core.received(self.now_ms(), connection, data)
            self.touch()

    def _lost(self, connection: int) -> None:
        self._trace(self._who, f"loses connection {connection}")
        self._wires.pop(connection, None)
        self.core.disconnected(self.now_ms(), connection)
        self.touch()

    def _dial(self, connection: int, address: str) -> None:
        door = self._doors.get(self._addresses[address])
        if self.is_cut_off:
            self._heap.after(self._random.randint(*TIMEOUT_MS), lambda: self.loses(connection))
        elif door is None or not door.is_open:
            self._heap.after(self._random.randint(*REFUSAL_MS), lambda: self.loses(connection))
        else:
            wire = Wire(self._heap, self._random, self, connection, door)
            self._wires[connection] = wire
            door.accept(wire)
            self._heap.after(self._random.randint(*REFUSAL_MS), lambda: self._run(lambda: self._dialed(wire)))

    def _dialed(self, wire: Wire) -> None:
        if not wire.broken:
            self._trace(self._who, f"connection {wire.connection} to n{wire.door.node.node} stands")
            self.core.connected(self.now_ms(), wire.connection)
            self.touch()

    # --- The core -----------------------------------------------------------------------------------

    def _run(self, action: Callable[[], None]) -> None:
        """Does something in the process, or keeps it for when the process goes on."""
        if self._paused:
            self._backlog.append(action)
        elif self.alive:
            action()

    def _carry_out(self, output: Output) -> None:
        for connection, data in output.frames:
            wire = self._wires.get(connection)
            if wire is not None:
                wire.to_node(data)
        for connection in output.close:
            wire = self._wires.pop(connection, None)
            if wire is not None:
                wire.snap(client_knows=True)
        for connection, address in output.dial:
            self._trace(self._who, f"dials {address} as connection {connection}")
            self._dial(connection, address)
        for lease in output.lost:
            self._trace(self._who, f"judges its lease with g{lease.group} lost, number {lease.number}")
        for call in output.finished:
            if isinstance(call.token, Pause):
                call.token.resume(call)
        for watch in output.watches:
            if isinstance(watch.token, Pause):
                watch.token.resume()
        if self._leaving and self.core.let_go(self.now_ms()):
            self.die()
        elif self._wake_at != output.wake_ms:
            self._wake_at = output.wake_ms
            self.after(max(output.wake_ms - self.now_ms(), 1), lambda: self._wake(output.wake_ms))

    def _wake(self, at: int) -> None:
        if at == self._wake_at:
            self._wake_at = -1
            self.touch()

    def _resume(self) -> None:
        if not self._paused:
            return
        self._paused = False
        self._trace(self._who, "goes on after a pause")
        backlog, self._backlog = self._backlog, []
        for action in backlog:
            self._run(action)

    def _rejoin(self) -> None:
        if self._cuts == 0:
            return
        self._cuts -= 1
        if self._cuts == 0:
            for wire in list(self._wires.values()):
                wire.release()
