"""``quorate queue``: elements in the order offered, each for one taker, from the shell."""

from __future__ import annotations

from typing import Any, Final

from ops.arguments import ABSENT, Positive, ValueArgument
from ops.commands import Commands, Option
from ops.contents import declare_contents
from ops.exits import CONDITION, Failure, one_line
from ops.following import declare_watch
from ops.output import Answer, Rows, first
from ops.values import show
from primitives.queue import Queue, QueueFull

_CAPACITY: Final = Option(
    "capacity", Positive | None, None,
    "How many elements it may hold: set if this creates the queue, else it must be what the queue has.",
)  # fmt: skip

commands: Final = Commands(
    Queue, "Queues: elements in the order offered, each for one taker.", opening=(_CAPACITY,)
)
app: Final = commands.app
declare_contents(commands, "elements")
declare_watch(commands)


@commands.create
async def offer(queue: Queue, value: ValueArgument, /, *more: ValueArgument) -> Answer:
    """Append elements. Exit code 4 if the queue is at its capacity.

    Parameters
    ----------
    value
        An element: JSON if it parses as such, else text.
    more
        More of them.
    """
    try:
        await queue.offer_many([value, *more])
    except QueueFull as full:
        raise Failure(one_line(full), CONDITION) from None
    return Answer({"name": queue.name, "offered": 1 + len(more)})


@commands.change
async def poll(queue: Queue) -> Answer | None:
    """Remove the first element and print it. Exit code 3 if there is none."""
    return _element(queue, await queue.poll(ABSENT))


@commands.wait
async def take(queue: Queue) -> Answer | None:
    """Remove the first element and print it; wait for one while there is none.

    The wait has no limit but --timeout; exit code 4 if nothing came by then.
    """
    return _element(queue, await queue.take())


@commands.query
async def peek(queue: Queue) -> Answer | None:
    """Print the first element, which stays. Exit code 3 if there is none."""
    return _element(queue, await queue.peek(ABSENT))


@commands.query
async def items(queue: Queue, /, *, limit: Positive | None = None) -> Rows:
    """Print all elements, which stay, in their order; a queue that does not exist has none.

    Parameters
    ----------
    limit
        Stop after this many.
    """
    return Rows(("value",), ({"value": one} async for one in first(queue.elements(), limit)))


def _element(queue: Queue, value: Any) -> Answer | None:
    return None if value is ABSENT else Answer({"name": queue.name, "value": value}, show(value))
