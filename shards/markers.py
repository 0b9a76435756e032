"""Markers: one record in each group's log, at which every replica hashes its state.

The node that is asked proposes a marker to each group; its nonce names that node and the request, so every
replica knows whom to tell its hash when it is done.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from primitives.codec import pack, unpack
from primitives.ids import GroupId, NodeId
from primitives.records import Marker, encode_marker
from shards.core import Core
from shards.hashing import StateHash
from shards.outbox import INTERNAL
from shards.peerwire import SectionKind, section
from shards.ports import Origin, Priority

_NONCE: Final = struct.Struct(">I16sQ")


class Request:
    """One client's question for hashes."""

    __slots__ = ("connection", "deadline_ms", "hashes", "request", "wanted")

    def __init__(
        self, connection: int, request: int, deadline_ms: int, wanted: set[tuple[GroupId, NodeId]]
    ) -> None:
        self.connection = connection
        self.request = request
        self.deadline_ms = deadline_ms
        self.wanted = wanted
        """(group, node) of each replica that has not told yet."""
        self.hashes: list[dict[str, Any]] = []


class Markers:
    """Requests for hashes that this node answers, and hashes that it owes others."""

    __slots__ = ("_engine", "_next", "_requests")

    def __init__(self, engine: Core) -> None:
        self._engine = engine
        self._requests: dict[int, Request] = {}
        self._next = 0

    def ask(self, now_ms: int, connection: int, request: int) -> None:
        """Proposes a marker to every group; answered through the engine once all replicas told."""
        engine = self._engine
        shard_map = engine.shard_map
        wanted: set[tuple[GroupId, NodeId]] = set()
        if shard_map is not None:
            wanted = {(group, node) for group, info in shard_map.groups.items() for _, node in info.replicas}
        deadline_ms = now_ms + engine.settings.hashes_timeout_ms
        self._next += 1
        self._requests[self._next] = Request(connection, request, deadline_ms, wanted)
        nonce = _NONCE.pack(engine.node, engine.boot_id, self._next)
        for group in sorted({group for group, _ in wanted}):
            engine.route(Origin(engine.node, INTERNAL, 0), group, encode_marker(Marker(nonce)))

    def hashed(self, group: GroupId, state: StateHash) -> None:
        """A replica here has its hash: tells the node that asked."""
        if len(state.nonce) != _NONCE.size:
            return
        node = NodeId(_NONCE.unpack(state.nonce)[0])
        told = [state.nonce, group, self._engine.node, state.revision, state.digest, state.rows]
        if node == self._engine.node:
            self.told(told)
        elif node in self._engine.forwarding.up:
            self._engine.out.peer(node, Priority.LOG, section(SectionKind.HASH, pack(told)))

    def on_section(self, payload: bytes) -> None:
        """Another node tells a hash."""
        self.told(unpack(payload))

    def told(self, told: list[Any]) -> None:
        """A replica's hash is known."""
        nonce, group, node, revision, digest, rows = told
        _, boot_id, number = _NONCE.unpack(nonce)
        request = self._requests.get(number)
        if request is None or boot_id != self._engine.boot_id or (group, node) not in request.wanted:
            return
        request.wanted.discard((group, node))
        request.hashes.append(
            {"group": group, "node": node, "revision": revision, "hash": digest.hex(), "rows": rows}
        )

    def tick(self, now_ms: int) -> None:
        """Answers requests that are complete, or out of time."""
        for number, request in list(self._requests.items()):
            if not request.wanted or now_ms >= request.deadline_ms:
                del self._requests[number]
                hashes = sorted(request.hashes, key=lambda told: (told["group"], told["node"]))
                missing = [[group, node] for group, node in sorted(request.wanted)]
                self._engine.answer_status(request.connection, request.request, hashes, missing)
