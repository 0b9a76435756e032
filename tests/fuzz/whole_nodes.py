"""Targets: frames and sections that reach a whole node, and commands that reach its machines.

Whatever a client or another node sends, the engine goes on: it refuses, closes a connection, or names the
peer. Consensus messages are left out, for some that can be read contradict what is committed, and so stop a
node.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

from bench.world.clock import Heap, Seed, Trace
from bench.world.cluster import Cluster
from primitives.codec import pack, unpack
from primitives.errors import Code
from primitives.ids import GroupId, NodeId, PrimitiveId, Revision, SlotId
from primitives.records import Burst, Register, Type, encode_burst, encode_register
from primitives.registry import machines
from router.connection import Connection, Role, Welcome, encode_hello, encode_welcome
from router.frames import HEADER_BYTES, FrameKind, encode_control, encode_requests
from router.watchframes import WatchRequest, encode_watch
from shards.peerwire import (
    SectionKind,
    encode_answer_section,
    encode_forward_section,
    encode_read_ask,
    encode_read_reply,
    section,
)
from tests.fuzz.target import Misread, target
from tests.unit.local_group import Group, Session, create

_NODE: Final = NodeId(1)
_PEER: Final = NodeId(2)
_GROUP: Final = GroupId(1)
_CONSENSUS: Final = frozenset((SectionKind.RAFT, SectionKind.HEARTBEATS, SectionKind.SNAPSHOT))
_CASES_MAX: Final = 500
_ELSEWHERE: Final = GroupId(2)
"""A group without a replica on the node."""
_TO_CONNECTIONS: Final = frozenset((SectionKind.ANSWER, SectionKind.KEEPALIVE_REPLY))
"""Sections whose first 8 bytes name a connection of the node."""
NONCE: Final = b"n" * 28
"""Stands for the nonce of the marker under way."""

_REGISTER: Final = encode_register(Register(b"t" * 16, 1, 5000))
_BURST: Final = encode_burst(Burst(
    b"s" * 16, 7, SlotId(3), 1, 1, 0, PrimitiveId(SlotId(3), Revision(9)), 0, 17, 2, (), [[1], [2]],
    [b"", b""],
))  # fmt: skip
_PASSED_ON: Final = encode_requests([(4, _ELSEWHERE, _REGISTER)])[HEADER_BYTES:]
_HASHES: Final = encode_control(FrameKind.STATUS_REQUEST, [1, True])[HEADER_BYTES:]


class Stage:
    """Three nodes that have formed a cluster, and a client of the first."""

    def __init__(self) -> None:
        self.heap = Heap()
        self.cluster = Cluster(self.heap, Trace(self.heap), Seed(3), nodes=3, groups=2, replicas=2)
        for node in self.cluster.nodes:
            self.cluster.restart(node)
        if not self.heap.run_until(60_000, self.cluster.has_formed):
            raise Misread("the stage has not formed a cluster")
        self.node = self.cluster.up[_NODE]
        self.node.clients = self
        self.connection = 0
        self.received: list[bytes] = []
        """What the client was sent."""
        self.begin()

    def begin(self) -> None:
        """The client connects anew."""
        self.node.engine.client_closed(self.connection)
        self.connection += 1
        self.received.clear()
        self._end = Connection(Role.NODE)
        for _ in self._end.receive(encode_hello("someone")):
            self._end.sending(encode_welcome(Welcome(1, bytes(16), 1, bytes(16), 1)))

    def frame(self, kind: int, payload: bytes) -> None:
        """The client sends something."""
        self.node.engine.client_frame(self.connection, kind, payload)
        self.node.wake(0)

    def section(self, kind: int, payload: bytes) -> None:
        """A peer sends something."""
        self.node.engine.peer_sections(_PEER, section(kind, payload))
        self.node.wake(0)

    def run(self, length_ms: int) -> None:
        """Lets so much time go by."""
        self.heap.run_until(self.heap.now_ms + length_ms)

    def to_client(self, connection: int, frames: Sequence[bytes]) -> None:
        """As the server does: each frame is one that a node may send; what follows a refusal is dropped."""
        if connection == self.connection:
            self.received += [self._end.sending(frame) for frame in frames if self._end.is_open]

    def close_client(self, connection: int) -> None:
        """A refused client."""

    @property
    def nonce(self) -> bytes:
        """Of the marker that the node has under way."""
        engine = self.node.engine
        return struct.pack(">I16sQ", self.node.node, engine.boot_id, engine._dispatch.markers._next)


@cache
def _kept() -> list[Stage]:
    return []


@contextmanager
def _stage() -> Iterator[Stage]:
    """A stage that serves for many cases, unless one of them fails."""
    kept = _kept()
    if not kept or kept[0].connection > _CASES_MAX:
        kept[:] = [Stage()]
    stage = kept[0]
    stage.begin()
    try:
        yield stage
    except BaseException:
        kept.clear()
        raise


def _pieces(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The input as pieces: a kind, a length of two bytes, a payload."""
    at = 0
    while at + 3 <= len(data):
        end = at + 3 + int.from_bytes(data[at + 1 : at + 3], "big")
        yield data[at], data[at + 3 : end]
        at = end


def piece(kind: int, payload: bytes) -> bytes:
    """The inverse, of one piece."""
    return bytes((kind,)) + len(payload).to_bytes(2, "big") + payload


def _of_section(data: bytes) -> bytes:
    return piece(data[0], data[5:])


@target(
    "node-sections", "sections of a peer, but for consensus, as a whole node takes them",
    (
        _of_section(encode_forward_section(3, 4, _GROUP, encode_register(Register(b"s" * 16, 1, 5000))))
        + _of_section(encode_answer_section(-3, 4, b"answer")),
        _of_section(encode_read_ask(_GROUP, 5)) + _of_section(encode_read_reply(_GROUP, 5, 9)),  # type: ignore[arg-type]  # an int stands for an Index
        piece(SectionKind.KEEPALIVE, pack([5, 1, b"s" * 16, [[1, 9]]])),
        piece(SectionKind.KEEPALIVE_REPLY, bytes(8) + encode_control(FrameKind.KEEPALIVE_REPLY, [1, []])),
        piece(SectionKind.HASH, pack([NONCE, 1, 2, 9, b"d" * 16, 3])),
        piece(SectionKind.ADMIN, pack([5, "session-end", 1, b"s" * 16])),
        piece(SectionKind.ADMIN, pack([5, "sessions", 1, 0, 10])),
        piece(SectionKind.ADMIN_REPLY, pack([5, 0, "", b"\xf6"])),
        piece(SectionKind.SNAPSHOT_REPLY, bytes(29) + b"no"), piece(99, b""),
    ),
)  # fmt: skip
def node_sections(data: bytes) -> None:
    """The engine goes on, whatever sections come, also for what it waits for: a client's operation was passed
    on, and its hashes are asked for."""
    pieces = [(kind, payload) for kind, payload in _pieces(data) if kind not in _CONSENSUS]
    kinds = {kind for kind, _ in pieces}
    with _stage() as stage:
        if SectionKind.ANSWER in kinds:
            stage.frame(FrameKind.OPS, _PASSED_ON)
        if SectionKind.HASH in kinds:
            stage.frame(FrameKind.STATUS_REQUEST, _HASHES)
        stage.run(0)
        outside = stage.node.engine.forwarding.outside(stage.connection).to_bytes(8, "big", signed=True)
        for kind, payload in pieces:
            if kind in _TO_CONNECTIONS:
                payload = outside + payload[8:]
            stage.section(kind, payload.replace(NONCE, stage.nonce))
        stage.run(30)


@target(
    "node-frames", "frames of a client, as a whole node takes them",
    (
        piece(FrameKind.OPS, encode_requests([(1, 1, encode_register(Register(b"s" * 16, 1, 5000)))])[8:]),
        *(piece(kind, encode_control(kind, items)[HEADER_BYTES:]) for kind, items in (
            (FrameKind.MAP_REQUEST, []), (FrameKind.KEEPALIVE, [1, b"s" * 16, [[1, 7], [2, 8]]]),
            (FrameKind.STATUS_REQUEST, [1, True]), (FrameKind.STATUS_REQUEST, [2, False]),
            (FrameKind.CREDIT, [7, 100]), (FrameKind.UNWATCH, [7]), (FrameKind.ADMIN, [1, "replicas"]),
            (FrameKind.ADMIN, [1, "sessions", 1, 0, 10]), (FrameKind.ADMIN, [1, "group", 1]),
            (FrameKind.ADMIN, [1, "session", 1, b"s" * 16]),
            (FrameKind.ADMIN, [1, "group-transfer", 1, "n2"]),
        )),
        piece(FrameKind.OPS, encode_requests([(1, 1, _BURST), (3, 2, _BURST)])[8:]),
        piece(FrameKind.WATCH, encode_watch(WatchRequest(7, 1, 5, 1, 5, 9, 0, 20, 0, 3, b"", 99))[8:]),
    ),
)  # fmt: skip
def node_frames(data: bytes) -> None:
    """The engine goes on, whatever frames come, and answers with what the protocol allows."""
    with _stage() as stage:
        for kind, payload in _pieces(data):
            stage.frame(kind, payload)
        stage.run(30)


class _Open:
    """A group with a primitive of each type."""

    def __init__(self) -> None:
        self.group = Group()
        self.session = Session(self.group)
        self.at: dict[int, tuple[SlotId, PrimitiveId]] = {
            type_: create(self.session, f"of {type_}", type_) for type_ in _TYPES
        }


_TYPES: Final = [type_ for type_ in sorted(machines()) if type_ > Type.SYSTEM]


def _command(type_: int, op: int, args: list[Any], body: bytes = b"") -> bytes:
    return bytes((type_, op, len(body))) + body + pack(args)


def _commands() -> Iterator[bytes]:
    args: tuple[list[Any], ...] = ([], [1], [b"key"], [b"k", 1], [b"k", 1, 2], [b"k", None, 0, 5])
    for type_ in _TYPES:
        for op in range(1, 9):
            yield _command(type_, op, args[(type_ + op) % len(args)], b"body")


@target("commands", "commands and queries of every type, as its machine takes them", _commands())
def commands(data: bytes) -> None:
    """A machine that comes with the product refuses what it cannot do, and never fails. The input: type,
    operation, length of the body, body, arguments."""
    if len(data) < 3:
        return
    body, args = data[3 : 3 + data[2]], data[3 + data[2] :]
    try:
        items = unpack(args)
    except ValueError:
        return
    opened = _Open()
    type_ = data[0] if data[0] in opened.at else _TYPES[data[0] % len(_TYPES)]
    slot, primitive = opened.at[type_]
    session = opened.session
    for _ in range(2):
        at = session.send(slot, primitive, 0, type_, data[1], items, body)
        answer = session.answers.get((slot, at))
        if answer is not None and answer.code == Code.MACHINE_FAILED:
            raise Misread(f"the machine of type {type_} failed at command {data[1]} with {items!r}")
    answer = opened.group.query(slot, primitive, 0, type_, data[1], items, body)
    if answer.code == Code.MACHINE_FAILED:
        raise Misread(f"the machine of type {type_} failed at query {data[1]} with {items!r}")
