"""Coroutines on the event heap: callers run the same handles here as on trio, without an event loop.

A coroutine awaits a :class:`Pause` and goes on when somebody resumes it. A cancelled one gets
:class:`CalledOff` at its pause, and may clean up before it ends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from random import Random
from typing import Any, Generic, Protocol, TypeVar

from bench.histories import TimeLimit
from bench.world.clock import Heap
from primitives.errors import InvariantViolation

T = TypeVar("T")


class CalledOff(BaseException):
    """The task was cancelled."""


class Pause:
    """What a task awaits. Resumed at most once, with a value or an error; resuming it before the task
    awaits it, or after the task went elsewhere, does no harm."""

    __slots__ = ("_error", "_resumed", "_task", "_value")

    def __init__(self) -> None:
        self._task: Task[Any] | None = None
        self._resumed = False
        self._value: Any = None
        self._error: BaseException | None = None

    def resume(self, value: Any = None, error: BaseException | None = None) -> None:
        """Lets the task go on with ``value``, or with ``error`` raised."""
        if self._resumed:
            return
        self._resumed = True
        self._value, self._error = value, error
        if self._task is not None:
            self._task.go_on(self)

    def __await__(self) -> Generator[Pause, None, Any]:
        if not self._resumed:
            yield self
        if self._error is not None:
            raise self._error
        return self._value

    def wait_in(self, task: Task[Any]) -> None:
        """The task now waits for this."""
        self._task = task


class Task(Generic[T]):
    """A coroutine under way. ``ended`` is called once, with the task, when it has a result or an error."""

    __slots__ = ("_at", "_coroutine", "_ended", "dropped", "error", "is_done", "result")

    def __init__(self, coroutine: Coroutine[Pause, None, T], ended: Callable[[Task[T]], None]) -> None:
        self._coroutine = coroutine
        self._ended = ended
        self._at: Pause | None = None
        self.dropped = False
        self.is_done = False
        self.result: T | None = None
        self.error: BaseException | None = None

    def start(self) -> None:
        """Runs to the first pause."""
        self._advance(None)

    def go_on(self, pause: Pause) -> None:
        """The pause was resumed."""
        if pause is self._at and not self.dropped:
            self._advance(None)

    def cancel(self) -> None:
        """Raises CalledOff where the task waits; nothing if it is done."""
        if not self.is_done and not self.dropped:
            if self._at is None:
                raise InvariantViolation("a task cancels itself")
            self._advance(CalledOff())

    def drop(self) -> None:
        """The process around the task is gone: it never goes on."""
        self.dropped = True

    def _advance(self, error: BaseException | None) -> None:
        self._at = None
        try:
            pause = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
        except StopIteration as stop:
            self.result = stop.value
        except (CalledOff, Exception) as raised:
            self.error = raised
        else:
            self._at = pause
            pause.wait_in(self)
            return
        self.is_done = True
        self._ended(self)


class Process(Protocol):
    """The client's process around a task."""

    def after(self, delay_ms: int, action: Callable[[], None]) -> None:
        """Does something in the process, ``delay_ms`` from now, or once it is no longer paused."""

    def track(self, task: Task[Any]) -> None:
        """The task ends with the process."""

    def at_once(self, action: Callable[[], None]) -> None:
        """Does something in the process; what it asks of the session leaves together."""


class SimGround:
    """The ground of a caller in the simulated world, see :class:`bench.histories.Ground`."""

    def __init__(self, heap: Heap, random: Random, process: Process) -> None:
        self._heap = heap
        self._process = process
        self.random = random

    def now_ms(self) -> int:
        """See :class:`bench.histories.Ground`."""
        return self._heap.now_ms

    async def sleep_ms(self, delay_ms: int) -> None:
        """See :class:`bench.histories.Ground`."""
        pause = Pause()
        self._process.after(delay_ms, pause.resume)
        await pause

    async def within(self, limit_ms: int, call: Callable[[], Awaitable[T]]) -> T:
        """See :class:`bench.histories.Ground`."""
        ended = Pause()
        task: Task[T] = Task(_as_coroutine(call), lambda task: ended.resume(task.result, task.error))
        self._process.track(task)
        task.start()
        self._process.after(limit_ms, task.cancel)
        try:
            result: T = await ended
        except CalledOff:
            if not task.is_done:
                task.cancel()
                raise
            raise TimeLimit from None
        return result

    async def together(self, calls: Sequence[Callable[[], Awaitable[None]]]) -> None:
        """See :class:`bench.histories.Ground`."""
        all_ended = Pause()
        tasks: list[Task[None]] = []

        def ended(_: Task[None]) -> None:
            if all(task.is_done for task in tasks):
                all_ended.resume()

        def start() -> None:
            for task in tasks:
                task.start()

        tasks += [Task(_as_coroutine(call), ended) for call in calls]
        for task in tasks:
            self._process.track(task)
        self._process.at_once(start)
        try:
            await all_ended
        except CalledOff:
            for task in tasks:
                task.cancel()
            raise
        for task in tasks:
            if task.error is not None:
                raise task.error


async def _as_coroutine(call: Callable[[], Awaitable[T]]) -> T:
    return await call()
