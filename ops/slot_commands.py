"""``quorate slot``: which group owns which slots, and where a name and its entries live."""

from __future__ import annotations

from itertools import groupby
from typing import Any, Final

from cyclopts import App

from ops.arguments import Flag
from ops.commands import reading
from ops.common import DEFAULTS, Common
from ops.exits import DONE
from ops.output import Column, Row, write_rows
from router.shardmap import ShardMap

app: Final = App("slot", help="Slots, the units of placement, and the groups that own them.")

_GROUPS: Final = ("group", "slots", Column("leader"), Column("replicas", ", ".join))
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


def node_name(shard_map: ShardMap, node: Any) -> str | None:
    """A node's name; its number if the map does not know it; None for None."""
    info = shard_map.nodes.get(node)
    return None if node is None else str(node) if info is None else info.name


def group_row(shard_map: ShardMap, group: Any) -> Row:
    """A group as the shard map has it: the names of its leader, as far as one is known, and its nodes."""
    return {
        "group": group,
        "slots": len(shard_map.slots_of(group)),
        "leader": node_name(shard_map, shard_map.leaders.get(group)),
        "replicas": [node_name(shard_map, node) for _, node in shard_map.groups[group].replicas],
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
