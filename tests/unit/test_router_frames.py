"""Frames: what is written is read back, limits hold from the header alone, garbage is named."""

from __future__ import annotations

import pytest

from primitives.errors import InvariantViolation, ProtocolError
from primitives.limits import CLIENT_FRAME_BYTES_MAX, ENVELOPE_BYTES_MAX
from router.frames import (
    HEADER,
    FrameKind,
    Splitter,
    decode_answers,
    decode_control,
    decode_requests,
    encode_answers,
    encode_control,
    encode_frame,
    encode_requests,
)


def only(frame: bytes) -> tuple[int, bytes]:
    splitter = Splitter()
    splitter.push(frame)
    found = splitter.pop()
    assert found is not None
    assert splitter.pop() is None
    return found


def test_a_control_frame_carries_its_envelope_and_blob() -> None:
    kind, payload = only(encode_control(FrameKind.MAP, [1, "a", b"b", [[2, 3]]], b"blob"))
    assert kind == FrameKind.MAP
    assert decode_control(payload) == ([1, "a", b"b", [[2, 3]]], b"blob")


def test_requests_and_answers_are_read_back() -> None:
    requests = [(1, 7, b"record"), (2**64 - 1, 2**32 - 1, b"")]
    kind, payload = only(encode_requests(requests))
    assert kind == FrameKind.OPS
    assert list(decode_requests(payload)) == requests
    answers = [(1, b"answer"), (2, b"")]
    kind, payload = only(encode_answers(answers))
    assert kind == FrameKind.ANSWERS
    assert list(decode_answers(payload)) == answers


@pytest.mark.parametrize(
    "payload",
    [b"\0", b"\0\0\0\x0b" + bytes(11), b"\0\0\0\x0c" + bytes(11), b"\xff" * 16, bytes(17)],
)
def test_requests_cut_short_are_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match="request"):
        list(decode_requests(payload))


@pytest.mark.parametrize(
    "payload", [b"\0", b"\0\0\0\x07" + bytes(7), b"\0\0\0\x09" + bytes(8), b"\xff" * 12]
)
def test_answers_cut_short_are_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match="answer"):
        list(decode_answers(payload))


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"", "without the length"),
        (b"\0\0\0\x05\x80", "beyond its frame"),
        ((ENVELOPE_BYTES_MAX + 1).to_bytes(4, "big") + bytes(ENVELOPE_BYTES_MAX + 1), "at most"),
        (b"\0\0\0\x01\xff", "cannot be read"),
        (b"\0\0\0\x02\x80\x80", "cannot be read"),
        (b"\0\0\0\x01\xa0", "cannot be read"),
    ],
)
def test_a_control_frame_that_cannot_be_read_is_refused(payload: bytes, text: str) -> None:
    with pytest.raises(ProtocolError, match=text):
        decode_control(payload)


def test_an_oversized_frame_is_refused_from_its_header_alone() -> None:
    splitter = Splitter(4096)
    splitter.push(HEADER.pack(4097, 1, 0, 0)[:7])
    assert splitter.pop() is None
    with pytest.raises(ProtocolError, match="4097 bytes; at most 4096"):
        splitter.push(b"\0")


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n", bytes.fromhex("16030100f0010000"), b"\xff" * 100])
def test_what_is_no_frame_is_refused(garbage: bytes) -> None:
    splitter = Splitter()
    with pytest.raises(ProtocolError):
        splitter.push(garbage)
        splitter.pop()


def test_reserved_bits_are_refused() -> None:
    splitter = Splitter()
    with pytest.raises(ProtocolError, match="reserved"):
        splitter.push(HEADER.pack(0, 1, 1, 0))
        splitter.pop()


def test_a_limit_raised_between_two_frames_of_one_chunk_holds_for_the_second() -> None:
    splitter = Splitter(10)
    splitter.push(encode_frame(1, b"x") + encode_frame(2, bytes(100)))
    assert splitter.pop() == (1, b"x")
    splitter.frame_bytes_max = 100
    assert splitter.pop() == (2, bytes(100))


def test_a_caller_that_stops_halfway_loses_nothing() -> None:
    splitter = Splitter()
    splitter.push(encode_frame(1, b"a") + encode_frame(2, b"b") + encode_frame(3, b"c")[:5])
    assert splitter.pop() == (1, b"a")
    splitter.push(encode_frame(3, b"c")[5:])
    assert splitter.pop() == (2, b"b")
    assert splitter.pop() == (3, b"c")
    assert splitter.buffered_bytes == 0


def test_our_own_frame_over_the_limit_is_our_mistake() -> None:
    with pytest.raises(InvariantViolation):
        encode_frame(1, bytes(CLIENT_FRAME_BYTES_MAX + 1))
