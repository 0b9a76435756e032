"""``quorate list``: elements by index, from the shell."""

from __future__ import annotations

from typing import Final

from ops.arguments import Positive, ValueArgument, Whole
from ops.commands import Commands
from ops.contents import declare_contents
from ops.exits import NOT_FOUND
from ops.following import declare_watch
from ops.output import Answer, Rows, first, met
from ops.values import show
from primitives.list import List

commands: Final = Commands(List, "Lists: elements by index, from 0; negative ones count from the end.")
app: Final = commands.app
declare_contents(commands, "elements")
declare_watch(commands, listed=False)


@commands.create
async def append(elements: List, value: ValueArgument, /, *more: ValueArgument) -> Answer:
    """Put elements behind the last one.

    Parameters
    ----------
    value
        An element: JSON if it parses as such, else text.
    more
        More of them.
    """
    await elements.extend([value, *more])
    return Answer({"name": elements.name, "appended": 1 + len(more)})


@commands.create
async def insert(elements: List, index: Whole, value: ValueArgument, /) -> Answer:
    """Put an element before the one at an index, or at the end that is nearest if there is none.

    Parameters
    ----------
    index
        Where.
    value
        The element: JSON if it parses as such, else text.
    """
    revision = await elements.insert(index, value)
    return Answer({"name": elements.name, "revision": revision})


@commands.query
async def get(elements: List, index: Whole, /) -> Answer:
    """Print the element at an index. Exit code 3 if there is none.

    Parameters
    ----------
    index
        Which one.
    """
    value = await elements.get(index)
    return Answer({"index": index, "value": value}, show(value))


@commands.change
async def set_(elements: List, index: Whole, value: ValueArgument, /) -> Answer:
    """Put an element in the place of the one at an index. Exit code 3 if there is none.

    Parameters
    ----------
    index
        Which one.
    value
        What takes its place: JSON if it parses as such, else text.
    """
    revision = await elements.set(index, value)
    return Answer({"index": index, "revision": revision})


@commands.change
async def remove(elements: List, value: ValueArgument, /) -> Answer:
    """Remove the first element that equals a value. Exit code 3 if there is none.

    Parameters
    ----------
    value
        What to look for: JSON if it parses as such, else text.
    """
    return met({"name": elements.name}, await elements.remove(value), as_="removed", otherwise=NOT_FOUND)


@commands.change
async def pop(elements: List, index: Whole = -1, /) -> Answer:
    """Remove the element at an index, the last one unless told, and print it. Exit code 3 if there is none.

    Parameters
    ----------
    index
        Which one.
    """
    value = await elements.pop(index)
    return Answer({"name": elements.name, "value": value}, show(value))


@commands.query
async def index(elements: List, value: ValueArgument, /) -> Answer | None:
    """Print the index of the first element that equals a value. Exit code 3 if there is none.

    Parameters
    ----------
    value
        What to look for: JSON if it parses as such, else text.
    """
    at = await elements.index(value)
    return None if at is None else Answer({"name": elements.name, "index": at}, str(at))


@commands.query
async def items(elements: List, /, *, limit: Positive | None = None) -> Rows:
    """Print all elements in their order; a list that does not exist has none.

    Parameters
    ----------
    limit
        Stop after this many.
    """
    return Rows(("value",), ({"value": one} async for one in first(elements.slice(), limit)))
