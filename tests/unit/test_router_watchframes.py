"""Frames of watches: what is written is read back, what is no such frame is refused."""

from __future__ import annotations

import pytest

from primitives.codec import pack
from primitives.errors import ProtocolError
from primitives.limits import CLIENT_FRAME_BYTES_MAX, VALUE_BYTES_MAX
from primitives.records import U32
from router.connection import Connection, Role, Welcome, encode_hello, encode_welcome
from router.frames import HEADER_BYTES, FrameKind, encode_control
from router.watchframes import (
    EVENT_OVERHEAD_BYTES,
    FROM_NOW,
    Mark,
    WatchFlag,
    WatchRequest,
    WireEvent,
    decode_credit,
    decode_events,
    decode_marks,
    decode_unwatch,
    decode_watch,
    decode_watch_ended,
    decode_watching,
    encode_event,
    encode_events,
    encode_marks,
    encode_part,
    encode_watch,
)

REQUEST = WatchRequest(
    7, 3, 1234, 1, 1200, 17, 5, 16, FROM_NOW, WatchFlag.PREFIX | WatchFlag.PREVIOUS, b"\x03a", 1 << 20
)


def payload(*items: object) -> bytes:
    envelope = pack(list(items))
    return U32.pack(len(envelope)) + envelope


def test_a_watch_is_read_back() -> None:
    assert decode_watch(encode_watch(REQUEST)[HEADER_BYTES:]) == REQUEST
    later = REQUEST._replace(after=(1 << 64) - 1, filter=b"")
    assert decode_watch(encode_watch(later)[HEADER_BYTES:]) == later


@pytest.mark.parametrize(
    "wrong",
    [{"watch": -1}, {"group": 1 << 32}, {"slot": "1"}, {"after": -2}, {"after": None}, {"flags": 4},
     {"filter": "a"}, {"filter": bytes(2000)}, {"credit": 1 << 41}, {"type": 256}, {"partition": True}],
)  # fmt: skip
def test_a_watch_of_another_form_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ProtocolError, match="WATCH"):
        decode_watch(payload(*REQUEST._replace(**wrong)))  # type: ignore[arg-type]


def test_events_of_several_watches_are_read_back_with_what_they_cost() -> None:
    first = WireEvent(9, 0, 1, b"key", b"value", None)
    second = WireEvent(9, 1, 2, b"key", b"", b"")
    third = WireEvent(10, 0, 4, b"", b"", b"old")
    parts = encode_part(1, encode_event(*first) + encode_event(*second))
    parts += encode_part(2, encode_event(*third))
    frame = encode_events(parts)
    assert frame[4] == FrameKind.EVENTS
    assert list(decode_events(frame[HEADER_BYTES:])) == [
        (1, first, EVENT_OVERHEAD_BYTES + 8), (1, second, EVENT_OVERHEAD_BYTES + 3),
        (2, third, EVENT_OVERHEAD_BYTES + 3),
    ]  # fmt: skip


@pytest.mark.parametrize("cut", range(1, 37))
def test_events_cut_short_are_refused(cut: int) -> None:
    whole = encode_part(1, encode_event(9, 0, 1, b"key", b"value", b"old"))
    with pytest.raises(ProtocolError):
        list(decode_events(whole[: len(whole) - cut]))
    with pytest.raises(ProtocolError):
        list(decode_events(encode_part(1, whole[12 : len(whole) - cut])))


def test_the_largest_value_travels_with_the_one_that_it_replaced() -> None:
    node, client = Connection(Role.NODE), Connection(Role.CLIENT)
    hello = client.sending(encode_hello("test"))
    welcome = encode_welcome(Welcome(1, bytes(16), 1, bytes(16), 1))
    assert [kind for kind, _ in node.receive(hello)] == [FrameKind.HELLO]
    assert [kind for kind, _ in client.receive(node.sending(welcome))] == [FrameKind.WELCOME]
    event = encode_event(9, 0, 1, bytes(1025), bytes(VALUE_BYTES_MAX), bytes(VALUE_BYTES_MAX))
    [(kind, data)] = client.receive(node.sending(encode_events(encode_part(1, event))))
    assert kind == FrameKind.EVENTS
    [(_, read, _)] = decode_events(data)
    assert len(read.value) == len(read.previous or b"") == VALUE_BYTES_MAX
    with pytest.raises(ProtocolError, match="a frame of"):
        list(node.receive(U32.pack(CLIENT_FRAME_BYTES_MAX + 1) + bytes((FrameKind.OPS, 0, 0, 0))))


def test_marks_are_read_back() -> None:
    marks = [Mark(1, 5), Mark(2, 9, 77), Mark(2, 4, 78, covered=False)]
    assert decode_marks(encode_marks(marks)[HEADER_BYTES:]) == marks


@pytest.mark.parametrize(
    "item", [5, [1], [1, -1], [1, 2, 3, True], [1, 2, 3, False, 5], [1, "2"], [1, 2, None], [1, True]]
)
def test_marks_of_another_form_are_refused(item: object) -> None:
    with pytest.raises(ProtocolError, match="MARKS"):
        decode_marks(payload(item))


def test_small_frames_are_read_back_and_checked() -> None:
    assert decode_credit(payload(7, 4096)) == (7, 4096)
    assert decode_unwatch(payload(7)) == 7
    assert decode_watching(payload(7, 3, 99)) == (7, 3, 99)
    ended = encode_control(FrameKind.WATCH_ENDED, [7, 31, "too old"])
    assert decode_watch_ended(ended[HEADER_BYTES:]) == (7, 31, "too old")
    for decode in (decode_credit, decode_unwatch, decode_watching, decode_watch_ended):
        for wrong in (payload(), payload(-1), payload(7, "a"), payload(7, 1, 2, 3), payload("a")):
            with pytest.raises(ProtocolError, match="of another form"):
                decode(wrong)
