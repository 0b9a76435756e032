"""What callers were told, and whether a correct cluster can have told it.

A call whose outcome is not known stays open for ever: it may have taken effect once, at any time after it was
begun. Where the cluster gives positions (a revision, a counter's value) that order all effects on an object,
linearizability is that this order agrees with real time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from random import Random
from typing import Final, Protocol, TypeVar

from primitives.errors import QuorateError, Retry

T = TypeVar("T")


class HistoryViolation(AssertionError):
    """What the clients were told cannot have come from a correct cluster."""


class TimeLimit(Exception):
    """The call was called off: it may or may not have taken effect."""


class Ground(Protocol):
    """Where a caller stands."""

    @property
    def random(self) -> Random:
        """The caller's randomness."""

    def now_ms(self) -> int:
        """True time, the same for all callers."""

    async def sleep_ms(self, delay_ms: int) -> None:
        """Waits."""

    async def within(self, limit_ms: int, call: Callable[[], Awaitable[T]]) -> T:
        """The result of ``call``; after ``limit_ms`` it is cancelled, and TimeLimit raised."""

    async def together(self, calls: Sequence[Callable[[], Awaitable[None]]]) -> None:
        """Makes the calls at once; returns when all have ended."""


class Operation:
    """One call: when it began and ended, and where in its object's order it stands."""

    __slots__ = ("begun_ms", "ended_ms", "is_void", "label", "position", "writes")

    def __init__(self, begun_ms: int, label: str, writes: bool) -> None:
        self.begun_ms: Final = begun_ms
        self.label: Final = label
        self.writes: Final = writes
        self.ended_ms: int | None = None
        """None: its outcome is not known."""
        self.position: int | None = None
        """A value or revision that only grows; None where it is not known."""
        self.is_void = False
        """It was refused: it surely took no effect."""

    def __repr__(self) -> str:
        return f"{self.label} [{self.begun_ms}-{self.ended_ms}] at {self.position}"


class History:
    """The calls on one object."""

    __slots__ = ("_operations",)

    def __init__(self) -> None:
        self._operations: list[Operation] = []

    @property
    def operations(self) -> list[Operation]:
        """All but those that surely took no effect."""
        return [operation for operation in self._operations if not operation.is_void]

    def begin(self, ground: Ground, label: str, *, writes: bool) -> Operation:
        """A call that is about to be made."""
        operation = Operation(ground.now_ms(), label, writes)
        self._operations.append(operation)
        return operation


async def within(ground: Ground, limit_ms: int | None, call: Callable[[], Awaitable[T]]) -> T:
    """The result of ``call``, for which it has ``limit_ms``; None: as long as it takes."""
    return await (call() if limit_ms is None else ground.within(limit_ms, call))


async def attempt(ground: Ground, limit_ms: int | None, call: Callable[[], Awaitable[T]]) -> T | None:
    """The result of ``call``, or None if it failed in a way that faults explain. Raises HistoryViolation."""
    try:
        return await within(ground, limit_ms, call)
    except TimeLimit:
        return None
    except QuorateError as error:
        if error.retry is Retry.NEVER:
            raise HistoryViolation(f"{type(error).__name__}: {error}") from error
        return None


async def complete(
    operation: Operation, ground: Ground, call: Callable[[], Awaitable[T]],
    position: Callable[[T], int | None], limit_ms: int | None = None,
) -> T | None:  # fmt: skip
    """Makes the call and notes what is learned; None if it failed.

    Raises HistoryViolation for an error that no fault explains.
    """
    try:
        result = await within(ground, limit_ms, call)
    except TimeLimit:
        return None
    except QuorateError as error:
        if error.retry is Retry.NEVER:
            raise HistoryViolation(f"{operation}: {type(error).__name__}: {error}") from error
        operation.is_void = error.retry is Retry.SAFE
        return None
    operation.ended_ms = ground.now_ms()
    operation.position = position(result)
    return result


def check_real_time(operations: Iterable[Operation]) -> None:
    """Each call must stand behind every one that ended before it began: a write strictly, a read not before.
    Raises HistoryViolation."""
    known = [operation for operation in operations if operation.position is not None]
    ended = sorted((one for one in known if one.ended_ms is not None), key=lambda one: one.ended_ms or 0)
    last: Operation | None = None
    at = 0
    for operation in sorted(known, key=lambda one: one.begun_ms):
        while at < len(ended) and (ended[at].ended_ms or 0) < operation.begun_ms:
            if last is None or place(ended[at]) > place(last):
                last = ended[at]
            at += 1
        if last is not None and place(operation) < place(last) + operation.writes:
            raise HistoryViolation(f"{operation} began after {last} had ended, yet stands before it")


def place(operation: Operation) -> int:
    """The operation's position, which must be known."""
    if operation.position is None:
        raise HistoryViolation(f"{operation} has no position")
    return operation.position
