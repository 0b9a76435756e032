"""The streams of events that one replica serves: who watches what in its group, and how far each has come.

A stream that is *covered* has had all that is applied here. What a round applies is encoded once for all
covered streams that want it, and the group's marks speak for them. Any other stream has a cursor, and is read
from the replicated history, a bounded slice a round, until nothing is left; nothing is buffered for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from primitives.errors import Code
from primitives.history import MARK, Event, History, read_event, value_of
from primitives.ids import PrimitiveId, Revision, SlotId
from primitives.layout import TARGET
from primitives.watch import EventKind
from router.frames import FrameKind, encode_control
from router.watchframes import (
    Mark,
    WatchFlag,
    WatchRequest,
    encode_event,
    encode_events,
    encode_marks,
    encode_part,
)
from shards.group import GroupDriver
from shards.outbox import Outbox

PIECE_BYTES: Final = 64 * 1024
"""A part of EVENTS ends here, unless a single event is larger."""
SLICE_BYTES: Final = 48 * 1024
SLICE_EVENTS: Final = 1000
"""What one round reads from the history for one stream at the most."""
ROUND_BYTES: Final = 512 * 1024
ROUND_EVENTS: Final = 4000
"""What one round reads for all streams of a group, about."""
MARKS_A_FRAME_MAX: Final = 1000
"""So that their envelope is within bounds, whatever ids the client chose."""
CONNECTIONS_A_MS: Final = 10
"""Marks of connections that have nothing else to be told wait a millisecond for each so many of them."""

_LAST_NUMBER: Final = 0xFFFF


class Stream:
    """One watch."""

    __slots__ = ("connection", "covered", "credit", "cursor", "request", "watched")

    def __init__(self, connection: int, request: WatchRequest, watched: Watched, cursor: bytes) -> None:
        self.connection: Final = connection
        self.request: Final = request
        self.watched: Final = watched
        self.credit = request.credit
        self.cursor = cursor
        """Unless covered: mark of the last event sent, or passed over."""
        self.covered = False

    @property
    def variant(self) -> tuple[bytes, int]:
        """Streams of one partition with equal variants want the same bytes."""
        return self.request.filter, self.request.flags


class Piece:
    """Some events as they travel, and the frames with them for each watch id: often many share one."""

    __slots__ = ("_frames", "events")

    def __init__(self, events: bytes) -> None:
        self.events: Final = events
        self._frames: dict[int, bytes] = {}

    def frame(self, watch: int) -> bytes:
        """A whole EVENTS frame."""
        frame = self._frames.get(watch)
        if frame is None:
            frame = self._frames[watch] = encode_events(encode_part(watch, self.events))
        return frame


class Watched:
    """A partition that is watched."""

    __slots__ = ("asked", "broad", "exact", "key", "streams", "target")

    def __init__(self, key: tuple[SlotId, PrimitiveId, int], target: bytes) -> None:
        self.key: Final = key
        self.target: Final = target
        self.streams: dict[Stream, None] = {}
        self.exact: dict[tuple[bytes, int], dict[Stream, None]] = {}
        """The covered streams that want one key, by what they want."""
        self.broad: dict[tuple[bytes, int], dict[Stream, None]] = {}
        """The other covered streams, by what they want."""
        self.asked = False
        """Whether the group's leader was asked if the partition, which is not open here, exists."""

    def alike(self, stream: Stream) -> dict[tuple[bytes, int], dict[Stream, None]]:
        """The covered streams of that one's kind."""
        filter, flags = stream.variant
        return self.exact if filter and not flags & WatchFlag.PREFIX else self.broad

    def concerned(self, events: list[Event]) -> list[tuple[tuple[bytes, int], dict[Stream, None]]]:
        """Covered streams, by what they want, that these events may concern."""
        found = list(self.broad.items())
        if not self.exact:
            return found
        keys = dict.fromkeys(event.key for event in events)
        if b"" in keys:
            return found + list(self.exact.items())
        for variant in ((key, flags) for key in keys for flags in (0, WatchFlag.PREVIOUS)):
            if variant in self.exact:
                found.append((variant, self.exact[variant]))
        return found


class WireEvents:
    """Encodes an event when it is first needed, with and without the value that it replaced."""

    __slots__ = ("_event", "_history", "_plain", "_with_previous")

    def __init__(self, event: Event, history: History) -> None:
        self._event: Final = event
        self._history: Final = history
        self._plain: bytes | None = None
        self._with_previous: bytes | None = None

    def lacks(self, flags: int) -> bool:
        """Whether the event replaced a value that streams with these flags want, and that is gone by now."""
        previous = self._event.previous if flags & WatchFlag.PREVIOUS else b""
        return bool(previous) and self._history.table.get(previous) is None

    def encoded(self, flags: int) -> bytes:
        """The event's bytes for a stream with these flags."""
        event = self._event
        if flags & WatchFlag.PREVIOUS and event.previous:
            if self._with_previous is None:
                row = self._history.table.get(event.previous)
                self._with_previous = _encode(event, None if row is None else value_of(row))
            return self._with_previous
        if self._plain is None:
            self._plain = _encode(event, None)
        return self._plain


def _encode(event: Event, previous: bytes | None) -> bytes:
    revision, number = MARK.unpack(event.mark)
    return encode_event(revision, number, event.kind, event.key, event.value, previous)


def wants(filter: bytes, flags: int, key: bytes) -> bool:
    """Whether an event of ``key`` passes; an event of no key always does."""
    if not filter or not key:
        return True
    return key.startswith(filter) if flags & WatchFlag.PREFIX else key == filter


def behind(revision: int) -> bytes:
    """The cursor behind all events of ``revision``."""
    return MARK.pack(revision, _LAST_NUMBER)


class GroupStreams:
    """All streams of one replica."""

    def __init__(self, driver: GroupDriver) -> None:
        self.driver = driver
        self.streams = 0
        self.watched: Final[dict[bytes, Watched]] = {}
        self._applier = driver.applier
        self._version = driver.applier.ownership_version
        self._revision = driver.applier.revision
        """Up to where covered streams have had everything."""
        self._told = self._revision
        """Up to where every connection with covered streams was told so."""
        self._tell_at_ms = 0
        self._lagging: dict[Stream, None] = {}
        self._doubtful: dict[Stream, None] = {}
        """Streams of partitions that are not open here, and may have been deleted behind their cursors: they
        are not called complete before the partition opens, and end if the leader says that it is gone."""
        self._connections: dict[int, int] = {}
        """How many covered streams each connection has here."""
        self._pushed: dict[int, None] = {}
        """Connections that this round sends events to."""
        self._marks: dict[int, list[Mark]] = {}

    @property
    def is_waiting(self) -> bool:
        """Whether some stream is to be read from the history."""
        return bool(self._lagging)

    # --- Who watches ----------------------------------------------------------------------------------------

    def add(self, connection: int, request: WatchRequest) -> Stream:
        """Takes a new stream, which is first read from the history."""
        primitive = PrimitiveId(SlotId(request.primitive_slot), Revision(request.primitive_revision))
        key = SlotId(request.slot), primitive, request.partition
        target = TARGET.pack(request.slot, *primitive, request.partition)
        watched = self.watched.get(target)
        if watched is None:
            watched = self.watched[target] = Watched(key, target)
            self._applier.watched.add(target)
        stream = Stream(connection, request, watched, MARK.pack(*request.start(self._applier.revision)))
        watched.streams[stream] = None
        self._lagging[stream] = None
        self.streams += 1
        return stream

    def remove(self, stream: Stream) -> None:
        """Forgets a stream."""
        if stream.covered:
            self._uncover(stream)
        self._lagging.pop(stream, None)
        self._doubtful.pop(stream, None)
        watched = stream.watched
        del watched.streams[stream]
        self.streams -= 1
        if not watched.streams:
            del self.watched[watched.target]
            self._applier.watched.discard(watched.target)

    def allow(self, stream: Stream, credit: int) -> None:
        """A client allows more bytes."""
        stream.credit += credit

    def unknown(self) -> list[Watched]:
        """Partitions that are watched and not open here."""
        knows = self._applier.knows
        return [watched for watched in self.watched.values() if not knows(*watched.key)]

    def moved(self, driver: GroupDriver) -> None:
        """The replica has another state than before, from a snapshot: every stream goes on from where it is,
        if that is still in the history."""
        self._applier.watched.clear()
        for watched in self.watched.values():
            for stream in watched.streams:
                if stream.covered:
                    self._fall_behind(stream, self._revision)
        self.driver, self._applier = driver, driver.applier
        self._applier.watched.update(self.watched)
        self._revision = driver.applier.revision
        self._version = -1
        self._lagging.update(self._doubtful)
        self._doubtful.clear()

    # --- The round ------------------------------------------------------------------------------------------

    def round(self, now_ms: int, out: Outbox) -> list[tuple[Stream, int, str]]:
        """Sends what is new; returns the streams that end with it, with code and text."""
        ended: list[tuple[Stream, int, str]] = []
        if self.driver.applier is not self._applier:
            self.moved(self.driver)
        if self._applier.ownership_version != self._version:
            self._check_owner(ended)
        events = self.driver.applying.take_events()
        if events:
            self._push(events, out, ended)
        self._revision = self._applier.revision
        if self._doubtful:
            self._clear_up()
        if self._lagging:
            self._read(out, ended)
        self._tell(now_ms, out)
        return ended

    def has_more(self) -> bool:
        """Whether a further round can send something now."""
        return any(self._may_send(stream) for stream in self._lagging)

    def _may_send(self, stream: Stream) -> bool:
        return stream.credit > 0 and MARK.unpack(stream.cursor)[0] <= self._revision

    def _check_owner(self, ended: list[tuple[Stream, int, str]]) -> None:
        self._version = self._applier.ownership_version
        for watched in self.watched.values():
            for stream in watched.streams:
                request = stream.request
                if not self._applier.owns(request.slot, request.epoch):
                    ended.append((stream, Code.WRONG_SLOT, "the slot moved"))

    def _push(
        self, events: list[tuple[bytes, bytes, bytes]], out: Outbox, ended: list[tuple[Stream, int, str]]
    ) -> None:
        """Gives what was applied to the covered streams that want it."""
        by_target: dict[bytes, list[Event]] = {}
        for target, mark, row in events:
            by_target.setdefault(target, []).append(read_event(mark, row))
        for target, found in by_target.items():
            watched = self.watched.get(target)
            if watched is None:
                continue
            concerned = watched.concerned(found)
            if concerned:
                history = self._applier.left_of(*watched.key)
                wires = [(event.key, WireEvents(event, history)) for event in found]
                for (filter, flags), streams in concerned:
                    wanted = [wire for key, wire in wires if wants(filter, flags, key)]
                    if flags & WatchFlag.PREVIOUS and any(wire.lacks(flags) for wire in wanted):
                        # The history has lost it in this very round: to be told of it is their end.
                        for stream in list(streams):
                            self._fall_behind(stream, self._revision)
                    elif wanted:
                        self._give(list(streams), [wire.encoded(flags) for wire in wanted], out)
            if found[-1].kind == EventKind.DELETED:
                # Those that lag, too: there is no history any more to read the rest from.
                for stream in watched.streams:
                    self._lagging.pop(stream, None)
                    self._doubtful.pop(stream, None)
                    ended.append((stream, Code.UNKNOWN_PRIMITIVE, "the primitive was deleted"))

    def _give(self, streams: Iterable[Stream], parts: list[bytes], out: Outbox) -> None:
        size = sum(map(len, parts))
        pieces = [Piece(events) for events in _pieces(parts)]
        pushed = self._pushed
        for stream in streams:
            if stream.credit < size:  # From the history, as far as it goes.
                self._fall_behind(stream, self._revision)
                continue
            stream.credit -= size
            watch, connection = stream.request.watch, stream.connection
            for piece in pieces:
                out.client(connection, piece.frame(watch))
            pushed[connection] = None

    # --- Streams that are not covered -----------------------------------------------------------------------

    def _cover(self, stream: Stream) -> None:
        stream.covered = True
        del self._lagging[stream]
        stream.watched.alike(stream).setdefault(stream.variant, {})[stream] = None
        connection = stream.connection
        self._connections[connection] = self._connections.get(connection, 0) + 1
        self._mark(stream, self._revision, covered=True)

    def _uncover(self, stream: Stream) -> None:
        stream.covered = False
        alike = stream.watched.alike(stream)
        same = alike[stream.variant]
        del same[stream]
        if not same:
            del alike[stream.variant]
        connection = stream.connection
        self._connections[connection] -= 1
        if not self._connections[connection]:
            del self._connections[connection]

    def _fall_behind(self, stream: Stream, revision: int) -> None:
        """The stream, which has had everything up to ``revision``, is covered no more."""
        self._uncover(stream)
        stream.cursor = behind(revision)
        self._lagging[stream] = None
        self._mark(stream, revision, covered=False)

    def _mark(self, stream: Stream, revision: int, *, covered: bool) -> None:
        mark = Mark(self.driver.group, revision, stream.request.watch, covered)
        self._marks.setdefault(stream.connection, []).append(mark)

    def _clear_up(self) -> None:
        """Reads on for those whose partitions have opened."""
        knows = self._applier.knows
        for stream in [stream for stream in self._doubtful if knows(*stream.watched.key)]:
            del self._doubtful[stream]
            self._lagging[stream] = None

    def _may_be_gone(self, stream: Stream) -> bool:
        """Whether the partition, which is not open here, may have had events behind the stream's cursor."""
        revision, _ = MARK.unpack(stream.cursor)
        return self._applier.deleted_behind(stream.watched.key[0], revision)

    def _read(self, out: Outbox, ended: list[tuple[Stream, int, str]]) -> None:
        """Reads for the streams that wait, in turns, within what one round may."""
        bytes_left, events_left = ROUND_BYTES, ROUND_EVENTS
        for stream in list(self._lagging):
            if bytes_left <= 0 or events_left <= 0:
                return
            if not self._may_send(stream):
                continue
            history = self._applier.history(*stream.watched.key)
            if history is None:
                events_left -= 1
                if self._may_be_gone(stream):
                    del self._lagging[stream]
                    self._doubtful[stream] = None
                else:
                    self._cover(stream)
                continue
            if stream.cursor < history.floor:
                text = (
                    f"the position is no longer kept, the history begins behind revision "
                    f"{history.floor_revision}: list what there is, or begin anew without a position"
                )
                ended.append((stream, Code.COMPACTED, text))
                continue
            sent, passed, deleted = self._slice(stream, history, out)
            bytes_left -= sent
            events_left -= passed + 1
            if deleted:
                ended.append((stream, Code.UNKNOWN_PRIMITIVE, "the primitive was deleted"))
            elif not stream.covered:  # It takes its turn behind the others.
                del self._lagging[stream]
                self._lagging[stream] = None

    def _slice(self, stream: Stream, history: History, out: Outbox) -> tuple[int, int, bool]:
        """Sends a slice; the bytes sent, the events passed, and whether the primitive's deletion was one."""
        filter, flags = stream.variant
        parts: list[bytes] = []
        size = passed = 0
        is_done, is_deleted = True, False
        for event in history.after(stream.cursor):
            if passed >= SLICE_EVENTS or size >= stream.credit:
                is_done = False
                break
            if wants(filter, flags, event.key):
                wire = WireEvents(event, history).encoded(flags)
                if parts and size + len(wire) > SLICE_BYTES:
                    is_done = False
                    break
                parts.append(wire)
                size += len(wire)
            passed += 1
            stream.cursor = event.mark
            is_deleted = event.kind == EventKind.DELETED
        if parts:
            stream.credit -= size
            out.client(stream.connection, encode_events(encode_part(stream.request.watch, b"".join(parts))))
            self._pushed[stream.connection] = None
        if is_done and not is_deleted:
            self._cover(stream)
        return size, passed, is_deleted

    # --- Marks ----------------------------------------------------------------------------------------------

    def _tell(self, now_ms: int, out: Outbox) -> None:
        """Says how far covered streams are complete: to connections that are sent something in this round
        anyway, and to all, which costs them a packet each, not more often than their number allows."""
        for connection, marks in self._marks.items():
            for at in range(0, len(marks), MARKS_A_FRAME_MAX):
                out.client(connection, encode_marks(marks[at : at + MARKS_A_FRAME_MAX]))
        self._marks.clear()
        revision, connections = self._revision, self._connections
        if revision == self._told or not connections:
            self._pushed.clear()
            self._told = revision
            return
        frame = encode_marks([Mark(self.driver.group, revision)])
        if now_ms >= self._tell_at_ms:
            self._tell_at_ms = now_ms + len(connections) // CONNECTIONS_A_MS
            self._told = revision
            for connection in connections:
                out.client(connection, frame)
        else:
            for connection in {**self._pushed, **dict.fromkeys(out.answering())}:
                if connection in connections:
                    out.client(connection, frame)
        self._pushed.clear()


def _pieces(parts: list[bytes]) -> list[bytes]:
    """Encoded events joined, in as few strings as ``PIECE_BYTES`` allows."""
    pieces: list[bytes] = []
    begun: list[bytes] = []
    size = 0
    for part in parts:
        if begun and size + len(part) > PIECE_BYTES:
            pieces.append(b"".join(begun))
            begun, size = [], 0
        begun.append(part)
        size += len(part)
    pieces.append(b"".join(begun))
    return pieces


def ended_frame(watch: int, code: int, text: str) -> bytes:
    """A whole WATCH_ENDED frame."""
    return encode_control(FrameKind.WATCH_ENDED, [watch, code, text])
