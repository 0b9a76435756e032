"""The trio side of a client: sockets, time and waiting tasks around a session core.

A call parks its task and is woken once, with its outcome. Nothing is started for it: one task, the pump,
sends what all calls of one turn of the event loop want sent, in one frame for each connection.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Protocol

import trio

from primitives.errors import InvariantViolation, OutcomeUnknown, Unavailable
from primitives.records import Answer
from router.link import ByteLink, Link, LinkLost
from router.session import Output, SessionCore
from router.session_calls import Call, CallKind
from router.url import split_address

DIAL_SECONDS: Final = 3.0
WITHDRAW_SECONDS: Final = 1.0
"""How long a cancelled grant may hold up its cancellation."""
LEAVE_SECONDS: Final = 1.0
"""How long the end of a client waits for its leases to be let go."""
_SLEEP_MS_MAX: Final = 1000
"""A clock that runs through suspend is looked at this often while there are leases: trio's does not."""
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

_current_task: Final = trio.lowlevel.current_task
_reschedule: Final = trio.lowlevel.reschedule
_wait_task_rescheduled: Final = trio.lowlevel.wait_task_rescheduled

Dial = Callable[[str], Awaitable[ByteLink]]
"""Connects to the node at ``host:port``. Raises ``OSError``; may be cancelled."""


async def dial_tcp(address: str) -> ByteLink:
    """A connection over the network."""
    return Link(await trio.open_tcp_stream(*split_address(address)))


def boottime_ms() -> int:
    """Milliseconds of a clock that runs while the machine sleeps, where there is one."""
    return time.clock_gettime_ns(_CLOCK) // 1_000_000


def _shelter(seconds: float) -> trio.CancelScope:
    """A scope that ends after ``seconds`` and lets no cancellation in before."""
    return trio.CancelScope(deadline=trio.current_time() + seconds, shield=True)


class Watcher(Protocol):
    """A watch's user side."""

    def close(self) -> None:
        """The client is closed."""


class ClientDriver:
    """Runs a session core. Everything but :meth:`run` is for tasks of the same event loop."""

    def __init__(
        self, core: SessionCore, dial: Dial = dial_tcp, clock: Callable[[], int] = boottime_ms
    ) -> None:
        """``clock`` tells milliseconds that only grow, and that go on while the machine sleeps."""
        self.core: Final = core
        self._dial: Final = dial
        self.clock: Final = clock
        self._links: dict[int, ByteLink] = {}
        self._dials: dict[int, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None
        self._pump_task: trio.lowlevel.Task | None = None
        self._waiting: dict[Call, trio.lowlevel.Task] = {}
        self._turns: deque[trio.lowlevel.Task] = deque()
        self._closed = False
        self._left = False
        """Whether the leases' ends were sent."""
        self._armed_ms = 0
        """When the pump wakes by itself."""
        self.turn_ms = 0
        """The time of this turn of the event loop, if :meth:`turn` was asked for it; else 0."""
        self.feeds: set[StateFeed] = set()
        self._watchers: set[Watcher] = set()

    # --- Calls ----------------------------------------------------------------------------------------

    async def outcome(self, call: Call) -> Answer | None:
        """Waits for a call that was just begun, and returns its answer or raises its error. If cancelled, the
        call is called off in that very moment: the answer may come before this task runs again, and a grant
        would find nobody to give it back. A late one is withdrawn, for which the cancellation may wait a
        second."""
        if call.done:
            await trio.lowlevel.checkpoint()
        elif self._closed:
            self.core.cancel(self.clock(), call)
            raise Unavailable("the client is closed")
        else:
            self._waiting[call] = _current_task()
            if self._pump_task is not None:
                self.wake()
            try:
                await _wait_task_rescheduled(lambda _: self._abort(call))
            except trio.Cancelled:
                if call.withdrawal is not None:
                    await self._withdrawn(call.withdrawal)
                raise
        if call.error is not None:
            raise call.error
        answer = call.answer
        if answer is None and call.create and call.kind == CallKind.COMMAND:
            raise InvariantViolation("a command without an answer")
        return answer

    async def _withdrawn(self, withdrawal: Call) -> None:
        """Waits a while until a call that was called off is withdrawn."""
        if not withdrawal.done:
            with _shelter(WITHDRAW_SECONDS):
                self._waiting[withdrawal] = trio.lowlevel.current_task()
                self.wake()
                await _wait_task_rescheduled(lambda _: self._abort(withdrawal))

    def _abort(self, call: Call) -> trio.lowlevel.Abort:
        del self._waiting[call]
        self.core.cancel(self.clock(), call)
        self.wake()
        return trio.lowlevel.Abort.SUCCEEDED

    def add_watcher(self, watcher: Watcher) -> None:
        """Somebody is about to watch. Raises Unavailable once the client is closed."""
        if self._closed:
            raise Unavailable("the client is closed")
        self._watchers.add(watcher)

    def remove_watcher(self, watcher: Watcher) -> None:
        """Somebody watches no more."""
        self._watchers.discard(watcher)

    def turn(self) -> int:
        """The time now, which is kept in ``turn_ms`` until the pump runs, as it does once this turn of the
        event loop is over: all calls of a turn begin at one time."""
        self.wake()
        now_ms = self.turn_ms = self.clock()
        return now_ms

    def wake(self) -> None:
        """Has the pump run once this turn of the event loop is over."""
        task = self._pump_task
        if task is not None:
            self._pump_task = None
            trio.lowlevel.reschedule(task)

    # --- The pump -------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def run(self, nursery: trio.Nursery) -> None:
        """Drives the core until it is cancelled; connections are served by tasks of ``nursery``."""
        self._nursery = nursery
        pump = _current_task()
        while True:
            wake_ms, now_ms = self._turn(), self.clock()
            has_groups = bool(self.core.groups)
            if has_groups:
                wake_ms = min(wake_ms, now_ms + _SLEEP_MS_MAX)
            self._armed_ms = wake_ms
            with trio.move_on_after(max(0.001, (wake_ms - now_ms) / 1000)):
                # Turns leave the timer as it is, unless it is to ring earlier: it may ring for nothing.
                while self._armed_ms <= wake_ms and bool(self.core.groups) is has_groups:
                    self._pump_task = pump
                    await _wait_task_rescheduled(self._abort_sleep)
                    wake_ms = self._turn()

    def _abort_sleep(self, _: object) -> trio.lowlevel.Abort:
        self._pump_task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _turn(self) -> int:
        """Does what the core wants done; returns when it wants to be asked again."""
        self.turn_ms = 0
        out = self.core.poll(self.clock())
        links = self._links
        for connection, data in out.frames:
            link = links.get(connection)
            if link is not None:
                link.send(data)
        taken = self._waiting.pop
        for call in out.finished:
            task = taken(call, None)
            if task is not None:
                _reschedule(task)
        for watch in out.watches:
            watch.token.wake()
        if out.close or out.dial or out.lost or self._turns or self.feeds:
            self._seldom(out)
        return out.wake_ms

    def _seldom(self, out: Output) -> None:
        for connection in out.close:
            link, dial = self._links.get(connection), self._dials.get(connection)
            if link is not None:
                link.close()
            if dial is not None:
                dial.cancel()
        for connection, address in out.dial:
            if self._nursery is not None:
                self._nursery.start_soon(self._serve, connection, address)
        for lease in out.lost:
            for guard in tuple(lease.watchers):
                guard.lose()
        turns, self._turns = self._turns, deque()
        for task in turns:
            trio.lowlevel.reschedule(task)
        if self.feeds:
            state = self.core.state(self.clock())
            for feed in self.feeds:
                feed.tell("lost" if out.lost else state)
                feed.tell(state)

    @trio.lowlevel.enable_ki_protection
    async def _serve(self, connection: int, address: str) -> None:
        """One connection, from its dialing to its end."""
        link: ByteLink | None = None
        with trio.CancelScope() as scope:
            self._dials[connection] = scope
            with trio.move_on_after(DIAL_SECONDS), suppress(OSError):
                link = await self._dial(address)
        del self._dials[connection]
        if link is not None:
            self._links[connection] = link
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(link.run)
                    await self._receive(connection, link)
                    nursery.cancel_scope.cancel()
            finally:
                del self._links[connection]
                link.close()
        self.core.disconnected(self.clock(), connection)
        self.wake()

    async def _receive(self, connection: int, link: ByteLink) -> None:
        core = self.core
        core.connected(self.clock(), connection)
        self.wake()
        with suppress(LinkLost):
            while True:
                core.received(self.clock(), connection, await link.receive())
                if self._turn() < self._armed_ms:
                    self.wake()

    # --- The end --------------------------------------------------------------------------------------

    async def leave(self) -> None:
        """Lets all leases go, for at most ``LEAVE_SECONDS``; whatever still waits gets an error."""
        self._closed = True
        with _shelter(LEAVE_SECONDS):
            while not self.core.let_go(self.clock()) and self.core.is_connected:
                await self._next_turn()
        for call, task in self._waiting.items():
            if not call.done:
                sent = call.kind == CallKind.COMMAND and call.sends > 0
                text = "the client was closed while the call was under way"
                call.finish(None, OutcomeUnknown(text) if sent else Unavailable(text))
            trio.lowlevel.reschedule(task)
        self._waiting.clear()
        for feed in self.feeds:
            feed.end()
        for watcher in tuple(self._watchers):
            watcher.close()

    async def _next_turn(self) -> None:
        task = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            if task in self._turns:
                self._turns.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        self._turns.append(task)
        if not self._left:
            self._left = True
            self.wake()
        await trio.lowlevel.wait_task_rescheduled(abort)


class StateFeed:
    """States of the session that one task has not seen yet; of many, the latest."""

    __slots__ = ("_ended", "_last", "_states", "_task")

    def __init__(self, state: str) -> None:
        self._states: deque[str] = deque((state,), maxlen=16)
        self._last = state
        self._task: trio.lowlevel.Task | None = None
        self._ended = False

    def tell(self, state: str) -> None:
        """The session's state, changed or not."""
        if state != self._last:
            self._last = state
            self._states.append(state)
            self._wake()

    def end(self) -> None:
        """The client was closed."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task)

    async def next(self) -> str | None:
        """The next state; waits for it. None once the client is closed."""
        if self._states or self._ended:
            await trio.lowlevel.checkpoint()
        while not self._states:
            if self._ended:
                return None
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        return self._states.popleft()

    def _abort(self, _: Any) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
