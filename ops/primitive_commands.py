"""``quorate primitive``: what exists in the cluster, of whatever type."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Final

from cyclopts import App, Parameter

from ops.arguments import Flag, Positive
from ops.commands import changing, reading, refusals
from ops.common import DEFAULTS, Common, checked_name
from ops.exits import CONDITION, DONE, NOT_FOUND, Failure
from ops.output import Answer, Column, first, met, write_result, write_stream
from router.client_catalog import Listing

app: Final = App("primitive", help="Primitives of all types: what there is, and where.")

TypeName = Annotated[str | None, Parameter(metavar="TYPE")]
_COLUMNS: Final = ("name", "type", Column("partitions", lambda count: "pinned" if not count else str(count)))


@app.command
async def ls(
    prefix: str = "", /, *, type: TypeName = None, limit: Positive | None = None, common: Common = DEFAULTS
) -> int:
    """Print what exists, in the order of names.

    Parameters
    ----------
    prefix
        Only names that begin with this.
    type
        Only this type: map, counter, lock, …
    limit
        Stop after so many.
    """
    async with reading(common) as client:
        with refusals():
            found = first(client.primitives(prefix, type), limit)
            await write_stream(common.write, _COLUMNS, (_row(one) async for one in found))
    return DONE


@app.command
async def info(name: str, /, *, common: Common = DEFAULTS) -> int:
    """Print what a primitive is and where it lives. Exit code 3 if there is none of that name.

    Parameters
    ----------
    name
        Its name.
    """
    name = checked_name(name)
    async with reading(common) as client:
        told = await client.admin("primitive-info", name)
        if told is None:
            return NOT_FOUND
        handle: Any = client.open(told["type"], name)
        size = await handle.size() if hasattr(handle, "size") else None
    record = {
        "name": told["name"], "type": told["type"], "created": told["created"],
        "partitions": 0 if told["pinned"] else len(told["partitions"]),
        "groups": sorted({one["group"] for one in told["partitions"]}), "deleting": told["deleting"],
    }  # fmt: skip
    if size is not None:
        record["size"] = size
    return await write_result(common.write, Answer(record, parts=True))


@app.command
async def delete(name: str, /, *, yes: Flag = False, common: Common = DEFAULTS) -> int:
    """Delete a primitive with all that is in it. Exit code 3 if there is none of that name.

    At a terminal it asks first, unless told --yes.

    Parameters
    ----------
    name
        Its name.
    yes
        Do not ask.
    """
    name = checked_name(name)
    if not yes:
        async with reading(common) as client:
            told = await client.admin("primitive-info", name)
        if told is None:
            return NOT_FOUND
        if not _confirmed(f"Delete the {told['type']} {name!r} with all that is in it?"):
            raise Failure("nothing was deleted", CONDITION)
    async with changing(common) as client:
        told = await client.admin("primitive-info", name)
        done = told is not None and await client.open(told["type"], name).delete()
    return await write_result(common.write, met({"name": name}, done, as_="deleted", otherwise=NOT_FOUND))


def _confirmed(question: str) -> bool:
    """What somebody at a terminal says; where there is none, nobody needs to be asked."""
    if not sys.stdin.isatty() or not sys.stderr.isatty():
        return True
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _row(one: Listing) -> dict[str, Any]:
    return {"name": one.name, "type": one.type, "partitions": one.partitions}
