"""Targets: what a client and a node read from each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from primitives.errors import ProtocolError
from primitives.ids import GroupId, NodeId, Revision
from primitives.limits import CLIENT_FRAME_BYTES_MAX, UNAUTHENTICATED_FRAME_BYTES_MAX
from primitives.position import WHOLE
from primitives.records import Answer, encode_answer, encode_burst_answer, encode_run_answer
from router.connection import (
    REFUSAL_CHARS_MAX,
    Connection,
    Role,
    State,
    Welcome,
    decode_hello,
    decode_refused,
    decode_welcome,
    encode_hello,
    encode_refused,
    encode_welcome,
)
from router.frames import (
    HEADER_BYTES,
    AnswerReader,
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
from router.shardmap import GroupInfo, NodeInfo, ShardMap
from router.watchframes import (
    Mark,
    WatchRequest,
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
from tests.fuzz.target import Misread, read, same, target

_HELLO: Final = encode_hello("someone")
_WELCOME: Final = encode_welcome(Welcome(1, b"c" * 16, 3, b"b" * 16, 7))
_OPS: Final = encode_requests([(1, 2, b"record"), (2, 2, b"")])
_ANSWERS: Final = encode_answers([(1, b"answer"), (2, b"")])
_U64_MAX: Final = (1 << 64) - 1
_ANSWER: Final = encode_answer(0, 9, b"result")
_BURST_ANSWERS: Final = encode_answers(
    [(1, _ANSWER), (2, encode_burst_answer([_ANSWER, _ANSWER])), (4, _ANSWER), (5, encode_run_answer(3, 10))]
)


def _bodies(data: bytes, decode: Callable[[bytes], Any]) -> Any:
    return read(decode, data, ProtocolError)


@target(
    "client-frames", "frames of the client protocol, their envelopes, operations and answers",
    (_HELLO, _WELCOME, _OPS + _ANSWERS, encode_refused("protocol", "no"), _BURST_ANSWERS),
)  # fmt: skip
def client_frames(data: bytes) -> None:
    """The stream is cut into frames whatever pieces it comes in; what is read is written again the same."""
    whole = _frames(data, len(data) or 1)
    same(whole, _frames(data, 1 + len(data) % 7), "frames in other pieces")
    for kind, payload in whole[0]:
        same(encode_frame(kind, payload), encode_frame(kind, bytes(payload)), "a frame")
    for payload in (data, *(payload for _, payload in whole[0])):
        control = _bodies(payload, decode_control)
        if control is not None:
            same(control, decode_control(encode_control(1, *control)[HEADER_BYTES:]), "a control frame")
        requests = _bodies(payload, lambda body: list(decode_requests(body)))
        if requests is not None:
            same(payload, encode_requests(requests)[HEADER_BYTES:], "requests")
        answers = _bodies(payload, lambda body: list(decode_answers(body)))
        if answers is not None:
            same(payload, encode_answers(answers)[HEADER_BYTES:], "answers")
        told = _bodies(payload, _told)
        if told is not None:
            if answers is None:
                raise Misread("a client takes answers that are none")
            plain = encode_answers(
                (request, b"" if answer is None else encode_answer(*answer)) for request, answer in told
            )
            same(told, _told(plain[HEADER_BYTES:]), "answers, those of bursts by themselves")


def _told(payload: bytes) -> list[tuple[int, Answer | None]]:
    """What a client takes from an ANSWERS frame."""
    reader = AnswerReader(payload)
    found: list[tuple[int, Answer | None]] = []
    while reader.next():
        found.append((reader.request & _U64_MAX, None if reader.code < 0 else reader.answer()))
    return found


def _frames(data: bytes, piece: int) -> tuple[list[tuple[int, bytes]], bool]:
    """The frames of a stream that comes in pieces of that size, and whether it was refused in the end."""
    splitter = Splitter(CLIENT_FRAME_BYTES_MAX)
    found: list[tuple[int, bytes]] = []
    try:
        for at in range(0, len(data), piece):
            splitter.push(data[at : at + piece])
            while (frame := splitter.pop()) is not None:
                found.append(frame)
            if splitter.buffered_bytes > CLIENT_FRAME_BYTES_MAX + HEADER_BYTES:
                raise Misread(f"{splitter.buffered_bytes} bytes are kept of a frame")
    except ProtocolError:
        return found, True
    return found, False


@target(
    "connection", "the protocol's state machine, of both ends, with their greetings",
    (
        b"\x00" + _HELLO + _OPS, b"\x01" + _WELCOME + _ANSWERS, b"\x01" + encode_refused("x", "y"),
        b"\x00" + _HELLO + encode_control(FrameKind.KEEPALIVE, [1, b"s" * 16, [[1, 2]]]),
    ),
)  # fmt: skip
def connection(data: bytes) -> None:
    """A connection gives frames that the other end may send, or is closed by a ProtocolError for good."""
    if not data:
        return
    role = Role.CLIENT if data[0] & 1 else Role.NODE
    end = Connection(role)
    if role is Role.CLIENT:
        end.sending(_HELLO)
    try:
        for piece in (data[1 : 1 + data[0]], data[1 + data[0] :]):
            for kind, payload in end.receive(piece):
                _greeting(end, kind, payload)
                if not end.is_open and len(payload) > UNAUTHENTICATED_FRAME_BYTES_MAX:
                    raise Misread("a large frame before the greetings")
    except ProtocolError:
        if end.state is not State.CLOSED:
            raise Misread("a refused connection stays open") from None


def _greeting(end: Connection, kind: int, payload: bytes) -> None:
    if kind == FrameKind.HELLO:
        name = _bodies(payload, decode_hello)
        if end.state is State.GREETED and name is not None:
            end.sending(_WELCOME)
            same(name[:100], decode_hello(encode_hello(name)[HEADER_BYTES:])[:100], "a name")
    elif kind == FrameKind.WELCOME:
        welcome = _bodies(payload, decode_welcome)
        if welcome is not None:
            same(welcome, decode_welcome(encode_welcome(welcome)[HEADER_BYTES:]), "a WELCOME")
    elif kind == FrameKind.REFUSED:
        refused = _bodies(payload, decode_refused)
        if refused is not None:
            again = decode_refused(encode_refused(*refused)[HEADER_BYTES:])
            same((refused[0], refused[1][:REFUSAL_CHARS_MAX]), again, "a REFUSED")


_EVENTS: Final = encode_part(
    7, encode_event(9, 0, 1, b"key", b"value", b"former") + encode_event(9, 1, 2, b"k", b"", None)
)
_WATCH: Final = WatchRequest(7, 1, 5, 1, 5, 9, 0, 20, -1, 3, b"ke", 4096, WHOLE)
_CONTROLS: Final = (
    (decode_watch, encode_watch), (decode_marks, encode_marks),
    (decode_credit, lambda found: encode_control(FrameKind.CREDIT, list(found))),
    (decode_unwatch, lambda found: encode_control(FrameKind.UNWATCH, [found])),
    (decode_watching, lambda found: encode_control(FrameKind.WATCHING, list(found))),
    (decode_watch_ended, lambda found: encode_control(FrameKind.WATCH_ENDED, list(found))),
)  # fmt: skip


@target(
    "watch-frames", "frames of watches: requests, events, marks, credit",
    (
        _EVENTS, *(frame[HEADER_BYTES:] for frame in (
            encode_watch(_WATCH), encode_marks([Mark(1, 5), Mark(1, 5, 7), Mark(2, 9, 8, False)]),
            encode_control(FrameKind.CREDIT, [7, 100]), encode_control(FrameKind.UNWATCH, [7]),
            encode_control(FrameKind.WATCHING, [7, 1, 3]),
            encode_control(FrameKind.WATCH_ENDED, [7, 1, "gone"]),
        )),
    ),
)  # fmt: skip
def watch_frames(data: bytes) -> None:
    """What is read is written again and read the same."""
    for decode, encode in _CONTROLS:
        found = _bodies(data, decode)
        if found is not None:
            same(found, decode(encode(found)[HEADER_BYTES:]), decode.__name__)
    events = _bodies(data, lambda body: list(decode_events(body)))
    if events is not None:
        parts = b"".join(encode_part(watch, encode_event(*event)) for watch, event, _ in events)
        again = list(decode_events(encode_events(parts)[HEADER_BYTES:]))
        same([one[:2] for one in events], [one[:2] for one in again], "events")


def _a_map() -> bytes:
    from primitives.ids import SLOTS

    nodes = {NodeId(n): NodeInfo(NodeId(n), f"n{n}", f"h{n}:1", f"h{n}:2", bytes(16)) for n in (1, 2)}
    groups = {GroupId(1): GroupInfo(GroupId(1), ((1, NodeId(1)), (2, NodeId(2))))}
    return ShardMap(
        3, b"c" * 16, b"salt", nodes, groups, [1] * SLOTS, [1] * SLOTS, {GroupId(1): NodeId(2)}
    ).encode()


@target("shard-map", "the shard map that a node tells", (_a_map(),))
def shard_map(data: bytes) -> None:
    """A map, or a ProtocolError; a map is written again and read the same."""
    found = _bodies(data, ShardMap.decode)
    if found is not None:
        same(True, found == ShardMap.decode(found.encode()), "a map")
        _ = found.group(0), found.epoch(0), Revision(found.version)
