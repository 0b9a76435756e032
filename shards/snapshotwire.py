"""The bytes of snapshots between nodes: what a replica's state is sent as, and what its receiver answers.

A transfer is a row of parts, numbered from 0: a head, parts with rows, and an end with the hash of all rows'
bytes. Each is a SNAPSHOT section: a consensus message of kind SNAPSHOT (``index`` and ``log_term`` are those
of the snapshot's last entry, ``context`` the transfer, ``hint`` the part's number) and the part behind it:

    head   ``0 u8 | version u16 | membership``
    rows   ``1 u8 | rows``, each ``key length u32 | value length u32 | key | value``, in the order of keys
    end    ``2 u8 | rows u64 | XXH3-128 of the rows of all parts``

The receiver answers with SNAPSHOT_REPLY sections. All integers are big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from primitives.errors import ProtocolError
from primitives.ids import GroupId
from raftgroup.membership import BadMembership, decode_membership, encode_membership
from raftgroup.types import Membership, Message, MessageKind, ReplicaId
from shards.peerwire import RAFT_BYTES, SectionKind, decode_raft, encode_raft, section

SNAPSHOT_VERSION: Final = 1
"""Of what a snapshot's rows mean. One up when an older node could not make use of them."""


class Part:
    """Kinds of parts. Never renumber."""

    HEAD: Final = 0
    ROWS: Final = 1
    END: Final = 2


class Taken:
    """What a receiver answers. Never renumber."""

    GOING_ON: Final = 0
    """``number``: the part that is expected next; all before it were taken."""
    INSTALLED: Final = 1
    """The state is there, durably, or a later one was before."""
    REFUSED: Final = 2
    """Not with this snapshot, for the reason that the text gives."""
    BUSY: Final = 3
    """Too many at once: later."""
    UNKNOWN: Final = 4
    """The transfer is none that was begun here: begin anew."""


class Reply(NamedTuple):
    """A receiver's answer."""

    group: GroupId
    replica: ReplicaId
    """The receiver."""
    transfer: int
    taken: int
    number: int
    text: str = ""


class Head(NamedTuple):
    """What stands before the rows."""

    version: int
    membership: Membership


class End(NamedTuple):
    """What stands behind them."""

    rows: int
    digest: bytes


_HEAD: Final = struct.Struct(">BH")
_ROW: Final = struct.Struct(">II")
_END: Final = struct.Struct(">BQ16s")
_REPLY: Final = struct.Struct(">IQQBQ")
ROW_OVERHEAD_BYTES: Final = _ROW.size


def encode_head(membership: Membership, version: int = SNAPSHOT_VERSION) -> bytes:
    """The first part."""
    return _HEAD.pack(Part.HEAD, version) + encode_membership(membership)


def encode_row(key: bytes, value: bytes) -> bytes:
    """A row, as it stands in a part."""
    return _ROW.pack(len(key), len(value)) + key + value


def encode_end(rows: int, digest: bytes) -> bytes:
    """The last part."""
    return _END.pack(Part.END, rows, digest)


def decode_head(part: bytes) -> Head:
    """The inverse of :func:`encode_head`. Of another version nothing but its number is read. Raises
    :class:`ProtocolError`."""
    try:
        _, version = _HEAD.unpack_from(part)
        if version != SNAPSHOT_VERSION:
            return Head(version, Membership(()))
        return Head(version, decode_membership(part[_HEAD.size :]))
    except (struct.error, BadMembership) as error:
        raise ProtocolError(f"a snapshot's head: {error}") from None


def decode_rows(part: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The rows of a part of rows. Raises :class:`ProtocolError`."""
    at, end = 1, len(part)
    while at < end:
        try:
            key_size, value_size = _ROW.unpack_from(part, at)
        except struct.error:
            raise ProtocolError("a snapshot's row is cut off") from None
        at += 8
        middle, stop = at + key_size, at + key_size + value_size
        if stop > end:
            raise ProtocolError("a snapshot's row runs beyond its part")
        yield part[at:middle], part[middle:stop]
        at = stop


def decode_end(part: bytes) -> End:
    """The inverse of :func:`encode_end`. Raises :class:`ProtocolError`."""
    try:
        _, rows, digest = _END.unpack(part)
    except struct.error:
        raise ProtocolError(f"a snapshot's end of {len(part)} bytes") from None
    return End(rows, digest)


def encode_snapshot(group: GroupId, message: Message, part: bytes) -> bytes:
    """The SNAPSHOT section of a part."""
    return section(SectionKind.SNAPSHOT, encode_raft(group, message)[-RAFT_BYTES:] + part)


def decode_snapshot(payload: bytes) -> tuple[GroupId, Message, bytes]:
    """Group, message and part of a SNAPSHOT section. Raises :class:`ProtocolError`."""
    group, message = decode_raft(payload[:RAFT_BYTES])
    part = payload[RAFT_BYTES:]
    if message.kind != MessageKind.SNAPSHOT or not part or part[0] > Part.END:
        raise ProtocolError("a snapshot's part of an unknown form")
    return group, message, part


def encode_reply(reply: Reply) -> bytes:
    """The SNAPSHOT_REPLY section of an answer."""
    *numbers, text = reply
    return section(SectionKind.SNAPSHOT_REPLY, _REPLY.pack(*numbers) + text.encode())


def decode_reply(payload: bytes) -> Reply:
    """The answer of a SNAPSHOT_REPLY section. Raises :class:`ProtocolError`, and ``UnicodeDecodeError``, a
    ``ValueError``."""
    try:
        group, replica, transfer, taken, number = _REPLY.unpack_from(payload)
    except struct.error:
        raise ProtocolError("an answer to a snapshot is cut off") from None
    return Reply(
        GroupId(group), ReplicaId(replica), transfer, taken, number, payload[_REPLY.size :].decode()
    )
