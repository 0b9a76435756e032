"""Operations that a node passes on to the node that leads their group, and the answers it owes for them."""

from __future__ import annotations

from primitives.ids import GroupId, NodeId
from router.frames import FrameKind, encode_control
from shards.outbox import Outbox
from shards.peerwire import encode_forward_section
from shards.ports import Origin, Priority


class Forwarding:
    """What is under way through other nodes, for this node's own connections."""

    __slots__ = ("_told", "_under_way", "up")

    def __init__(self) -> None:
        self.up: dict[NodeId, bytes] = {}
        """Connected peers with their boot ids."""
        self._under_way: dict[NodeId, dict[tuple[int, int], Origin]] = {}
        self._told: dict[int, dict[GroupId, NodeId]] = {}

    def forward(self, origin: Origin, group: GroupId, record: bytes, leader: NodeId, out: Outbox) -> bool:
        """Passes an operation on. False if the leader's node is not connected."""
        if leader not in self.up:
            return False
        connection, request = origin.connection, origin.request
        self._under_way.setdefault(leader, {})[connection, request] = origin
        out.peer(leader, Priority.LOG, encode_forward_section(connection, request, group, record))
        if connection >= 0:
            told = self._told.setdefault(connection, {})
            if told.get(group) != leader:
                told[group] = leader
                out.client(connection, encode_control(FrameKind.LEADERS, [[group, leader]]))
        return True

    def answered(self, node: NodeId, connection: int, request: int) -> Origin | None:
        """An answer came back: who is owed it, unless that was settled before."""
        return self._under_way.get(node, {}).pop((connection, request), None)

    def down(self, node: NodeId) -> list[Origin]:
        """A peer's connection is gone: whose answers went with it."""
        self.up.pop(node, None)
        return list(self._under_way.pop(node, {}).values())

    def closed(self, connection: int) -> None:
        """A client's connection is gone."""
        self._told.pop(connection, None)
        for under_way in self._under_way.values():
            for key in [key for key in under_way if key[0] == connection]:
                del under_way[key]
