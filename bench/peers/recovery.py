"""One serial writer, while the server that leads is killed by KILL and started again by whoever keeps it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter
from typing import Final

from bench.peers.loading import Failures, Found
from bench.runs.recording import LoaderArguments, LoadFailed, Pace, print_begun
from bench.runs.recovery import CALM_SECONDS, RESTART_SECONDS, SERVE_SECONDS
from bench.runs.results import Load
from bench.runs.sampling import age_s, command_line, processes_of

LOOK_SECONDS: Final = 0.01
PAUSE_SECONDS: Final = 0.01
"""After a write that failed, before the next."""


@dataclass(frozen=True, slots=True)
class Side:
    """What the system does for it; addresses are those of the target."""

    put: Callable[[int], Awaitable[object]]
    """Writes the key of a number."""
    leads: Callable[[str], bool]
    """Whether the server at an address leads; raises OSError where none answers."""
    serves: Callable[[str], bool]
    failures: Failures


@dataclass(slots=True)
class Writer:
    """Writes one key after the other."""

    side: Side
    keys: int
    found: Found
    acknowledged: array[float] = field(default_factory=lambda: array("d"))
    stopped: bool = False

    async def run(self) -> None:
        """Until it is stopped."""
        number = 0
        while not self.stopped:
            number, began = number + 1, perf_counter()
            try:
                await self.side.put(number % self.keys)
            except self.side.failures as error:
                self.found.failed(error)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            self.acknowledged.append(perf_counter())
            self.found.latencies.record(self.acknowledged[-1] - began)

    async def until_acknowledged(self, since: float) -> None:
        """Waits for a write that was acknowledged after ``since``. Raises LoadFailed if there is none."""
        deadline = perf_counter() + SERVE_SECONDS
        while not self.acknowledged or self.acknowledged[-1] < since:
            if perf_counter() > deadline:
                raise LoadFailed(f"no write is acknowledged any more; the last: {self.found.last_error!r}")
            await asyncio.sleep(LOOK_SECONDS)

    def longest_gap(self, since: float) -> float:
        """The longest time without an acknowledged write, of those that ended after ``since``."""
        return max(after - before for before, after in pairwise(self.acknowledged) if after > since)


async def measure_recovery(arguments: LoaderArguments, side: Side) -> Load:
    """The writes, ``gap_s`` and ``serving_s``. Raises LoadFailed if the server does not come back."""
    addresses, pids = arguments.target.split(","), arguments.pids
    if len(pids) != len(addresses) or len(pids) < 3:
        raise LoadFailed(f"recovery needs three servers with --pids, not {len(addresses)} with {len(pids)}")
    await _write_for(arguments, side, arguments.warm_up)
    print_begun()
    spent, began = time.process_time(), perf_counter()
    writer = Writer(side, arguments.shape.keys, Found(Pace(None, began, arguments.seconds)))
    async with asyncio.TaskGroup() as group:
        group.create_task(writer.run())
        await asyncio.sleep(CALM_SECONDS)
        at = await asyncio.to_thread(leader, addresses, side)
        killed = perf_counter()
        serving_s = await asyncio.to_thread(kill_and_wait, pids[at], lambda: side.serves(addresses[at]))
        await asyncio.sleep(max(began + arguments.seconds - perf_counter(), CALM_SECONDS))
        await writer.until_acknowledged(killed)
        writer.stopped = True
    load = writer.found.load(perf_counter() - began, time.process_time() - spent)
    load.extra.update(gap_s=writer.longest_gap(killed), serving_s=serving_s)
    return load


async def _write_for(arguments: LoaderArguments, side: Side, seconds: float) -> None:
    writer = Writer(side, arguments.shape.keys, Found(Pace(None, perf_counter(), seconds)))
    async with asyncio.TaskGroup() as group:
        group.create_task(writer.run())
        await asyncio.sleep(seconds)
        writer.stopped = True


def leader(addresses: list[str], side: Side) -> int:
    """The place of the server that leads. Raises LoadFailed."""
    for at, address in enumerate(addresses):
        if _is(side.leads, address):
            return at
    raise LoadFailed(f"none of {', '.join(addresses)} leads")


def _is(question: Callable[[str], bool], address: str) -> bool:
    try:
        return question(address)
    except OSError:
        return False


def kill_and_wait(pid: int, serves: Callable[[], bool]) -> float:
    """Kills a server; returns the seconds from the start of the process in its place until that serves.
    Raises LoadFailed if it is not started, or does not serve, in time."""
    command = command_line(pid)
    os.kill(pid, signal.SIGKILL)
    restarted = _until_restarted(command, pid)
    deadline = perf_counter() + SERVE_SECONDS
    while perf_counter() < deadline:
        if _is(lambda _: serves(), ""):
            return perf_counter() - restarted
        time.sleep(LOOK_SECONDS)
    raise LoadFailed(f"the server does not serve {SERVE_SECONDS:g} s after its start")


def _until_restarted(command: bytes, pid: int) -> float:
    """When the process that takes the place of the one that died was started."""
    deadline = perf_counter() + RESTART_SECONDS
    while perf_counter() < deadline:
        for other in processes_of(command):
            try:
                if other != pid:
                    return perf_counter() - age_s(other)
            except FileNotFoundError:
                continue  # It was gone before we looked.
        time.sleep(LOOK_SECONDS)
    raise LoadFailed(f"nobody started the server again within {RESTART_SECONDS:g} s")
