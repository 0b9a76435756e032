"""The budget as a table and a picture."""

from __future__ import annotations

from collections.abc import Iterator

from bench.budget.results import CLIENT, OTHER, Budget, Loaded, Part
from bench.budget.steps import KERNEL, ROCKSDB, STEPS, SYNC
from bench.runs.panels import Panel
from bench.runs.plots import Axis, Bar, bars
from bench.runs.sections import Section
from bench.runs.summary import figure_told

_ACCOUNTED = (KERNEL, SYNC, ROCKSDB)


def section(budget: Budget) -> Section:
    """All of it."""
    columns = [(load, part) for load in budget.loads for part in load.parts]
    steps = [part.steps() for _, part in columns]
    used = [name for name in STEPS if any(found[name] >= 0.005 for found in steps)]
    rows = [[name, *(_told(found[name]) for found in steps)] for name in used]
    rows.append(["together", *(_told(part.account.total) for _, part in columns)])
    by = f"by {budget.profiler}" if budget.profiler else "not told apart, as no profiler was used"
    return Section(
        name="budget", title="Where the microseconds of one write go",
        about="Processor time for each write of 128 bytes, of the client, of the node that leads all groups "
        f"and of each other one. As the system accounts for them: {', '.join(_ACCOUNTED)}; the rest of the "
        f"first thread's time in the program {by}.",
        head=["µs a write", *(f"{load.callers}: {_process(load, part)}" for load, part in columns)],
        rows=rows, panels=list(_panels(budget)), notes=list(_notes(budget)),
        legend=[(STEPS.index(name), name) for name in used],
    )  # fmt: skip


def _told(amount: float) -> str:
    return f"{amount:.2f}" if amount < 9.995 else f"{amount:.1f}"


def _notes(budget: Budget) -> Iterator[str]:
    for load in budget.loads:
        yield (
            f"{load.callers} callers: {load.operations_per_second:,.0f} writes a second, p50 "
            f"{figure_told(load.p50_ms)} ms; all {load.nodes + 1} processes {figure_told(load.whole)} µs a "
            "write."
        )
    if budget.profiler:
        counts = [sum(part.samples.values()) for load in budget.loads for part in load.parts]
        yield f"Samples of each first thread: {min(counts):,} to {max(counts):,}."


def _panels(budget: Budget) -> Iterator[Panel]:
    """One plot for each load: the loads differ too much for one scale."""
    for load in budget.loads:
        title = f"{load.callers} callers"
        about = f"microseconds of processor time a write; {load.operations_per_second:,.0f} writes a second"
        x = Axis("µs a write", told=figure_told)
        yield Panel(title, about, bars(f"{title}: {about}", x, [_bar(load, part) for part in load.parts]))


def _bar(load: Loaded, part: Part) -> Bar:
    found = {STEPS.index(name): amount for name, amount in part.steps().items() if amount}
    return Bar(_process(load, part), 0, list(found.values()), colours=list(found))


def _process(load: Loaded, part: Part) -> str:
    return f"each {part.process}" if part.process == OTHER and load.nodes > 2 else part.process


def flame_name(callers: int, process: str) -> str:
    """Of a file, without its ending."""
    return f"{'client' if process == CLIENT else process.partition(' ')[0]}-{callers}"
