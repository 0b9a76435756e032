"""``quorate group``: the Raft groups, as their leaders see them, and who leads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import trio
from cyclopts import App

from ops.arguments import Whole
from ops.commands import changing, reading
from ops.common import DEFAULTS, Common
from ops.exits import DONE, NOT_FOUND, UNAVAILABLE, Failure
from ops.output import Answer, Column, Row, write_line, write_record, write_result, write_rows
from ops.places import node_name, replicas_of
from ops.values import show_bytes
from router.client import Client
from router.shardmap import ShardMap

app: Final = App("group", help="Groups: each a Raft log of its own, with replicas on some nodes.")

_LOOK_S: Final = 0.05
"""How often to look whether a leadership has moved; nothing announces it."""

_GROUPS: Final = (
    "group", Column("leader"), Column("replicas"), Column("term"), Column("first"), Column("commit"),
    Column("applied"), Column("sessions"), Column("primitives"),
)  # fmt: skip
_REPLICAS: Final = ("replica", "node", Column("match"), Column("behind"), Column("snapshot"))
_BYTES: Final = ("overlay_bytes", "cache_bytes")
_FIRST: Final = (
    "group", "leader", "term", "revision", "first", "commit", "applied", "last", "sessions", "primitives"
)
_HIDDEN: Final = ("role", "replicas", "needs_snapshot", "more_primitives")
"""What the record of a group leaves to its table of replicas, or says otherwise."""


@app.command
async def ls(*, common: Common = DEFAULTS) -> int:
    """Print all groups as their leaders see them. Exit code 5 if one of them has no leader in reach."""
    async with reading(common) as client:
        shard_map = await client.shard_map()
        rows = [_row(shard_map, one) for one in await client.admin("groups")]
    write_rows(common.write, _GROUPS, rows)
    missing = [str(row["group"]) for row in rows if "error" in row]
    if missing:
        raise Failure(f"no leader answered of group {', '.join(missing)}", UNAVAILABLE)
    return DONE


@app.command
async def show(group: Whole, /, *, common: Common = DEFAULTS) -> int:
    """Print a group as its leader sees it, with its replicas. Exit code 3 if there is none of that number.

    Parameters
    ----------
    group
        Its number.
    """
    async with reading(common) as client:
        shard_map = await client.shard_map()
        if group not in shard_map.groups:
            return NOT_FOUND
        told = await client.admin("group", group)
    replicas = [
        {
            "replica": one["replica"], "node": node_name(shard_map, one["node"]), "match": one["match"],
            "behind": None if one["match"] is None else told["last"] - one["match"],
            "snapshot": one["replica"] in told["needs_snapshot"],
        }
        for one in told["replicas"]
    ]  # fmt: skip
    record = {**told, "leader": node_name(shard_map, told["leader"])}
    if common.write in ("json", "jsonl"):
        return await write_result(common.write, Answer({**record, "replicas": replicas}))
    names = [*_FIRST, *(name for name in sorted(record) if name not in (*_FIRST, *_HIDDEN))]
    shown = {name: record[name] for name in names}
    if common.write == "table":
        shown |= {name: show_bytes(shown[name]) for name in _BYTES if shown.get(name) is not None}
    write_record(common.write, shown)
    if common.write == "table":
        write_line("")
    write_rows(common.write, _REPLICAS, replicas)
    return DONE


@app.command
async def move_leader(group: Whole, node: str, /, *, common: Common = DEFAULTS) -> int:
    """Hand a group's leadership to a node, and wait until it leads. Exit code 3 if there is no such group.

    Parameters
    ----------
    group
        The group's number.
    node
        The node's name, or its number.
    """
    async with changing(common) as client:
        shard_map = await client.shard_map()
        if group not in shard_map.groups:
            return NOT_FOUND
        wanted = _node(shard_map, group, node)
        moved = await client.admin("group-transfer", group, wanted)
        if moved:
            await _until_led(client, group, wanted)
    name = node_name(shard_map, wanted)
    return await write_result(common.write, Answer({"group": group, "leader": name, "moved": moved}))


def _node(shard_map: ShardMap, group: Any, text: str) -> int:
    """The id of the node of that name or number. Raises Failure unless it has a replica of the group."""
    for _, node in shard_map.groups[group].replicas:
        if text in (node_name(shard_map, node), str(node)):
            return node
    names = ", ".join(str(name) for name in replicas_of(shard_map, group))
    raise Failure(f"group {group} has no replica on a node {text}; it has some on {names}")


async def _until_led(client: Client, group: int, node: int) -> None:
    while True:
        if await _leader(client, group) == node:
            return
        await trio.sleep(_LOOK_S)


async def _leader(client: Client, group: int) -> int | None:
    """The group's leader by its own word; None while none is known."""
    for one in await client.admin("groups"):
        if one["group"] == group and "error" not in one:
            leader: int | None = one["leader"]
            return leader
    return None


def _row(shard_map: ShardMap, told: Mapping[str, Any]) -> Row:
    """A row of the list: with nodes' names, and nulls if no leader told."""
    return {
        **told,
        "leader": node_name(shard_map, told.get("leader")),
        "replicas": replicas_of(shard_map, told["group"]),
    }
