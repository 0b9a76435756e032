"""``quorate counter``: a replicated 64-bit number, from the shell."""

from __future__ import annotations

from typing import Final

from ops.arguments import Whole
from ops.commands import Commands
from ops.output import Answer
from primitives.counter import Counter

commands: Final = Commands(Counter, "Counters: replicated 64-bit numbers.")
app: Final = commands.app


@commands.query
async def get(counter: Counter) -> Answer:
    """Print a counter's value; 0 if it was never set."""
    return _shown(counter, await counter.get())


@commands.change
async def add(counter: Counter, number: Whole = 1, /) -> Answer:
    """Add to a counter, 1 unless said, and print its new value. It may be negative.

    Parameters
    ----------
    number
        What to add.
    """
    return _shown(counter, await counter.add(number))


@commands.change
async def set_(counter: Counter, number: Whole, /) -> Answer:
    """Set a counter, and print its value.

    Parameters
    ----------
    number
        Its new value.
    """
    await counter.set(number)
    return _shown(counter, number)


def _shown(counter: Counter, value: int) -> Answer:
    return Answer({"name": counter.name, "value": value}, str(value))
