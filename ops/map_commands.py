"""``quorate map``: entries of a map, from the shell."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from ops.common import DEFAULTS, Common, Seconds, Whole, checked_name, within_limit
from ops.exits import CONDITION, DONE, NOT_FOUND, UsageError
from ops.output import Row, write_answer, write_stream
from ops.values import parse_key, parse_value, show

app = App("map", help="Maps: entries of a key and a value.")

KeyKind = Literal["text", "int", "hex"]
Flag = Annotated[bool, Parameter(negative="")]


@app.command
async def put(
    name: str, key: str, value: str, /, *, text: Flag = False, ttl: Seconds | None = None,
    if_absent: Flag = False, if_revision: Whole | None = None, if_value: str | None = None,
    key_as: KeyKind = "text", common: Common = DEFAULTS,
) -> int:  # fmt: skip
    """Set an entry and print its revision. Exit code 4 if a condition is not met.

    Parameters
    ----------
    name
        The map's name; the map is created if need be.
    key
        The entry's key.
    value
        JSON if it parses as such, else text.
    text
        Take VALUE as text, whatever it looks like.
    ttl
        Remove the entry after this long: seconds, or with a unit such as 250ms, 2m, 1h, 7d.
    if_absent
        Only if there is no such entry.
    if_revision
        Only if the entry's revision is this one.
    if_value
        Only if the entry's value equals this one, read as VALUE is.
    key_as
        How KEY is meant: text, a 64-bit integer, or bytes in hexadecimal.
    """
    _check_revision(if_revision)
    name, wanted, stored = checked_name(name), parse_key(key, key_as), parse_value(value, as_text=text)
    conditions = [if_absent, if_revision is not None, if_value is not None]
    if sum(conditions) > 1:
        raise UsageError("--if-absent, --if-revision and --if-value exclude one another")
    expected = None if if_value is None else parse_value(if_value, as_text=text)
    async with within_limit(common, changes=True) as client:
        entries = client.map(name)
        if if_absent:
            met = await entries.put_if_absent(wanted, stored, ttl=ttl)
        elif if_revision is not None:
            met = await entries.replace(wanted, stored, revision=if_revision, ttl=ttl)
        elif if_value is not None:
            met = await entries.compare_and_set(wanted, expected, stored, ttl=ttl)
        else:
            revision = await entries.put(wanted, stored, ttl=ttl)
            write_answer(common.write, {"key": wanted, "revision": revision}, str(revision))
            return DONE
    write_answer(common.write, {"key": wanted, "done": met})
    return DONE if met else CONDITION


@app.command
async def get(
    name: str, key: str, /, *, key_as: KeyKind = "text", common: Common = DEFAULTS
) -> int:
    """Print an entry's value; with -w json or jsonl also its revisions. Exit code 3 if there is none.

    Parameters
    ----------
    name
        The map's name.
    key
        The entry's key.
    key_as
        How KEY is meant: text, a 64-bit integer, or bytes in hexadecimal.
    """
    name, wanted = checked_name(name), parse_key(key, key_as)
    async with within_limit(common, changes=False) as client:
        entry = await client.map(name).entry(wanted)
    if entry is None:
        return NOT_FOUND
    answer = {
        "key": wanted, "value": entry.value, "revision": entry.revision, "created": entry.created,
        "expires": entry.expires,
    }  # fmt: skip
    write_answer(common.write, answer, show(entry.value))
    return DONE


@app.command
async def remove(
    name: str, key: str, /, *, if_revision: Whole | None = None, key_as: KeyKind = "text",
    common: Common = DEFAULTS,
) -> int:  # fmt: skip
    """Remove an entry. Exit code 3 if there is none, 4 if it is of another revision.

    Parameters
    ----------
    name
        The map's name.
    key
        The entry's key.
    if_revision
        Only if the entry's revision is this one.
    key_as
        How KEY is meant: text, a 64-bit integer, or bytes in hexadecimal.
    """
    _check_revision(if_revision)
    name, wanted = checked_name(name), parse_key(key, key_as)
    async with within_limit(common, changes=True) as client:
        entries = client.map(name)
        removed = await entries.remove(wanted, revision=if_revision)
        there = not removed and if_revision is not None and await entries.contains(wanted)
    write_answer(common.write, {"key": wanted, "removed": removed})
    return DONE if removed else CONDITION if there else NOT_FOUND


@app.command
async def items(name: str, /, *, limit: Whole | None = None, common: Common = DEFAULTS) -> int:
    """Print all entries, page by page; a map that does not exist has none.

    Parameters
    ----------
    name
        The map's name.
    limit
        Stop after this many entries.
    """
    name = checked_name(name)
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: expected a number above 0")
    async with within_limit(common, changes=False) as client:
        await write_stream(common.write, ("key", "value"), _rows(client.map(name), limit))
    return DONE


def _check_revision(revision: int | None) -> None:
    if revision is not None and revision < 0:
        raise UsageError(f"--if-revision {revision}: a revision is not negative")


async def _rows(entries: Any, limit: Whole | None) -> AsyncIterator[Row]:
    count = 0
    async for key, value in entries.items():
        yield {"key": key, "value": value}
        count += 1
        if count == limit:
            return
