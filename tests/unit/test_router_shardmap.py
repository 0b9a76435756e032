"""The shard map and the slots: read back as written, refused when damaged."""

from __future__ import annotations

import zlib

import pytest
from xxhash import xxh3_64_intdigest

from primitives.errors import ProtocolError
from primitives.ids import SLOTS, GroupId, NodeId, PrimitiveId, Revision, SlotId
from router.ring import rebalance
from router.shardmap import FORMAT, GroupInfo, NodeInfo, ShardMap
from router.slots import partition_of_key, slot_of_name, slot_of_partition


def some_map(version: int = 3) -> ShardMap:
    nodes = {
        NodeId(n): NodeInfo(NodeId(n), f"n{n}", f"10.0.0.{n}:7400", f"10.0.0.{n}:7500", bytes(16))
        for n in (1, 2, 3)
    }
    groups = {
        GroupId(g): GroupInfo(GroupId(g), ((10 * g, NodeId(1)), (10 * g + 1, NodeId(2)))) for g in range(17)
    }
    owners = rebalance([None] * SLOTS, [GroupId(g) for g in range(1, 17)])
    return ShardMap(version, b"c" * 16, b"salt", nodes, groups, owners, [1] * SLOTS, {GroupId(1): NodeId(2)})


def test_a_map_is_read_back_as_written() -> None:
    shard_map = some_map()
    again = ShardMap.decode(shard_map.encode())
    assert again == shard_map
    assert again.nodes[NodeId(2)].client_address == "10.0.0.2:7400"
    assert again.groups[GroupId(3)].replicas == ((30, 1), (31, 2))
    assert again.leaders == {1: 2}
    assert again.epoch(77) == 1
    assert again.slots_of(again.group(5)).count(5) == 1


def test_other_leaders_make_another_map_of_the_same_version() -> None:
    shard_map = some_map()
    other = shard_map.with_leaders({GroupId(2): NodeId(3)})
    assert other.leaders == {2: 3}
    assert other.version == shard_map.version
    assert shard_map.leaders == {1: 2}


def test_a_map_cannot_be_changed() -> None:
    shard_map = some_map()
    with pytest.raises(TypeError):
        shard_map.owners[0] = 5  # type: ignore[index]
    with pytest.raises(TypeError):
        shard_map.nodes[NodeId(1)] = None  # type: ignore[index]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: bytes((FORMAT + 1,)) + data[1:],
        lambda data: data[:-5],
        lambda data: data + b"x",
        lambda data: data[:20] + bytes((data[20] ^ 1,)) + data[21:],
        lambda data: data[:1] + zlib.compress(b"short"),
        lambda data: data[:1] + zlib.compress(zlib.decompress(data[1:]) + b"x"),
        lambda data: data[:1] + zlib.compress(bytes(9 << 20)),
    ],
)
def test_a_damaged_map_is_refused(damage: object) -> None:
    with pytest.raises(ProtocolError):
        ShardMap.decode(damage(some_map().encode()))  # type: ignore[operator]


def test_a_map_of_another_number_of_slots_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="slots"):
        ShardMap(1, b"c" * 16, b"", {}, {}, [1], [1])


def test_names_partitions_and_keys_have_slots_that_never_change() -> None:
    assert slot_of_name(b"salt", "", "users") == xxh3_64_intdigest(b"salt\0users") % 16384 == 5020
    routing_key = bytes.fromhex("0001" "0000000000000002" "0003")
    slot = slot_of_partition(b"salt", PrimitiveId(SlotId(1), Revision(2)), 3)
    assert slot == xxh3_64_intdigest(b"salt" + routing_key) % 16384
    assert partition_of_key(b"salt", b"\x03alice", 16) == xxh3_64_intdigest(b"salt\x03alice") % 16


def test_a_name_is_the_same_however_it_is_composed() -> None:
    assert slot_of_name(b"s", "", "é") == slot_of_name(b"s", "", "é")


def test_a_namespace_is_no_part_of_the_name() -> None:
    assert slot_of_name(b"s", "a", "b") != slot_of_name(b"s", "", "ab")
    assert slot_of_name(b"s", "a", "b") != slot_of_name(b"t", "a", "b")
