"""Bytes for each write: of write-ahead logs, of tables, and of snapshots for a node that was away."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import trio

from bench.catchup import Nodes, caught_up, nodes, write
from bench.growth.asked import Asked, SectionFailed, databases
from bench.growth.results import CaughtUp, Written
from bench.growth.rocksfiles import WalGrowth, jobs, now
from bench.runs.loader import BEYOND_SECONDS
from bench.runs.quorate_subject import QUORATE, DevCluster
from bench.runs.results import Load, Shape
from bench.runs.runner import run_load
from bench.runs.sampling import Meter, spent
from bench.runs.scratch import a_cluster, a_directory, say
from router.client import connect

CALLERS: Final = 64
AWAY: Final = "n3"
STAYED: Final = ("n1", "n2")
CATCH_UP_SECONDS: Final = 300.0


class _Bytes:
    """What a cluster writes during a measurement; see :class:`bench.runs.runner.Watcher`."""

    def __init__(self, cluster: DevCluster, found: Sequence[Path]) -> None:
        self._cluster: Final = cluster
        self._databases: Final = found
        self._wal: WalGrowth | None = None
        self._meter = Meter(cluster.pids)
        self.began = self.ended = now()
        self.wal_bytes = 0
        self.kernel_bytes: int | None = None

    def begin(self, loader: int) -> None:
        """From here on."""
        self.close()
        self._wal, self._meter, self.began = WalGrowth(self._databases), Meter(self._cluster.pids), now()

    def end(self) -> None:
        """Until here."""
        self.close()
        cost = self._meter.read(self._cluster.pids)
        if cost is None:
            raise SectionFailed("a server ended meanwhile")
        self.ended, self.kernel_bytes = now(), cost.written_bytes

    def close(self) -> None:
        """Ends the thread that follows the logs."""
        if self._wal is not None:
            self.wal_bytes = self._wal.stop()
            self._wal = None


def measure(asked: Asked) -> Iterator[Written]:
    """For small and large values, each on a fresh cluster. Raises SectionFailed, and what a load raises."""
    for value_bytes in asked.values:
        yield _measure(asked, value_bytes)


def _measure(asked: Asked, value_bytes: int) -> Written:
    say(f"bytes: {CALLERS} callers put values of {value_bytes:,} bytes for {asked.seconds:g} s")
    shape = Shape(workload="write", callers=CALLERS, groups=asked.groups, nodes=asked.nodes,
                  value_bytes=value_bytes)  # fmt: skip
    with a_directory(asked.data) as directory:
        with a_cluster(directory, asked.nodes, asked.groups) as cluster:
            watched = _Bytes(cluster, databases(directory))
            try:
                load = _load(asked, cluster, shape, watched)
            finally:
                watched.close()
        tables = [job for one in databases(directory) for job in jobs(one, watched.began)]
    ended = [job for job in tables if job.ended <= watched.ended]
    found = Written(
        value_bytes=value_bytes, puts=load.operations, seconds=load.seconds, nodes=asked.nodes,
        wal_bytes=watched.wal_bytes, kernel_bytes=watched.kernel_bytes,
        flushed_bytes=sum(job.written_bytes for job in ended if job.kind == "flush"),
        compacted_bytes=sum(job.written_bytes for job in ended if job.kind == "compaction"),
    )  # fmt: skip
    say(f"bytes: {found.puts:,} puts, write-ahead log {found.times(found.wal_bytes):.2f} × the value")
    return found


def _load(asked: Asked, cluster: DevCluster, shape: Shape, watched: _Bytes) -> Load:
    command = QUORATE.load(cluster, shape, asked.seconds, asked.warm_up)
    return run_load(command, asked.seconds + asked.warm_up + BEYOND_SECONDS, watched)


def measure_snapshot(asked: Asked) -> Iterator[CaughtUp]:
    """What a node takes in that was away while others wrote. Raises SectionFailed."""
    puts, value_bytes, keys, groups = asked.missed
    say(f"snapshot: {puts:,} puts of {value_bytes:,} bytes while one of three nodes is away")
    with a_directory(asked.data) as directory, nodes(asked.free_port, groups, parent=directory) as cluster:
        cluster.stop(AWAY, signal.SIGTERM)
        trio.run(_write, cluster.url(*STAYED), puts, value_bytes, keys)
        began = cluster.start(AWAY)
        cluster.wait(AWAY)
        pid = cluster.pid(AWAY)
        installed = trio.run(_catch_up, cluster)
        took = time.monotonic() - began
        found = CaughtUp(
            value_bytes=value_bytes, puts=puts, keys=keys, groups=groups, snapshots=installed, seconds=took,
            received_bytes=received_bytes(pid), kernel_bytes=spent(pid).written_bytes,
        )  # fmt: skip
    say(f"snapshot: caught up after {took:.1f} s by {installed} snapshots")
    yield found


async def _write(url: str, puts: int, value_bytes: int, keys: int) -> None:
    async with connect(url) as client:
        await write(client, puts, value_bytes, keys)


async def _catch_up(cluster: Nodes) -> int:
    with trio.move_on_after(CATCH_UP_SECONDS):
        installed, _ = await caught_up(cluster, 0)
        return installed
    raise SectionFailed(f"{AWAY} has not caught up after {CATCH_UP_SECONDS:g} s")


def received_bytes(pid: int) -> int | None:
    """What the open TCP connections of a process have received, as ``ss`` tells; None where it is missing."""
    if shutil.which("ss") is None:
        return None
    told = subprocess.run(["ss", "-tinpHO"], capture_output=True, text=True, check=True).stdout
    return sum(
        int(word.removeprefix("bytes_received:"))
        for line in told.splitlines() if f"pid={pid}," in line
        for word in line.split() if word.startswith("bytes_received:")
    )  # fmt: skip
