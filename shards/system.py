"""The machine of group 0: the cluster's identity, its nodes, its groups and the versioned slot table.

Every change is an internal record, and each is idempotent, so that nodes propose what they want to see until
it shows. Replica and group ids are counters here: none is ever used twice.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from primitives.codec import pack, unpack
from primitives.errors import Code
from primitives.ids import GROUP_SLOT, SLOTS, SYSTEM_GROUP, GroupId, NodeId, PrimitiveId, Revision
from primitives.machine import OK, Context, Machine, Result, TableView, View
from primitives.records import U32, Internal, Query, Read, Type, encode_internal
from raftgroup.types import ReplicaId
from router.ring import rebalance
from router.shardmap import GroupInfo, NodeInfo, ShardMap

SYSTEM_ID: Final = PrimitiveId(GROUP_SLOT, Revision(0))

CLUSTER: Final = 0
"""Table of the cluster's own facts: one row."""
NODES: Final = 1
GROUPS: Final = 2
SLOT_TABLE: Final = 3
"""Rows of ``SLOTS_A_ROW`` slots: group and epoch of each, 4 bytes each."""
SLOTS_A_ROW: Final = 1024
_FACTS: Final = b"facts"


class SystemOp:
    """Operations on the system machine. Never renumber."""

    FOUND: Final = 1
    NODE: Final = 2
    MAP: Final = 16


def found_record(
    cluster_id: bytes, salt: bytes, groups: int, replicas: int, nodes: list[NodeInfo], *, together: bool
) -> bytes:
    """The record that founds a cluster: ``groups`` data groups of ``replicas`` copies on ``nodes``."""
    rows = [_node_row(node) for node in nodes]
    args = [cluster_id, salt, groups, replicas, *([True] if together else [])]
    return encode_internal(Internal(Type.SYSTEM, SystemOp.FOUND, args, pack(rows)))


def node_record(node: NodeInfo) -> bytes:
    """The record by which a node tells its present addresses."""
    return encode_internal(Internal(Type.SYSTEM, SystemOp.NODE, _node_row(node), b""))


def map_query() -> Query:
    """The question for the whole map."""
    return Query(GROUP_SLOT, 0, SYSTEM_ID, 0, Type.SYSTEM, SystemOp.MAP, Read.LINEARIZABLE, 0, [], b"")


def place(group: int, nodes: list[NodeId], replicas: int, *, together: bool) -> list[NodeId]:
    """Nodes of a founding group's replicas. The first is to lead: the nodes take turns, or, ``together``, it
    is one node for all groups, and the others take turns to follow."""
    if together:
        return nodes[:1] + _from(nodes[1:], group, replicas - 1)
    return _from(nodes, group, replicas)


def _from(nodes: list[NodeId], group: int, count: int) -> list[NodeId]:
    return [nodes[(group - 1 + at) % len(nodes)] for at in range(min(count, len(nodes)))]


class SystemMachine(Machine):
    """State of group 0."""

    TYPE: ClassVar[int] = Type.SYSTEM
    NAME: ClassVar[str] = "system"

    def apply(self, ctx: Context, op: int, args: list[Any], body: bytes) -> Result:
        """Executes an internal record."""
        if op == SystemOp.FOUND:
            return self._found(ctx, args, body)
        if op == SystemOp.NODE:
            return self._node(ctx, args)
        return Code.BAD_REQUEST, b"unknown operation"

    def query(self, view: View, op: int, args: list[Any], body: bytes) -> Result:
        """Answers with the encoded shard map; ``CONDITION`` before the cluster is founded."""
        if op != SystemOp.MAP:
            return Code.BAD_REQUEST, b"unknown operation"
        shard_map = read_map(view)
        return (Code.CONDITION, b"") if shard_map is None else (Code.OK, shard_map.encode())

    def _found(self, ctx: Context, args: list[Any], body: bytes) -> Result:
        facts = ctx.table(CLUSTER)
        if facts.get(_FACTS) is not None:
            return OK
        cluster_id, salt, group_count, replicas = args[:4]
        nodes = sorted(_node_of(row) for row in unpack(body))
        for node in nodes:
            ctx.table(NODES).put(U32.pack(node.id), pack(_node_row(node)))
        ids = [node.id for node in nodes]
        next_replica = len(ids) + 1
        group_table = ctx.table(GROUPS)
        group_table.put(U32.pack(SYSTEM_GROUP), pack([[at + 1, node] for at, node in enumerate(ids)]))
        groups = [GroupId(group) for group in range(1, group_count + 1)]
        for group in groups:
            members = []
            for node_id in place(group, ids, replicas, together=len(args) > 4):
                members.append([next_replica, node_id])
                next_replica += 1
            group_table.put(U32.pack(group), pack(members))
        owners = rebalance([None] * SLOTS, groups)
        for start in range(0, SLOTS, SLOTS_A_ROW):
            row = b"".join(U32.pack(group) + U32.pack(1) for group in owners[start : start + SLOTS_A_ROW])
            ctx.table(SLOT_TABLE).put(U32.pack(start), row)
        facts.put(_FACTS, pack([1, cluster_id, salt, next_replica, group_count + 1, replicas]))
        return OK

    def _node(self, ctx: Context, args: list[Any]) -> Result:
        node = _node_of(args)
        key = U32.pack(node.id)
        known = ctx.table(NODES).get(key)
        row = pack(_node_row(node))
        if known is None or known == row:
            return OK
        ctx.table(NODES).put(key, row)
        facts = unpack(ctx.table(CLUSTER).get(_FACTS) or b"")
        ctx.table(CLUSTER).put(_FACTS, pack([facts[0] + 1, *facts[1:]]))
        return OK


def read_map(view: View) -> ShardMap | None:
    """The shard map as the tables have it, None before the cluster is founded."""
    facts = view.view(CLUSTER).get(_FACTS)
    if facts is None:
        return None
    version, cluster_id, salt = unpack(facts)[:3]
    nodes = {NodeId(node.id): node for node in (_node_of(unpack(row)) for _, row in view.view(NODES).scan())}
    groups = {}
    for key, row in view.view(GROUPS).scan():
        group = GroupId(int.from_bytes(key, "big"))
        members = tuple((ReplicaId(replica), NodeId(node)) for replica, node in unpack(row))
        groups[group] = GroupInfo(group, members)
    owners, epochs = _slots(view.view(SLOT_TABLE))
    return ShardMap(version, cluster_id, salt, nodes, groups, owners, epochs)


def _slots(table: TableView) -> tuple[list[int], list[int]]:
    numbers: list[int] = []
    for _, row in table.scan():
        numbers.extend(int.from_bytes(row[at : at + 4], "big") for at in range(0, len(row), 4))
    return numbers[0::2], numbers[1::2]


def _node_row(node: NodeInfo) -> list[Any]:
    return [node.id, node.name, node.client_address, node.peer_address, node.store_id]


def _node_of(row: list[Any]) -> NodeInfo:
    return NodeInfo(*row)
