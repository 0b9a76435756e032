"""What the founding of a cluster puts where: replicas, first leaders, slots that groups begin with."""

from __future__ import annotations

from collections import Counter

import pytest
from local_group import MemoryRows

from primitives.applier import Applier
from primitives.errors import Code
from primitives.ids import SLOTS, SYSTEM_GROUP, GroupId, NodeId
from primitives.records import decode_answer, encode_entry
from router.shardmap import NodeInfo, ShardMap
from shards.placement import Founding, Placement, machines_of
from shards.system import found_record, map_query

NODES = tuple(
    NodeInfo(NodeId(n), f"n{n}", f"127.0.0.1:{7400 + n}", f"127.0.0.1:{7500 + n}", bytes([n]) * 16)
    for n in range(1, 6)
)


def found(groups: int, replicas: int, *, times: int = 1, together: bool = False) -> ShardMap:
    """The map that group 0 has after its founding record, which may be proposed more than once."""
    applier = Applier(SYSTEM_GROUP, MemoryRows(), machines_of(SYSTEM_GROUP))
    applier.initialize([])
    for time in range(times):
        id_, salt = bytes([time]) * 16, b"salt%d" % time
        record = found_record(id_, salt, groups, replicas, list(NODES), together=together)
        applier.apply(encode_entry(time, [record]))
    answer = decode_answer(applier.query(map_query()))
    assert answer.code == Code.OK
    return ShardMap.decode(answer.result)


def placed(shard_map: ShardMap, node: int) -> Placement:
    placement = Placement(NodeId(node))
    placement.shard_map = shard_map
    return placement


def test_group_0_has_a_replica_on_every_founding_node() -> None:
    founding = Founding(NODES, groups=4, replicas=3)
    for node in NODES:
        stored = Placement(node.id).form(founding)
        assert stored.identity.group == SYSTEM_GROUP
        assert stored.membership.incoming == (1, 2, 3, 4, 5)
        assert stored.identity.replica == node.id
    assert [node for _, node in found(4, 3).groups[SYSTEM_GROUP].replicas] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("replicas", [1, 3, 5])
def test_replicas_of_a_group_start_from_the_same_owned_slots(replicas: int) -> None:
    shard_map = found(7, replicas)
    starts: dict[GroupId, set[tuple[int, ...]]] = {}
    replica_ids: Counter[int] = Counter()
    for node in NODES:
        for stored, slots, _ in placed(shard_map, node.id).missing({}):
            starts.setdefault(stored.identity.group, set()).add((*stored.membership.incoming, -1, *slots))
            replica_ids[stored.identity.replica] += 1
    del starts[SYSTEM_GROUP]
    assert all(len(group) == 1 for group in starts.values())
    owned = Counter(slot for [start] in starts.values() for slot in start[start.index(-1) + 1 :])
    assert len(owned) == SLOTS and set(owned.values()) == {1}, "each slot has one owner"
    assert set(replica_ids.values()) == {1}, "no replica id is used twice"


def test_first_leaders_take_turns_among_the_nodes() -> None:
    shard_map = found(10, 3)
    first = Counter(
        node.id
        for node in NODES
        for stored, _, leads_first in placed(shard_map, node.id).missing({})
        if leads_first and stored.identity.group != SYSTEM_GROUP
    )
    assert set(first.values()) == {2}


def test_together_one_node_leads_all_groups_and_the_others_take_turns_to_follow() -> None:
    shard_map = found(8, 3, together=True)
    groups = [info.replicas for group, info in shard_map.groups.items() if group != SYSTEM_GROUP]
    assert {replicas[0][1] for replicas in groups} == {1}
    followers = Counter(node for replicas in groups for _, node in replicas[1:])
    assert followers == {2: 4, 3: 4, 4: 4, 5: 4}


def test_a_cluster_is_founded_once_however_often_it_is_proposed() -> None:
    once, again = found(4, 3), found(4, 3, times=3)
    assert (again.cluster_id, again.salt, again.version) == (once.cluster_id, once.salt, once.version)
