"""Which plots show a workload: over whatever was swept, and bars where nothing was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from bench.runs.distributions import distribution, nines
from bench.runs.medians import (
    CLIENT_CPU,
    FIGURES,
    MEMORY,
    P50,
    P99,
    SERVER_CPU,
    THROUGHPUT,
    Figure,
    Medians,
    Spread,
    more_is_better,
)
from bench.runs.merging import Merged
from bench.runs.plots import Axis, Bar, Point, Series, bars, curves
from bench.runs.results import Shape
from bench.runs.shapes import DIMENSIONS, Dimension, loads_told, shared

NINES: Final = ("0", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %", "99.99999 %")


class Panel(NamedTuple):
    """One plot of a page."""

    title: str
    about: str
    """The loads that it shows, and how to read it."""
    svg: str


class Sweep(NamedTuple):
    """Loads that differ in one dimension alone."""

    over: Dimension
    shapes: Sequence[Shape]


def sweeps(shapes: Iterable[Shape]) -> list[Sweep]:
    """All there are among the loads of a workload."""
    known = list(shapes)
    found = []
    for dimension in DIMENSIONS:
        lines: dict[Shape, list[Shape]] = {}
        for shape in known:
            value: Any = getattr(shape, dimension.name)
            if value is not None:
                rest = msgspec.structs.replace(shape, **{dimension.name: 0})
                lines.setdefault(rest, []).append(shape)
        found += [Sweep(dimension, line) for line in lines.values() if len(line) > 1]
    return found


def panels(merged: Merged, workload: str) -> Iterator[Panel]:
    """Those of a workload. Raises ValueError for a distribution that cannot be decoded."""
    shapes = merged.shapes(workload)
    loads = loads_told(shapes)
    found = sorted(sweeps(shapes), key=lambda sweep: sweep.over.name == "rate")
    for sweep in found:
        yield from _swept(merged, sweep)
    fullest = [_fullest(merged, [shape for shape in shapes if shape.rate is None])]
    fullest.append(_fullest(merged, [shape for shape in shapes if shape.rate is not None]))
    for shape in filter(None, fullest):
        alone = shape not in {one for sweep in found for one in sweep.shapes}
        yield from _at(merged, shape, loads[shape], alone)


def _fullest(merged: Merged, shapes: Sequence[Shape]) -> Shape | None:
    """The load that the base and most other systems have, and of those the heaviest."""

    def weight(shape: Shape) -> tuple[float, ...]:
        systems = [name for name, one in merged.by_load if one == shape]
        has_base = float(merged.base in systems)
        return has_base, len(systems), shape.rate or 0.0, shape.callers, -shape.value_bytes

    return max(shapes, key=weight, default=None)


def _swept(merged: Merged, sweep: Sweep) -> Iterator[Panel]:
    over = sweep.over
    ticks = [float(getattr(shape, over.name)) for shape in sweep.shapes]
    tell = over.told if over.name == "value_bytes" else "{:,g}".format
    x = Axis(over.title, ticks[-1] >= 8 * ticks[0] > 0, ticks, tell)
    fixed = shared(sweep.shapes)
    for figure, title, unit in (
        (THROUGHPUT, "Throughput", "operations a second"), (P50, "Latency, p50,", "ms"),
        (P99, "Latency, p99,", "ms"),
    ):  # fmt: skip
        lines = _lines(merged, sweep, figure)
        if lines:
            name = f"{title} over {over.title}"
            yield Panel(name, fixed, curves(f"{name}: {fixed}", x, Axis(unit), lines))


def _lines(merged: Merged, sweep: Sweep, figure: Figure) -> list[Series]:
    """One for each system that has it at more than one place."""
    found = []
    for number, subject in enumerate(merged.subjects):
        points = []
        for shape in sweep.shapes:
            one = merged.find(subject.name, shape)
            if one is not None and (spread := one.figures.get(figure.name)) is not None and spread.low > 0:
                x = float(getattr(shape, sweep.over.name))
                points.append(Point(x, spread.median, spread.low, spread.high))
        if len(points) > 1:
            found.append(Series(number, points))
    return found


def _at(merged: Merged, shape: Shape, where: str, alone: bool) -> Iterator[Panel]:
    """What one load shows: its distribution, and what it cost; its figures, if no other plot has them."""
    known = [
        (number, one)
        for number, subject in enumerate(merged.subjects)
        if (one := merged.find(subject.name, shape)) is not None
    ]
    if alone:
        own = dict.fromkeys(name for _, one in known for name in one.figures)
        names = [THROUGHPUT.name, P50.name, P99.name]
        ours = {figure.name for figure in FIGURES}
        names += [name for name in own if name not in ours and more_is_better(name) is not None]
        for name in names:
            yield from _bars(name, where, known, (name,))
    yield from _distributions(where, known)
    yield from _bars("Processor time", f"{where}; µs an operation: servers, and the client paler",
                     known, (SERVER_CPU.name, CLIENT_CPU.name))  # fmt: skip
    if shape.rate is None:
        yield from _bars("Memory", f"{where}; MB resident, of the largest node", known, (MEMORY.name,))


def _distributions(where: str, known: Sequence[tuple[int, Medians]]) -> Iterator[Panel]:
    lines = []
    for number, one in known:
        histogram = distribution(one.measurements)
        if histogram is not None:
            lines.append(Series(number, [Point(at, y, y, y) for at, y in nines(histogram) if y > 0]))
    if lines:
        name = "Distribution of latencies"
        furthest = max(point.x for line in lines for point in line.points)
        x = Axis("part of all calls", False, range(int(furthest) + 1), lambda at: NINES[int(at)])
        about = f"{where}; so many of all calls took no longer, of all repeats"
        yield Panel(name, about, curves(f"{name}: {where}", x, Axis("ms"), lines))


def _bars(
    title: str, about: str, known: Sequence[tuple[int, Medians]], names: Sequence[str]
) -> Iterator[Panel]:  # fmt: skip
    rows = []
    for number, one in known:
        spreads = [one.figures[name] for name in names if name in one.figures]
        if spreads:
            rows.append(_bar(one.subject, number, spreads))
    if rows:
        x = Axis("", told=lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.3g}")
        yield Panel(title, about, bars(f"{title}: {about}", x, rows))


def _bar(label: str, colour: int, spreads: Sequence[Spread]) -> Bar:
    """One part has its spread; that of a sum is nobody's."""
    parts = [spread.median for spread in spreads]
    if len(spreads) > 1:
        return Bar(label, colour, parts)
    return Bar(label, colour, parts, spreads[0].low, spreads[0].high)
