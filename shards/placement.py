"""Which replicas belong on this node, and who the other replicas' nodes are: the map's consequences here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from primitives.errors import Code
from primitives.ids import SYSTEM_GROUP, GroupId, NodeId
from primitives.machine import Machine
from primitives.records import decode_answer
from primitives.registry import machines
from raftgroup.types import HardState, Index, Membership, ReplicaId
from router.shardmap import NodeInfo, ShardMap
from shards.group import GroupDriver
from shards.ports import ReplicaIdentity, StoredReplica
from shards.system import SystemMachine, map_query

_FIRST_EPOCH: Final = 1


class Founding(NamedTuple):
    """What the founding nodes agreed on. Node ids are 1, 2, … in the order of names."""

    nodes: tuple[NodeInfo, ...]
    groups: int
    """Data groups; group 0 comes on top."""
    replicas: int
    """Copies of each data group; group 0 has one on every founding node."""
    together: bool = False
    """Whether one node is to lead all groups, rather than each its share."""


def machines_of(group: GroupId) -> Mapping[int, Machine]:
    """The machines that a group runs: group 0 has one of its own."""
    found = dict(machines())
    if group == SYSTEM_GROUP:
        found[SystemMachine.TYPE] = SystemMachine()
    return found


class Placement:
    """This node's view of the shard map. The engine makes the replicas that it names."""

    __slots__ = ("_founding", "_node", "_revision", "shard_map")

    def __init__(self, node: NodeId) -> None:
        self._node = node
        self._founding: Founding | None = None
        self._revision = -1
        self.shard_map: ShardMap | None = None

    def form(self, founding: Founding) -> StoredReplica:
        """Takes what the founders agreed on; what group 0's replica on this node starts from."""
        self._founding = founding
        members = tuple(ReplicaId(node.id) for node in founding.nodes)
        return _new_replica(SYSTEM_GROUP, ReplicaId(self._node), members)

    @property
    def founding(self) -> Founding | None:
        """What the founders agreed on, if this process was told."""
        return self._founding

    def refresh(self, system: GroupDriver) -> bool:
        """Reads the map again if group 0 applied something; whether it is another one now."""
        applier = system.applier
        if applier.revision == self._revision:
            return False
        self._revision = applier.revision
        answer = decode_answer(applier.query(map_query()))
        if answer.code != Code.OK:
            return False
        known, self.shard_map = self.shard_map, ShardMap.decode(answer.result)
        return known is None or known.version != self.shard_map.version

    def nodes_of(self, group: GroupId) -> dict[ReplicaId, NodeId]:
        """Where the group's replicas are, as far as known."""
        if self.shard_map is not None and group in self.shard_map.groups:
            replicas = self.shard_map.groups[group].replicas
            return {ReplicaId(replica): node for replica, node in replicas}
        if group == SYSTEM_GROUP and self._founding is not None:
            return {ReplicaId(node.id): node.id for node in self._founding.nodes}
        return {}

    def missing(self, groups: Mapping[GroupId, GroupDriver]) -> list[tuple[StoredReplica, list[int], bool]]:
        """Replicas that the map puts on this node and that are not in ``groups``: what each starts from, the
        slots its group owns, and whether it is the one to lead first."""
        shard_map = self.shard_map
        found: list[tuple[StoredReplica, list[int], bool]] = []
        if shard_map is None:
            return found
        for group, info in shard_map.groups.items():
            mine = [ReplicaId(replica) for replica, node in info.replicas if node == self._node]
            if mine and group not in groups:
                members = tuple(ReplicaId(replica) for replica, _ in info.replicas)
                stored = _new_replica(group, mine[0], members)
                found.append((stored, shard_map.slots_of(group), mine[0] == members[0]))
        return found


def _new_replica(group: GroupId, replica: ReplicaId, members: tuple[ReplicaId, ...]) -> StoredReplica:
    return StoredReplica(
        ReplicaIdentity(group, replica), Membership(incoming=members), HardState(), Index(0), _FIRST_EPOCH
    )
