"""Operations that a node passes on to the node that leads their group, and the answers it owes for them.

To other nodes a connection has a number that no other boot of this node uses: they may hold what was passed
on for as long as a lock is waited for, and answer it after this node has started anew, when its connections
are others, and are counted from 0 again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from primitives.errors import Code
from primitives.ids import GroupId, NodeId
from primitives.records import ANSWER_HEADER, U32
from router.frames import FrameKind, encode_control
from shards.outbox import Outbox
from shards.peerwire import encode_forward_section
from shards.ports import Origin, Priority

CONNECTION_BITS: Final = 30
"""Of a number: so many connections there may be in a boot. The bits above tell the boot."""


class Forwarding:
    """What is under way through other nodes, for this node's own connections."""

    __slots__ = ("_base", "_told", "_under_way", "leaders", "up")

    def __init__(self, boot_id: bytes) -> None:
        self._base: Final = int.from_bytes(boot_id[:4], "big") << CONNECTION_BITS
        self.up: dict[NodeId, bytes] = {}
        """Connected peers with their boot ids."""
        self.leaders: dict[GroupId, NodeId] = {}
        """Who is said to lead groups that have no replica here."""
        self._under_way: dict[NodeId, dict[tuple[int, int], tuple[Origin, GroupId]]] = {}
        self._told: dict[int, dict[GroupId, NodeId]] = {}

    def outside(self, connection: int) -> int:
        """The number of a connection of this boot, or below zero of a part of the node, for other nodes."""
        return connection + self._base if connection >= 0 else connection - self._base

    def inside(self, number: int) -> int | None:
        """The inverse of :meth:`outside`; None for a number of another boot."""
        connection = abs(number) - self._base
        if not 0 <= connection < 1 << CONNECTION_BITS:
            return None
        return connection if number >= 0 else -connection

    def forward(self, origin: Origin, group: GroupId, record: bytes, leader: NodeId, out: Outbox) -> bool:
        """Passes an operation on. False if the leader's node is not connected."""
        if leader not in self.up:
            return False
        connection, request = origin.connection, origin.request
        self._under_way.setdefault(leader, {})[connection, request] = (origin, group)
        passed = encode_forward_section(self.outside(connection), request, group, record)
        out.peer(leader, Priority.LOG, passed)
        if connection >= 0:
            told = self._told.setdefault(connection, {})
            if told.get(group) != leader:
                told[group] = leader
                out.client(connection, encode_control(FrameKind.LEADERS, [[group, leader]]))
        return True

    def answered(self, node: NodeId, connection: int, request: int, answer: bytes) -> Origin | None:
        """An answer came back: who is owed it, unless that was settled before. One that names another leader
        is remembered, for the next operation on that group."""
        own = self.inside(connection)
        found = None if own is None else self._under_way.get(node, {}).pop((own, request), None)
        if found is None:
            return None
        origin, group = found
        if answer[0] == Code.NOT_LEADER and len(answer) == ANSWER_HEADER.size + U32.size:
            self.leaders[group] = NodeId(U32.unpack_from(answer, ANSWER_HEADER.size)[0])
        elif self.leaders.get(group) == node and answer[0] >= Code.NOT_LEADER:
            del self.leaders[group]
        return origin

    def way(self, group: GroupId, replicas: Iterable[NodeId]) -> NodeId | None:
        """The connected node to pass an operation on to whose group has no replica here: its leader's as far
        as that is known, else any of its ``replicas``', which tells who leads."""
        leader = self.leaders.get(group)
        if leader in self.up:
            return leader
        return next((node for node in replicas if node in self.up), None)

    def down(self, node: NodeId) -> list[Origin]:
        """A peer's connection is gone: whose answers went with it."""
        self.up.pop(node, None)
        return [origin for origin, _ in self._under_way.pop(node, {}).values()]

    def closed(self, connection: int) -> None:
        """A client's connection is gone."""
        self._told.pop(connection, None)
        for under_way in self._under_way.values():
            for key in [key for key in under_way if key[0] == connection]:
                del under_way[key]
