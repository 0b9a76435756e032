"""``quorate map``: entries of a map, from the shell."""

from __future__ import annotations

from typing import Annotated, Final

from ops.arguments import ABSENT, Condition, Flag, KeyArgument, Positive, Revision, Seconds, ValueArgument
from ops.commands import SPREAD, Commands
from ops.contents import declare_contents
from ops.exits import CONDITION, DONE, NOT_FOUND
from ops.following import declare_watch
from ops.output import Answer, Row, Rows, first, met
from ops.values import show
from primitives.map import Entry, Map

commands: Final = Commands(Map, "Maps: entries of a key and a value.", opening=SPREAD)
app: Final = commands.app
declare_contents(commands, "entries")
declare_watch(commands, keyed=True)


@commands.create
async def put(
    entries: Map, key: KeyArgument, value: ValueArgument, /, *, ttl: Seconds | None = None,
    prev: Flag = False, if_absent: Annotated[Flag, Condition] = False,
    if_revision: Annotated[Revision | None, Condition] = None,
    if_value: Annotated[ValueArgument, Condition] = ABSENT,
) -> Answer:  # fmt: skip
    """Set an entry and print its revision. With a condition, exit code 4 if it is not met.

    Parameters
    ----------
    key
        The entry's key.
    value
        JSON if it parses as such, else text.
    ttl
        Remove the entry after this long: seconds, or with a unit such as 250ms, 2m, 1h, 7d.
    prev
        Print the value that was replaced, if there was one, instead of the revision.
    if_absent
        Only if there is no such entry.
    if_revision
        Only if the entry's revision is this one.
    if_value
        Only if the entry's value equals this one, read as VALUE is.
    """
    if if_absent:
        return met({"key": key}, await entries.put_if_absent(key, value, ttl=ttl))
    if if_revision is not None:
        return met({"key": key}, await entries.replace(key, value, revision=if_revision, ttl=ttl))
    if if_value is not ABSENT:
        return met({"key": key}, await entries.compare_and_set(key, if_value, value, ttl=ttl))
    if prev:
        old = await entries.get_and_put(key, value, ttl=ttl)
        if old is None:
            return Answer({"key": key, "previous": None})
        return Answer({"key": key, "previous": _parts(old)}, show(old.value))
    revision = await entries.put(key, value, ttl=ttl)
    return Answer({"key": key, "revision": revision}, str(revision))


@commands.query
async def get(entries: Map, key: KeyArgument, /) -> Answer | None:
    """Print an entry's value; with -w json or jsonl also its revisions. Exit code 3 if there is none.

    Parameters
    ----------
    key
        The entry's key.
    """
    entry = await entries.entry(key)
    return None if entry is None else Answer({"key": key, **_parts(entry)}, show(entry.value))


@commands.change
async def remove(
    entries: Map, key: KeyArgument, /, *, if_revision: Annotated[Revision | None, Condition] = None,
    if_value: Annotated[ValueArgument, Condition] = ABSENT,
) -> Answer:  # fmt: skip
    """Remove an entry. Exit code 3 if there is none, 4 if a condition is not met.

    Parameters
    ----------
    key
        The entry's key.
    if_revision
        Only if the entry's revision is this one.
    if_value
        Only if the entry's value equals this one.
    """
    if if_value is ABSENT:
        removed = await entries.remove(key, revision=if_revision)
    else:
        removed = await entries.remove(key, value=if_value)
    conditional = if_revision is not None or if_value is not ABSENT
    there = not removed and conditional and await entries.contains(key)
    code = DONE if removed else CONDITION if there else NOT_FOUND
    return Answer({"key": key, "removed": removed}, code=code)


@commands.query
async def items(entries: Map, /, *, limit: Positive | None = None) -> Rows:
    """Print all entries, page by page; a map that does not exist has none.

    Parameters
    ----------
    limit
        Stop after this many entries.
    """
    rows = ({"key": key, "value": value} async for key, value in first(entries.items(), limit))
    return Rows(("key", "value"), rows)


def _parts(entry: Entry) -> Row:
    return {
        "value": entry.value, "revision": entry.revision, "created": entry.created, "expires": entry.expires
    }  # fmt: skip
