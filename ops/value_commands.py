"""``quorate value``: a single value, from the shell."""

from __future__ import annotations

from typing import Annotated, Final

from ops.arguments import ABSENT, Condition, Revision, Seconds, ValueArgument
from ops.commands import Commands
from ops.exits import CONDITION, NOT_FOUND
from ops.following import declare_watch
from ops.output import Answer, met
from ops.values import show
from primitives.value import Value

commands: Final = Commands(Value, "Values: one value each, set or unset.")
app: Final = commands.app
declare_watch(commands)


@commands.query
async def get(value: Value) -> Answer | None:
    """Print the value; with -w json or jsonl also its revisions. Exit code 3 if it is unset."""
    entry = await value.entry()
    if entry is None:
        return None
    record = {
        "name": value.name, "value": entry.value, "revision": entry.revision, "created": entry.created,
        "expires": entry.expires,
    }  # fmt: skip
    return Answer(record, show(entry.value))


@commands.change
async def set_(
    value: Value, to: ValueArgument, /, *, ttl: Seconds | None = None,
    if_revision: Annotated[Revision | None, Condition] = None,
    if_value: Annotated[ValueArgument, Condition] = ABSENT,
) -> Answer:  # fmt: skip
    """Set the value and print its revision. With a condition, exit code 4 if it is not met.

    Parameters
    ----------
    to
        JSON if it parses as such, else text.
    ttl
        Unset it after this long: seconds, or with a unit such as 250ms, 2m, 1h, 7d.
    if_revision
        Only if it is of this revision; 0: only if it is unset.
    if_value
        Only if it equals this one, read as TO is; null also means unset.
    """
    if if_revision is not None:
        return met({"name": value.name}, await value.replace(to, revision=if_revision, ttl=ttl))
    if if_value is not ABSENT:
        return met({"name": value.name}, await value.compare_and_set(if_value, to, ttl=ttl))
    revision = await value.set(to, ttl=ttl)
    return Answer({"name": value.name, "revision": revision}, str(revision))


@commands.change
async def cas(
    value: Value, old: ValueArgument, new: ValueArgument, /, *, ttl: Seconds | None = None
) -> Answer:
    """Set the value to NEW if it equals OLD. Exit code 4 if it does not.

    Parameters
    ----------
    old
        What it must be, JSON if it parses as such, else text; null also means unset.
    new
        What it becomes.
    ttl
        Unset it after this long.
    """
    return met({"name": value.name}, await value.compare_and_set(old, new, ttl=ttl))


@commands.change
async def unset(value: Value, /, *, if_revision: Revision | None = None) -> Answer:
    """Unset the value. Exit code 3 if it was unset, 4 if it is of another revision.

    Parameters
    ----------
    if_revision
        Only if it is of this revision.
    """
    done = await value.unset(revision=if_revision)
    there = not done and if_revision is not None and await value.entry() is not None
    return met({"name": value.name}, done, otherwise=CONDITION if there else NOT_FOUND)
