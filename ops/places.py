"""Where names and entries live: slots, and the groups and nodes that they are with now."""

from __future__ import annotations

from typing import Any, NamedTuple

from ops.output import Row
from primitives.codec import Key, encode_key
from primitives.ids import PrimitiveId, Revision
from router.client_catalog import Listing
from router.shardmap import ShardMap
from router.slots import partition_of_key, slot_of_name, slot_of_partition


class Place(NamedTuple):
    """A partition of a primitive, or a name's row in the catalog (without a partition)."""

    partition: int | None
    slot: int
    group: int
    leader: str | None
    """The name of the node that is believed to lead the group."""
    replicas: list[str | None]

    def row(self) -> Row:
        """By names."""
        return self._asdict()


def node_name(shard_map: ShardMap, node: Any) -> str | None:
    """A node's name; its number if the map does not know it; None for None."""
    info = shard_map.nodes.get(node)
    return None if node is None else str(node) if info is None else info.name


def replicas_of(shard_map: ShardMap, group: Any) -> list[str | None]:
    """The names of a group's nodes."""
    return [node_name(shard_map, node) for _, node in shard_map.groups[group].replicas]


def _place(shard_map: ShardMap, slot: int, partition: int | None) -> Place:
    group = shard_map.group(slot)
    leader = node_name(shard_map, shard_map.leaders.get(group))
    return Place(partition, slot, group, leader, replicas_of(shard_map, group))


def place_of_name(shard_map: ShardMap, namespace: str, name: str) -> Place:
    """Where a name's row in the catalog is, whether it exists or not."""
    return _place(shard_map, slot_of_name(shard_map.salt, namespace, name), None)


def places_of(shard_map: ShardMap, namespace: str, one: Listing, key: Key | None = None) -> list[Place]:
    """Where the partitions of a primitive are: all of them, or the one that holds ``key``."""
    slot = slot_of_name(shard_map.salt, namespace, one.name)
    if not one.partitions:
        return [_place(shard_map, slot, 0)]
    salt, primitive = shard_map.salt, PrimitiveId(slot, Revision(one.created))
    numbers = range(one.partitions)
    if key is not None:
        at = partition_of_key(salt, encode_key(key), one.partitions)
        numbers = range(at, at + 1)
    return [_place(shard_map, slot_of_partition(salt, primitive, number), number) for number in numbers]
