"""The figures of a run for a terminal: a table for each workload."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.runs.medians import FAILED, FIGURES, P50, P99, THROUGHPUT, Medians
from bench.runs.merging import Merged, merge
from bench.runs.ratios import headline, times_better
from bench.runs.results import Failed, Run, Shape
from bench.runs.shapes import DIMENSIONS, loads_told, shared, told, varying

WIDTH: Final = 200
"""In characters, where there is no terminal."""


def show(runs: Sequence[Run], console: Console, base: str = "quorate") -> None:
    """Prints them all, with what is to be known of the systems."""
    merged = merge(runs, base)
    for workload in merged.workloads:
        console.print(Text(f"{workload}: {shared(merged.shapes(workload))}", style="bold"))
        console.print(table(merged, workload))
    console.print(Text("\n".join(_legend(merged))))


def show_here(runs: Sequence[Run], base: str) -> None:
    """The same on standard output, ``WIDTH`` characters wide where that is no terminal."""
    width = None if sys.stdout.isatty() else WIDTH
    show(runs, Console(file=sys.stdout, highlight=False, width=width), base)


def table(merged: Merged, workload: str) -> Table:
    """One workload: a row for each shape, a column for each system."""
    shapes, subjects = merged.shapes(workload), merged.of(workload)
    loads, rows = loads_told(shapes), varying(shapes)
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, leading=1)
    shown.add_column(Text(", ".join(one.title for one in rows) or "callers"), overflow="fold")
    for subject in subjects:
        shown.add_column(Text(subject.name), justify="right", overflow="fold")
    for shape in shapes:
        base = merged.find(merged.base, shape)
        cells = (_cell(shape, merged.find(subject.name, shape), base) for subject in subjects)
        shown.add_row(Text(loads[shape]), *cells)
    return shown


def figure_told(value: float) -> str:
    """A figure in as many digits as mean something."""
    if value and abs(value) < 0.1:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def times_told(ratio: float) -> str:
    """How many times better one system is than another."""
    return f"{figure_told(ratio)}×"


def failure_told(one: Failed) -> str:
    """Which measurement did not come about, and why."""
    shape = f"{one.shape.workload}, {told(one.shape, DIMENSIONS)}"
    return f"{one.subject}, {shape}, repeat {one.repeat + 1}: {one.reason}"


def _cell(shape: Shape, one: Medians | None, base: Medians | None) -> Text:
    if one is None:
        return Text("–")
    operations, p50, p99 = (one.median(figure) or 0.0 for figure in (THROUGHPUT, P50, P99))
    lines = [f"{operations:,.0f}/s", f"{figure_told(p50)} / {figure_told(p99)} ms"]
    known = {figure.name for figure in FIGURES}
    lines += [f"{name} {figure_told(own.median)}" for name, own in one.figures.items() if name not in known]
    if failed := one.median(FAILED):
        lines.append(f"{figure_told(failed)} % failed")
    text = Text("\n".join(lines))
    ratio = times_better(headline(shape), base, one) if base is not one else None
    if ratio is not None:
        text.append(f"\n{times_told(ratio)}", style="green" if ratio >= 1 else "red")
    return text


def _legend(merged: Merged) -> Iterator[str]:
    yield "Each cell: operations a second; p50 / p99; medians of the repeats."
    if len(merged.subjects) > 1 and merged.subjects[0].name == merged.base:
        yield (
            f"{merged.base} is as many times better as the last line of a cell says (×): in operations a"
            " second; where calls are due at a rate, in p99; in election by p50, in recovery by gap_s."
        )
    for one in merged.subjects:
        about = " · ".join(part for part in (one.title, one.version, one.note) if part)
        yield f"{one.name}: {about}"
    for one in merged.missing:
        yield f"{one.name}: not measured: {one.missing or 'it has no figures'}"
    for failure in merged.failed:
        yield f"failed: {failure_told(failure)}"
