"""Parts of a report that compare no systems: a table and plots each, for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.pages import document
from bench.runs.page import STYLE, origin, plots, table, word_cell
from bench.runs.panels import Panel
from bench.runs.plots import COLOURS
from bench.runs.results import Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One part."""

    name: str
    title: str
    about: str
    """What was measured, and how to read it."""
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    """The first cell of each says what it is of."""
    panels: Sequence[Panel] = ()
    legend: Sequence[tuple[int, str]] = ()
    """What the colours of the plots stand for."""
    notes: Sequence[str] = ()


def show(section: Section, console: Console) -> None:
    """Prints it."""
    console.print(Text(f"{section.title}", style="bold"))
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for at, title in enumerate(section.head):
        shown.add_column(Text(title), justify="right" if at else "left", overflow="fold")
    for row in section.rows:
        shown.add_row(*map(Text, row))
    console.print(shown)
    for note in section.notes:
        console.print(Text(note))
    if section.notes:
        console.print()


def page(
    title: str, about: str, sections: Sequence[Section], began: str, machine: Machine, command: str
) -> str:
    """One page of them all, which needs nothing else."""
    links = " · ".join(f'<a href="#{escape(one.name)}">{escape(one.title)}</a>' for one in sections)
    parts = [
        f"<h1>{escape(title)}</h1><p>{escape(about)}</p><nav>{links}</nav>", *map(_section, sections),
        f"<h2>Where it ran, and how to repeat it</h2>{origin(began, machine, command)}",
    ]  # fmt: skip
    return document(title, STYLE, "\n".join(parts))


def _section(one: Section) -> str:
    legend = "".join(
        f'<span><i style="background:var(--s{colour % COLOURS})"></i>{escape(label)}</span>'
        for colour, label in one.legend
    )
    head = [word_cell(title, "th") if at == 0 else escape(title) for at, title in enumerate(one.head)]
    rows = [[word_cell(row[0], "th"), *map(escape, row[1:])] for row in one.rows]
    notes = "".join(f"<p>{escape(note)}</p>" for note in one.notes)
    return (
        f'<section id="{escape(one.name)}"><h2>{escape(one.title)}</h2><p>{escape(one.about)}</p>'
        f'{f"""<div class="legend">{legend}</div>""" if legend else ""}{plots(one.panels)}'
        f"{table(head, rows)}{notes}</section>"
    )
