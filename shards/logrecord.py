"""The encoded form of a log entry: the same bytes in the store and on the wire to peers.

``crc32c u32 | term u64 | index u64 | kind u8 | data``, big-endian; the checksum covers all that follows it.
An entry is encoded once, where it is first stored or sent; the bytes stay with it on ``Entry.record``.
"""

from __future__ import annotations

import struct
from typing import Final

from raftgroup.types import Entry, EntryKind, Term
from shards.checksum import crc32c
from shards.ports import StoreDamaged

_CRC_BYTES: Final = 4
_HEAD: Final = struct.Struct(">QQB")
_WHOLE: Final = struct.Struct(">IQQB")
RECORD_OVERHEAD_BYTES: Final = _WHOLE.size
"""Bytes of a record besides its entry's data."""

_KIND_MAX: Final = EntryKind.MEMBERSHIP


def encode_record(entry: Entry) -> bytes:
    """The entry's record, encoded on first use and kept on ``entry.record``."""
    record = entry.record
    if record is None:
        covered = _HEAD.pack(entry.term, entry.index, entry.kind) + entry.data
        record = entry.record = crc32c(covered).to_bytes(_CRC_BYTES, "big") + covered
    return record


def decode_record(record: bytes) -> Entry:
    """The entry of a record, with ``record`` kept on it.

    Raises :class:`StoreDamaged` when the bytes are too short, fail their checksum, or have an unknown kind.
    """
    if len(record) < RECORD_OVERHEAD_BYTES:
        raise StoreDamaged(f"a log record of {len(record)} bytes is too short to be one")
    crc: int
    kind: int
    crc, term, index, kind = _WHOLE.unpack_from(record)
    if crc32c(record[_CRC_BYTES:]) != crc:
        raise StoreDamaged(f"the log record that says term {term}, index {index} fails its checksum")
    if kind > _KIND_MAX:
        raise StoreDamaged(f"the log record of term {term}, index {index} has an unknown kind {kind}")
    return Entry(term, index, kind, record[RECORD_OVERHEAD_BYTES:], record)


def record_term(record: bytes) -> Term:
    """A record's term, unchecked: for bytes whose checksum was verified before."""
    return Term(_WHOLE.unpack_from(record)[1])
