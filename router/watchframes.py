"""What is in the frames of watches.

A watch is one stream of events of one partition, from one replica to one connection. Its id is the client's
choice, used once on that connection. EVENTS is a row of parts, each ``u32 length of the rest | u64 watch id |
events``; an event is ``u32 length of the rest | u64 revision | u16 number | u8 kind | u8 flags | u16 key
length | u32 value length | u32 previous length | key | value | previous value``. What follows the watch id is
the same for all streams that want the same events, so that it is encoded once for all of them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from primitives.errors import ProtocolError
from primitives.limits import KEY_BYTES_MAX, NODE_FRAME_BYTES_MAX, WATCH_CREDIT_MAX
from primitives.position import WHOLE
from router.frames import FrameKind, decode_control, encode_control, encode_frame

FILTER_BYTES_MAX: Final = KEY_BYTES_MAX + 16
FROM_NOW: Final = -1
"""Stands for the position of the replica when the watch arrives."""

_PART: Final = struct.Struct(">IQ")
_EVENT: Final = struct.Struct(">IQHBBHII")
_HAS_PREVIOUS: Final = 1
PART_OVERHEAD_BYTES: Final = _PART.size
EVENT_OVERHEAD_BYTES: Final = _EVENT.size


class WatchFlag:
    """What a WATCH asks for further, added up."""

    PREFIX: Final = 1
    """The filter is a prefix of keys, not one key."""
    PREVIOUS: Final = 2
    """Events carry the values that they replaced, where they are still known."""


class WatchRequest(NamedTuple):
    """The envelope of WATCH."""

    watch: int
    """The watch's id."""
    group: int
    slot: int
    epoch: int
    """Of the slot, as the client's map has it."""
    primitive_slot: int
    primitive_revision: int
    partition: int
    type: int
    after: int
    """Events above this revision are wanted; ``FROM_NOW``: those to come."""
    flags: int
    filter: bytes
    """A key, or a prefix; empty: all keys. Events that name no key (CLEARED, DELETED) pass every filter."""
    credit: int
    """Bytes of events, of whatever follows the watch id in a part, that may be sent before more is allowed.
    A node sends while some is left, so what arrives may exceed it by one event."""
    number: int = WHOLE
    """Of the revision ``after``, events behind this number are wanted, too."""

    def start(self, applied: int) -> tuple[int, int]:
        """The place behind which events are wanted, revision and number, at a replica that has applied
        everything up to ``applied``."""
        return (applied, WHOLE) if self.after < 0 else (self.after, self.number)

    def standing(self, applied: int) -> int:
        """The revision up to which everything came before, if that replica serves the watch."""
        revision, number = self.start(applied)
        return revision if number == WHOLE else max(revision - 1, 0)


class Mark(NamedTuple):
    """One item of MARKS, an array of two, three or four.

    ``[group, revision]``: each watch of that group on this connection that is *covered* has had all its
    events up to ``revision``. A watch is not covered when it begins. ``[group, revision, watch]``: that watch
    alone has had all up to ``revision``, and is covered from now on. ``[group, revision, watch, False]``: it
    has had all up to ``revision``, and is not covered any more: it lacks credit, or falls behind.
    """

    group: int
    revision: int
    watch: int | None = None
    covered: bool = True


class WireEvent(NamedTuple):
    """An event as it travels."""

    revision: int
    number: int
    """Its place among the events of that revision."""
    kind: int
    key: bytes
    value: bytes
    previous: bytes | None
    """The value that it replaced, if asked for, there was one, and it is known."""


def encode_event(
    revision: int, number: int, kind: int, key: bytes, value: bytes, previous: bytes | None = None
) -> bytes:
    """An event's bytes within a part."""
    former = previous or b""
    rest = _EVENT.size - 4 + len(key) + len(value) + len(former)
    flags = 0 if previous is None else _HAS_PREVIOUS
    head = _EVENT.pack(rest, revision, number, kind, flags, len(key), len(value), len(former))
    return b"".join((head, key, value, former))


def encode_part(watch: int, events: bytes) -> bytes:
    """A part of EVENTS: encoded events for one watch."""
    return _PART.pack(8 + len(events), watch) + events


def encode_events(parts: bytes) -> bytes:
    """A whole EVENTS frame of encoded parts, at most ``NODE_FRAME_BYTES_MAX`` together."""
    return encode_frame(FrameKind.EVENTS, parts, NODE_FRAME_BYTES_MAX)


def decode_events(payload: bytes) -> Iterator[tuple[int, WireEvent, int]]:
    """Watch id, event, and the event's bytes as they count against credit, for each event of an EVENTS
    frame, in order; read as they are taken. Raises :class:`ProtocolError`."""
    at, end = 0, len(payload)
    while at < end:
        if at + _PART.size > end:
            raise ProtocolError("a part of events cut short")
        size, watch = _PART.unpack_from(payload, at)
        start = at + _PART.size
        at += 4 + size
        if size < 8 or at > end:
            raise ProtocolError("a part of events whose length is not its own")
        while start < at:
            event, start = _decode_event(payload, start, at)
            yield watch, *event


def _decode_event(payload: bytes, at: int, end: int) -> tuple[tuple[WireEvent, int], int]:
    start = at + _EVENT.size
    if start > end:
        raise ProtocolError("an event cut short")
    size, revision, number, kind, flags, key_length, value_length, former_length = _EVENT.unpack_from(
        payload, at
    )
    value_at = start + key_length
    former_at = value_at + value_length
    after = former_at + former_length
    if at + 4 + size != after or after > end:
        raise ProtocolError("an event whose length is not its own")
    former = payload[former_at:after] if flags & _HAS_PREVIOUS else None
    event = WireEvent(
        revision, number, kind, payload[start:value_at], payload[value_at:former_at], former
    )
    return (event, after - at), after


def encode_watch(request: WatchRequest) -> bytes:
    """A whole WATCH frame."""
    return encode_control(FrameKind.WATCH, list(request))


def decode_watch(payload: bytes) -> WatchRequest:
    """What a WATCH asks for; raises :class:`ProtocolError`."""
    items, _ = decode_control(payload)
    if len(items) != len(WatchRequest._fields):
        raise ProtocolError("a WATCH of another form")
    request = WatchRequest(*items)
    bounds = (
        (request.watch, 64), (request.group, 32), (request.slot, 16), (request.epoch, 32),
        (request.primitive_slot, 16), (request.primitive_revision, 64), (request.partition, 16),
        (request.type, 8), (request.flags, 2), (request.number, 16),
    )  # fmt: skip
    if (
        not all(_is_number(item, 1 << bits) for item, bits in bounds)
        or type(request.after) is not int or not FROM_NOW <= request.after < 1 << 64
        or type(request.filter) is not bytes or len(request.filter) > FILTER_BYTES_MAX
        or not _is_number(request.credit, WATCH_CREDIT_MAX + 1)
    ):  # fmt: skip
        raise ProtocolError("a WATCH of another form")
    return request


def decode_credit(payload: bytes) -> tuple[int, int]:
    """Watch id and bytes of a CREDIT; raises :class:`ProtocolError`."""
    items, _ = decode_control(payload)
    if len(items) != 2 or not _is_number(items[0], 1 << 64) or not _is_number(items[1], WATCH_CREDIT_MAX + 1):
        raise ProtocolError("a CREDIT of another form")
    return items[0], items[1]


def decode_unwatch(payload: bytes) -> int:
    """Watch id of an UNWATCH; raises :class:`ProtocolError`."""
    items, _ = decode_control(payload)
    if len(items) != 1 or not _is_number(items[0], 1 << 64):
        raise ProtocolError("an UNWATCH of another form")
    return int(items[0])


def decode_watching(payload: bytes) -> tuple[int, int, int]:
    """Watch id, group and revision of a WATCHING; raises :class:`ProtocolError`."""
    items, _ = decode_control(payload)
    if len(items) != 3 or not all(_is_number(item, 1 << 64) for item in items):
        raise ProtocolError("a WATCHING of another form")
    return items[0], items[1], items[2]


def decode_watch_ended(payload: bytes) -> tuple[int, int, str]:
    """Watch id, code and text of a WATCH_ENDED; raises :class:`ProtocolError`."""
    items, _ = decode_control(payload)
    if (
        len(items) != 3 or not _is_number(items[0], 1 << 64) or not _is_number(items[1], 256)
        or type(items[2]) is not str
    ):  # fmt: skip
        raise ProtocolError("a WATCH_ENDED of another form")
    return items[0], items[1], items[2]


def encode_marks(marks: list[Mark]) -> bytes:
    """A whole MARKS frame."""
    return encode_control(FrameKind.MARKS, [_mark_item(mark) for mark in marks])


def _mark_item(mark: Mark) -> list[Any]:
    if mark.watch is None:
        return [mark.group, mark.revision]
    item: list[Any] = [mark.group, mark.revision, mark.watch]
    return item if mark.covered else [*item, False]


def decode_marks(payload: bytes) -> list[Mark]:
    """What a MARKS says, in order; raises :class:`ProtocolError`."""
    items, _ = decode_control(payload)
    return [_mark_of(item) for item in items]


def _mark_of(item: Any) -> Mark:
    if (
        type(item) is not list or not 2 <= len(item) <= 4
        or not all(_is_number(number, 1 << 64) for number in item[:3]) or item[3:] not in ([], [False])
    ):  # fmt: skip
        raise ProtocolError("a MARKS of another form")
    return Mark(*item)


def _is_number(item: Any, below: int) -> bool:
    return type(item) is int and 0 <= item < below
