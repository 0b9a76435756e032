"""``quorate counter``: a replicated 64-bit number, from the shell."""

from __future__ import annotations

from cyclopts import App

from ops.common import DEFAULTS, Common, Whole, checked_name, within_limit
from ops.exits import DONE
from ops.output import write_answer

app = App("counter", help="Counters: replicated 64-bit numbers.")


@app.command
async def get(name: str, /, *, common: Common = DEFAULTS) -> int:
    """Print a counter's value; 0 if it was never set.

    Parameters
    ----------
    name
        The counter's name.
    """
    name = checked_name(name)
    async with within_limit(common, changes=False) as client:
        value = await client.counter(name).get()
    write_answer(common.write, {"name": name, "value": value}, str(value))
    return DONE


@app.command
async def add(name: str, number: Whole = 1, /, *, common: Common = DEFAULTS) -> int:
    """Add to a counter, 1 unless said, and print its new value. It may be negative.

    Parameters
    ----------
    name
        The counter's name; the counter is created if need be.
    number
        What to add.
    """
    name = checked_name(name)
    async with within_limit(common, changes=True) as client:
        value = await client.counter(name).add(number)
    write_answer(common.write, {"name": name, "value": value}, str(value))
    return DONE


@app.command(name="set")
async def set_(name: str, number: Whole, /, *, common: Common = DEFAULTS) -> int:
    """Set a counter, and print its value.

    Parameters
    ----------
    name
        The counter's name; the counter is created if need be.
    number
        Its new value.
    """
    name = checked_name(name)
    async with within_limit(common, changes=True) as client:
        await client.counter(name).set(number)
    write_answer(common.write, {"name": name, "value": number}, str(number))
    return DONE
