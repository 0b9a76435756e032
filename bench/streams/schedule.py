"""Trio, so that a seed decides what runs when: the same seed, the same run, in whatever process.

Trio draws the order in which tasks run, breaks ties between deadlines by the addresses of objects, and
cancels the tasks of a scope in the order of a set. The first has a switch of trio's own; the other two are
given an order here, for the time of a run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from heapq import heappush
from itertools import count
from random import Random
from typing import Any, Final

import trio
from trio._core import _run
from trio.testing import MockClock

from bench.world.clock import Heap

_ROUNDING: Final = 1e-6
"""Of a millisecond: what a jump to a deadline may fall short of it."""


class _Ordered(dict[Any, None]):
    """A set that is gone through in the order in which it was filled."""

    def add(self, member: Any) -> None:
        """Puts it last, unless it is there."""
        self.setdefault(member)

    def remove(self, member: Any) -> None:
        """Raises KeyError if it is not there."""
        del self[member]

    def discard(self, member: Any) -> None:
        """Takes it out, if it is there."""
        self.pop(member, None)


@contextmanager
def _decided(random: Random) -> Iterator[None]:
    run: Any = _run  # Its inner parts have no types to lean on.
    numbers = count()
    begin = run.CancelStatus.__attrs_post_init__
    former = run._ALLOW_DETERMINISTIC_SCHEDULING, run._r, run.Deadlines.add

    def add(deadlines: Any, deadline: float, scope: trio.CancelScope) -> None:
        heappush(deadlines._heap, (deadline, next(numbers), scope))
        deadlines._active += 1

    def ordered(status: Any) -> None:
        status._children, status._tasks = _Ordered(), _Ordered()
        begin(status)

    run._ALLOW_DETERMINISTIC_SCHEDULING, run._r, run.Deadlines.add = True, random, add
    run.CancelStatus.__attrs_post_init__ = ordered
    try:
        yield
    finally:
        run._ALLOW_DETERMINISTIC_SCHEDULING, run._r, run.Deadlines.add = former
        run.CancelStatus.__attrs_post_init__ = begin


def run_decided(random: Random, heap: TrioHeap, main: Callable[[], Awaitable[None]]) -> None:
    """Runs ``main`` on trio in the time of ``heap``, in the order that ``random`` draws."""
    with _decided(random):
        trio.run(main, clock=heap.clock)


class TrioHeap(Heap):
    """The event heap of ``bench.world`` in trio's time, which jumps whenever everybody waits. What is
    simulated without tasks happens in :meth:`run`."""

    __slots__ = ("_alarm", "clock")

    def __init__(self) -> None:
        self.clock: Final = MockClock(autojump_threshold=0)
        self._alarm: trio.CancelScope | None = None
        super().__init__()

    @property
    def now_ms(self) -> int:
        """Whole milliseconds since the run began."""
        return int(self.clock.current_time() * 1000 + _ROUNDING)

    @now_ms.setter
    def now_ms(self, now_ms: int) -> None:
        """Trio's clock alone says what time it is."""

    def at(self, when_ms: int, action: Callable[[], None]) -> None:
        """See :class:`Heap`."""
        super().at(when_ms, action)
        if self._alarm is not None:
            self._alarm.deadline = min(self._alarm.deadline, max(when_ms, self.now_ms) / 1000)

    async def run(self) -> None:
        """Lets everything happen in its time, until cancelled."""
        while True:
            self.run_until(self.now_ms)
            due = self._events[0][0] / 1000 if self._events else float("inf")
            with trio.CancelScope(deadline=due) as self._alarm:
                await trio.sleep_forever()
            self._alarm = None
