"""What is read of the store: a group's log and a group's rows, now or as of a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from primitives.errors import InvariantViolation
from primitives.ids import GroupId
from raftgroup.types import Entry, Index, Term
from shards.layout import LOG_KEY, state_end, state_prefix
from shards.logrecord import decode_record, record_term
from shards.moments import Moment
from shards.ports import StoreDamaged


class Reader(Protocol):
    """One column family as written so far. Errors are those of the store."""

    def get(self, key: bytes) -> bytes | None:
        """The row's value, or None."""

    def moment(self, end: bytes) -> Moment:
        """A new cursor that ends before ``end``, not yet placed."""


class GroupRows:
    """A group's rows of one epoch, as written so far; see :class:`shards.ports.StateView`."""

    __slots__ = ("_end", "_prefix", "_reader")

    def __init__(self, reader: Reader, group: GroupId, epoch: int) -> None:
        self._reader: Final = reader
        self._prefix: Final = state_prefix(group, epoch)
        self._end: Final = state_end(group, epoch)

    def get(self, key: bytes) -> bytes | None:
        """The row's value, or None. Raises ``StoreFailed``, ``StoreDamaged``."""
        return self._reader.get(self._prefix + key)

    def scan(
        self, start: bytes, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows with ``start <= key`` and, unless None, ``key < end``, as of this call. Raises
        ``StoreFailed``, ``StoreDamaged``, then or later."""
        begin = self._prefix + start
        stop = self._end if end is None else self._prefix + end
        return between(self._reader.moment, begin, stop, len(self._prefix), reverse)


class GroupRowsAsOf:
    """A group's rows of one epoch, as of a moment; see :class:`shards.ports.StateView`.

    On any thread, one at a time. All reads share the moment's one cursor, for there is no way to make
    another of the same moment: a scan that finds it moved places it anew.
    """

    __slots__ = ("_end", "_moment", "_prefix")

    def __init__(self, moment: Moment, group: GroupId, epoch: int) -> None:
        self._moment: Final = moment
        self._prefix: Final = state_prefix(group, epoch)
        self._end: Final = state_end(group, epoch)

    def get(self, key: bytes) -> bytes | None:
        """The row's value, or None. Raises ``StoreFailed``, ``StoreDamaged``."""
        key = self._prefix + key
        moment = self._moment
        moment.user = None
        try:
            moment.cursor.seek(key)
            if moment.cursor.valid():
                return moment.cursor.value() if moment.cursor.key() == key else None
            moment.cursor.status()
        except Exception as error:
            raise moment.failure(error) from error
        return None

    def scan(
        self, start: bytes, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows with ``start <= key`` and, unless None, ``key < end``. Raises ``StoreFailed``,
        ``StoreDamaged``, when the iterator is asked."""
        begin = self._prefix + start
        stop = self._end if end is None else self._prefix + end
        return between(lambda _: self._moment, begin, stop, len(self._prefix), reverse)


def between(
    place: Callable[[bytes], Moment], begin: bytes, stop: bytes, cut: int, reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    """Rows with ``begin <= key < stop`` of the moment that ``place`` gives for ``stop``; none is asked for if
    there can be no row."""
    if begin >= stop:
        return iter(())
    return (backward if reverse else forward)(place(stop), begin, stop, cut)


def forward(moment: Moment, begin: bytes, stop: bytes, cut: int) -> Iterator[tuple[bytes, bytes]]:
    """Rows from ``begin`` on, before ``stop``, the first ``cut`` bytes of each key left out."""
    me = object()
    try:
        moment.cursor.seek(begin)
        moment.user = me
        while moment.cursor.valid():
            key = moment.cursor.key()
            if key >= stop:
                return
            yield key[cut:], moment.cursor.value()
            if moment.user is not me:
                moment.cursor.seek(key)
                moment.user = me
            moment.cursor.next()
        moment.cursor.status()
    except Exception as error:
        raise moment.failure(error) from error


def backward(moment: Moment, begin: bytes, stop: bytes, cut: int) -> Iterator[tuple[bytes, bytes]]:
    """The rows of :func:`forward` in reverse. A cursor has no lower bound (the binding's would set the
    upper one), so the end is seen by comparing."""
    me = object()
    try:
        moment.cursor.seek_for_prev(stop)
        moment.user = me
        while moment.cursor.valid():
            key = moment.cursor.key()
            if key < begin:
                return
            if key < stop:
                yield key[cut:], moment.cursor.value()
                if moment.user is not me:
                    moment.cursor.seek(key)
                    moment.user = me
            moment.cursor.prev()
        moment.cursor.status()
    except Exception as error:
        raise moment.failure(error) from error


class LogEnds(NamedTuple):
    """What is kept in memory of a stored log."""

    base: Index
    """The last entry that was cut away; 0: none was."""
    base_term: Term
    last: Index
    """``base`` when no entry is left."""
    last_term: Term


class GroupLog:
    """A group's log, with its ends kept in memory; see :class:`raftgroup.types.LogReader`."""

    __slots__ = ("_base_term", "_damaged", "_first", "_group", "_last", "_last_term", "_reader")

    def __init__(
        self, reader: Reader, group: GroupId, damaged: Callable[[str], StoreDamaged], ends: LogEnds
    ) -> None:
        self._reader: Final = reader
        self._group: Final = group
        self._damaged: Final = damaged
        self._first = Index(ends.base + 1)
        self._base_term = ends.base_term
        self._last = ends.last
        self._last_term = ends.last_term

    def first_index(self) -> Index:
        """Index of the first entry kept; 1 when nothing was cut."""
        return self._first

    def last_index(self) -> Index:
        """Index of the last entry stored; one below the first when there is none."""
        return self._last

    def term(self, index: Index) -> Term:
        """Term of a stored entry, or of the one before the first, 0 at index 0. Raises ``StoreFailed``,
        ``StoreDamaged``."""
        if index == self._last:
            return self._last_term
        if index == self._first - 1:
            return self._base_term
        self._check(index)
        record = self._reader.get(LOG_KEY.pack(self._group, index))
        if record is None:
            raise self._damaged(f"entry {index} of group {self._group} is missing")
        self._decode(index, record)
        return record_term(record)

    def entries(self, low: Index, high_exclusive: Index, bytes_max: int) -> Sequence[Entry]:
        """Entries from ``low`` on, below ``high_exclusive`` and the end of the log: at least one, else
        records of at most ``bytes_max`` bytes together. Raises ``StoreFailed``, ``StoreDamaged``."""
        self._check(low)
        high = min(high_exclusive, self._last + 1)
        if low >= high:
            return ()
        found: list[Entry] = []
        size = 0
        expected = low
        begin, stop = LOG_KEY.pack(self._group, low), LOG_KEY.pack(self._group, high)
        for key, record in forward(self._reader.moment(stop), begin, stop, 0):
            if key != LOG_KEY.pack(self._group, expected):
                break
            size += len(record)
            if found and size > bytes_max:
                return found
            found.append(self._decode(expected, record))
            expected = Index(expected + 1)
        if expected != high:
            raise self._damaged(f"entry {expected} of group {self._group} is missing")
        return found

    def wrote(self, last: Entry) -> None:
        """A batch that ends the log with ``last`` was written."""
        self._last = last.index
        self._last_term = last.term

    def was_cut(self, index: Index, term: Term, *, keep: bool) -> None:
        """A batch was written from which on the log begins behind that entry."""
        self._first = Index(index + 1)
        self._base_term = term
        if not keep or index == self._last:
            self._last, self._last_term = index, term

    def _check(self, index: Index) -> None:
        if not self._first <= index <= self._last:
            raise InvariantViolation(
                f"reads entry {index} of group {self._group}, whose log holds {self._first} to {self._last}"
            )

    def _decode(self, index: Index, record: bytes) -> Entry:
        try:
            entry = decode_record(record)
        except StoreDamaged as error:
            raise self._damaged(f"group {self._group}, entry {index}: {error}") from error
        if entry.index != index:
            raise self._damaged(f"group {self._group}: the record at {index} says {entry.index}")
        return entry
