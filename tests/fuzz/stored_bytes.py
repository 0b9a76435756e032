"""Targets: values and records, which clients send and logs keep, and the store's own log."""

from __future__ import annotations

import struct
from typing import Any, Final

from primitives.codec import (
    decode_key,
    decode_value,
    encode_key,
    encode_value,
    pack,
    unpack,
)
from primitives.errors import TooLarge
from primitives.ids import PrimitiveId, Revision, SlotId
from primitives.records import (
    BadRecord,
    Burst,
    Close,
    Command,
    Delete,
    Deleted,
    EndSession,
    Expire,
    Fire,
    Internal,
    Marker,
    Open,
    Query,
    Register,
    decode_entry,
    decode_query,
    decode_record,
    encode_burst,
    encode_close,
    encode_command,
    encode_delete,
    encode_deleted,
    encode_end_session,
    encode_entry,
    encode_expire,
    encode_fire,
    encode_internal,
    encode_marker,
    encode_open,
    encode_query,
    encode_register,
    is_near,
)
from raftgroup.types import Entry, EntryKind, Index, Term
from shards import logrecord
from shards.checksum import crc32c
from shards.layout import ROUND_KEY, encode_round
from shards.ports import StoreDamaged
from shards.wal import BLOCK_BYTES, WalBatch, read_wal
from tests.fuzz.target import Misread, read, same, target


@target(
    "codec", "envelopes, values and keys",
    (
        pack([1, -1, 2**64 - 1, b"b", "s", None, True, 1.5, [1, [2]], {"k": 1}]),
        encode_value({"a": [1, 2.5, None, b"x"], "b": "y"}), encode_value(-(2**63)), encode_key("key"),
        encode_key(b"key"), encode_key(-5), b"\xc0\x74" + b"2024-01-01T00:00:00Z", b"quorate!",
    ),
)  # fmt: skip
def codec(data: bytes) -> None:
    """What untrusted bytes decode to is encoded and decoded again the same; keys to the byte."""
    items = read(unpack, data, ValueError)
    if items is not None:
        same(items, unpack(pack(items)), "an envelope")
    try:
        value = decode_value(data)
    except ValueError:
        pass
    else:
        again = encode_value(value)
        same(value, decode_value(again), "a value")
        same(again, encode_value(decode_value(again)), "a value's bytes")
    key = read(decode_key, data, ValueError)
    if key is not None:
        same(data, encode_key(key), "a key")


_COMMAND: Final = Command(
    b"s" * 16, 7, SlotId(3), 1, 5, 4, PrimitiveId(SlotId(3), Revision(9)), 0, 20, 1, (2, 3), [1, "x"], b"body"
)
_BURST: Final = Burst(*_COMMAND[:-2], [[1, "x"], [b"key"], []], [b"body", b"", b"other"])
_QUERY: Final = Query(SlotId(3), 1, PrimitiveId(SlotId(3), Revision(9)), 0, 20, 1, 3, 500, [b"k"], b"")
_ENCODERS: Final[dict[type, Any]] = {
    Command: encode_command, Burst: encode_burst, Register: encode_register, EndSession: encode_end_session,
    Expire: encode_expire, Close: encode_close, Fire: encode_fire, Marker: encode_marker, Open: encode_open,
    Internal: encode_internal, Delete: encode_delete, Deleted: encode_deleted,
}  # fmt: skip
_ID: Final = PrimitiveId(SlotId(3), Revision(9))
_RECORDS: Final = (
    encode_command(_COMMAND), encode_register(Register(b"s" * 16, 1, 5000)), encode_fire(Fire(100)),
    encode_expire(Expire(b"s" * 16, 7)), encode_close(Close(b"s" * 16, 7)), encode_marker(Marker(b"n" * 28)),
    encode_open(Open(SlotId(4), _ID, 1, 20, Revision(8), b"config")),
    encode_internal(Internal(2, 1, [1, b"x"], b"body")), encode_delete(Delete(SlotId(3), _ID, 1)),
    encode_deleted(Deleted(SlotId(3), Revision(9))), encode_end_session(EndSession(b"s" * 16, 7)),
    encode_burst(_BURST),
)  # fmt: skip


@target(
    "records", "commands, queries and all else that a group logs",
    (*_RECORDS, encode_query(_QUERY), encode_entry(1234, _RECORDS)),
)  # fmt: skip
def records(data: bytes) -> None:
    """A record, or BadRecord; what is read is written again and read the same."""
    record = read(decode_record, data, BadRecord)
    if record is not None:
        encode = _ENCODERS[type(record)]
        try:
            again = encode(record)
        except TooLarge:  # Its arguments are larger in the form that we write.
            again = None
        if again is not None:
            same(record, decode_record(again), "a record")
    query = read(decode_query, data, BadRecord)
    if query is not None:
        is_near(data)
        same(query, decode_query(encode_query(query)), "a query")
    entry = read(decode_entry, data, BadRecord)
    if entry is not None:
        same(data, encode_entry(*entry), "an entry")
        for part in entry[1]:
            read(decode_record, part, BadRecord)


_ENTRY_HEAD: Final = struct.Struct(">QQB")


@target(
    "log-records", "stored log entries",
    (
        logrecord.encode_record(Entry(Term(3), Index(8), EntryKind.NORMAL, b"data")),
        _ENTRY_HEAD.pack(3, 8, 1) + b"data",
    ),
)  # fmt: skip
def log_records(data: bytes) -> None:
    """An entry, or StoreDamaged. With the checksum put right, everything but the kind is taken."""
    for record in (data, struct.pack(">I", crc32c(data)) + data):
        entry = read(logrecord.decode_record, record, StoreDamaged)
        if entry is not None:
            plain = Entry(entry.term, entry.index, entry.kind, entry.data)
            same(record, logrecord.encode_record(plain), "it")
            same(entry.term, logrecord.record_term(record), "its term")
    if len(data) >= _ENTRY_HEAD.size and data[16] <= EntryKind.MEMBERSHIP and entry is None:
        raise Misread("a record with a right checksum is refused")


def wal_record(kind: int, payload: bytes) -> bytes:
    """A record of the store's log, with its checksum."""
    body = bytes((kind,)) + payload
    crc = crc32c(body)
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return struct.pack("<IH", masked, len(payload)) + body


def _batch(number: int, synced: int) -> bytes:
    row = encode_round(number, synced)
    return bytes(12) + b"\x05\x01" + bytes((len(ROUND_KEY),)) + ROUND_KEY + bytes((len(row),)) + row


_WAL: Final = wal_record(1, _batch(1, 0)) + wal_record(2, _batch(2, 1)[:20]) + wal_record(
    4, _batch(2, 1)[20:]
)  # fmt: skip


@target(
    "wal", "the store's write-ahead log",
    (
        b"\x00" + _WAL, b"\x01\x01\x30" + _batch(1, 0)[:0x30], b"\x01\x01\x05" + bytes(5) + b"\x02\x02\x00",
        b"\x01" + b"\x01\xff" + bytes(12) + b"\x05" + b"\xff" * 242,
    ),
)  # fmt: skip
def wal(data: bytes) -> None:
    """Batches and faults come in the order of the file, within it. After a first byte of 1 the rest is taken
    for pieces (type, length, payload), whose records are made with right checksums."""
    if not data:
        return
    file = data[1:] if data[0] != 1 else _file_of(data[1:])
    end = 0
    for item in read_wal(file, 7):
        at = item.end if isinstance(item, WalBatch) else item.offset
        if not 0 <= at <= len(file):
            raise Misread(f"{item} is not within {len(file)} bytes")
        if isinstance(item, WalBatch):
            if at <= end:
                raise Misread(f"{item} does not stand behind {end}")
            end = at


def _file_of(script: bytes) -> bytes:
    parts: list[bytes] = []
    size = at = 0
    while at + 2 <= len(script):
        kind, length = script[at], script[at + 1]
        payload = script[at + 2 : at + 2 + length]
        at += 2 + length
        part = payload if kind > 8 else wal_record(kind, payload)
        room = BLOCK_BYTES - size % BLOCK_BYTES
        if len(part) <= room:
            parts.append(part)
            size += len(part)
    return b"".join(parts)
