"""Records and entries come back as they went; other bytes are refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primitives.codec import pack
from primitives.errors import TooLarge
from primitives.ids import PrimitiveId, Revision, SlotId
from primitives.limits import ARGUMENT_BYTES_MAX
from primitives.records import (
    BadRecord,
    Command,
    EndSession,
    Expire,
    Fire,
    Internal,
    Marker,
    Open,
    Query,
    Record,
    Register,
    decode_answer,
    decode_entry,
    decode_query,
    decode_record,
    encode_answer,
    encode_command,
    encode_end_session,
    encode_entry,
    encode_expire,
    encode_fire,
    encode_internal,
    encode_marker,
    encode_open,
    encode_query,
    encode_register,
)

ID = b"i" * 16
PRIMITIVE = PrimitiveId(SlotId(7), Revision(1 << 62))
ENCODED: list[tuple[Record, bytes]] = [
    (command, encode_command(command))
    for command in (
        Command(ID, 1, SlotId(2), 3, 4, 3, PRIMITIVE, 5, 16, 1, (), [b"k", None, 1], b"body"),
        Command(ID, 1, SlotId(2), 3, 9, 8, PRIMITIVE, 5, 16, 1, (2, 1 << 63), [], b""),
    )
]
ENCODED += [
    (Register(ID, 2, 500), encode_register(Register(ID, 2, 500))),
    (EndSession(ID, 2), encode_end_session(EndSession(ID, 2))),
    (Expire(ID, 2), encode_expire(Expire(ID, 2))),
    (Fire(2), encode_fire(Fire(2))),
    (Marker(b"nonce"), encode_marker(Marker(b"nonce"))),
    (Open(SlotId(1), PRIMITIVE, 3, 16, Revision(4), b"c"),
     encode_open(Open(SlotId(1), PRIMITIVE, 3, 16, Revision(4), b"c"))),
    (Internal(2, 1, ["a"], b"body"), encode_internal(Internal(2, 1, ["a"], b"body"))),
]  # fmt: skip
QUERY = Query(SlotId(2), 3, PRIMITIVE, 5, 16, 1, 0, 9, [b"k"], b"body")


@pytest.mark.parametrize(("record", "data"), ENCODED)
def test_a_record_comes_back_as_it_went(record: Record, data: bytes) -> None:
    assert decode_record(data) == record
    assert type(decode_record(data)) is type(record)


def test_a_query_comes_back_as_it_went_and_is_no_record_of_the_log() -> None:
    data = encode_query(QUERY)
    assert decode_query(data) == QUERY
    with pytest.raises(BadRecord):
        decode_record(data)


@pytest.mark.parametrize("data", [encode_command(ENCODED[1][0]), encode_query(QUERY)])  # type: ignore[arg-type]  # it is one
def test_cut_records_are_refused(data: bytes) -> None:
    decode: Any = decode_query if data[0] == 16 else decode_record
    for size in range(len(data) - (4 if data[0] == 16 else 0)):
        with pytest.raises(BadRecord):
            decode(data[:size])


@given(st.binary(max_size=80))
def test_bytes_of_no_record_are_refused_and_nothing_worse(data: bytes) -> None:
    for decode in (decode_record, decode_query, decode_entry):
        try:
            decode(data)
        except BadRecord:
            continue


def test_arguments_are_bounded_where_they_are_made() -> None:
    args = [b"a" * ARGUMENT_BYTES_MAX]
    with pytest.raises(TooLarge):
        encode_query(QUERY._replace(args=args))
    with pytest.raises(TooLarge):
        encode_internal(Internal(2, 1, args, b""))


def test_arguments_over_their_bound_are_refused() -> None:
    data = pack([b"a" * ARGUMENT_BYTES_MAX])
    empty = encode_query(QUERY._replace(args=[], body=b""))
    with pytest.raises(BadRecord, match="large"):
        decode_query(empty[:-3] + len(data).to_bytes(2, "big") + data)


@given(st.integers(0, (1 << 64) - 1), st.lists(st.binary(max_size=20)))
def test_an_entry_comes_back_as_it_went(time_ms: int, records: list[bytes]) -> None:
    assert decode_entry(encode_entry(time_ms, records)) == (time_ms, records)


def test_an_answer_comes_back_as_it_went() -> None:
    assert decode_answer(encode_answer(3, 1 << 62, b"result")) == (3, 1 << 62, b"result")
