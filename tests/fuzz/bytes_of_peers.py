"""Targets: what nodes read from each other."""

from __future__ import annotations

from typing import Any, Final

from primitives.errors import ProtocolError
from primitives.ids import GroupId
from raftgroup.membership import BadMembership, decode_membership, encode_membership
from raftgroup.types import Entry, EntryKind, Index, Membership, Message, MessageKind, ReplicaId, Term
from shards.founding import Statement, decode_statement, encode_statement
from shards.handshake import (
    Hello,
    Refusal,
    decode_hello,
    decode_refused,
    encode_hello,
    encode_refused,
    objection,
)
from shards.peerwire import (
    SECTION_HEADER,
    PeerFrameKind,
    SectionKind,
    decode_answer_section,
    decode_beats,
    decode_forward_section,
    decode_raft,
    decode_read_ask,
    decode_read_reply,
    encode_answer_section,
    encode_beat,
    encode_forward_section,
    encode_raft,
    encode_read_ask,
    encode_read_reply,
    section,
    sections,
)
from shards.snapshotwire import (
    Part,
    Reply,
    decode_end,
    decode_head,
    decode_reply,
    decode_rows,
    decode_snapshot,
    encode_end,
    encode_head,
    encode_reply,
    encode_row,
    encode_snapshot,
)
from tests.fuzz.target import read, same, target

_AT: Final = SECTION_HEADER.size
_MEMBERS: Final = Membership(tuple(ReplicaId(n) for n in (1, 2, 3)))
_APPEND: Final = Message(
    MessageKind.APPEND, ReplicaId(1), ReplicaId(2), Term(3), index=Index(7), log_term=Term(2),
    entries=[
        Entry(Term(3), Index(8), EntryKind.NORMAL, b"data"), Entry(Term(3), Index(9), EntryKind.EMPTY, b""),
    ],
)  # fmt: skip
_BEAT: Final = Message(MessageKind.HEARTBEAT, ReplicaId(1), ReplicaId(2), Term(3), commit=Index(5), clock=99)
_PART: Final = Message(
    MessageKind.SNAPSHOT, ReplicaId(1), ReplicaId(2), Term(3), index=Index(7), log_term=Term(2), context=5
)


@target(
    "peer-sections", "sections of a frame between nodes: consensus, operations passed on, read indexes",
    (
        encode_raft(GroupId(1), _APPEND), section(SectionKind.HEARTBEATS, encode_beat(GroupId(1), _BEAT) * 2),
        encode_forward_section(3, 4, GroupId(1), b"record") + encode_answer_section(-3, 4, b"answer"),
        encode_read_ask(GroupId(1), 5) + encode_read_reply(GroupId(1), 5, Index(9)),
    ),
)  # fmt: skip
def peer_sections(data: bytes) -> None:
    """Each section is read, or refused by a ProtocolError; what is read is written again to the byte."""
    found = read(lambda body: list(sections(body)), data, ProtocolError)
    if found is not None:
        same(data, b"".join(section(kind, part) for kind, part in found), "sections")
    for part in (data, *(part for _, part in found or ())):
        raft = read(decode_raft, part, ProtocolError)
        if raft is not None:
            same(part, encode_raft(*raft)[_AT:], "a consensus message")
        beats = read(lambda body: list(decode_beats(body)), part, ProtocolError)
        if beats is not None:
            same(part, b"".join(encode_beat(*beat) for beat in beats), "heartbeats")
        _simple(part)


def _simple(part: bytes) -> None:
    pairs: tuple[tuple[Any, Any], ...] = (
        (decode_forward_section, encode_forward_section), (decode_answer_section, encode_answer_section),
        (decode_read_ask, encode_read_ask), (decode_read_reply, encode_read_reply),
    )  # fmt: skip
    for decode, encode in pairs:
        found = read(decode, part, ProtocolError)
        if found is not None:
            same(part, encode(*found)[_AT:], decode.__name__)


@target(
    "snapshot-parts", "parts of snapshots, and what their receivers answer",
    (
        encode_snapshot(GroupId(1), _PART, encode_head(_MEMBERS))[_AT:],
        encode_snapshot(
            GroupId(1), _PART, bytes((Part.ROWS,)) + encode_row(b"k", b"v") + encode_row(b"l", b"")
        )[_AT:],
        encode_snapshot(GroupId(1), _PART, encode_end(2, b"d" * 16))[_AT:],
        encode_reply(Reply(GroupId(1), ReplicaId(2), 5, 2, 0, "no"))[_AT:], encode_head(_MEMBERS),
        encode_head(_MEMBERS, 9),
    ),
)  # fmt: skip
def snapshot_parts(data: bytes) -> None:
    """Each part is read, or refused by a ProtocolError (an answer's text by a ValueError)."""
    found = read(decode_snapshot, data, ProtocolError)
    if found is not None:
        same(data, encode_snapshot(*found)[_AT:], "a part")
    part = data if found is None else found[2]
    head = read(decode_head, part, ProtocolError)
    if head is not None and head.membership.incoming:
        same(head, decode_head(encode_head(head.membership, head.version)), "a head")
    rows = read(lambda body: list(decode_rows(body)), part, ProtocolError)
    if rows is not None and part:
        same(part[1:], b"".join(encode_row(*row) for row in rows), "rows")
    end = read(decode_end, part, ProtocolError)
    if end is not None:
        same(end, decode_end(encode_end(*end)), "an end")
    reply = read(decode_reply, data, (ProtocolError, ValueError))  # type: ignore[arg-type]  # two of them
    if reply is not None:
        same(data, encode_reply(reply)[_AT:], "an answer")
    members = read(decode_membership, data, BadMembership)
    if members is not None:
        same(data, encode_membership(members), "a membership")


_HELLO: Final = Hello(1, 0, "n1", "n2", b"s" * 16, b"b" * 16, b"")
_STATEMENT: Final = Statement(
    "n1", b"s" * 16, "h:1", "h:2", (("n1", "h:2"), ("n2", "i:2")), 4, 2,
    (("n1", b"s" * 16), ("n2", b"t" * 16)), False, (), 0,
)  # fmt: skip


@target(
    "handshake", "the greetings of two nodes, and what each was started with",
    (
        encode_hello(PeerFrameKind.HELLO, _HELLO)[8:], encode_refused(Refusal("part", "no\n"))[8:],
        encode_statement(_STATEMENT)[8:],
    ),
)  # fmt: skip
def handshake(data: bytes) -> None:
    """Each frame is read, or refused by a ProtocolError; a greeting may be objected to."""
    hello = read(decode_hello, data, ProtocolError)
    if hello is not None:
        same(hello, decode_hello(encode_hello(PeerFrameKind.HELLO, hello)[8:]), "a greeting")
        for dialled in (True, False):
            objection(_HELLO, hello, dialled=dialled)
    refusal = read(decode_refused, data, ProtocolError)
    if refusal is not None:
        same(refusal, decode_refused(encode_refused(refusal)[8:]), "a refusal")
    statement = read(decode_statement, data, ProtocolError)
    if statement is not None:
        same(statement, decode_statement(encode_statement(statement)[8:]), "a statement")

