"""Log records: what goes in comes out, and what was altered is noticed."""

from __future__ import annotations

import struct

import pytest

from raftgroup.types import Entry, EntryKind, Index, Term
from shards.checksum import crc32c, crc32c_extend
from shards.logrecord import RECORD_OVERHEAD_BYTES, decode_record, encode_record, record_term
from shards.ports import StoreDamaged


def entry(data: bytes = b"hello", kind: int = EntryKind.NORMAL) -> Entry:
    return Entry(Term(7), Index(1 << 40), kind, data)


@pytest.mark.parametrize("kind", [EntryKind.NORMAL, EntryKind.EMPTY, EntryKind.MEMBERSHIP])
@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 64])
def test_record_decodes_to_the_entry_it_was_made_of(kind: int, data: bytes) -> None:
    record = encode_record(entry(data, kind))
    back = decode_record(record)
    assert (back.term, back.index, back.kind, back.data) == (7, 1 << 40, kind, data)
    assert back.record is record
    assert len(record) == RECORD_OVERHEAD_BYTES + len(data)
    assert record_term(record) == 7


def test_entry_is_encoded_once() -> None:
    one = entry()
    assert encode_record(one) is encode_record(one)


def test_layout_is_the_documented_one() -> None:
    record = encode_record(entry(b"abc"))
    body = struct.pack(">QQB", 7, 1 << 40, 0) + b"abc"
    assert record == struct.pack(">I", crc32c(body)) + body


def test_checksum_is_castagnoli() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c_extend(crc32c(b"1234"), b"56789") == 0xE3069283


def test_every_flipped_bit_is_noticed() -> None:
    record = encode_record(entry(b"data!"))
    for bit in range(len(record) * 8):
        broken = bytearray(record)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StoreDamaged):
            decode_record(bytes(broken))


def test_every_shortened_record_is_noticed() -> None:
    record = encode_record(entry(b"data!"))
    for length in range(len(record)):
        with pytest.raises(StoreDamaged):
            decode_record(record[:length])


def test_record_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(StoreDamaged, match="unknown kind"):
        decode_record(encode_record(entry(kind=9)))
