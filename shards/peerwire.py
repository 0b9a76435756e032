"""What nodes say to each other: frames, the sections in them, and the bytes of consensus messages.

A frame is a header (``length u32 | kind u8 | flags u8 | reserved u16``, both zero; the length is the
payload's, at most ``PEER_FRAME_BYTES_MAX``) and its payload. A SECTIONS frame's payload is what one round of
the engine has for this peer: sections, each ``kind u8 | length u32 | payload``. All integers are big-endian.

Whatever comes in is checked in full, log records by their checksums too: bytes that the protocol does not
allow raise :class:`ProtocolError`, and the connection they came on is to be closed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from primitives.errors import ProtocolError
from primitives.ids import GroupId
from primitives.limits import PEER_FRAME_BYTES_MAX
from primitives.records import ANSWER_HEADER, u32_at
from raftgroup.types import Entry, Index, Message, MessageKind, ReplicaId
from router.frames import encode_frame
from shards.logrecord import decode_record, encode_record
from shards.ports import StoreDamaged


class PeerFrameKind:
    """Kinds of frames between nodes. Never renumber."""

    HELLO: Final = 1
    """Dialler to acceptor, first frame."""
    WELCOME: Final = 2
    """Acceptor to dialler, in answer."""
    REFUSED: Final = 3
    """Either way, last frame: a code and a text."""
    SECTIONS: Final = 4
    FOUNDING: Final = 5
    PING: Final = 6
    """Says that its sender lives, when it has nothing else to say."""


class SectionKind:
    """Kinds of sections. Never renumber."""

    RAFT: Final = 1
    """One message between replicas of a group."""
    FORWARD: Final = 2
    """A client's operation, passed on to the node that leads its group."""
    ANSWER: Final = 3
    """The answer to a FORWARD."""
    KEEPALIVE: Final = 4
    KEEPALIVE_REPLY: Final = 5
    HASH: Final = 6
    HEARTBEATS: Final = 7
    """Heartbeats and replies to them, of any number of groups, each whole: what is idle costs one section."""
    SNAPSHOT: Final = 9
    """A part of a replica's state, for one that lacks it; see ``snapshotwire``."""
    SNAPSHOT_REPLY: Final = 10
    READ_ASK: Final = 16
    """A replica asks its group's leader how far the group has come, for a round of its own."""
    READ_REPLY: Final = 17
    """The answer: the commit index of a ReadIndex round that was begun after the question."""
    ADMIN: Final = 18
    """An administrator's request, passed on to the node that leads its group: [number, operation, group,
    arguments…]."""
    ADMIN_REPLY: Final = 19
    """The reply to an ADMIN: [number, code, text, encoded value]."""


SECTION_HEADER: Final = struct.Struct(">BI")
SECTION_HEADER_BYTES: Final = 5
_RAFT: Final = struct.Struct(">IBB9QI")
_RAFT_SECTION: Final = struct.Struct(">BI" + "IBB9QI")
_RECEIVER_AT: Final = struct.calcsize(">BI" + "IBBQ")
RAFT_BYTES: Final = _RAFT.size
"""Bytes of a consensus message without entries."""
_FORWARD: Final = struct.Struct(">qQI")
_FORWARD_SECTION: Final = struct.Struct(">BI" + "qQI")
_ANSWER: Final = struct.Struct(">qQ")
_ANSWER_SECTION: Final = struct.Struct(">BI" + "qQ")
_READ_ASK: Final = struct.Struct(">IQ")
_READ_REPLY: Final = struct.Struct(">IQQ")
BEATS: Final = frozenset((MessageKind.HEARTBEAT, MessageKind.HEARTBEAT_REPLY))
"""Kinds of messages that leave together, in one section for all groups."""
_FIRST_KIND: Final = MessageKind.PRE_VOTE
_LAST_KIND: Final = MessageKind.SNAPSHOT
_NO_ENTRIES: Final[tuple[Entry, ...]] = ()


def frame(kind: int, payload: bytes) -> bytes:
    """A whole frame. Raises :class:`InvariantViolation` beyond ``PEER_FRAME_BYTES_MAX``."""
    return encode_frame(kind, payload, PEER_FRAME_BYTES_MAX)


def section(kind: int, payload: bytes) -> bytes:
    """One section."""
    return SECTION_HEADER.pack(kind, len(payload)) + payload


def sections(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """The sections of a SECTIONS frame: kind and payload of each.

    Raises :class:`ProtocolError` where one is cut off; those before it have been given out by then.
    """
    at = 0
    while at < len(payload):
        stop = section_end(payload, at)
        yield payload[at], payload[at + SECTION_HEADER_BYTES : stop]
        at = stop


def section_end(payload: bytes, at: int) -> int:
    """Where the section of a SECTIONS frame ends that begins at ``at``. Its first byte is its kind, its
    payload stands behind the header. Raises :class:`ProtocolError` where it is cut off."""
    begin = at + SECTION_HEADER_BYTES
    if begin > len(payload):
        raise ProtocolError("a section's header is cut off")
    size = u32_at(payload, at + 1)
    if begin + size > len(payload):
        raise ProtocolError(f"a section of {size} bytes runs beyond its frame")
    return begin + size


def encode_raft(group: GroupId, message: Message) -> bytes:
    """The RAFT section of a message. Entries go as their stored records, encoded at most once each."""
    entries = message.entries
    if not entries:
        return _RAFT_SECTION.pack(
            SectionKind.RAFT, _RAFT.size, group, message.kind, message.reject, message.sender,
            message.receiver, message.term, message.index, message.log_term, message.commit, message.hint,
            message.context, message.clock, 0,
        )  # fmt: skip
    parts = [b""]
    size = _RAFT.size
    for entry in entries:
        record = entry.record or encode_record(entry)
        parts.append(len(record).to_bytes(4, "big"))
        parts.append(record)
        size += 4 + len(record)
    parts[0] = _RAFT_SECTION.pack(
        SectionKind.RAFT, size, group, message.kind, message.reject, message.sender, message.receiver,
        message.term, message.index, message.log_term, message.commit, message.hint, message.context,
        message.clock, len(entries),
    )  # fmt: skip
    return b"".join(parts)


def are_alike(one: Message, other: Message) -> bool:
    """Whether two messages of a group differ in nothing but their receivers."""
    if (
        one.kind != other.kind or one.sender != other.sender or one.term != other.term
        or one.index != other.index or one.log_term != other.log_term or one.commit != other.commit
        or one.reject != other.reject or one.hint != other.hint or one.context != other.context
        or one.clock != other.clock or len(one.entries) != len(other.entries)
    ):  # fmt: skip
        return False
    return all(entry is other.entries[at] for at, entry in enumerate(one.entries))


def readdressed(section: bytes, receiver: ReplicaId) -> bytes:
    """A message's RAFT section for another receiver."""
    return section[:_RECEIVER_AT] + receiver.to_bytes(8, "big") + section[_RECEIVER_AT + 8 :]


def decode_raft(payload: bytes) -> tuple[GroupId, Message]:
    """The group and the message of a RAFT section's payload. Raises :class:`ProtocolError`, also for records
    that fail their checksums and for entries that do not follow each other."""
    return raft_at(payload, 0, len(payload))


def raft_at(data: bytes, at: int, end: int) -> tuple[GroupId, Message]:
    """The same for a payload that stands from ``at`` to ``end`` in ``data``."""
    if end - at < RAFT_BYTES:
        raise ProtocolError(f"a consensus message of {end - at} bytes")
    group: GroupId
    kind: int
    flags: int
    index: Index
    count: int
    (group, kind, flags, sender, receiver, term, index, log_term, commit, hint, context, clock,
     count) = _RAFT.unpack_from(data, at)  # fmt: skip
    if not _FIRST_KIND <= kind <= _LAST_KIND or flags > 1:
        raise ProtocolError(f"a consensus message of unknown kind {kind}, flags {flags}")
    if count:
        if kind != MessageKind.APPEND:
            raise ProtocolError(f"entries in a consensus message of kind {kind}")
        entries = _entries(data, at + RAFT_BYTES, end, index, count)
    elif end - at == RAFT_BYTES:
        entries = _NO_ENTRIES
    else:
        raise ProtocolError("bytes behind a consensus message")
    return group, Message(
        kind, sender, receiver, term, index, log_term, commit, entries, flags == 1, hint, context, clock
    )


def encode_beat(group: GroupId, message: Message) -> bytes:
    """A row of a HEARTBEATS section: a heartbeat, or the reply to one, with all that the message has."""
    return _RAFT.pack(
        group, message.kind, message.reject, message.sender, message.receiver, message.term, message.index,
        message.log_term, message.commit, message.hint, message.context, message.clock, 0,
    )  # fmt: skip


def decode_beats(payload: bytes) -> Iterator[tuple[GroupId, Message]]:
    """The groups and messages of a HEARTBEATS section's payload. Raises :class:`ProtocolError`; what comes
    before the fault has been given out by then."""
    if len(payload) % _RAFT.size:
        raise ProtocolError(f"heartbeats of {len(payload)} bytes")
    for (group, kind, flags, sender, receiver, term, index, log_term, commit, hint, context, clock,
         count) in _RAFT.iter_unpack(payload):  # fmt: skip
        if kind not in BEATS or flags > 1 or count:
            raise ProtocolError(f"a message of kind {kind}, flags {flags}, among heartbeats")
        yield group, Message(
            kind, sender, receiver, term, index, log_term, commit, _NO_ENTRIES, flags == 1, hint, context,
            clock,
        )  # fmt: skip


def _entries(data: bytes, at: int, end: int, previous: int, count: int) -> tuple[Entry, ...]:
    found: list[Entry] = []
    try:
        for expected in range(previous + 1, previous + 1 + count):
            begin = at + 4
            at = begin + u32_at(data, at) if begin <= end else begin
            if at > end:
                raise ProtocolError("a consensus message's entries are cut off")
            entry = decode_record(data[begin:at])
            if entry.index != expected:
                raise ProtocolError(f"entry {entry.index} where {expected} should be")
            found.append(entry)
    except StoreDamaged as error:
        raise ProtocolError(f"from the wire: {error}") from None
    if at != end:
        raise ProtocolError("a consensus message's entries do not fill it")
    return tuple(found)


def encode_forward_section(connection: int, request: int, group: GroupId, record: bytes) -> bytes:
    """The FORWARD section of a client's operation; ``connection`` and ``request`` come back in its answer."""
    size = _FORWARD.size + len(record)
    return _FORWARD_SECTION.pack(SectionKind.FORWARD, size, connection, request, group) + record


def decode_forward_section(payload: bytes) -> tuple[int, int, GroupId, bytes]:
    """Connection, request, group and record of a FORWARD section. Raises :class:`ProtocolError`."""
    try:
        connection, request, group = _FORWARD.unpack_from(payload)
    except struct.error:
        raise ProtocolError("an operation passed on is cut off") from None
    return connection, request, group, payload[_FORWARD.size :]


def encode_answer_section(connection: int, request: int, answer: bytes) -> bytes:
    """The ANSWER section for an operation that was passed on."""
    return _ANSWER_SECTION.pack(SectionKind.ANSWER, _ANSWER.size + len(answer), connection, request) + answer


def decode_answer_section(payload: bytes) -> tuple[int, int, bytes]:
    """Connection, request and answer of an ANSWER section. Raises :class:`ProtocolError`."""
    if len(payload) < _ANSWER.size + ANSWER_HEADER.size:
        raise ProtocolError("an answer passed back is cut off")
    connection, request = _ANSWER.unpack_from(payload)
    return connection, request, payload[_ANSWER.size :]


def encode_read_ask(group: GroupId, number: int) -> bytes:
    """The READ_ASK section for a replica's round ``number``."""
    return section(SectionKind.READ_ASK, _READ_ASK.pack(group, number))


def decode_read_ask(payload: bytes) -> tuple[GroupId, int]:
    """Group and round of a READ_ASK section. Raises :class:`ProtocolError`."""
    if len(payload) != _READ_ASK.size:
        raise ProtocolError(f"a question for the read index of {len(payload)} bytes")
    group, number = _READ_ASK.unpack(payload)
    return GroupId(group), number


def encode_read_reply(group: GroupId, number: int, index: Index) -> bytes:
    """The READ_REPLY section: nothing beyond ``index`` was committed when the round was asked for."""
    return section(SectionKind.READ_REPLY, _READ_REPLY.pack(group, number, index))


def decode_read_reply(payload: bytes) -> tuple[GroupId, int, Index]:
    """Group, round and index of a READ_REPLY section. Raises :class:`ProtocolError`."""
    if len(payload) != _READ_REPLY.size:
        raise ProtocolError(f"a read index of {len(payload)} bytes")
    group, number, index = _READ_REPLY.unpack(payload)
    return GroupId(group), number, Index(index)
