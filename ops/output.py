"""Standard output in the four formats: ``table``, ``json``, ``jsonl`` and ``simple``.

Nothing but data goes there. A command gives either one answer or rows; rows may come from a stream and are
written as they come, but for ``table``, which needs all of them for its widths.
"""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeVar

from ops.exits import CONDITION, DONE
from ops.values import show, to_json
from primitives.position import Position

if TYPE_CHECKING:
    from rich.table import Table

Format = Literal["table", "json", "jsonl", "simple"]
T = TypeVar("T")
Row = Mapping[str, Any]

_NUMBER: Final = re.compile(r"-?[0-9.]+( ?[A-Za-z%/]{1,5})?|-")
"""What stands to the right of its column: a number, with or without a unit, or a dash for none."""


def brief(value: Any) -> str:
    """A fact for people: yes and no, a dash for nothing, lists by commas, else as it is."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(brief, value)) if isinstance(value, list) else show(value)


class Column(NamedTuple):
    """A column of a table that shows its values in a way of its own."""

    name: str
    show: Callable[[Any], str] = brief
    title: str | None = None


Columns = Sequence[str | Column]


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

    columns: Columns
    rows: AsyncIterator[Row] | Sequence[Row]
    code: int = DONE


Result = Answer | Rows


def met(record: Row, done: bool, *, as_: str = "done", otherwise: int = CONDITION) -> Answer:
    """That something was done, or that a condition kept it from being: told by the exit code, in JSON also
    under ``as_``."""
    return Answer({**record, as_: done}, code=DONE if done else otherwise)


async def first(rows: AsyncIterator[T], limit: int | None) -> AsyncIterator[T]:
    """The first ``limit`` of them; all for None."""
    count = 0
    try:
        async for row in rows:
            yield row
            count += 1
            if count == limit:
                return
    finally:
        if isinstance(rows, AsyncGenerator):
            await rows.aclose()


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


def write_line(text: str) -> None:
    """Writes a line as it is."""
    sys.stdout.write(text + "\n")


def write_answer(format: Format, answer: Row, plain: str | None = None) -> None:
    """Writes one answer. ``json`` and ``jsonl`` get all of ``answer``; ``table`` and ``simple`` get the line
    ``plain``, and when that is None nothing at all."""
    if format == "json":
        write_line(to_json(answer, indent=2))
    elif format == "jsonl":
        write_line(to_json(answer))
    elif plain is not None:
        write_line(plain)


def write_record(format: Format, record: Row) -> None:
    """Writes one answer of several named parts: a table of two columns, or lines ``name<TAB>value``."""
    if format in ("json", "jsonl"):
        write_answer(format, record)
    elif format == "simple":
        for name, value in record.items():
            write_line(f"{name}\t{show(value)}")
    else:
        _table(["", ""], [[name, brief(value)] for name, value in record.items()], header=False)


def write_rows(format: Format, columns: Columns, rows: Sequence[Row]) -> None:
    """Writes rows, of which ``table`` and ``simple`` show ``columns``."""
    if format == "json":
        write_line(to_json(list(rows), indent=2))
    elif format == "jsonl":
        for row in rows:
            write_line(to_json(row))
    elif format == "simple":
        for row in rows:
            write_line("\t".join(_simple(column, row) for column in columns))
    else:
        _table(_titles(columns), [_cells(columns, row) for row in rows])


@dataclass(frozen=True, slots=True)
class Live:
    """How rows are shown that come one by one, nobody knows when: ``table`` has a text of its own for each,
    and ``simple`` its columns, unless it has one, too."""

    line: Callable[[Row], str]
    columns: Columns = ()
    simple: Callable[[Row], str] | None = None


class LiveWriter:
    """Writes rows that come one by one, each at once. A context manager, which completes what was begun."""

    def __init__(self, format: Format, live: Live) -> None:
        self._format: Final = format
        self._live: Final = live
        self._count = 0

    async def write(self, row: Row) -> None:
        """Writes a row."""
        if self._format == "table":
            write_line(self._live.line(row))
        elif self._format == "simple" and self._live.simple is not None:
            write_line(self._live.simple(row))
        elif self._format == "json":
            sys.stdout.write((",\n  " if self._count else "[\n  ") + to_json(row))
        else:
            write_rows(self._format, self._live.columns, [row])
        sys.stdout.flush()
        self._count += 1

    def __enter__(self) -> LiveWriter:
        """Itself."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Ends what was written, so that it is whole."""
        if self._format == "json":
            write_line("\n]" if self._count else "[]")


async def write_stream(format: Format, columns: Columns, rows: AsyncIterator[Row]) -> int:
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
        write_line("\n]" if count else "[]")
    return count


def _simple(column: str | Column, row: Row) -> str:
    if isinstance(column, str):
        return show(row.get(column))
    value = row.get(column.name)
    return ",".join(map(show, value)) if isinstance(value, list) else show(value)


def _titles(columns: Columns) -> list[str]:
    return [column if isinstance(column, str) else column.title or column.name for column in columns]


def _cells(columns: Columns, row: Row) -> list[str]:
    return [
        show(row.get(column, "")) if isinstance(column, str) else column.show(row.get(column.name))
        for column in columns
    ]


def simple_rows(columns: Columns, rows: Sequence[Row]) -> str:
    """Rows as ``simple`` has them."""
    return "\n".join("\t".join(_simple(column, row) for column in columns) for row in rows)


def make_table(columns: Columns, rows: Sequence[Row]) -> Table:
    """A table for rich to show."""
    return _made(_titles(columns), [_cells(columns, row) for row in rows], header=True)


def _made(titles: Sequence[str], rows: Sequence[Sequence[str]], *, header: bool) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    style = box.SIMPLE_HEAD if header else None
    table = Table(box=style, show_header=header, pad_edge=False, show_edge=False)
    for at, title in enumerate(titles):
        right = bool(rows) and all(_NUMBER.fullmatch(row[at]) for row in rows)
        table.add_column(title, overflow="fold", justify="right" if right else "left")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, header: bool = True) -> None:
    """A table as wide as the terminal; where there is none, as wide as its contents."""
    from rich.console import Console

    table = _made(titles, rows, header=header)
    if sys.stdout.isatty():
        Console(file=sys.stdout, highlight=False).print(table)
        return
    console = Console(file=StringIO(), highlight=False, width=max(80, _width(titles, rows)))
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        write_line(line.rstrip())


def _width(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Enough columns of a terminal for the table unfolded; a wide character may take two."""
    widest = [max(2 * len(cell) for cell in column) for column in zip(titles, *rows, strict=True)]
    return sum(widest) + 4 * len(titles)


def printable(text: str) -> str:
    """``text`` without control characters, which could move a terminal's cursor."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def tell_position(position: Position | None) -> None:
    """Says on standard error from where a watch can go on, or what a causal read can ask for."""
    if position is not None:
        sys.stderr.write(f"position: {position}\n")
