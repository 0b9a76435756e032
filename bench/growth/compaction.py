"""Writes second by second, and in which of them RocksDB compacts."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator, Sequence
from typing import Final

import trio

from bench.growth.asked import Asked, SectionFailed, databases
from bench.growth.results import Compactions, Second
from bench.growth.rocksfiles import Job, clipped, jobs, now
from bench.runs.loops import Operation, drive
from bench.runs.operations import operation, prepare
from bench.runs.recording import settle_process
from bench.runs.results import Shape
from bench.runs.scratch import a_cluster, a_directory, say
from router.client import connect

CALLERS: Final = 64
VALUE_BYTES: Final = 128
TOLD_EVERY_S: Final = 10.0


class Windows:
    """How long calls took, by the second in which they were answered."""

    def __init__(self, seconds: int) -> None:
        self._began = 0.0
        self.took: Final = [array("d") for _ in range(seconds)]

    def begin(self) -> None:
        """The first second begins."""
        self._began = time.perf_counter()

    def timed(self, call: Operation) -> Operation:
        """The same call, noted."""

        async def noted() -> None:
            began = time.perf_counter()
            await call()
            ended = time.perf_counter()
            at = int(ended - self._began)
            if at < len(self.took):
                self.took[at].append(ended - began)

        return noted


def measure(asked: Asked) -> Iterator[Compactions]:
    """One load. Raises SectionFailed."""
    seconds = max(round(asked.compaction_seconds), 1)
    shape = Shape(workload="write", callers=CALLERS, groups=asked.groups, nodes=asked.nodes,
                  value_bytes=VALUE_BYTES, keys=asked.compaction_keys)  # fmt: skip
    say(f"compaction: {CALLERS} callers write for {seconds} s, {shape.keys:,} keys")
    windows = Windows(seconds)
    with a_directory(asked.data) as directory:
        with a_cluster(directory, asked.nodes, asked.groups) as cluster:
            began = trio.run(_load, cluster.target, shape, asked.warm_up, windows)
        found = [jobs(one, began) for one in databases(directory)]
    ended = began + seconds
    compacted = [
        job for one in found for job in one if job.kind == "compaction" and clipped(job, began, ended)
    ]
    say(f"compaction: {len(compacted)} compactions on {len(found)} nodes")
    yield Compactions(
        callers=CALLERS, value_bytes=VALUE_BYTES, keys=shape.keys, nodes=asked.nodes,
        seconds=[_second(windows.took[at], at, began, found) for at in range(seconds)],
        jobs=len(compacted), compacted_bytes=sum(job.written_bytes for job in compacted),
    )  # fmt: skip


def _second(took: array[float], at: int, began: float, found: Sequence[Sequence[Job]]) -> Second:
    def running(kind: str) -> int:
        return sum(
            any(job.kind == kind and clipped(job, began + at, began + at + 1) for job in one) for one in found
        )

    ordered = sorted(took)
    p99 = ordered[min(len(ordered) * 99 // 100, len(ordered) - 1)] * 1e3 if ordered else 0.0
    return Second(
        operations=len(took), p99_ms=p99, compacting=running("compaction"), flushing=running("flush")
    )


async def _tell(windows: Windows) -> None:
    """How it goes, until cancelled."""
    while True:
        await trio.sleep(TOLD_EVERY_S)
        answered = [len(took) for took in windows.took if took]
        say(f"compaction: {len(answered)} of {len(windows.took)} s, {sum(answered):,} writes")


async def _load(url: str, shape: Shape, warm_up: float, windows: Windows) -> float:
    """Makes it; returns when it began."""
    settle_process()
    async with connect(url) as client:
        await prepare(client, shape)
        calls = [operation(client, url, shape, caller) for caller in range(shape.callers)]
        await drive(calls, None, warm_up)
        windows.begin()
        began = now()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tell, windows)
            seen = await drive([windows.timed(call) for call in calls], None, float(len(windows.took)))
            nursery.cancel_scope.cancel()
    if seen.errors:
        raise SectionFailed(f"{seen.errors} writes failed, the last for: {seen.last_error}")
    return began
