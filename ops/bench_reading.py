"""``quorate bench compare`` and ``quorate bench report``: what kept runs say."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from cyclopts import Parameter

from bench.runs.compare import (
    REPEATS_MIN,
    THRESHOLD,
    Alone,
    Comparison,
    Line,
    Verdict,
    compare_runs,
    compare_subjects,
    counts,
)
from bench.runs.medians import THROUGHPUT, Spread
from bench.runs.merging import merge
from bench.runs.results import Run, Shape, read
from bench.runs.shapes import loads_told
from bench.runs.summary import figure_told, show_here
from bench.runs.targets import BASE
from ops.arguments import GLOBAL, Flag, read_by
from ops.exits import DONE, FAILED, USAGE, Failure, UsageError, one_line
from ops.output import Column, Columns, Format, printable, write_answer, write_line, write_rows
from ops.pages import check_writable, save
from ops.progress import Progress

NAMED: Final = 3
"""Figures that became worse, which the line at the end names."""
_CHANGED: Final = (Verdict.BETTER, Verdict.WORSE)


def _part(text: str) -> float:
    """``5%`` as 0.05."""
    try:
        number = float(text.removesuffix("%")) / 100
    except ValueError:
        number = math.nan
    if not (text.endswith("%") and 0 <= number < math.inf):
        raise ValueError(f"{text}: expected a percentage, like 5%")
    return number


def _percent(part: float) -> str:
    return f"{100 * part:g}%"


Percentage = Annotated[float, read_by(_part, "N%"), Parameter(show_default=_percent)]
Written = Annotated[Format, Parameter(name=["--write", "-w"], group=GLOBAL)]
Output = Annotated[Path | None, Parameter(name=["--output", "-o"])]


def compare(
    old: Path, new: Path | None = None, /, *, threshold: Percentage = THRESHOLD, base: str | None = None,
    changed: Flag = False, write: Written = "table",
) -> int:  # fmt: skip
    """Compare two runs figure by figure, or the systems of one: exit code 1 if something is worse.

    Parameters
    ----------
    old
        A file of quorate bench run.
    new
        A later one, which is judged.
    threshold
        A smaller change of a median is none.
    base
        Without a second run: judge this system beside each other system of the run.
    changed
        Show people only the figures that are better or worse.
    write
        Format of standard output.
    """
    if new is not None and base is None:
        found = compare_runs(_read(old), _read(new), threshold)
    elif base is not None and new is None:
        run = _read(old)
        _check_base([run], base)
        found = compare_subjects(run, base, threshold)
    else:
        raise UsageError("either a second run is needed, or --base SUBJECT to compare the systems of one")
    loads = loads_told([*(line.shape for line in found.lines), *(one.shape for one in found.alone)])
    _show(write, found, loads, changed, base)
    return _judged(found, loads, base)


def report(*runs: Path, output: Output = None, base: str | None = None) -> int:
    """Show runs: as tables on standard output, or as one HTML page with plots.

    Parameters
    ----------
    runs
        Files of quorate bench run.
    output
        Write the page to this file.
    base
        The system that the others are compared with; quorate unless said.
    """
    if not runs:
        raise UsageError("a file of quorate bench run is needed")
    kept = [_read(file) for file in runs]
    if not any(run.measurements for run in kept):
        raise Failure(printable(f"{runs[0]}: there are no figures in it"), USAGE)
    if base is not None:
        _check_base(kept, base)
    if output is None:
        show_here(kept, base or BASE)
    else:
        _write_page(kept, output, base or BASE)
    return DONE


def _read(file: Path) -> Run:
    try:
        return read(file)
    except ValueError as error:
        raise Failure(printable(str(error)), USAGE) from None
    except OSError as error:
        raise Failure(one_line(error), USAGE) from None


def _check_base(runs: Iterable[Run], base: str) -> None:
    known = dict.fromkeys(one.subject for run in runs for one in run.measurements)
    if base not in known:
        having = ", ".join(known) or "no system at all"
        raise UsageError(printable(f"--base {base}: there are no figures of it, only of {having}"))


def _judged(found: Comparison, loads: Mapping[Shape, str], base: str | None) -> int:
    """The exit code, and what the verdicts come to, as a line on standard error if it is nothing good."""
    if not found.lines:
        raise Failure("nothing could be compared: no figure is on both sides", FAILED)
    worse = found.of(Verdict.WORSE)
    if worse:
        names = [_named(line, loads[line.shape], base) for line in worse[:NAMED]]
        names += [f"and {len(worse) - NAMED} more"] if len(worse) > NAMED else []
        told = f"{len(worse)} of {len(found.lines)} figures are worse: {'; '.join(names)}"
        raise Failure(printable(told), FAILED)
    if few := len(found.of(Verdict.TOO_FEW)):
        need = f"no verdict with fewer than {REPEATS_MIN} repeats on each side"
        sys.stderr.write(f"quorate: {few} of {len(found.lines)} figures: {need}\n")
    return DONE


def _named(line: Line, load: str, base: str | None) -> str:
    who = line.subject if base is None else f"{base} beside {line.subject}"
    return f"{who}, {line.shape.workload}, {load}: {line.figure} {_change(line.change)}"


def _change(part: float | None) -> str:
    return "from 0" if part is None else f"{100 * part:+.1f} %"


def _write_page(runs: list[Run], output: Path, base: str) -> None:
    """Draws the page, which takes some seconds, and writes it."""
    check_writable(output)
    try:
        from bench.runs.page import page
    except ModuleNotFoundError as error:
        raise Failure(f"plots need {error.name}: install quorate with its extra named bench") from None
    merged = merge(runs, base)
    with Progress("workloads drawn", len(merged.workloads)) as progress:
        try:
            text = page(merged, progress.advance)
        except ValueError as error:
            raise Failure(printable(str(error)), USAGE) from None
    save(output, text)
    write_line(str(output))


# --- What compare shows -------------------------------------------------------------------------------


def _show(
    format: Format, found: Comparison, loads: Mapping[Shape, str], changed: bool, base: str | None
) -> None:
    rows = [_row(line, loads[line.shape]) for line in found.lines]
    if format in ("json", "jsonl"):
        verdicts = {str(verdict): len(found.of(verdict)) for verdict in Verdict}
        alone = [msgspec.to_builtins(one) for one in found.alone]
        write_answer(format, {"verdicts": verdicts, "notes": found.notes, "figures": rows, "alone": alone})
        return
    write_rows(format, _columns(base), [row for row in rows if not changed or row["verdict"] in _CHANGED])
    if format == "table":
        for text in (*_alone(found.alone, loads), *found.notes, counts(found)):
            write_line(printable(text))


def _row(line: Line, load: str) -> dict[str, Any]:
    return {
        "subject": line.subject, "workload": line.shape.workload, "load": load,
        "shape": msgspec.to_builtins(line.shape), "figure": line.figure, "old": _side(line.old),
        "new": _side(line.new), "change": line.change, "verdict": str(line.verdict),
    }  # fmt: skip


def _side(spread: Spread) -> dict[str, Any]:
    ends = {"median": spread.median, "low": spread.low, "high": spread.high}
    return {**ends, "repeats": len(spread.values)}


def _alone(alone: Iterable[Alone], loads: Mapping[Shape, str]) -> Iterator[str]:
    """What only one side has: loads with the same figures in one line."""
    lines: dict[tuple[str, str, str, tuple[str, ...]], list[str]] = {}
    for one in alone:
        key = (one.side, one.subject, one.shape.workload, one.figures)
        lines.setdefault(key, []).append(loads[one.shape])
    for (side, subject, workload, figures), where in lines.items():
        what = "all figures" if THROUGHPUT.name in figures else ", ".join(figures)
        yield f"only {side}: {subject}, {workload}: {'; '.join(where)}: {what}"


def _columns(base: str | None) -> Columns:
    peer, theirs, ours = (None, None, None) if base is None else ("peer", "the peer's", f"{base}'s")
    return (
        "workload", "load", Column("subject", title=peer), "figure", Column("old", _with_noise, theirs),
        Column("new", _with_noise, ours), Column("change", _change), "verdict",
    )  # fmt: skip


def _with_noise(side: dict[str, Any]) -> str:
    """The median, and how far the repeats lie apart, as a part of it."""
    median = side["median"]
    apart = f" ±{50 * (side['high'] - side['low']) / median:.1f} %" if median and side["repeats"] > 1 else ""
    return f"{figure_told(median)}{apart}"
