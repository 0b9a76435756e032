"""Bursts come back as they went, and are refused if they are none; what reads answers finds those of bursts.
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primitives.codec import pack
from primitives.errors import Code, ProtocolError, TooLarge
from primitives.ids import PrimitiveId, Revision, SlotId
from primitives.limits import ARGUMENT_BYTES_MAX, BURST_COMMANDS_MAX
from primitives.records import (
    COMMAND_HEADER,
    BadRecord,
    Burst,
    Command,
    Kind,
    Type,
    command_head,
    count_answers,
    decode_burst,
    decode_command,
    decode_record,
    encode_answer,
    encode_burst,
    encode_burst_answer,
    encode_command,
    encode_run_answer,
    join_burst,
)
from router.frames import HEADER_BYTES, AnswerReader, encode_answers

ID = b"i" * 16
PRIMITIVE = PrimitiveId(SlotId(7), Revision(1 << 62))
BURST = Burst(
    ID, 1, SlotId(2), 3, 4, 3, PRIMITIVE, 5, 16, 1, (1, 1 << 63), [[b"k", None, 1], [], [b"other"]],
    [b"body", b"", b"x" * 70_000],
)  # fmt: skip
_COUNT_AT = COMMAND_HEADER.size - 2
"""Where a burst says how many commands it has."""
_TYPE_AT = struct.calcsize(">B16sQHIQQHQH")


def of(count: int) -> Burst:
    return BURST._replace(args=[[at] for at in range(count)], bodies=[bytes(at) for at in range(count)])


def changed(data: bytes, at: int, patch: bytes) -> bytes:
    return data[:at] + patch + data[at + len(patch) :]


@pytest.mark.parametrize(
    "burst", [BURST, of(1), of(2), of(BURST_COMMANDS_MAX), BURST._replace(exceptions=())]
)
def test_a_burst_comes_back_as_it_went(burst: Burst) -> None:
    data = encode_burst(burst)
    for found in (decode_burst(data), decode_record(data)):
        assert type(found) is Burst
        assert found == burst


def test_a_burst_is_laid_out_like_a_command_up_to_its_exceptions() -> None:
    command = Command(*BURST[:11], [], b"")
    burst, single = encode_burst(of(2)), encode_command(command)
    assert (burst[0], single[0]) == (Kind.BURST, Kind.COMMAND)
    assert burst[1:_COUNT_AT] == single[1:_COUNT_AT]
    assert burst[_COUNT_AT : _COUNT_AT + 2] == b"\0\2"
    assert burst[_COUNT_AT + 2 : _COUNT_AT + 18] == single[_COUNT_AT + 2 : _COUNT_AT + 18]


def test_a_burst_that_is_cut_or_too_long_is_refused() -> None:
    data = encode_burst(of(9))
    for size in range(len(data)):
        with pytest.raises(BadRecord):
            decode_record(data[:size])
    with pytest.raises(BadRecord, match="length"):
        decode_record(data + b"\0")


def test_a_burst_of_no_command_or_of_too_many_is_refused() -> None:
    data = encode_burst(of(BURST_COMMANDS_MAX))
    for count in (0, BURST_COMMANDS_MAX + 1, 0xFFFF):
        with pytest.raises(BadRecord, match=f"a burst of {count} commands"):
            decode_burst(changed(data, _COUNT_AT, count.to_bytes(2, "big")))
    empty = changed(encode_burst(of(1)), _COUNT_AT, b"\0\0")[: COMMAND_HEADER.size + 16]
    with pytest.raises(BadRecord, match="a burst of 0 commands"):
        decode_burst(empty)


@pytest.mark.parametrize("type_", [Type.SESSION, Type.CATALOG, Type.SYSTEM])
def test_a_burst_for_what_comes_one_by_one_is_refused(type_: int) -> None:
    with pytest.raises(BadRecord, match=f"type {type_}"):
        decode_record(encode_burst(of(2)._replace(type=type_)))
    assert encode_burst(of(2)._replace(type=type_))[_TYPE_AT] == type_


def test_sizes_of_a_burst_that_do_not_add_up_are_refused() -> None:
    data = encode_burst(of(3))
    sizes_at = COMMAND_HEADER.size + 16
    for at in range(sizes_at, sizes_at + 3 * 6):
        for byte in {0, 1, 0xFF, (data[at] + 1) & 0xFF} - {data[at]}:
            with pytest.raises(BadRecord):
                decode_burst(changed(data, at, bytes((byte,))))


def test_sizes_that_add_up_and_cut_arguments_elsewhere_are_refused_or_read_as_they_say() -> None:
    one, other = pack([b"abc"]), pack([b"d"])
    head = command_head(*BURST[:4])
    data = join_burst(head, *BURST[4:-2], [one, other], [b"", b""])
    at = COMMAND_HEADER.size + 16
    moved = changed(data, at, struct.pack(">HH", len(one) + 1, len(other) - 1))
    with pytest.raises(BadRecord, match="not a burst"):
        decode_burst(moved)


def test_arguments_over_their_bound_are_refused() -> None:
    with pytest.raises(TooLarge):
        encode_burst(of(2)._replace(args=[[1], [b"a" * ARGUMENT_BYTES_MAX]]))
    head = command_head(*BURST[:4])
    large = pack([b"a" * ARGUMENT_BYTES_MAX])
    with pytest.raises(BadRecord, match="large"):
        decode_burst(join_burst(head, *BURST[4:-2], [pack([1]), large], [b"", b""]))
    fits = pack([b"a" * (ARGUMENT_BYTES_MAX - 4)])
    decode_burst(join_burst(head, *BURST[4:-2], [fits] * BURST_COMMANDS_MAX, [b""] * BURST_COMMANDS_MAX))


@pytest.mark.parametrize("bad", [b"", b"\x01", b"\x81", b"\x80\x80", b"\xa0", b"\x9f\xff", b"\x81\xc0\x60"])
def test_arguments_that_are_no_envelope_spoil_the_burst(bad: bytes) -> None:
    data = join_burst(command_head(*BURST[:4]), *BURST[4:-2], [pack([1]), bad], [b"", b""])
    with pytest.raises(BadRecord, match="not a burst"):
        decode_record(data)


_HEADS = encode_burst(of(2))[: COMMAND_HEADER.size - 4]


@given(
    st.binary(max_size=200)
    | st.binary(max_size=80).map(lambda data: bytes((Kind.BURST,)) + data)
    | st.tuples(st.integers(0, 3), st.integers(0, 66), st.binary(max_size=500)).map(
        lambda drawn: _HEADS + struct.pack(">HH", drawn[0], drawn[1]) + drawn[2]
    )
)
def test_bytes_of_no_burst_are_refused_and_nothing_worse(data: bytes) -> None:
    try:
        found = decode_burst(data)
    except BadRecord:
        return
    assert 0 < len(found.args) == len(found.bodies) <= BURST_COMMANDS_MAX
    assert decode_burst(encode_burst(found)) == found


@given(st.integers(0, len(encode_burst(BURST)) - 1), st.integers(0, 255))
def test_one_wrong_byte_in_a_burst_gives_a_burst_or_bad_record(at: int, byte: int) -> None:
    data = changed(encode_burst(BURST), at, bytes((byte,)))
    try:
        record = decode_record(data)
    except BadRecord:
        return
    assert type(record) is Burst or data[0] != Kind.BURST


@given(
    st.lists(st.tuples(st.lists(st.binary(max_size=9), max_size=2), st.binary(max_size=9)), min_size=1,
             max_size=BURST_COMMANDS_MAX),
    st.lists(st.integers(0, (1 << 64) - 1), max_size=9), st.integers(0, (1 << 64) - 1),
)  # fmt: skip
def test_the_commands_of_a_burst_are_those_that_were_put_into_it(
    commands: list[tuple[list[bytes], bytes]], exceptions: list[int], sequence: int
) -> None:
    burst = BURST._replace(
        sequence=sequence, exceptions=tuple(exceptions), args=[args for args, _ in commands],
        bodies=[body for _, body in commands],
    )  # fmt: skip
    assert decode_burst(encode_burst(burst)) == burst
    for args, body in commands:
        alone = Command(*burst[:11], args, body)
        assert decode_command(encode_command(alone))[:11] == burst[:11]


# --- Answers ----------------------------------------------------------------------------------------------

ONE = encode_answer(Code.OK, 7, b"one")


def read(*answers: tuple[int, bytes]) -> list[tuple[int, int, int, bytes, bool]]:
    """What a reader finds in a frame: request, code, revision and result, and whether it is a burst's."""
    reader = AnswerReader(encode_answers(answers)[HEADER_BYTES:])
    found = []
    while reader.next():
        answer = reader.answer()
        assert (answer.code, answer.revision) == (reader.code, reader.revision)
        found.append((reader.request, *answer, reader.is_part))
    return found


def test_a_burst_s_answer_counts_for_as_many_as_it_has() -> None:
    assert count_answers(ONE) == 1
    for count in (1, 2, BURST_COMMANDS_MAX):
        assert count_answers(encode_burst_answer([ONE] * count)) == count
        assert count_answers(encode_run_answer(count, 7)) == count


def test_answers_of_bursts_and_plain_ones_are_told_apart_in_one_frame() -> None:
    other = encode_answer(Code.CONDITION, 8, b"")
    long = encode_answer(Code.OK, 9, b"x" * 300)
    found = read(
        (1, ONE), (10, encode_burst_answer([ONE, other, long])), (13, encode_burst_answer([other])),
        (20, long), (22, encode_run_answer(3, 100)), (25, encode_run_answer(1, (1 << 64) - 1)),
        (30, encode_burst_answer([long, ONE])),
    )  # fmt: skip
    assert found == [
        (1, Code.OK, 7, b"one", False),
        (10, Code.OK, 7, b"one", True), (11, Code.CONDITION, 8, b"", True),
        (12, Code.OK, 9, b"x" * 300, True),
        (13, Code.CONDITION, 8, b"", True), (20, Code.OK, 9, b"x" * 300, False),
        (22, Code.OK, 100, b"", True), (23, Code.OK, 101, b"", True), (24, Code.OK, 102, b"", True),
        (25, Code.OK, (1 << 64) - 1, b"", True),
        (30, Code.OK, 9, b"x" * 300, True), (31, Code.OK, 7, b"one", True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "answer",
    [
        encode_answer(Code.BURST, 0), encode_answer(Code.BURST, 1),
        encode_answer(Code.BURST, 1, b"\0\0\0\x0c" + ONE[:-1]),
        encode_answer(Code.BURST, 1, b"\0\0\0\x0d" + ONE),
        encode_answer(Code.BURST, 1, b"\0\0\0\x08" + ONE[:8]),
        encode_answer(Code.BURST, 1, b"\0\0\0\x0c" + ONE + b"\0"),
        encode_answer(Code.BURST, 2, b"\0\0\0\x0c" + ONE), encode_answer(Code.BURST, 0, b"\0\0\0\x0c" + ONE),
        encode_answer(Code.BURST, 1, b"\0\0\0\x0c" + ONE + b"\0\0\0\x0c" + ONE),
        encode_burst_answer([ONE, encode_burst_answer([ONE])]), encode_burst_answer([ONE, b""]),
        encode_burst_answer([ONE, b"\0\0"]), encode_burst_answer([ONE, encode_run_answer(1, 7)]),
    ],
)  # fmt: skip
def test_a_burst_s_answer_that_is_none_is_a_protocol_error(answer: bytes) -> None:
    with pytest.raises(ProtocolError, match="burst"):
        read((1, ONE), (2, answer), (9, ONE))


@pytest.mark.parametrize(
    "answer",
    [
        encode_answer(Code.RUN, 1), *(encode_answer(Code.RUN, 1, bytes(size)) for size in (7, 9, 16)),
        encode_run_answer(0, 7), encode_run_answer(BURST_COMMANDS_MAX + 1, 7),
        encode_run_answer(2, (1 << 64) - 1),
    ],
)
def test_a_run_of_answers_that_is_none_is_a_protocol_error(answer: bytes) -> None:
    with pytest.raises(ProtocolError, match="a run of answers"):
        read((1, ONE), (2, answer), (9, ONE))


def test_a_burst_s_answer_does_not_run_into_the_next_answer() -> None:
    short = encode_answer(Code.BURST, 2, b"\0\0\0\x0c" + ONE + b"\0\0\0\x0c" + ONE[:9])
    with pytest.raises(ProtocolError, match="burst"):
        read((1, short), (2, ONE))
