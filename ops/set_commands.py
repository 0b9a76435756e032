"""``quorate set``: elements that are there or not, from the shell."""

from __future__ import annotations

from typing import Final

from ops.arguments import KeyArgument, Positive, Seconds
from ops.commands import SPREAD, Commands
from ops.contents import declare_contents
from ops.exits import DONE, NOT_FOUND
from ops.following import declare_watch
from ops.output import Answer, Rows, first, met
from primitives.set import Set

commands: Final = Commands(Set, "Sets: elements, each there or not.", opening=SPREAD)
app: Final = commands.app
declare_contents(commands, "elements")
declare_watch(commands, keyed=True)


@commands.create
async def add(
    elements: Set, element: KeyArgument, /, *more: KeyArgument, ttl: Seconds | None = None
) -> Answer:
    """Add elements, and print how many were not there.

    Parameters
    ----------
    element
        An element.
    more
        More of them.
    ttl
        Remove them after this long: seconds, or with a unit such as 250ms, 2m, 1h, 7d.
    """
    count = await elements.add_all([element, *more], ttl=ttl)
    return Answer({"name": elements.name, "added": count}, str(count))


@commands.change
async def remove(elements: Set, element: KeyArgument, /, *more: KeyArgument) -> Answer:
    """Remove elements, and print how many were there. Exit code 3 if none was.

    Parameters
    ----------
    element
        An element.
    more
        More of them.
    """
    count = await elements.discard_all([element, *more])
    return Answer({"name": elements.name, "removed": count}, str(count), DONE if count else NOT_FOUND)


@commands.query
async def contains(elements: Set, element: KeyArgument, /) -> Answer:
    """Say by the exit code whether an element is there: 0, or 3.

    Parameters
    ----------
    element
        The element.
    """
    there = await elements.contains(element)
    return met({"name": elements.name}, there, as_="contains", otherwise=NOT_FOUND)


@commands.query
async def items(elements: Set, /, *, limit: Positive | None = None) -> Rows:
    """Print all elements, page by page; a set that does not exist has none.

    Parameters
    ----------
    limit
        Stop after this many.
    """
    return Rows(("element",), ({"element": one} async for one in first(elements.elements(), limit)))
