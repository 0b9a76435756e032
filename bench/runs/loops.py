"""Calls of many callers on trio: in a closed loop, each again when it is answered, or at a rate."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import trio

from bench.runs.alarm import Alarm
from bench.runs.recording import Latencies, LoadFailed, Pace
from bench.runs.results import Load
from primitives.errors import QuorateError

Operation = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class Seen:
    """What came of the calls."""

    latencies: Latencies = field(default_factory=Latencies)
    errors: int = 0
    last_error: Exception | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    given_up: int = 0

    def fail(self, error: Exception) -> None:
        """Counts a call that failed."""
        self.errors += 1
        self.last_error = error

    def load(self) -> Load:
        """As it is kept; raises LoadFailed if no call was answered."""
        if not len(self.latencies) and self.last_error is not None:
            raise LoadFailed(f"no call was answered; the last error: {self.last_error}")
        extra = {"given_up_calls": float(self.given_up)} if self.given_up else {}
        return self.latencies.load(len(self.latencies), self.seconds, self.errors, self.cpu_seconds, extra)


async def drive(
    operations: Sequence[Operation], rate: float | None, seconds: float,
    failures: tuple[type[Exception], ...] = (QuorateError,),
) -> Seen:  # fmt: skip
    """Lets one caller repeat each of the operations for so long, and waits for their last answers.

    At a rate, calls begin when they are due, by whichever caller is idle, whether earlier ones were answered
    or not, and their latencies count from then: if all callers are busy, that includes the wait for one.
    Exceptions of ``failures`` are counted.
    """
    seen = Seen()
    cpu, began = time.process_time(), time.perf_counter()
    pace = Pace(rate, began, seconds)
    async with trio.open_nursery() as nursery:
        if rate is None:
            for operation in operations:
                nursery.start_soon(_again_and_again, operation, pace, seen, failures)
        else:
            sending, receiving = trio.open_memory_channel[float](math.inf)
            for operation in operations:
                nursery.start_soon(_when_due, operation, receiving.clone(), pace, seen, failures)
            receiving.close()
            await _dispatch(pace, sending)
    seen.seconds, seen.cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    seen.given_up = pace.given_up
    return seen


async def _again_and_again(
    operation: Operation, pace: Pace, seen: Seen, failures: tuple[type[Exception], ...]
) -> None:
    clock, record, end = time.perf_counter, seen.latencies.record, pace.end
    due = clock()
    for _ in pace.turns:
        if due >= end:
            return
        try:
            await operation()
        except failures as error:
            seen.fail(error)
            due = clock()
        else:
            now = clock()
            record(now - due)
            due = now


async def _dispatch(pace: Pace, sending: trio.MemorySendChannel[float]) -> None:
    """Hands each call, when it is due, to whichever caller is idle, or is the first to be so."""
    with sending, closing(Alarm()) as alarm:
        while (due := pace.next(time.perf_counter())) is not None:
            if alarm.arm(due):
                await trio.lowlevel.wait_readable(alarm.fileno())
                alarm.clear()
            sending.send_nowait(due)


async def _when_due(
    operation: Operation, receiving: trio.MemoryReceiveChannel[float], pace: Pace, seen: Seen,
    failures: tuple[type[Exception], ...],
) -> None:  # fmt: skip
    clock, record = time.perf_counter, seen.latencies.record
    with receiving:
        async for due in receiving:
            if pace.gives_up(clock()):
                continue
            try:
                await operation()
            except failures as error:
                seen.fail(error)
            else:
                record(clock() - due)
