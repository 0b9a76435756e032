"""``quorate check``: judges what was recorded."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, Final

from cyclopts import App, Parameter

from bench.checker.check import MEMORY_MB, SECONDS, VALID, Judgement, Verdict, check
from bench.checker.page import page
from bench.checker.record import History, HistoryFormatError, parse
from ops.arguments import GLOBAL, Positive, Seconds
from ops.exits import DONE, FAILED, USAGE, Failure, one_line
from ops.output import Format, Row, printable, write_answer, write_line, write_rows
from ops.pages import check_writable, save

app: Final = App("check", help="Judge what was recorded: whether a correct cluster can have answered so.")

ROWS_MAX: Final = 20
"""Objects and keys that people are shown, the worst and the largest first."""
PROGRESS_S: Final = 2.0

_COLUMNS: Final = ("check", "object", "outcome", "calls", "seconds")


@app.command
def history(
    file: Path, /, *, html: Path | None = None, seconds: Seconds = SECONDS,
    memory_mb: Positive = int(MEMORY_MB),
    write: Annotated[Format, Parameter(name=["--write", "-w"], group=GLOBAL)] = "table",
) -> int:  # fmt: skip
    """Judge a history: exit code 0 if it is valid, 1 for a violation, or if a bound left it undecided.

    Parameters
    ----------
    file
        JSON lines, as docs/histories.md describes them.
    html
        Write a page with a picture of the history around the violation to this file.
    seconds
        Time for all searches together.
    memory_mb
        Memory for each search, in MiB.
    write
        Format of standard output.
    """
    found = _read(file)
    if html is not None:
        check_writable(html)
    try:
        verdict = check(found, seconds=seconds, memory_mb=memory_mb, progress=_progress())
    except HistoryFormatError as error:
        raise Failure(printable(f"{file}: {error}"), USAGE) from None
    worst = verdict.worst()
    _show(write, verdict)
    where = "" if worst is None else printable(f": {worst.title}: {worst.reason}")
    if html is not None:
        _save(html, page(verdict, worst, file.name), f"{verdict.outcome}{where}")
    if verdict.outcome == VALID:
        return DONE
    raise Failure(f"{verdict.outcome}{where}", FAILED)


def _read(file: Path) -> History:
    try:
        with file.open("rb") as lines:
            return parse(lines)
    except HistoryFormatError as error:
        raise Failure(printable(f"{file}: {error}"), USAGE) from None
    except OSError as error:
        raise Failure(one_line(error), USAGE) from None


def _save(file: Path, text: str, told: str) -> None:
    try:
        save(file, text)
    except OSError as error:
        reason = one_line(error)
        raise Failure(f"{told}; but the page could not be written to {file}: {reason}", FAILED) from None


def _progress() -> Callable[[int, int], None]:
    """Tells on standard error, now and then, how far it has come."""
    last = monotonic()

    def tell(done: int, of: int) -> None:
        nonlocal last
        if monotonic() - last > PROGRESS_S:
            last = monotonic()
            sys.stderr.write(f"quorate: {done} of {of} calls judged\n")

    return tell


def _show(format: Format, verdict: Verdict) -> None:
    rows = [_row(judgement) for judgement in verdict.judgements]
    record = {"outcome": verdict.outcome, "calls": verdict.calls, "unjudged": verdict.unjudged, "parts": rows}
    if format in ("json", "jsonl"):
        write_answer(format, record)
    elif format == "simple":
        texts = ({name: _told(value) for name, value in row.items()} for row in rows)
        write_rows(format, (*_COLUMNS, "reason"), list(texts))
    else:
        _table(verdict, rows)


def _told(value: Any) -> Any:
    """A field for a terminal or a script: names in a history may hold anything."""
    return printable(value) if isinstance(value, str) else value


def _table(verdict: Verdict, rows: list[dict[str, Any]]) -> None:
    rows.sort(key=lambda row: (row["outcome"] == VALID, -row["calls"]))
    write_rows("table", _COLUMNS, rows[:ROWS_MAX])
    more = f", {len(rows) - ROWS_MAX} more objects and keys" if len(rows) > ROWS_MAX else ""
    unjudged = f", {verdict.unjudged} reads of which nothing can be said" if verdict.unjudged else ""
    write_line(f"{verdict.outcome}: {verdict.calls} calls{unjudged}{more}")


def _row(judgement: Judgement) -> dict[str, Any]:
    blocked = judgement.blocked
    row: Row = {
        "check": judgement.check, "object": judgement.title, "outcome": judgement.outcome,
        "calls": judgement.calls, "seconds": round(judgement.seconds, 3), "reason": judgement.reason,
        "line": None if blocked is None else blocked.line,
        "window": [call.line for call in judgement.window],
    }  # fmt: skip
    return dict(row)
