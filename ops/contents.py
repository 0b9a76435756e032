"""Commands of whatever holds many things: how many there are, and away with them."""

from __future__ import annotations

from typing import Any

from ops.commands import Commands
from ops.output import Answer


def declare_contents(commands: Commands[Any], things: str) -> None:
    """Gives a type the commands ``size`` and ``clear``; ``things`` is what their help calls its contents."""

    async def size(handle: Any) -> Answer:
        count = await handle.size()
        return Answer({"name": handle.name, "size": count}, str(count))

    async def clear(handle: Any) -> Answer:
        await handle.clear()
        return Answer({"name": handle.name, "cleared": True})

    size.__doc__ = f"Print how many {things} there are."
    clear.__doc__ = f"Remove all {things}."
    commands.query(size)
    commands.change(clear)
