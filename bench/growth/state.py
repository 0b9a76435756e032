"""What a large state costs a node: time to write it, disk, memory, and the time to serve again."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

import trio

from bench.catchup import Nodes, nodes
from bench.growth.asked import Asked, SectionFailed, require_space
from bench.growth.results import Restart, State
from bench.runs.sampling import resident_mb
from bench.runs.scratch import a_directory, say
from primitives.map import Map
from router.client import connect

NODE: Final = "n1"
WRITERS: Final = 8
"""Calls of ``put_many`` under way."""
CHUNK_BYTES: Final = 2 << 20
CHUNK_ENTRIES: Final = 2000
READS: Final = 2000
READERS: Final = 16
NEEDED: Final = 3.0
"""Times the values: so much may stand on the disk for a while."""
TOLD_EVERY_S: Final = 5.0


def measure(asked: Asked) -> Iterator[State]:
    """All sizes, one after the other. Raises SectionFailed."""
    for entries, value_bytes in asked.sizes:
        yield _measure(asked, entries, value_bytes)


def _measure(asked: Asked, entries: int, value_bytes: int) -> State:
    what = f"{entries:,} entries of {value_bytes:,} bytes"
    with a_directory(asked.data) as directory:
        require_space(directory, NEEDED * entries * value_bytes)
        with nodes(asked.free_port, asked.groups, (NODE,), directory) as cluster:
            say(f"state: {what} are written to one node")
            took = trio.run(_fill, cluster.url(NODE), entries, value_bytes)
            pid = cluster.pid(NODE)
            found = State(
                entries=entries, value_bytes=value_bytes, written_s=took, disk_mb=_size_mb(cluster.data),
                resident_mb=resident_mb(pid), peak_mb=_peak_mb(pid), restarts=[],
            )  # fmt: skip
            say(f"state: {took:.1f} s, {found.disk_mb:,.0f} MB on disk, {found.resident_mb:.0f} MB resident")
            for number in (signal.SIGKILL, signal.SIGTERM):
                found.restarts.append(_restart(cluster, number, entries))
    return found


def _restart(cluster: Nodes, number: signal.Signals, entries: int) -> Restart:
    cluster.stop(NODE, number)
    began = cluster.start(NODE)
    cluster.wait(NODE)
    ready_s = time.monotonic() - began
    pid = cluster.pid(NODE)
    before_mb = resident_mb(pid)
    trio.run(_read, cluster.url(NODE), entries)
    name = number.name.removeprefix("SIG")
    say(f"state: serves {ready_s:.2f} s after its start behind {name}, {before_mb:.0f} MB resident")
    return Restart(signal=name, ready_s=ready_s, resident_mb=before_mb, read_mb=resident_mb(pid))


def _key(number: int) -> str:
    return f"key-{number:08}"


async def _fill(url: str, entries: int, value_bytes: int) -> float:
    """Writes as fast as it goes, in commands of many entries; returns the seconds."""
    chunk = max(1, min(CHUNK_ENTRIES, CHUNK_BYTES // value_bytes))
    lows, random = iter(range(0, entries, chunk)), Random(1)
    began = told = time.monotonic()

    async def write(words: Map) -> None:
        nonlocal told
        for low in lows:
            numbers = range(low, min(low + chunk, entries))
            await words.put_many({_key(number): random.randbytes(value_bytes) for number in numbers})
            if time.monotonic() - told > TOLD_EVERY_S:
                told = time.monotonic()
                say(f"state: {low / entries:.0%} after {told - began:.0f} s")

    async with connect(url) as client, trio.open_nursery() as nursery:
        for _ in range(WRITERS):
            nursery.start_soon(write, client.map("words"))
    return time.monotonic() - began


async def _read(url: str, entries: int) -> None:
    """Gets entries all over the state. Raises SectionFailed if one is gone."""
    numbers = iter(range(0, entries, max(entries // READS, 1)))
    missing = []

    async def get(words: Map) -> None:
        for number in numbers:
            if await words.get(_key(number)) is None:
                missing.append(number)

    async with connect(url) as client, trio.open_nursery() as nursery:
        for _ in range(READERS):
            nursery.start_soon(get, client.map("words"))
    if missing:
        raise SectionFailed(f"{len(missing)} entries are gone after a restart, one of them {missing[0]}")


def _size_mb(path: Path) -> float:
    """Of all files below that are there throughout."""
    total = 0
    for one in path.rglob("*"):
        try:
            total += one.stat().st_size if one.is_file() else 0
        except FileNotFoundError:
            continue  # The database has put others in its place.
    return total / 1e6


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
