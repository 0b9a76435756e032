"""What loads on peers have in common: calls that are repeated, on asyncio or on threads, and what they found.

Clients of peers are not written for trio: they run on asyncio or on threads, as their users run them.
"""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

from bench.runs.alarm import Alarm
from bench.runs.recording import (
    Latencies,
    LoaderArguments,
    LoadFailed,
    Pace,
    key_name,
    key_names,
    print_begun,
    print_load,
)
from bench.runs.results import Load, Shape

AsyncCall = Callable[[], Awaitable[object]]
"""What one caller on asyncio repeats."""
Call = Callable[[], object]
"""What one caller on a thread of its own repeats."""
Failures = tuple[type[Exception], ...]
"""What a client raises for a call that failed; anything else is a mistake of the load, and ends it."""
GRACE_SECONDS: Final = 60.0
"""After the time of a measurement, for calls under way to be answered."""
BATCH: Final = 100
"""Keys of one transaction that prepares them; etcd takes 128."""
KEY_BYTES: Final = 64
"""More than a key takes beside its value."""
MIXED_READS: Final = 9
"""To one write."""


@dataclass(slots=True)
class Found:
    """What callers found in one run of them all."""

    pace: Pace
    latencies: Latencies = field(default_factory=Latencies)
    errors: int = 0
    last_error: Exception | None = None

    def failed(self, error: Exception) -> None:
        """Notes a call that failed."""
        self.errors += 1
        self.last_error = error

    def load(self, seconds: float, cpu_seconds: float | None) -> Load:
        """The figures; raises LoadFailed if no call was answered."""
        if not len(self.latencies):
            raise LoadFailed(f"no call was answered; {self.errors} failed, the last: {self.last_error!r}")
        extra = {"given_up_calls": float(self.pace.given_up)} if self.pace.given_up else {}
        return self.latencies.load(len(self.latencies), seconds, self.errors, cpu_seconds, extra)


async def measure_async(arguments: LoaderArguments, calls: Sequence[AsyncCall], failures: Failures) -> Load:
    """Warms up, then measures; each of ``calls`` is one caller's."""
    if arguments.warm_up:
        await _run_async(calls, arguments.shape.rate, arguments.warm_up, failures)
    print_begun()
    spent, began = time.process_time(), perf_counter()
    found = await _run_async(calls, arguments.shape.rate, arguments.seconds, failures)
    return found.load(perf_counter() - began, time.process_time() - spent)


async def _run_async(
    calls: Sequence[AsyncCall], rate: float | None, seconds: float, failures: Failures
) -> Found:
    found = Found(Pace(rate, perf_counter(), seconds))
    async with asyncio.timeout(seconds + GRACE_SECONDS), asyncio.TaskGroup() as group:
        if rate is None:
            for call in calls:
                group.create_task(_again_and_again(call, found, failures))
        else:
            due: asyncio.Queue[float | None] = asyncio.Queue()
            for call in calls:
                group.create_task(_when_due(call, due, found, failures))
            await _dispatch(found.pace, due)
            for _ in calls:
                due.put_nowait(None)
    return found


async def _dispatch(pace: Pace, due: asyncio.Queue[float | None]) -> None:
    """Hands each call, when it is due, to whichever caller is idle, or is the first to be so."""
    loop, rung = asyncio.get_running_loop(), asyncio.Event()
    with closing(Alarm()) as alarm:

        def ring() -> None:
            alarm.clear()
            rung.set()

        loop.add_reader(alarm.fileno(), ring)
        try:
            while (moment := pace.next(perf_counter())) is not None:
                rung.clear()
                if alarm.arm(moment):
                    await rung.wait()
                due.put_nowait(moment)
        finally:
            loop.remove_reader(alarm.fileno())


async def _when_due(
    call: AsyncCall, due: asyncio.Queue[float | None], found: Found, failures: Failures
) -> None:
    while (moment := await due.get()) is not None:
        if found.pace.gives_up(perf_counter()):
            continue
        try:
            await call()
        except failures as error:
            found.failed(error)
        else:
            found.latencies.record(perf_counter() - moment)


async def _again_and_again(call: AsyncCall, found: Found, failures: Failures) -> None:
    pace, record = found.pace, found.latencies.record
    now = perf_counter()
    while (due := pace.next(now)) is not None:
        try:
            await call()
        except failures as error:
            found.failed(error)
            now = perf_counter()
        else:
            now = perf_counter()
            record(now - due)


def measure_threads(arguments: LoaderArguments, calls: Sequence[Call], failures: Failures) -> Load:
    """The same, with a thread for each caller."""
    if arguments.warm_up:
        _run_threads(calls, arguments.shape.rate, arguments.warm_up, failures)
    print_begun()
    spent, began = time.process_time(), perf_counter()
    found = _run_threads(calls, arguments.shape.rate, arguments.seconds, failures)
    return found.load(perf_counter() - began, time.process_time() - spent)


def _run_threads(calls: Sequence[Call], rate: float | None, seconds: float, failures: Failures) -> Found:
    found = Found(Pace(rate, perf_counter(), seconds))
    broken: list[BaseException] = []

    def repeat(call: Call) -> None:
        try:
            _repeat(call, found, failures)
        except BaseException as error:
            broken.append(error)

    threads = [threading.Thread(target=repeat, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    deadline = found.pace.end + GRACE_SECONDS
    for thread in threads:
        thread.join(max(deadline - perf_counter(), 0.0))
    if broken:
        raise broken[0]
    if any(thread.is_alive() for thread in threads):
        raise LoadFailed(f"calls were not answered within {GRACE_SECONDS:.0f} s after the measurement")
    return found


def _repeat(call: Call, found: Found, failures: Failures) -> None:
    pace, record = found.pace, found.latencies.record
    now = perf_counter()
    while (due := pace.next(now)) is not None:
        if due > now:
            time.sleep(due - now)
        elif pace.gives_up(now):
            continue
        try:
            call()
        except failures as error:
            found.failed(error)
            now = perf_counter()
        else:
            now = perf_counter()
            record(now - due)


def batches(shape: Shape, bytes_max: int) -> Iterator[list[str]]:
    """The names of all keys, so many at a time that their values may be written together."""
    most = max(1, min(BATCH, bytes_max // (shape.value_bytes + KEY_BYTES)))
    for low in range(0, shape.keys, most):
        yield [key_name(number) for number in range(low, min(low + most, shape.keys))]


class Keys:
    """Draws for one caller: a random key, and whether it is the turn of a write."""

    def __init__(self, shape: Shape, caller: int) -> None:
        self._draw: Final = random.Random(caller).random
        self._names: Final = key_names(shape.keys)

    def name(self) -> str:
        """A key that was written when the load was prepared."""
        return self._names[int(self._draw() * len(self._names))]

    def writes(self) -> bool:
        """Once in ten times."""
        return self._draw() * (MIXED_READS + 1) < 1


def value_of(shape: Shape) -> bytes:
    """The value that is written."""
    return b"x" * shape.value_bytes


def conclude(peer: str, make: Callable[[], Load], failures: Failures) -> None:
    """Makes a load and prints it, or exits after one line that says why there is none."""
    try:
        load = make()
    except Exception as error:
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        if not isinstance(cause, (*failures, LoadFailed, OSError, TimeoutError)):
            raise
        words = " ".join(str(cause).split())
        sys.exit(f"{peer}: {type(cause).__name__}{f': {words}' if words else ''}")
    print_load(load)
