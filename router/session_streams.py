"""One watch of a client, and its streams, one for each partition: what has come, and what was taken of it."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from primitives.errors import QuorateError
from primitives.handle import Reference
from primitives.ids import GroupId, PrimitiveId, SlotId
from primitives.position import Position, mark_of
from primitives.watch import PROGRESS, StreamEvent
from router.session_groups import GroupSession
from router.session_links import Link
from router.watchframes import WatchFlag, WireEvent

WINDOW_BYTES_MIN: Final = 4096
_PROGRESS: Final = StreamEvent(-1, 0, 0, PROGRESS)


class Stream:
    """A partition's events, from one replica after the other, each event once."""

    __slots__ = (
        "asked_ms", "buffered", "complete", "consumed", "covered", "credit", "holds", "id", "link", "mark",
        "moved_ms", "owed", "partition", "pending", "retry_ms", "session", "slot", "tries", "watch", "window",
    )  # fmt: skip

    def __init__(self, watch: Watch, partition: int, slot: SlotId, mark: int | None, window: int) -> None:
        self.watch: Final = watch
        self.partition: Final = partition
        self.slot: Final = slot
        self.session: GroupSession | None = None
        """The group that owns the slot, by the map."""
        self.mark = mark
        """Up to here every event was buffered, or is not wanted; None: wants what comes from now on."""
        self.consumed = mark or 0
        """Up to here they were taken."""
        self.complete = 0
        """Every event up to this revision was buffered."""
        self.holds = False
        """Whether answers wait for it. One that begins at a position has to catch up first."""
        self.covered = False
        """Whether the node counts it among those that its marks are about."""
        self.pending = 0
        """Events buffered and not taken."""
        self.buffered = 0
        """Their bytes."""
        self.window: Final = window
        """Bytes of events that may be sent and not taken."""
        self.credit = 0
        """Bytes that the node may still send."""
        self.owed = 0
        """Bytes taken that the node was not told of."""
        self.id = 0
        """On the wire; 0 while nothing is asked of anybody."""
        self.link: Link | None = None
        self.asked_ms: int | None = None
        """Since when a node is asked for the stream and has not answered."""
        self.retry_ms = 0
        """Nobody is asked before."""
        self.moved_ms = 0
        """When it was last moved because it lagged."""
        self.tries = 0
        """Refusals in a row."""

    @property
    def is_standing(self) -> bool:
        """Whether a node serves it, as far as is known."""
        return self.link is not None and self.asked_ms is None

    @property
    def is_full(self) -> bool:
        """Whether the node may not send any more until something is taken."""
        return self.credit <= 0

    def stand(self, revision: int) -> None:
        """The node serves it, with all events above ``revision``."""
        self.asked_ms = None
        self.tries = 0
        if self.mark is None:
            seen = 0 if self.session is None else self.session.seen
            self.complete = max(revision, seen)
            self.mark = self.consumed = mark_of(self.complete)
            self.holds = True

    def take(self, event: WireEvent, size: int) -> bool:
        """An event came, of ``size`` bytes; whether it is new, as it is from any node that keeps to what was
        asked for."""
        self.credit -= size
        mark = mark_of(event.revision, event.number)
        if mark <= (self.mark or 0):
            self.owed += size
            return False
        self.mark = mark
        self.pending += 1
        self.buffered += size
        self.complete = max(self.complete, event.revision - 1)
        return True

    def reach(self, revision: int) -> None:
        """Everything up to ``revision`` came."""
        self.complete = max(self.complete, revision)
        self.mark = max(self.mark or 0, mark_of(revision))

    def position(self) -> int:
        """The mark up to which everything was taken."""
        return self.consumed if self.pending else max(self.consumed, mark_of(self.complete))


class Watch:
    """A watch as a user has it: events of all partitions in the order in which they came."""

    __slots__ = (
        "_buffer", "after", "cluster", "error", "existed", "flags", "is_over", "is_standing", "key", "news",
        "pace_ms", "primitive", "progress", "progress_ms", "ref", "resolving", "retry_ms", "streams", "token",
        "told", "window_bytes",
    )  # fmt: skip

    def __init__(
        self, ref: Reference, *, after: Position | None, key: bytes | None, prefix: bytes | None,
        previous: bool, progress: bool, buffer_bytes: int, token: Any,
    ) -> None:  # fmt: skip
        self.ref: Final = Reference(ref.namespace, ref.name, ref.type, None, None)
        """A reference of its own: what others find out about the name meanwhile is not for this watch."""
        self.after: Final = after
        self.key: Final = prefix or b"" if key is None else key
        is_prefix = key is None
        self.flags: Final = WatchFlag.PREFIX * is_prefix + WatchFlag.PREVIOUS * previous
        self.progress: Final = progress
        self.window_bytes: Final = buffer_bytes
        self.token: Any = token
        """The driver's own: who waits."""
        self.cluster = b""
        self.primitive: PrimitiveId | None = None
        self.streams: list[Stream] = []
        self.existed = False
        """Whether the primitive existed when the watch began."""
        self.is_standing = False
        """Whether whatever happens from now on is told."""
        self.is_over = False
        """Whether its user ended it."""
        self.error: QuorateError | None = None
        """What ended it; raised once the buffer is empty."""
        self.resolving = False
        self.retry_ms: int | None = None
        """When to look the name up again."""
        self.pace_ms = 0
        self.news = False
        """Whether the driver is to be told of it at the next poll."""
        self.told: tuple[int, ...] | None = None
        """The marks of the last progress told."""
        self.progress_ms = 0
        """No progress is told before."""
        self._buffer: deque[tuple[Stream | None, StreamEvent, int]] = deque()

    @property
    def name(self) -> tuple[str, str]:
        """Namespace and name of what is watched."""
        return self.ref.namespace, self.ref.name

    @property
    def is_keyed(self) -> bool:
        """Whether it is about one key."""
        return not self.flags & WatchFlag.PREFIX

    @property
    def is_empty(self) -> bool:
        """Whether nothing is buffered."""
        return not self._buffer

    @property
    def is_ended(self) -> bool:
        """Whether nothing more comes into its buffer."""
        return self.is_over or self.error is not None

    def begin(
        self, cluster: bytes, primitive: PrimitiveId, partitions: int, slots: dict[int, SlotId]
    ) -> None:
        """The primitive was found: a stream for each of ``slots``, by partition."""
        self.cluster, self.primitive = cluster, primitive
        window = max(self.window_bytes // max(1, len(slots)), WINDOW_BYTES_MIN)
        for partition, slot in slots.items():
            mark = None if self.existed else 0
            if self.after is not None:
                mark = self.after.marks[partition]
            stream = Stream(self, partition, slot, mark, window)
            # Its user was told that it stands before there was anything to tell.
            stream.holds = self.is_standing and self.after is None
            self.streams.append(stream)
        self.told = (0,) * partitions if self.after is None else self.after.marks

    def buffer(self, stream: Stream, event: WireEvent, size: int) -> None:
        """Puts an event behind the others."""
        item = StreamEvent(
            stream.partition, event.revision, event.number, event.kind, event.key, event.value, event.previous
        )
        self._buffer.append((stream, item, size))

    def take(self) -> tuple[Stream | None, StreamEvent, int] | None:
        """The next event with its stream and size; None if there is none. Raises what ended the watch."""
        if not self._buffer:
            if self.error is not None:
                raise self.error
            return None
        stream, event, size = item = self._buffer.popleft()
        if stream is not None:
            stream.pending -= 1
            stream.buffered -= size
            stream.consumed = mark_of(event.revision, event.number)
            stream.owed += size
            session = stream.session
            if session is not None and session.seen < event.revision:
                session.seen = event.revision
        return item

    def mark_progress(self, now_ms: int, every_ms: int) -> bool:
        """Buffers a mark if the position came further and nothing else is buffered; False if it is too early
        for that."""
        if self._buffer or not self.streams or not self.is_standing:
            return True
        marks = self.marks()
        if marks == self.told:
            return True
        if now_ms < self.progress_ms:
            return False
        self.told = marks
        self.progress_ms = now_ms + every_ms
        self._buffer.append((None, _PROGRESS, 0))
        return True

    def marks(self) -> tuple[int, ...]:
        """For each partition, the mark up to which everything was taken."""
        marks = list(self.told or ())
        for stream in self.streams:
            marks[stream.partition] = stream.position()
        return tuple(marks)

    @property
    def position(self) -> Position | None:
        """See ``primitives.watch.WatchPort``."""
        if self.primitive is None:  # Not found yet.
            return self.after
        return Position(self.cluster, self.primitive, self.marks())


class Streams(dict[GroupId, list[Stream]]):
    """The streams of each group that has any."""

    def put(self, group: GroupSession, stream: Stream) -> None:
        """The stream is of that group now."""
        if stream.session is not group:
            self.drop(stream)
            stream.session = group
            self.setdefault(group.group, []).append(stream)

    def drop(self, stream: Stream) -> None:
        """The stream is of no group."""
        if stream.session is not None:
            group = stream.session.group
            streams = self[group]
            streams.remove(stream)
            if not streams:
                del self[group]
            stream.session = None
