"""``quorate slot``: which group owns which slots, and where a name and its entries live."""

from __future__ import annotations

from itertools import groupby
from typing import Any, Final

from cyclopts import App

from ops.arguments import Flag, KeyKind
from ops.commands import reading
from ops.common import DEFAULTS, Common, checked_name
from ops.exits import DONE, NOT_FOUND
from ops.output import Column, Row, write_rows
from ops.places import node_name, place_of_name, places_of, replicas_of
from ops.values import parse_key
from router.shardmap import ShardMap

app: Final = App("slot", help="Slots, the units of placement, and the groups that own them.")

_GROUPS: Final = ("group", "slots", Column("leader"), Column("replicas"))
_PLACES: Final = (
    Column("partition"), "slot", "group", Column("leader"), Column("replicas")
)  # fmt: skip
_RANGES: Final = ("first", "last", "group", "epoch", Column("leader"))


@app.command(name="map")
async def map_(*, ranges: Flag = False, common: Common = DEFAULTS) -> int:
    """Print which group owns how many slots, and the nodes of its replicas, by the cluster's shard map.

    Parameters
    ----------
    ranges
        Print every run of slots with the same owner and epoch instead.
    """
    async with reading(common) as client:
        shard_map = await client.shard_map()
    if ranges:
        write_rows(common.write, _RANGES, _runs(shard_map))
    else:
        groups = [group_row(shard_map, group) for group in sorted(shard_map.groups)]
        write_rows(common.write, _GROUPS, groups)
    return DONE


@app.command
async def locate(
    name: str, key: str | None = None, /, *, key_as: KeyKind = "text", common: Common = DEFAULTS
) -> int:
    """Print where a primitive lives, or the entry of a key: slots, groups and nodes.

    Exit code 3 if there is none of that name; where its name's own row would be is printed all the same.

    Parameters
    ----------
    name
        The primitive's name.
    key
        An entry's key, or an element; only where this one is.
    key_as
        How KEY is meant: text, a 64-bit integer, or bytes in hexadecimal.
    """
    name = checked_name(name)
    wanted = None if key is None else parse_key(key, key_as)
    async with reading(common) as client:
        info = await client.admin("primitive-info", name)
        shard_map = await client.shard_map()
        if info is None:
            places = [place_of_name(shard_map, client.namespace, name)]
        else:
            places = places_of(shard_map, info, wanted)
    write_rows(common.write, _PLACES, places)
    return NOT_FOUND if info is None else DONE


def group_row(shard_map: ShardMap, group: Any) -> Row:
    """A group as the shard map has it: the names of its leader, as far as one is known, and its nodes."""
    return {
        "group": group,
        "slots": len(shard_map.slots_of(group)),
        "leader": node_name(shard_map, shard_map.leaders.get(group)),
        "replicas": replicas_of(shard_map, group),
    }


def _runs(shard_map: ShardMap) -> list[Row]:
    rows: list[Row] = []
    first = 0
    for (group, epoch), run in groupby(zip(shard_map.owners, shard_map.epochs, strict=True)):
        after = first + sum(1 for _ in run)
        leader = node_name(shard_map, shard_map.leaders.get(shard_map.group(first)))
        rows.append({"first": first, "last": after - 1, "group": group, "epoch": epoch, "leader": leader})
        first = after
    return rows
