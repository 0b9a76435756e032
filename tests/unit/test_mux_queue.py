"""A peer's queue: most urgent first, bounded, and nothing lost but what consensus sends again."""

from __future__ import annotations

import pytest

from primitives.errors import InvariantViolation
from primitives.limits import PEER_FRAME_BYTES_MAX
from router.frames import Splitter
from shards.peerqueue import FRAME_BYTES_TARGET, PeerQueue
from shards.peerwire import PeerFrameKind, SectionKind, section, sections
from shards.ports import Priority


class Wire:
    """A connection that takes all, or holds it back."""

    def __init__(self) -> None:
        self.queued_bytes = 0
        self.full = False
        self.frames: list[list[tuple[int, bytes]]] = []
        self._splitter = Splitter(PEER_FRAME_BYTES_MAX)

    def send(self, data: bytes) -> bool:
        self._splitter.push(data)
        while (found := self._splitter.pop()) is not None:
            assert found[0] == PeerFrameKind.SECTIONS
            self.frames.append(list(sections(found[1])))
        if self.full:
            self.queued_bytes = len(data)
        return True

    @property
    def payloads(self) -> list[bytes]:
        return [payload for frame in self.frames for _, payload in frame]


def control(text: str) -> tuple[int, bytes]:
    return Priority.CONTROL, section(SectionKind.RAFT, text.encode())


def log(text: str, size: int = 0) -> tuple[int, bytes]:
    return Priority.LOG, section(SectionKind.RAFT, text.encode().ljust(size))


def bulk(text: str) -> tuple[int, bytes]:
    return Priority.BULK, section(SectionKind.RAFT, text.encode())


def forward(text: str) -> tuple[int, bytes]:
    return Priority.LOG, section(SectionKind.FORWARD, text.encode())


def test_a_round_leaves_as_one_frame_most_urgent_first_and_otherwise_in_order() -> None:
    wire = Wire()
    PeerQueue(wire).put([bulk("s"), log("a"), control("h"), log("b"), control("v")])
    assert len(wire.frames) == 1
    assert wire.payloads == [b"h", b"v", b"a", b"b", b"s"]


def test_what_the_connection_does_not_take_waits_and_heartbeats_overtake_it() -> None:
    wire = Wire()
    queue = PeerQueue(wire)
    wire.full = True
    queue.put([log("first")])
    queue.put([bulk("snapshot"), log("second")])
    queue.put([control("heartbeat")])
    assert wire.payloads == [b"first"]
    wire.full, wire.queued_bytes = False, 0
    queue.pump()
    assert wire.payloads == [b"first", b"heartbeat", b"second", b"snapshot"]
    assert queue.is_empty


def test_frames_stay_near_their_target_and_a_big_section_goes_alone() -> None:
    wire = Wire()
    part = FRAME_BYTES_TARGET // 4
    PeerQueue(wire).put([log("x", part) for _ in range(10)] + [log("big", 3 * FRAME_BYTES_TARGET)])
    assert [len(frame) for frame in wire.frames] == [3, 3, 3, 1, 1]


def test_a_backlog_drops_appends_but_neither_heartbeats_nor_operations() -> None:
    wire = Wire()
    queue = PeerQueue(wire, drop_bytes=100)
    wire.full = True
    queue.put([log("sent")])
    queue.put([log("kept", 200)])
    queue.put([log("dropped"), bulk("dropped"), control("heartbeat"), forward("operation")])
    assert queue.statistics().dropped_sections == 2
    wire.full, wire.queued_bytes = False, 0
    queue.pump()
    assert [payload.strip() for payload in wire.payloads] == [b"sent", b"heartbeat", b"kept", b"operation"]


def test_beyond_its_bound_the_queue_says_that_the_peer_does_not_read() -> None:
    wire = Wire()
    queue = PeerQueue(wire, drop_bytes=100, queued_bytes_max=1000)
    wire.full = True
    queue.put([log("sent")])
    for _ in range(100):
        queue.put([forward("operation")])
    assert queue.is_overflowing


def test_a_section_that_no_frame_can_carry_is_our_own_mistake() -> None:
    with pytest.raises(InvariantViolation):
        PeerQueue(Wire()).put([log("x", PEER_FRAME_BYTES_MAX)])
