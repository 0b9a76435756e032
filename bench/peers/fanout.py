"""One writer, and watchers who are told of each of its changes, on asyncio."""

from __future__ import annotations

import asyncio
import time
from time import perf_counter
from typing import Final

from bench.peers.loading import AsyncCall
from bench.runs.fanout import SETTLE_SECONDS, WATCHERS, allow_files
from bench.runs.recording import Latencies, LoaderArguments, LoadFailed, Pace, print_begun
from bench.runs.results import Load

FILES_MORE: Final = 200
"""That the process has open besides the watchers' connections."""


class Board:
    """How many watchers have been told of each change, by its number from 0."""

    def __init__(self, watchers: int) -> None:
        self._had: Final = [0] * watchers
        self._told: Final[list[int]] = []
        self.arrived: Final[list[float]] = []
        """When the last watcher was told, of each change that all know."""
        self._wanted = 0
        self._is_reached: Final = asyncio.Event()

    def told(self, watcher: int) -> None:
        """A watcher was told of its next change."""
        number = self._had[watcher]
        self._had[watcher] += 1
        if number == len(self._told):
            self._told.append(0)
        self._told[number] += 1
        if self._told[number] == len(self._had):
            self.arrived.append(perf_counter())
            if len(self.arrived) >= self._wanted:
                self._is_reached.set()

    async def until(self, count: int) -> None:
        """Waits until all watchers know of so many changes. Raises LoadFailed if one knows of more."""
        self._wanted = count
        self._is_reached.clear()
        if len(self.arrived) < count:
            await self._is_reached.wait()
        if len(self._told) > count:
            raise LoadFailed(f"of {count} changes watchers were told more than once")


async def measure_fanout(arguments: LoaderArguments, board: Board, put: AsyncCall) -> Load:
    """Puts again when it is answered; an operation is an event that arrived, a latency that of a put until
    the last watcher has it. Raises LoadFailed, TimeoutError."""
    if arguments.shape.callers != 1:
        raise LoadFailed("fanout is written by one caller here: only then is a change known by its number")
    if arguments.warm_up:
        await _run(board, put, arguments.warm_up)
    print_begun()
    spent = time.process_time()
    latencies, elapsed = await _run(board, put, arguments.seconds)
    spent = time.process_time() - spent
    writes = len(latencies)
    return latencies.load(writes * WATCHERS, elapsed, cpu_seconds=spent, extra={"writes": float(writes)})


async def _run(board: Board, put: AsyncCall, seconds: float) -> tuple[Latencies, float]:
    began, first, puts = perf_counter(), len(board.arrived), list[float]()
    pace = Pace(None, began, seconds)
    while (due := pace.next(perf_counter())) is not None:
        await put()
        puts.append(due)
    async with asyncio.timeout(SETTLE_SECONDS):
        await board.until(first + len(puts))
    elapsed, latencies = perf_counter() - began, Latencies()
    for number, due in enumerate(puts, start=first):
        latencies.record(board.arrived[number] - due)
    return latencies, elapsed


def watchers() -> range:
    """Numbers of the watchers, whose connections the process may have open from here on. Raises LoadFailed
    if it may not."""
    allow_files(WATCHERS + FILES_MORE)
    return range(WATCHERS)
