"""Closed-loop load on a running cluster through the public client: operations a second and latencies.

``python -m bench.load --url quorate://127.0.0.1:7400 --workload write --callers 1,16,64,256 --seconds 4``

Each caller waits for an answer before it asks again. A measurement begins after a warm-up; it is bounded in
time and in the number of operations. All callers share one client in one process.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import trio
from hdrh.histogram import HdrHistogram
from rich.console import Console
from rich.table import Table

from primitives.handle import LINEARIZABLE, SEQUENTIAL, Stale
from primitives.ids import SYSTEM_GROUP
from router.client import Client, connect

Operation = Callable[[], Awaitable[object]]

OPERATIONS_MAX: Final = 4_000_000
"""A measurement ends at so many operations, however long it was to take."""
LATENCY_US_MAX: Final = 60_000_000
WARM_UP_SECONDS: Final = 1.0
LEVELS: Final = {"sequential": SEQUENTIAL, "stale": Stale(1.0)}
"""Workloads that read as ``read`` does, at another level."""
WORKLOADS: Final = ("write", "read", "counter", "lock", *LEVELS)


@dataclass(frozen=True, slots=True)
class Shape:
    """What the operations work on."""

    value_bytes: int = 128
    keys: int = 1000
    locks: int = 1
    """Locks that the callers of ``lock`` contend for; caller i takes number i modulo this."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One measurement."""

    workload: str
    callers: int
    operations_per_second: float
    p50_ms: float
    p99_ms: float
    longest_ms: float


async def prepare(client: Client, workload: str, shape: Shape) -> None:
    """Creates what the workload needs, outside the measurement."""
    if workload in ("write", "read", *LEVELS):
        entries = client.map("bench-entries")
        value = b"x" * shape.value_bytes
        for low in range(0, shape.keys, 100):
            await entries.put_many({f"key{n:06}": value for n in range(low, min(low + 100, shape.keys))})
    elif workload == "counter":
        await client.counter("bench-count").set(0)


def operation(client: Client, workload: str, caller: int, shape: Shape) -> Operation:
    """What the given caller repeats."""
    draw = random.Random(caller).randrange
    if workload == "write":
        put, value = client.map("bench-entries").put, b"x" * shape.value_bytes
        return lambda: put(f"key{draw(shape.keys):06}", value)
    if workload == "read" or workload in LEVELS:
        get = client.map("bench-entries", read=LEVELS.get(workload, LINEARIZABLE)).get
        return lambda: get(f"key{draw(shape.keys):06}")
    if workload == "counter":
        return client.counter("bench-count").increment
    if workload == "lock":
        lock = client.lock(f"bench-lock-{caller % shape.locks}")

        async def pair() -> None:
            grant = await lock.acquire()
            await grant.release()

        return pair
    raise ValueError(f"a workload is one of {', '.join(WORKLOADS)}, not {workload}")


async def measure(client: Client, workload: str, callers: int, seconds: float, shape: Shape) -> Figures:
    """Runs ``callers`` at once for ``seconds`` after a warm-up. An error of any caller ends it."""
    await prepare(client, workload, shape)
    with trio.fail_after(seconds + WARM_UP_SECONDS + 60):
        await _run(client, workload, callers, min(WARM_UP_SECONDS, seconds), shape)
        latencies, elapsed = await _run(client, workload, callers, seconds, shape)
    histogram: Any = HdrHistogram(1, LATENCY_US_MAX, 3)
    for latency in latencies:
        histogram.record_value(min(max(int(latency * 1e6), 1), LATENCY_US_MAX))
    return Figures(
        workload=workload, callers=callers, operations_per_second=len(latencies) / elapsed,
        p50_ms=histogram.get_value_at_percentile(50) / 1e3,
        p99_ms=histogram.get_value_at_percentile(99) / 1e3, longest_ms=histogram.get_max_value() / 1e3,
    )  # fmt: skip


async def _run(
    client: Client, workload: str, callers: int, seconds: float, shape: Shape
) -> tuple[list[float], float]:
    """The latencies in seconds of everything that was answered, and the time it took."""
    latencies: list[float] = []
    began = time.perf_counter()
    stop = began + seconds

    async def call(ask: Operation) -> None:
        at = time.perf_counter()
        while at < stop and len(latencies) < OPERATIONS_MAX:
            await ask()
            now = time.perf_counter()
            latencies.append(now - at)
            at = now

    async with trio.open_nursery() as nursery:
        for caller in range(callers):
            nursery.start_soon(call, operation(client, workload, caller, shape))
    return latencies, time.perf_counter() - began


async def measure_all(
    url: str, workloads: Sequence[str], callers: Sequence[int], seconds: float, shape: Shape
) -> list[Figures]:
    """Every workload with every number of callers, one after the other, each with a client of its own."""
    found: list[Figures] = []
    for workload in workloads:
        for count in callers:
            async with connect(url) as client:
                found.append(await measure(client, workload, count, seconds, shape))
    return found


def table(figures: Sequence[Figures], title: str) -> Table:
    """The figures, for people."""
    shown = Table(title=title)
    for column in ("workload", "callers", "ops/s", "p50 ms", "p99 ms", "longest ms"):
        shown.add_column(column, justify="left" if column == "workload" else "right")
    for line in figures:
        shown.add_row(
            line.workload, f"{line.callers}", f"{line.operations_per_second:,.0f}", f"{line.p50_ms:.2f}",
            f"{line.p99_ms:.2f}", f"{line.longest_ms:.1f}",
        )  # fmt: skip
    return shown


def settle_process() -> None:
    """Settings of the interpreter that matter for the tail: a short switch interval, rare collections."""
    sys.setswitchinterval(0.0005)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)


def numbers(text: str) -> list[int]:
    """``1,16,64`` as numbers from 1 to 10,000; raises ValueError."""
    found = [int(part) for part in text.split(",")]
    if not all(1 <= number <= 10_000 for number in found):
        raise ValueError("callers are 1 to 10,000")
    return found


def add_shape(parser: argparse.ArgumentParser) -> None:
    """Adds the options that both this and the comparison with the floor take."""
    parser.add_argument("--url", required=True, help="the cluster, quorate://host:port[,host:port...]")
    parser.add_argument("--callers", type=numbers, default=[1, 16, 64, 256], metavar="N,N,...")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement (default 4)")
    parser.add_argument("--value-bytes", type=int, default=128)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--locks", type=int, default=1, help="locks that the callers of 'lock' share")
    parser.add_argument(
        "--groups", type=int, default=None, help="data groups the cluster must have, else nothing is measured"
    )


def shape_of(arguments: argparse.Namespace) -> Shape:
    """The shape that the options ask for."""
    return Shape(value_bytes=arguments.value_bytes, keys=arguments.keys, locks=arguments.locks)


async def check_groups(url: str, groups: int | None) -> int:
    """The number of data groups that the node asked has a replica of, on three nodes all there are; exits
    if it is not the number asked for."""
    async with connect(url) as client:
        with trio.fail_after(30):
            status = await client.status()
    found = len({group["group"] for group in status["groups"]} - {SYSTEM_GROUP})
    if groups is not None and found != groups:
        raise SystemExit(f"the cluster has {found} data groups, not {groups}")
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.load", description="Closed-loop load on a cluster."
    )
    add_shape(parser)
    parser.add_argument(
        "--workload", default="write,read", help=f"of {', '.join(WORKLOADS)}; several by commas"
    )
    arguments = parser.parse_args()
    workloads = arguments.workload.split(",")
    if unknown := [name for name in workloads if name not in WORKLOADS]:
        parser.error(f"unknown workload {unknown[0]!r}: one of {', '.join(WORKLOADS)}")
    settle_process()
    groups = trio.run(check_groups, arguments.url, arguments.groups)
    shape = shape_of(arguments)
    figures = trio.run(
        measure_all, arguments.url, workloads, arguments.callers, arguments.seconds, shape
    )
    Console().print(table(figures, f"{groups} groups, {shape.value_bytes}-byte values, {shape.keys} keys"))


if __name__ == "__main__":
    main()
