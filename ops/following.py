"""Commands that go on until they are ended: what happens is written as it happens."""

from __future__ import annotations

import math
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Annotated, Any, Final

import trio

from ops.arguments import Flag, KeyArgument, Positive, read_by
from ops.commands import Commands
from ops.common import DEFAULTS, Common, cancel_when_ended
from ops.exits import CONDITION, DONE, INTERRUPTED, UsageError
from ops.output import Live, LiveWriter, Row, printable, tell_position
from ops.values import parse_position, show
from primitives.position import Position
from primitives.watching import Watch

PositionOption = Annotated[Position, read_by(parse_position, "POSITION")]

_EVENT: Final = ("kind", "key", "value", "previous", "revision")
_KIND_WIDTH: Final = 8


async def until_ended(
    common: Common, rows: AsyncGenerator[Row, None], take: Callable[[Row], Awaitable[None]], *,
    count: int | None,
) -> int:  # fmt: skip
    """Hands ``take`` each row as it comes, until ``count`` have come, a signal or the time limit ends it, or
    there are no more; the exit code. That the limit passed is in order, unless there were to be so many."""
    ended: list[int] = []
    left = math.inf if count is None else count
    async with trio.open_nursery() as nursery:
        scope = nursery.cancel_scope
        if common.timeout is not None:
            scope.deadline = trio.current_time() + common.timeout
        await nursery.start(cancel_when_ended, scope, ended, signal.SIGINT)
        async with aclosing(rows):
            async for row in rows:
                await take(row)
                left -= 1
                if left <= 0:
                    break
        scope.cancel()
    if ended:
        return INTERRUPTED if ended[0] == signal.SIGINT else 128 + ended[0]
    return DONE if count is None or left <= 0 else CONDITION


async def follow(
    common: Common, live: Live, rows: AsyncGenerator[Row, None], *, count: int | None = None
) -> int:
    """Writes ``rows`` as they come, until it is ended; see :func:`until_ended`."""
    with LiveWriter(common.write, live) as writer:
        return await until_ended(common, rows, writer.write, count=count)


_HELP: Final = """Print changes as they happen, until interrupted; on standard error, where to go on from.

Parameters
----------
key
    Only changes of this key.
prefix
    Only changes of keys that begin with this.
position
    Go on from where another watch ended.
initial
    List what there is first.
previous
    With the values that are replaced or removed.
count
    End after so many lines.
"""


def declare_watch(commands: Commands[Any], *, keyed: bool = False, listed: bool = True) -> None:
    """Gives a type the command ``watch``. ``keyed``: its changes are of keys, and can be chosen by them;
    ``listed``: what there is can be listed first."""

    async def watch_keys(
        handle: Any, /, *, key: KeyArgument | None = None, prefix: KeyArgument | None = None,
        position: PositionOption | None = None, initial: Flag = False, previous: Flag = False,
        count: Positive | None = None, common: Common = DEFAULTS,
    ) -> int:  # fmt: skip
        if type(prefix) is int:
            raise UsageError("an integer has no beginning that --prefix could name; give --key")
        opened = handle.watch(key, prefix=prefix, position=position, initial=initial, previous=previous)
        return await _watch(opened, common, count, previous=previous)

    async def watch(
        handle: Any, /, *, position: PositionOption | None = None, initial: Flag = False,
        previous: Flag = False, count: Positive | None = None, common: Common = DEFAULTS,
    ) -> int:  # fmt: skip
        opened = handle.watch(position=position, initial=initial, previous=previous)
        return await _watch(opened, common, count, previous=previous)

    async def watch_changes(
        handle: Any, /, *, position: PositionOption | None = None, previous: Flag = False,
        count: Positive | None = None, common: Common = DEFAULTS,
    ) -> int:  # fmt: skip
        opened = handle.watch(position=position, previous=previous)
        return await _watch(opened, common, count, previous=previous)

    body: Any = watch_keys if keyed else watch if listed else watch_changes
    body.__name__, body.__doc__ = "watch", _HELP
    commands.follow(body)


async def _watch(opened: Watch, common: Common, count: int | None, *, previous: bool) -> int:
    columns = _EVENT if previous else tuple(column for column in _EVENT if column != "previous")
    async with opened as events:
        try:
            return await follow(common, Live(_line, columns), _told(events, previous), count=count)
        finally:
            tell_position(events.position)


async def _told(events: Watch, previous: bool) -> AsyncGenerator[Row, None]:
    async for event in events:
        row = {"kind": event.kind, "key": event.key, "value": event.value}
        if previous:
            row["previous"] = event.previous
        position = events.position
        yield {**row, "revision": event.revision, "position": None if position is None else str(position)}


def _line(row: Row) -> str:
    parts = [f"{row['kind']:{_KIND_WIDTH}}"]
    if row["key"] is not None:
        parts.append(show(row["key"]))
    if row["kind"] in ("put", "listed") or row["value"] is not None:
        parts.append(show(row["value"]))
    if row.get("previous") is not None:
        parts.append(f"(was {show(row['previous'])})")
    return printable("  ".join(parts).rstrip())
