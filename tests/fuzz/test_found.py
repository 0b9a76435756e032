"""What was found to stop a node, or came near it, by fuzzing: inputs that are too large for a kept corpus, or
need something to be under way."""

from __future__ import annotations

import time
from typing import Any, Final

import cbor2
import pytest

from primitives.codec import pack
from primitives.limits import ENVELOPE_BYTES_MAX, INT_MAX, KEEPALIVE_LEASES_MAX
from primitives.records import Register, encode_register
from router.frames import HEADER_BYTES, FrameKind, decode_control, encode_control, encode_requests
from router.watchframes import WatchRequest, encode_watch
from shards.admin import Administration
from shards.peerwire import SectionKind
from shards.wal import BLOCK_BYTES, WalFault, read_wal
from tests.fuzz.stored_bytes import wal_record
from tests.fuzz.whole_nodes import NONCE, Stage, node_frames, node_sections, piece

SESSION: Final = b"s" * 16
LED: Final = 1
"""A group that the node leads."""
ELSEWHERE: Final = 2
"""One of which it has no replica."""


def control(items: list[Any]) -> bytes:
    """A control frame's payload, also of an envelope that nobody would send."""
    envelope = cbor2.dumps(items, canonical=True)
    assert len(envelope) <= ENVELOPE_BYTES_MAX
    return len(envelope).to_bytes(4, "big") + envelope


@pytest.mark.parametrize(
    ("kind", "items"),
    [
        (FrameKind.ADMIN, [1, "session", ELSEWHERE, b"x" * (ENVELOPE_BYTES_MAX - 15)]),
        (FrameKind.ADMIN, [1, "\0" * 60_000]),
        (FrameKind.ADMIN, [1, "\0" * 60_000, LED]),
        (FrameKind.KEEPALIVE, [1, SESSION, [[ELSEWHERE, 8]] * 21_836]),
        (FrameKind.KEEPALIVE, [1, SESSION, [[LED, 8]] * 21_836]),
    ],
)  # fmt: skip
def test_an_envelope_at_its_limit_whose_answer_or_forwarding_is_larger_stops_nothing(
    kind: int, items: list[Any]
) -> None:
    stage = Stage()
    stage.frame(kind, control(items))
    stage.run(50)
    assert stage.node.engine.ready


@pytest.mark.parametrize("kind", [FrameKind.KEEPALIVE, FrameKind.WATCH, FrameKind.ADMIN])
def test_a_refusal_does_not_repeat_all_that_it_refuses(kind: int) -> None:
    key = cbor2.dumps("\0" * 30_000)
    envelope = b"\x81\xa2" + (key + b"\x01") * 2  # a map that has the key twice
    stage = Stage()
    stage.frame(kind, len(envelope).to_bytes(4, "big") + envelope)
    stage.run(50)
    [frame] = stage.received
    assert frame[4] == FrameKind.REFUSED
    assert len(frame) < 1000


def test_a_session_that_many_keepalives_of_one_number_ask_for_is_confirmed_in_several_frames() -> None:
    stage = Stage()
    register = encode_register(Register(SESSION, 1, 5000))
    stage.frame(FrameKind.OPS, encode_requests([(1, LED, register)])[HEADER_BYTES:])
    stage.run(50)
    [(number, _, _)] = stage.node.engine.groups[LED].applier.sessions  # type: ignore[index]  # an int
    stage.received.clear()
    for _ in range(5):
        stage.frame(FrameKind.KEEPALIVE, control([7, SESSION, [[LED, number]] * KEEPALIVE_LEASES_MAX]))
    stage.run(50)
    answers = [decode_control(frame[HEADER_BYTES:])[0] for frame in stage.received]
    assert [answer[0] for answer in answers] == [7] * 5
    assert sum(len(answer[1]) for answer in answers) == 5 * KEEPALIVE_LEASES_MAX


def test_a_keepalive_for_too_many_sessions_is_refused() -> None:
    stage = Stage()
    stage.frame(FrameKind.KEEPALIVE, control([7, SESSION, [[LED, 1]] * (KEEPALIVE_LEASES_MAX + 1)]))
    stage.run(50)
    [frame] = stage.received
    assert frame[4] == FrameKind.REFUSED


def test_marks_of_as_many_watches_as_there_may_be_go_in_several_frames() -> None:
    stage = Stage()
    driver = stage.node.engine.groups[LED]  # type: ignore[index]  # an int
    slot = next(slot for slot in range(1 << 16) if driver.applier.owns(slot, 1))
    driver.applier._context.revision += 1 << 62  # type: ignore[misc]  # a cluster with another incarnation
    for watch in range(4096):
        request = WatchRequest((1 << 63) + watch, LED, slot, 1, slot, 9, 0, 20, -1, 0, b"", 1000)
        stage.frame(FrameKind.WATCH, encode_watch(request)[HEADER_BYTES:])
    stage.run(50)
    frames = [frame for frame in stage.received if frame[4] == FrameKind.MARKS]
    assert sum(len(decode_control(frame[HEADER_BYTES:])[0]) for frame in frames) >= 4096


@pytest.mark.parametrize(
    "payload",
    [
        pack(["5", 1, SESSION, [[LED, 9]]]), pack([1 << 63, 1, SESSION, [[LED, 9]]]),
        pack([None, 1, SESSION, [[LED, 9]]]), pack([]),
    ],
)  # fmt: skip
def test_a_keepalive_that_is_passed_on_for_no_connection_stops_nothing(payload: bytes) -> None:
    node_sections(piece(SectionKind.KEEPALIVE, payload))


@pytest.mark.parametrize(
    "frame", [b"", b"\0\0\0\0", encode_control(FrameKind.HELLO, [1, "x"]), b"\0\0\0\x05\x09\0\0\0\0"]
)
def test_a_keepalives_reply_that_is_none_stops_nothing(frame: bytes) -> None:
    node_sections(piece(SectionKind.KEEPALIVE_REPLY, bytes(8) + frame))


@pytest.mark.parametrize("answer", [b"", b"\0", b"\0" * 8])
def test_an_answer_passed_back_that_is_too_short_stops_nothing(answer: bytes) -> None:
    node_sections(piece(SectionKind.ANSWER, bytes(8) + (4).to_bytes(8, "big") + answer))


@pytest.mark.parametrize(
    "told",
    [
        [NONCE + b"n", 1, 2, 9, b"d" * 16, 3], [NONCE[1:], 1, 2, 9, b"d" * 16, 3],
        [NONCE, 1, 2, 9, b"d" * 16, INT_MAX + 1], [NONCE, 1, 2, INT_MAX + 1, b"d" * 16, 3],
        [NONCE, 1, 2, 9, b"d" * 60_000, 3],
    ],
)  # fmt: skip
def test_a_hash_of_another_form_stops_nothing(told: list[Any]) -> None:
    replicas = [(group, node) for group in (0, 1, 2) for node in (1, 2, 3)]
    told_of = [pack([told[0], group, node, *told[3:]]) for group, node in replicas]
    node_sections(b"".join(piece(SectionKind.HASH, payload) for payload in told_of))


def test_a_number_without_an_end_in_the_stores_log_takes_no_time() -> None:
    whole = bytes(12) + b"\x05" + b"\xff" * 1_000_000
    room = BLOCK_BYTES - len(wal_record(1, b""))
    parts = [whole[at : at + room] for at in range(0, len(whole), room)]
    kinds = [2, *[3] * (len(parts) - 2), 4]
    file = b"".join(wal_record(kind, part) for kind, part in zip(kinds, parts, strict=True))
    began = time.process_time()
    assert list(read_wal(file, 7)) == [WalFault(0, "a batch that tells no round")]
    assert time.process_time() - began < 5


def test_a_log_of_many_faults_takes_no_time_for_what_stands_behind_each() -> None:
    file = (b"\xff" + wal_record(1, b"")) * 40_000 + bytes(1 << 24)
    began = time.process_time()
    faults = sum(isinstance(item, WalFault) for item in read_wal(file, 7))
    assert faults >= 40_000
    assert time.process_time() - began < 5


def test_the_targets_notice_a_node_that_would_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise IndexError

    monkeypatch.setattr(Administration, "frame", stop)
    with pytest.raises(IndexError):
        node_frames(piece(FrameKind.ADMIN, encode_control(FrameKind.ADMIN, [1, "replicas"])[HEADER_BYTES:]))
