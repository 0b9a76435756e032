"""What was found of how costs grow, as tables and plots."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Final

from bench.growth.results import AtRate, CaughtUp, Compactions, Growth, Idle, Restart, Second, State, Written
from bench.runs.distributions import distribution, nines
from bench.runs.panels import NINES, Panel
from bench.runs.plots import Axis, Bar, Point, Series, bars, curves
from bench.runs.sections import Section
from bench.runs.summary import figure_told

WAL_TIMES_MAX: Final = 5.0
"""The write-ahead log is to take no more for each put of 128 bytes by 64 callers, in multiples of it."""
_DASH: Final = "–"


def sections(growth: Growth) -> Iterator[Section]:
    """Those that were measured."""
    if growth.state:
        yield _state(sorted(growth.state, key=lambda one: one.state_mb))
    if growth.bytes:
        yield _bytes(growth.bytes)
    if growth.snapshot:
        yield _snapshot(growth.snapshot)
    for compactions in growth.compaction:
        yield _compaction(compactions)
    if growth.load:
        yield _load(growth.load)
    if growth.idle:
        yield _idle(growth.idle)


def _line(colour: int, points: Sequence[tuple[float, float]]) -> Series:
    return Series(colour, [Point(x, y, y, y) for x, y in points])


def _mb(number_bytes: float) -> str:
    return figure_told(number_bytes / 1e6)


# --- State -------------------------------------------------------------------------------------------


def _state(found: Sequence[State]) -> Section:
    restarts = [one.signal for one in found[0].restarts]
    head = ["entries", "bytes each", "state MB", "written in s", "on disk MB", "peak MB", "loaded MB"]
    for name in restarts:
        head += [f"{name}: ready in s", "resident MB", "after reads MB"]
    rows = []
    for one in found:
        row = [
            f"{one.entries:,}", f"{one.value_bytes:,}", figure_told(one.state_mb), figure_told(one.written_s),
            figure_told(one.disk_mb), figure_told(one.peak_mb), figure_told(one.resident_mb),
        ]  # fmt: skip
        for again in one.restarts:
            row += [figure_told(again.ready_s), figure_told(again.resident_mb), figure_told(again.read_mb)]
        rows.append(row)
    sizes = dict.fromkeys(one.value_bytes for one in found)
    kinds = [*(f"behind {name}" for name in restarts), "when all was written"]
    legend = [
        (number * len(kinds) + at, f"{kind}, {size:,} B each")
        for number, size in enumerate(sizes) for at, kind in enumerate(kinds)
    ]  # fmt: skip
    return Section(
        name="state", title="Restart and memory against the size of the state",
        about="One node; values that do not compress are written by calls of many entries. Ready: from the "
        "start of the process until it serves. Its files are still in the machine's memory then. RocksDB's "
        "cache of blocks is 16 MiB; memory is resident memory of the node.",
        head=head, rows=rows, legend=legend if len(found) > 1 else (),
        panels=list(_state_panels(found)) if len(found) > 1 else (),
    )  # fmt: skip


def _state_panels(found: Sequence[State]) -> Iterator[Panel]:
    x = Axis("MB of values", found[-1].state_mb >= 8 * found[0].state_mb, [one.state_mb for one in found])
    sizes = dict.fromkeys(one.value_bytes for one in found)
    numbers = range(len(found[0].restarts))
    loaded = len(numbers)

    def line(at: int, of: Callable[[State], float]) -> list[Series]:
        """One for each size of values."""
        lines = []
        for number, size in enumerate(sizes):
            ones = [one for one in found if one.value_bytes == size]
            lines.append(_line(number * (loaded + 1) + at, [(one.state_mb, of(one)) for one in ones]))
        return lines

    def behind(of: Callable[[Restart], float]) -> list[Series]:
        """One for each way to end."""
        return [one for at in numbers for one in line(at, lambda state: of(state.restarts[at]))]  # noqa: B023

    ready, memory = behind(lambda one: one.ready_s), behind(lambda one: one.read_mb)
    memory += line(loaded, lambda state: state.resident_mb)
    for title, about, unit, lines in (
        ("Time to serve again", "from the start of the process", "s", ready),
        ("Memory", "resident: when all was written, and after reads all over it", "MB", memory),
        ("Speed of writing", "of values, in calls of many entries", "MB a second",
         line(loaded, lambda state: state.state_mb / state.written_s)),
        ("On disk", "in multiples of the values", "times",
         line(loaded, lambda state: state.disk_mb / state.state_mb)),
    ):  # fmt: skip
        yield Panel(title, about, curves(title, x, Axis(unit), lines))


# --- Bytes -------------------------------------------------------------------------------------------


def _bytes(found: Sequence[Written]) -> Section:
    head = [
        "value", "puts/s", "WAL bytes/put", "WAL ×", "flushed ×", "compacted ×", "all three ×",
        "as the kernel counts ×",
    ]  # fmt: skip
    rows, drawn, notes = [], [], []
    for one in found:
        parts = [one.times(part) for part in (one.wal_bytes, one.flushed_bytes, one.compacted_bytes)]
        kernel = _DASH if one.kernel_bytes is None else figure_told(one.times(one.kernel_bytes))
        rows.append((
            f"{one.value_bytes:,} B", f"{one.puts / one.seconds:,.0f}",
            f"{one.wal_bytes / one.puts / one.nodes:,.0f}", *map(figure_told, parts), figure_told(sum(parts)),
            kernel,
        ))  # fmt: skip
        drawn.append(Bar(f"{one.value_bytes:,} B", 0, parts, colours=(0, 1, 2)))
        if one.value_bytes == 128:
            verdict = "met" if parts[0] <= WAL_TIMES_MAX else "not yet"
            notes.append(
                f"Target: at most {WAL_TIMES_MAX:g} × the value in the write-ahead log for each put of 128 "
                f"bytes by 64 callers: {parts[0]:.2f}, {verdict}."
            )
    svg = bars("bytes for each put and node", Axis("times the value", told=figure_told), drawn)
    return Section(
        name="bytes", title="Bytes for each write",
        about="64 callers; for each put and node, in multiples of the value (×). Flushed and compacted: "
        "tables that RocksDB wrote meanwhile, of the log's entries and of the state. The kernel counts a "
        "page each time it was dirtied and written, so that small synced appends count as whole pages.",
        head=head, rows=rows, notes=notes, legend=[(0, "write-ahead log"), (1, "flushed"), (2, "compacted")],
        panels=[Panel("Bytes for each put and node", "in multiples of the value", svg)],
    )  # fmt: skip


def _snapshot(found: Sequence[CaughtUp]) -> Section:
    def each(one: CaughtUp, amount: int | None) -> tuple[str, str]:
        if amount is None:
            return _DASH, _DASH
        return _mb(amount), figure_told(amount / one.puts / one.value_bytes)

    rows = [
        (
            f"{one.puts:,} puts of {one.value_bytes:,} B", f"{one.keys:,}", f"{one.groups}",
            f"{one.snapshots}", figure_told(one.seconds), *each(one, one.received_bytes),
            *each(one, one.kernel_bytes),
        )
        for one in found
    ]  # fmt: skip
    head = ["missed", "keys", "groups", "snapshots", "caught up in s",
            "received MB", "× the missed values", "written MB", "× the missed values"]  # fmt: skip
    return Section(
        name="snapshot", title="A node that was away catches up",
        about="One of three nodes is stopped, values are put, and it is started again. What its connections "
        "received, as ss tells, and what it wrote to files, as the kernel counts, until it had caught up. "
        "Without snapshots it got the entries of the log.",
        head=head, rows=rows,
    )  # fmt: skip


# --- Compaction --------------------------------------------------------------------------------------


def _compaction(found: Compactions) -> Section:
    kinds: dict[str, list[Second]] = {
        "no compaction": [one for one in found.seconds if not one.compacting],
        "on some node": [one for one in found.seconds if one.compacting],
    }
    rows = [
        (
            name, f"{len(ones)}", f"{median(one.operations for one in ones):,.0f}",
            f"{min(one.operations for one in ones):,}", figure_told(median(one.p99_ms for one in ones)),
            figure_told(max(one.p99_ms for one in ones)),
        )
        for name, ones in kinds.items() if ones
    ]  # fmt: skip
    marks = [(float(at), at + 1.0) for at, one in enumerate(found.seconds) if one.compacting]
    x = Axis("seconds")
    panels = []
    for name, unit, values in (
        ("Throughput", "writes a second", [float(one.operations) for one in found.seconds]),
        ("p99", "ms", [one.p99_ms for one in found.seconds]),
    ):  # fmt: skip
        line = _line(0, [(at + 0.5, value) for at, value in enumerate(values)])
        svg = curves(f"{name} over time", x, Axis(unit), [line], marks)
        panels.append(Panel(f"{name} over time", "shaded: a compaction ran on some node", svg))
    return Section(
        name="compaction", title="Writes while RocksDB compacts",
        about=f"{found.callers} callers, values of {found.value_bytes} bytes, {found.keys:,} keys, "
        f"{found.nodes} nodes; windows of one second. {found.jobs} compactions wrote "
        f"{_mb(found.compacted_bytes)} MB.",
        head=["seconds with", "number", "median writes/s", "least", "median p99 ms", "longest p99 ms"],
        rows=rows, panels=panels,
    )  # fmt: skip


# --- Load and rest -----------------------------------------------------------------------------------


def _load(found: Sequence[AtRate]) -> Section:
    rows, lines, legend = [], [], []
    for number, one in enumerate(found):
        load = one.measurement.load
        name = "peak" if one.measurement.shape.rate is None else f"{one.part:.0%} of the peak"
        p999 = _DASH if load.p999_ms is None else figure_told(load.p999_ms)
        rows.append((
            name, f"{one.measurement.rate:,.0f}", figure_told(load.p50_ms), figure_told(load.p99_ms), p999,
            figure_told(load.longest_ms), f"{load.extra.get('given_up_calls', 0.0):,.0f}", f"{load.errors:,}",
        ))  # fmt: skip
        histogram = distribution([one.measurement])
        if histogram is not None:
            lines.append(_line(number, [(at, y) for at, y in nines(histogram) if y > 0]))
            legend.append((number, name))
    furthest = max(point.x for line in lines for point in line.points)
    x = Axis("part of all calls", False, range(int(furthest) + 1), lambda at: NINES[int(at)])
    title = "Distribution of latencies"
    panels = [Panel(title, "so many of all calls took no longer", curves(title, x, Axis("ms"), lines))]
    return Section(
        name="load", title="Latency at parts of the peak",
        about="The peak is that of 256 callers in a closed loop. The others begin calls at a rate, whether "
        "earlier ones were answered or not; their latencies count from when a call was due.",
        head=["load", "writes/s", "p50 ms", "p99 ms", "p99.9 ms", "longest ms", "given up", "errors"],
        rows=rows, panels=panels, legend=legend,
    )  # fmt: skip


def _idle(found: Sequence[Idle]) -> Section:
    rows = [
        (
            f"{one.groups}", f"{len(one.resident_mb)}", figure_told(one.seconds),
            figure_told(max(one.resident_mb)), figure_told(median(one.resident_mb)),
            figure_told(max(one.cpu_percent)), figure_told(median(one.cpu_percent)),
        )
        for one in found
    ]  # fmt: skip
    head = ["groups", "nodes", "seconds", "most MB", "median MB", "most CPU %", "median CPU %"]
    return Section(
        name="idle", title="An idle node",
        about="Resident memory, and processor time as a part of one core, of the nodes of a cluster that "
        "nobody asks.",
        head=head, rows=rows,
    )  # fmt: skip
