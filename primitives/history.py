"""History: the events of each partition as replicated rows, bounded by their number, bytes and age.

An event's row stands under its *mark*: the revision of the command that emitted it, and its number in that
command. A kept row outlives the history, so that a value is stored once: in the event that set it, with the
mark in the row that is read by keys. The row of an event that replaced a value names the mark of that value,
which goes when the event leaves the history. So each row is dropped exactly once, by whichever comes last.

What is emitted costs one row; sums are kept in memory and written by a flush. History is trimmed by timers of
the host, a slice at a time, never by the commands that emit.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

from primitives.errors import InvariantViolation
from primitives.ids import Revision
from primitives.layout import HOST_TARGET, HostTable, host_prefix
from primitives.limits import HISTORY_AGE_MS, HISTORY_BYTES_MAX, HISTORY_EVENTS_MAX
from primitives.numbering import Target
from primitives.tables import Sink, Table, Tables
from primitives.timers import Timers

TRIM_EVENTS: Final = 500
"""Events that one slice drops at the most."""
AGE_SLACK_MS: Final = 30_000
"""Old events are dropped this much later than they might be, so that many go by one timer."""
SWEPT_KEPT_BYTES: Final = 100
"""Rows of a slice are dropped as a range if those between them that stay, which are written again with the
next flush, have at most so many bytes for each."""
SWEPT_MIN: Final = 8
"""Fewer rows are not worth a range, which reads have to look at until a compaction."""
SLACK_PARTS: Final = 32
"""A history may exceed its bounds by one part in so many before it is trimmed."""
EVENT_OVERHEAD_BYTES: Final = 64
"""What an event is taken to cost besides its row."""
TRIM_TIMER: Final = 3
"""What payloads of the timers here begin with; a target follows."""

MARK: Final = struct.Struct(">QH")
"""Revision and number in the command."""
HEAD: Final = struct.Struct(">BBQH")
"""An event's kind, flags, log time and length of key; the previous mark, the key and the value follow."""
_HEAD_BYTES: Final = HEAD.size
_MARK_BYTES: Final = MARK.size
HAS_PREVIOUS: Final = 1
KEPT: Final = 2

_META: Final = struct.Struct(">10sIQB")
"""Floor, events, bytes, armed timers."""
_PARTITION: Final = struct.Struct(">HQH")
_SLICING: Final = 1
_AGING: Final = 2
_NO_MARK: Final = bytes(_MARK_BYTES)


class HistoryLimits(NamedTuple):
    """Bounds of a partition's history. Replicated decisions: equal on every node."""

    events_max: int = HISTORY_EVENTS_MAX
    bytes_max: int = HISTORY_BYTES_MAX
    age_ms: int = HISTORY_AGE_MS


HISTORY_LIMITS: Final = HistoryLimits()


class Event(NamedTuple):
    """An event, read from its row."""

    mark: bytes
    kind: int
    key: bytes
    value: bytes
    previous: bytes
    """Mark of the value that it replaced; empty if there is none."""


def read_event(mark: bytes, row: bytes) -> Event:
    """What a row says."""
    kind, flags, _, length = HEAD.unpack_from(row)
    key_at = _HEAD_BYTES + (_MARK_BYTES if flags & HAS_PREVIOUS else 0)
    value_at = key_at + length
    return Event(mark, kind, row[key_at:value_at], row[value_at:], row[_HEAD_BYTES:key_at])


def value_of(row: bytes) -> bytes:
    """The value of an event's row."""
    _, flags, _, length = HEAD.unpack_from(row)
    return row[_HEAD_BYTES + length + (_MARK_BYTES if flags & HAS_PREVIOUS else 0) :]


class History:
    """One partition's history."""

    __slots__ = ("armed", "bytes", "count", "dirty", "floor", "gone", "table", "target")

    def __init__(self, table: Table, target: bytes, meta: bytes | None) -> None:
        self.table: Final = table
        self.target: Final = target
        self.floor = _NO_MARK
        """Mark of the last event dropped: all later ones are there, and of earlier ones those kept."""
        self.count = self.bytes = self.armed = 0
        if meta is not None:
            self.floor, self.count, self.bytes, self.armed = _META.unpack(meta)
        self.dirty = False
        """Whether the sums changed since the last flush."""
        self.gone = False
        """Whether nothing of it is left, for the primitive was deleted."""

    @property
    def floor_revision(self) -> Revision:
        """All events above this revision are there."""
        return Revision(MARK.unpack(self.floor)[0])

    def after(self, mark: bytes) -> Iterator[Event]:
        """The events behind ``mark``, which is not before the floor, in order."""
        for found, row in self.table.appended(mark):
            yield read_event(found, row)

    def meta(self) -> bytes:
        """The sums as a row."""
        return _META.pack(self.floor, self.count, self.bytes, self.armed)


Emitted = tuple[History, bytes, bytes]
"""History, mark and row of an event whose command is not through yet."""


class Histories:
    """The histories of a group.

    ``watched`` has the targets whose events :attr:`collected` is to get. It is no replicated state.
    """

    __slots__ = ("_age_ms", "_bytes_high", "_bytes_max", "_count_high", "_count_max", "_dirty", "_kept",
                 "_slice", "_tables", "_timers", "collected", "watched")  # fmt: skip

    def __init__(
        self, tables: Tables, timers: Timers, limits: HistoryLimits, rows_a_command_max: int
    ) -> None:
        self._tables: Final = tables
        self._timers: Final = timers
        self._age_ms: Final = limits.age_ms
        self._count_max: Final = limits.events_max
        self._count_high: Final = limits.events_max + limits.events_max // SLACK_PARTS
        self._bytes_max: Final = limits.bytes_max
        self._bytes_high: Final = limits.bytes_max + limits.bytes_max // SLACK_PARTS
        self._slice: Final = min(TRIM_EVENTS, rows_a_command_max)
        self._kept: dict[bytes, History] = {}
        self._dirty: list[History] = []
        self.watched: set[bytes] = set()
        self.collected: list[tuple[bytes, bytes, bytes]] = []
        """Target, mark and row of each event of a watched partition, for the present entry."""

    def of(self, key: Target, target: bytes) -> History:
        """The history of a partition: one object each, until :meth:`forget`."""
        history = self._kept.get(target)
        if history is None:
            slot, primitive, partition = key
            prefix = host_prefix(slot, HostTable.HISTORY) + _PARTITION.pack(*primitive, partition)
            meta = self._tables.read_row(prefix)
            history = self._kept[target] = History(self._tables.host_table(prefix), target, meta)
        return history

    def commit(self, emitted: list[Emitted], log_time_ms: int) -> None:
        """Takes the events of a command that succeeded; empties the list."""
        watched = self.watched
        for history, mark, row in emitted:
            history.count = count = history.count + 1
            history.bytes = size = history.bytes + len(row) + EVENT_OVERHEAD_BYTES
            if not history.dirty:
                self._touch(history)
            if not history.armed:
                self._arm(history, _AGING, log_time_ms + self._age_ms + AGE_SLACK_MS)
            if count > self._count_high or size > self._bytes_high:
                self._arm(history, _SLICING, log_time_ms)
            if watched and history.target in watched:
                self.collected.append((history.target, mark, row))
        emitted.clear()

    def _arm(self, history: History, kind: int, deadline_ms: int) -> None:
        if not history.armed & kind:
            self._tables.allow_host()
            self._timers.arm(deadline_ms, HOST_TARGET, bytes((TRIM_TIMER, kind)) + history.target)
            history.armed |= kind

    def release(self, history: History, mark: bytes) -> None:
        """See ``machine.Context``."""
        if mark <= history.floor:
            history.table.delete(mark)
            return
        row = history.table.get(mark)
        if row is not None and row[1] & KEPT:
            history.table.put(mark, b"".join((row[:1], bytes((row[1] & ~KEPT,)), row[2:])))

    def trim(self, history: History, kind: int, log_time_ms: int) -> None:
        """A timer of that kind is due: drops a slice, and arms what comes next."""
        history.armed &= ~kind
        self._touch(history)
        old_ms = log_time_ms - self._age_ms
        rows = list(islice(history.table.appended(history.floor), self._slice))
        outdated: list[bytes] = []
        """Values that were replaced before what is dropped now."""
        kept: dict[bytes, bytes] = {}
        gone: list[bytes] = []
        for mark, row in rows:
            _, flags, at_ms, _ = HEAD.unpack_from(row)
            if at_ms > old_ms and history.count <= self._count_max and history.bytes <= self._bytes_max:
                self._arm(history, _AGING, at_ms + self._age_ms + AGE_SLACK_MS)
                break
            history.floor = mark
            history.count -= 1
            history.bytes -= len(row) + EVENT_OVERHEAD_BYTES
            if flags & HAS_PREVIOUS:
                previous = row[_HEAD_BYTES : _HEAD_BYTES + _MARK_BYTES]
                if kept.pop(previous, None) is None:
                    outdated.append(previous)
                else:
                    gone.append(previous)
            if flags & KEPT:
                kept[mark] = row
            else:
                gone.append(mark)
        else:
            if history.count:
                if not rows:
                    raise InvariantViolation(f"a history lacks {history.count} events that it counts")
                self._arm(history, _SLICING, log_time_ms)
        self.drop(history, outdated, gone, kept)

    def drop(
        self, history: History, outdated: Sequence[bytes], gone: Sequence[bytes], kept: Mapping[bytes, bytes]
    ) -> None:
        """Drops rows: those of ``outdated``, wherever they are, and those of ``gone``, with none between them
        but those of ``kept``."""
        apart = gone
        if len(gone) >= SWEPT_MIN:
            first, last = min(gone), max(gone)
            between = {mark: row for mark, row in kept.items() if first < mark < last}
            if sum([len(row) for row in between.values()]) <= SWEPT_KEPT_BYTES * len(gone):
                history.table.sweep(gone, between)
                apart = ()
        for mark in (*outdated, *apart):
            history.table.delete(mark)

    def dropped(self, history: History) -> None:
        """All rows of a deleted partition's history are dropped, kept ones too."""
        history.count = history.bytes = 0
        history.gone = True
        self._touch(history)

    def _touch(self, history: History) -> None:
        if not history.dirty:
            history.dirty = True
            self._dirty.append(history)

    def flush(self, sink: Sink) -> None:
        """Writes the sums that changed."""
        for history in self._dirty:
            if history.gone:
                sink.delete(history.table.prefix)
            else:
                sink.put(history.table.prefix, history.meta())
            history.dirty = False
        self._dirty.clear()

    def forget(self) -> None:
        """Drops what is in memory; after a flush, with whoever has one of them."""
        self._kept.clear()
