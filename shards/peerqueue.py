"""What waits to be sent to one peer over one connection: most urgent first, and bounded.

While the connection takes what a round has, the round's sections leave at once, as one frame. Once it does
not, they wait here by priority, not in the connection, so that heartbeats overtake appends and snapshots.
A queue belongs to one connection and ends with it: nothing in it survives to a peer's next boot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, Protocol

from primitives.errors import InvariantViolation
from primitives.limits import PEER_FRAME_BYTES_MAX
from router.frames import HEADER
from shards.peerwire import PeerFrameKind, SectionKind
from shards.ports import Priority

FRAME_BYTES_TARGET: Final = 1 << 20
"""A frame is closed once it has this much; one section always fits."""
DROP_BYTES: Final = 16 << 20
"""With more than this waiting, appends and snapshots are dropped: consensus sends them again."""
QUEUED_BYTES_MAX: Final = 64 << 20
"""With more than this waiting, the connection is given up."""
_URGENCY: Final = itemgetter(0)


class Sink(Protocol):
    """Where frames go: a link."""

    @property
    def queued_bytes(self) -> int:
        """Bytes that the socket has not taken yet."""

    def send(self, data: bytes) -> bool:
        """Sends or queues; False when the connection is lost."""


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """Counts of one connection's queue."""

    queued_bytes: int
    dropped_sections: int


class PeerQueue:
    """Sections for one peer, over one connection."""

    __slots__ = ("_bytes", "_drop_bytes", "_dropped", "_queued_bytes_max", "_sink", "_waiting")

    def __init__(
        self, sink: Sink, *, drop_bytes: int = DROP_BYTES, queued_bytes_max: int = QUEUED_BYTES_MAX
    ) -> None:
        self._sink = sink
        self._drop_bytes = drop_bytes
        self._queued_bytes_max = queued_bytes_max
        self._waiting: tuple[deque[bytes], ...] = (deque(), deque(), deque())
        self._bytes = 0
        self._dropped = 0

    @property
    def is_empty(self) -> bool:
        """Whether everything was handed to the connection."""
        return not self._bytes

    @property
    def is_overflowing(self) -> bool:
        """Whether more waits than may: the peer does not read, and the connection is to be closed."""
        return self._bytes > self._queued_bytes_max

    def put(self, sections: Sequence[tuple[int, bytes]]) -> None:
        """Takes one round's sections with their priorities, and sends what the connection takes now."""
        if not self._bytes and not self._sink.queued_bytes:
            size = sum([len(data) for _, data in sections])
            if size <= FRAME_BYTES_TARGET:
                ordered = sorted(sections, key=_URGENCY) if len(sections) > 1 else sections
                self._send(size, [data for _, data in ordered])
                return
        for priority, data in sections:
            if (
                self._bytes > self._drop_bytes
                and priority >= Priority.LOG
                and data[0] == SectionKind.RAFT
            ):
                # Operations and answers are never dropped singly: whoever waits for one would wait for good.
                self._dropped += 1
                continue
            self._waiting[priority].append(data)
            self._bytes += len(data)
        self.pump()

    def pump(self) -> None:
        """Sends frames, most urgent sections first, while the connection takes them."""
        while self._bytes and not self._sink.queued_bytes:
            parts: list[bytes] = []
            size = 0
            for waiting in self._waiting:
                while waiting and (not parts or size + len(waiting[0]) <= FRAME_BYTES_TARGET):
                    data = waiting.popleft()
                    parts.append(data)
                    size += len(data)
            self._bytes -= size
            if not self._send(size, parts):
                return

    def _send(self, size: int, parts: list[bytes]) -> bool:
        if size > PEER_FRAME_BYTES_MAX:
            raise InvariantViolation(f"a section of {size} bytes")
        header = HEADER.pack(size, PeerFrameKind.SECTIONS, 0, 0)
        return self._sink.send(b"".join([header, *parts]))

    def statistics(self) -> QueueStatistics:
        """A copy of the queue's counts."""
        return QueueStatistics(self._bytes, self._dropped)
