"""``quorate top``: the whole cluster at work, refreshed until it is interrupted."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from io import StringIO
from typing import TYPE_CHECKING, Any, Final

import trio

from ops.arguments import Positive, Seconds
from ops.common import DEFAULTS, Common, lasting
from ops.following import follow, until_ended
from ops.output import Column, Live, Row, make_table, simple_rows
from ops.survey import Survey, Told, frame
from ops.values import show_bytes

if TYPE_CHECKING:
    from rich.table import Table

INTERVAL_S: Final = 1.0
_PAGE_WIDTH: Final = 120
_OTHER_LINES: Final = 8
"""Of a screen, beside its rows: headings, rules and space."""
_PATIENCE_S: Final = 1.0
"""How long a node may take to answer before it is shown as down."""


def _rate(rate: Any) -> str:
    return "-" if rate is None else f"{rate:,.0f}".replace(",", " ") if rate >= 10 else f"{rate:g}"


def _bytes(count: Any) -> str:
    return "-" if count is None else show_bytes(count)


def _percent(share: Any) -> str:
    return "-" if share is None else f"{share:.0f}%" if share >= 10 else f"{share:.1f}%"


_NODES: Final = (
    Column("name", title="node"), Column("client"), Column("up"), Column("groups"), Column("leads"),
    Column("entries_s", _rate, "entries/s"), Column("resident_bytes", _bytes, "memory"),
    Column("cpu_percent", _percent, "cpu"),
)  # fmt: skip
_GROUPS: Final = (
    Column("group"), Column("leader"), Column("entries_s", _rate, "entries/s"), Column("commit"),
    Column("behind"), Column("term"), Column("sessions"), Column("slots"), Column("replicas"),
)  # fmt: skip


async def top(
    *, interval: Seconds = INTERVAL_S, count: Positive | None = None, common: Common = DEFAULTS
) -> int:
    """Show nodes and groups at work, all nodes asked, until interrupted.

    "entries/s" are committed log entries, "behind" those that the slowest replica has yet to apply, "cpu" the
    part of a processor that the node's process took since status was last asked for. With -w jsonl, one
    object a refresh; without a terminal, one page after the other.

    Parameters
    ----------
    interval
        Time from one refresh to the next.
    count
        End after so many refreshes.
    """
    async with lasting(common) as client:
        survey = Survey(client)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(survey.run)
            frames = _frames(survey, interval)
            if common.write == "table" and sys.stdout.isatty():
                code = await _live(common, frames, count)
            else:
                code = await follow(common, _PAGES, frames, count=count)
            nursery.cancel_scope.cancel()
    return code


async def _frames(survey: Survey, interval_s: float) -> AsyncGenerator[Row, None]:
    before: Told | None = None
    before_at = trio.current_time()
    while True:
        now = trio.current_time()
        nodes, told = await survey.ask(_PATIENCE_S)
        yield frame(nodes, told, before, now - before_at)
        before, before_at = told, now
        await trio.sleep_until(now + interval_s)


def _tables(shown: Row, groups_max: int | None = None) -> tuple[str, Table, Table]:
    """The heading, the nodes and the groups; of those the busiest ones, if they are too many to show."""
    up = sum(node["up"] for node in shown["nodes"])
    groups = shown["groups"]
    led = sum(group["leader"] is not None for group in groups)
    heading = (
        f"cluster {(shown['cluster'] or '-')[:8]}   nodes {up} of {len(shown['nodes'])} up   "
        f"groups {led} of {len(groups)} led   entries/s {_rate(shown['entries_s'])}"
    )
    if groups_max is not None and len(groups) > groups_max:
        heading += f"   (the busiest {groups_max} groups)"
        groups = sorted(groups, key=lambda group: -(group["entries_s"] or 0))[:groups_max]
    return heading, make_table(_NODES, shown["nodes"]), make_table(_GROUPS, groups)


def _page(shown: Row) -> str:
    from rich.console import Console

    heading, nodes, groups = _tables(shown)
    console = Console(file=StringIO(), highlight=False, width=_PAGE_WIDTH)
    with console.capture() as capture:
        console.print(heading, "", nodes, "", groups, sep="\n")
    return capture.get().rstrip("\n") + "\n"


def _simple(shown: Row) -> str:
    parts = (("node", _NODES, shown["nodes"]), ("group", _GROUPS, shown["groups"]))
    return "\n".join(
        simple_rows(("kind", *columns), [{"kind": kind, **row} for row in rows])
        for kind, columns, rows in parts if rows
    )  # fmt: skip


_PAGES: Final = Live(_page, simple=_simple)


async def _live(common: Common, frames: AsyncGenerator[Row, None], count: int | None) -> int:
    """Draws each frame over the last one, on a screen of its own that goes away in the end."""
    from rich.console import Console, Group
    from rich.live import Live as Screen
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False)
    with Screen(console=console, screen=True, auto_refresh=False) as screen:

        async def draw(shown: Row) -> None:
            room = max(1, console.height - len(shown["nodes"]) - _OTHER_LINES)
            heading, nodes, groups = _tables(shown, room)
            screen.update(Group(Text(heading, no_wrap=True), Text(), nodes, Text(), groups), refresh=True)

        return await until_ended(common, frames, draw, count=count)
