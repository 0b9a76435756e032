"""The ground of a caller on trio, for workloads that run against real processes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Final, TypeVar

import trio

from bench.histories import TimeLimit

T = TypeVar("T")


async def together(calls: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Makes the calls at once; returns when all have ended, or raises the first one's error."""
    try:
        async with trio.open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(call)
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


class TrioGround:
    """See :class:`bench.histories.Ground`. All callers are of one process, so their time is the same."""

    def __init__(self, random: Random) -> None:
        self.random: Final = random

    def now_ms(self) -> int:
        """See :class:`bench.histories.Ground`."""
        return time.monotonic_ns() // 1_000_000

    async def sleep_ms(self, delay_ms: int) -> None:
        """See :class:`bench.histories.Ground`."""
        await trio.sleep(delay_ms / 1000)

    async def within(self, limit_ms: int, call: Callable[[], Awaitable[T]]) -> T:
        """See :class:`bench.histories.Ground`."""
        with trio.move_on_after(limit_ms / 1000):
            return await call()
        raise TimeLimit

    async def together(self, calls: Sequence[Callable[[], Awaitable[None]]]) -> None:
        """See :class:`bench.histories.Ground`."""
        await together(calls)
