"""Leadership that goes to and fro between two campaigners, each a client of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import trio

from bench.runs.loops import Seen
from bench.runs.recording import Pace
from primitives.election import Election
from router.client import connect

NAME: Final = "bench-election"
CAMPAIGNERS: Final = 2


class HandOvers:
    """One measurement. Who leads resigns once the other stands; timed is from there until the other leads."""

    def __init__(self, seconds: float) -> None:
        self.seen: Final = Seen()
        self._seconds: Final = seconds
        self._resigned: float | None = None
        """When the last leader began to resign; None where nobody stood behind it."""

    async def run(self, elections: list[Election]) -> Seen:
        """Lets each campaign, again and again."""
        cpu, began = time.process_time(), time.perf_counter()
        pace = Pace(None, began, self._seconds)
        async with trio.open_nursery() as nursery:
            for number, election in enumerate(elections):
                nursery.start_soon(self._campaign, election, number, pace)
        self.seen.seconds, self.seen.cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
        return self.seen

    async def _campaign(self, election: Election, number: int, pace: Pace) -> None:
        while pace.next(time.perf_counter()) is not None:
            async with election.campaign(number):
                if self._resigned is not None:
                    self.seen.latencies.record(time.perf_counter() - self._resigned)
                    self._resigned = None
                if await _another_stands(election, pace):
                    self._resigned = time.perf_counter()


async def _another_stands(election: Election, pace: Pace) -> bool:
    """Waits until somebody would follow; False if the time is over first."""
    while time.perf_counter() < pace.end:
        if (await election.leadership()).candidates:
            return True
    return False


async def measure(url: str, warm_up: float, seconds: float, begun: Callable[[], None]) -> Seen:
    """Hand-overs for so long, after the warm-up; ``begun`` is called between them."""
    async with connect(url) as one, connect(url) as other:
        elections = [client.election(NAME) for client in (one, other)]
        await HandOvers(warm_up).run(elections)
        begun()
        return await HandOvers(seconds).run(elections)
