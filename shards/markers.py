"""Markers: one record in each group's log, at which every replica hashes its state.

The node that is asked proposes a marker to each group; its nonce names that node and the request, so every
replica knows whom to tell its hash when it is done. A marker that a group did not take, or whose fate is
unknown, is proposed again; of a group's markers the one of the highest revision counts. A node asks one
question at a time: whoever asks meanwhile waits for the next one, which then answers all that wait.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from primitives.codec import pack, unpack
from primitives.errors import Code, ProtocolError
from primitives.ids import GroupId, NodeId
from primitives.limits import INT_MAX
from primitives.records import Marker, encode_marker
from shards.core import Core
from shards.hashing import DIGEST_BYTES, StateHash
from shards.outbox import OPENED
from shards.peerwire import SectionKind, section
from shards.ports import Origin, Priority

MARKED: Final = OPENED - 4
"""Connection number by which a marker's proposal is answered; see :meth:`Markers.answered`."""
_NONCE: Final = struct.Struct(">I16sQ")
_GROUP_BITS: Final = 32
WAITING_MAX: Final = 16
"""Questions for hashes that one connection may have waiting."""


class Question:
    """The marker that is under way, and the requests that it answers, by connection."""

    __slots__ = ("again", "asked", "deadline_ms", "hashes", "number", "wanted")

    def __init__(
        self, number: int, asked: dict[int, list[int]], deadline_ms: int, wanted: set[tuple[GroupId, NodeId]]
    ) -> None:
        self.number = number
        self.asked = asked
        self.deadline_ms = deadline_ms
        self.wanted = wanted
        """(group, node) of each replica that has not told yet."""
        self.hashes: dict[GroupId, list[dict[str, Any]]] = {}
        """What the replicas of each group told of one marker."""
        self.again: set[GroupId] = set()
        """Groups that did not take the marker, or may not have."""


class Markers:
    """Requests for hashes that this node answers, and hashes that it owes others."""

    __slots__ = ("_engine", "_next", "_question", "_waiting")

    def __init__(self, engine: Core) -> None:
        self._engine = engine
        self._question: Question | None = None
        self._waiting: dict[int, list[int]] = {}
        """Requests for the next marker, by connection."""
        self._next = 0

    def ask(self, now_ms: int, connection: int, request: int) -> None:
        """Takes a client's question, answered through the engine once all replicas told. Raises ProtocolError
        if the client has too many waiting."""
        waiting = self._waiting.setdefault(connection, [])
        if len(waiting) >= WAITING_MAX:
            raise ProtocolError(f"more than {WAITING_MAX} questions for hashes at once")
        waiting.append(request)
        if self._question is None:
            self._begin(now_ms)

    def _begin(self, now_ms: int) -> None:
        """Proposes a marker to every group, for all that wait."""
        engine = self._engine
        shard_map = engine.shard_map
        wanted: set[tuple[GroupId, NodeId]] = set()
        if shard_map is not None:
            wanted = {(group, node) for group, info in shard_map.groups.items() for _, node in info.replicas}
        deadline_ms = now_ms + engine.settings.hashes_timeout_ms
        self._next += 1
        self._question = Question(self._next, self._waiting, deadline_ms, wanted)
        self._waiting = {}
        self._propose({group for group, _ in wanted})

    def _propose(self, groups: set[GroupId]) -> None:
        engine = self._engine
        marker = encode_marker(Marker(_NONCE.pack(engine.node, engine.boot_id, self._next)))
        for group in sorted(groups):
            engine.route(Origin(engine.node, MARKED, self._next << _GROUP_BITS | group), group, marker)

    def answered(self, request: int, answer: bytes) -> None:
        """What came of a proposal; ``request`` is the question's number and the group."""
        question = self._question
        if question is not None and question.number == request >> _GROUP_BITS and answer[0] != Code.OK:
            question.again.add(GroupId(request & (1 << _GROUP_BITS) - 1))

    def met(self, node: NodeId) -> None:
        """A peer is connected. What it hashed before found nobody to tell: it is asked again."""
        question = self._question
        if question is not None:
            question.again.update(group for group, at in question.wanted if at == node)

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
        """Another node tells a hash. Raises ProtocolError if it is none."""
        told = _told_of(payload)
        if told is None:
            raise ProtocolError("a HASH of another form")
        self.told(told)

    def told(self, told: list[Any]) -> None:
        """A replica's hash is known."""
        nonce, group, node, revision, digest, rows = told
        _, boot_id, number = _NONCE.unpack(nonce)
        question = self._question
        if question is None or question.number != number or boot_id != self._engine.boot_id:
            return
        rows_told = question.hashes.setdefault(group, [])
        if rows_told and rows_told[0]["revision"] < revision:
            # Of a later marker of this question: whoever told the earlier one tells this one, too.
            question.wanted.update((group, row["node"]) for row in rows_told)
            rows_told.clear()
        if (group, node) not in question.wanted or (rows_told and rows_told[0]["revision"] > revision):
            return
        question.wanted.discard((group, node))
        rows_told.append(
            {"group": group, "node": node, "revision": revision, "hash": digest.hex(), "rows": rows}
        )

    def tick(self, now_ms: int) -> None:
        """Answers what the marker under way was asked for if that is complete, or out of time; then begins
        the next one if anybody waits. Until then, proposes it again where that is needed."""
        question = self._question
        if question is None:
            return
        if question.wanted and now_ms < question.deadline_ms:
            again, question.again = question.again, set()
            self._propose(again)
            return
        self._question = None
        told = (row for rows in question.hashes.values() for row in rows)
        hashes = sorted(told, key=lambda row: (row["group"], row["node"]))
        missing = [[group, node] for group, node in sorted(question.wanted)]
        for connection, requests in question.asked.items():
            for request in requests:
                self._engine.answer_status(connection, request, hashes, missing)
        if self._waiting:
            self._begin(now_ms)


def _told_of(payload: bytes) -> list[Any] | None:
    """What a HASH section tells; None if it is of another form."""
    try:
        told = unpack(payload)
    except ValueError:
        return None
    if [type(item) for item in told] != [bytes, int, int, int, bytes, int]:
        return None
    nonce, group, node, revision, digest, rows = told
    if (len(nonce), len(digest)) != (_NONCE.size, DIGEST_BYTES):
        return None
    return told if all(0 <= number <= INT_MAX for number in (group, node, revision, rows)) else None
