"""Standard output in the four formats: ``table``, ``json``, ``jsonl`` and ``simple``.

Nothing but data goes there. A command gives either one answer or rows; rows may come from a stream and are
written as they come, but for ``table``, which needs all of them for its widths.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ops.exits import DONE
from ops.values import show, to_json

Format = Literal["table", "json", "jsonl", "simple"]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command has to say, as one record. People get the line ``plain``; where that is None, the
    record's parts by name if ``parts``, else nothing."""

    record: Row
    plain: str | None = None
    code: int = DONE
    parts: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """What a command has to say, as rows, of which people get ``columns``."""

    columns: Sequence[str]
    rows: AsyncIterator[Row] | Sequence[Row]
    code: int = DONE


Result = Answer | Rows


async def write_result(format: Format, result: Result) -> int:
    """Writes what a command has to say; its exit code."""
    if isinstance(result, Answer):
        if result.parts:
            write_record(format, result.record)
        else:
            write_answer(format, result.record, result.plain)
    elif isinstance(result.rows, Sequence):
        write_rows(format, result.columns, result.rows)
    else:
        await write_stream(format, result.columns, result.rows)
    return result.code


def _line(text: str) -> None:
    sys.stdout.write(text + "\n")


def write_answer(format: Format, answer: Row, plain: str | None = None) -> None:
    """Writes one answer. ``json`` and ``jsonl`` get all of ``answer``; ``table`` and ``simple`` get the line
    ``plain``, and when that is None nothing at all."""
    if format == "json":
        _line(to_json(answer, indent=2))
    elif format == "jsonl":
        _line(to_json(answer))
    elif plain is not None:
        _line(plain)


def write_record(format: Format, record: Row) -> None:
    """Writes one answer of several named parts: a table of two columns, or lines ``name<TAB>value``."""
    if format in ("json", "jsonl"):
        write_answer(format, record)
    elif format == "simple":
        for name, value in record.items():
            _line(f"{name}\t{show(value)}")
    else:
        _table(["", ""], [[name, show(value)] for name, value in record.items()], header=False)


def write_rows(format: Format, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Writes rows, of which ``table`` and ``simple`` show ``columns``."""
    if format == "json":
        _line(to_json(list(rows), indent=2))
    elif format == "jsonl":
        for row in rows:
            _line(to_json(row))
    elif format == "simple":
        for row in rows:
            _line("\t".join(show(row.get(column)) for column in columns))
    else:
        _table(columns, [[show(row.get(column, "")) for column in columns] for row in rows])


async def write_stream(format: Format, columns: Sequence[str], rows: AsyncIterator[Row]) -> int:
    """Writes rows as they come, and gives their number."""
    count = 0
    if format == "table":
        kept = [row async for row in rows]
        write_rows(format, columns, kept)
        return len(kept)
    async for row in rows:
        if format == "json":
            sys.stdout.write(("[\n  " if not count else ",\n  ") + to_json(row))
        else:
            write_rows(format, columns, [row])
        count += 1
    if format == "json":
        _line("\n]" if count else "[]")
    return count


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, header: bool = True) -> None:
    """A table as wide as the terminal; where there is none, as wide as its contents."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD if header else None, show_header=header, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_printable(cell)) for cell in row))
    console = Console(file=sys.stdout, highlight=False)
    if not sys.stdout.isatty():
        console = Console(file=sys.stdout, highlight=False, width=max(80, _width(columns, rows)))
    console.print(table)


def _width(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Enough columns of a terminal for the table unfolded; a wide character may take two."""
    widest = [max(2 * len(cell) for cell in column) for column in zip(columns, *rows, strict=True)]
    return sum(widest) + 4 * len(columns)


def _printable(text: str) -> str:
    """``text`` without control characters, which could move a terminal's cursor."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
