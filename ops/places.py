"""Where names and entries live: slots, and the groups and nodes that they are with now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ops.output import Row
from primitives.codec import Key, encode_key
from router.shardmap import ShardMap
from router.slots import partition_of_key, slot_of_name


def node_name(shard_map: ShardMap, node: Any) -> str | None:
    """A node's name; its number if the map does not know it; None for None."""
    info = shard_map.nodes.get(node)
    return None if node is None else str(node) if info is None else info.name


def replicas_of(shard_map: ShardMap, group: Any) -> list[str | None]:
    """The names of a group's nodes."""
    return [node_name(shard_map, node) for _, node in shard_map.groups[group].replicas]


def _place(shard_map: ShardMap, slot: int, partition: int | None) -> Row:
    group = shard_map.group(slot)
    return {
        "partition": partition, "slot": slot, "group": group,
        "leader": node_name(shard_map, shard_map.leaders.get(group)),
        "replicas": replicas_of(shard_map, group),
    }  # fmt: skip


def place_of_name(shard_map: ShardMap, namespace: str, name: str) -> Row:
    """Where a name's row in the catalog is, whether it exists or not: a place without a partition."""
    return _place(shard_map, slot_of_name(shard_map.salt, namespace, name), None)


def places_of(shard_map: ShardMap, info: Mapping[str, Any], key: Key | None = None) -> list[Row]:
    """Where the partitions of a primitive are, of which ``info`` was told: all of them, or the one that holds
    ``key``; by the map, so that it fits the leaders and the replicas beside it."""
    partitions = info["partitions"]
    if key is not None and not info["pinned"]:
        at = partition_of_key(shard_map.salt, encode_key(key), len(partitions))
        partitions = partitions[at : at + 1]
    return [_place(shard_map, one["slot"], one["partition"]) for one in partitions]
