"""Tables: ordered rows over a store, with what is applied and not yet written in front of it.

A read looks into the table's overlay, then into a bounded cache of clean rows, then into the store. Writes go
into the overlay; :meth:`Tables.flush` hands it to whoever writes, and its rows are clean ones from then on.
Each command begins with :meth:`Tables.begin`, a savepoint: :meth:`Tables.rollback` undoes what it wrote.

What a machine sees depends on the history of its commands alone, never on what was written when.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, NoReturn, Protocol

from sortedcontainers import SortedList

from primitives import machine
from primitives.layout import after as following

_ABSENT: Final = bytes(bytearray(b"absent"))
"""Stands for "not in this dict"; told from rows, which may be any bytes or None, by its identity alone."""

_NO_ROWS: Final[Mapping[bytes, bytes | None]] = {}

ROW_OVERHEAD_BYTES: Final = 100
"""What a row in memory is taken to cost besides its bytes."""
HOST_WRITES_A_ROW: Final = 8
"""How many of the host's rows (timers, holdings) a command may write for each of its own."""
SCANS_A_ROW: Final = 4
"""How many rows a command may pass in scans for each row that it may write."""
TABLES_KEPT_MAX: Final = 65_536

_UNBOUNDED: Final = 1 << 62


class Rows(Protocol):
    """Rows as written so far; keys are relative to a group and its epoch."""

    def get(self, key: bytes) -> bytes | None:
        """The row's value, or None."""

    def scan(
        self, start: bytes, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows with ``start <= key`` and, unless None, ``key < end``; in order, or reversed."""


class Sink(Protocol):
    """Takes the rows that a flush writes."""

    def put(self, key: bytes, value: bytes) -> None:
        """Sets a row."""

    def delete(self, key: bytes) -> None:
        """Removes a row, if it is there."""

    def write(self, prefix: bytes, rows: Mapping[bytes, bytes | None]) -> None:
        """Sets rows, or removes those whose value is None, by their keys behind ``prefix``; at once, since
        the mapping changes later."""

    def drop(self, first: bytes, last: bytes) -> None:
        """Removes all rows from ``first`` to ``last``, both included, but those that are set after this.
        Costs little, however many they are."""


class Undoable(Protocol):
    """What takes part in savepoints."""

    def restore(self, key: bytes, previous: bytes | None) -> None:
        """Undoes one change, which was noted in :attr:`Tables.undo`."""


class RowsExceeded(Exception):
    """A command touches more rows than one may."""


class Tables:
    """All tables of a group: the savepoint, the cache and the way to the store.

    ``cache_bytes_max`` bounds the clean rows that the tables keep: two generations, of which the older goes
    at once.
    """

    __slots__ = ("_cache_bytes_max", "_caching", "_dirty", "_host_left", "_host_max", "_rows", "_rows_left",
                 "_rows_max", "_saved_bytes", "_scans_left", "_scans_max", "_tables", "_young_bytes", "bytes",
                 "failure", "undo")  # fmt: skip

    def __init__(self, rows: Rows, *, rows_a_command_max: int, cache_bytes_max: int) -> None:
        self._rows: Final = rows
        self._cache_bytes_max: Final = cache_bytes_max
        self._rows_max: Final = rows_a_command_max
        self._host_max: Final = HOST_WRITES_A_ROW * rows_a_command_max
        self._scans_max: Final = SCANS_A_ROW * rows_a_command_max
        self._rows_left = self._rows_max
        """What the present command may still write of a machine's rows, and below of the host's, and scan."""
        self._host_left = self._host_max
        self._scans_left = self._scans_max
        self._caching: dict[bytes, Table] = {}
        """Tables that keep clean rows, by prefix."""
        self._young_bytes = 0
        self._tables: dict[bytes, Table] = {}
        self._dirty: dict[bytes, Table] = {}
        self._saved_bytes = 0
        self.bytes = 0
        """What the overlays hold."""
        self.undo: Final[list[tuple[Undoable, bytes, bytes | None]]] = []
        """What the present command changed, in order."""
        self.failure: Exception | None = None
        """What a table raised in the present command, lest a machine catch it and go on."""

    def table(self, prefix: bytes) -> Table:
        """A machine's table; the same one each time until :meth:`forget`."""
        table = self._tables.get(prefix)
        if table is None:
            table = self._tables[prefix] = Table(self, prefix, is_host=False)
        return table

    def numbers(self, target: bytes, first: int, start: bytes) -> list[int]:
        """Numbers, from ``first`` on, of the tables of an instance that may have rows: all that have are
        among them, of table ``first`` those that have any from the key ``start`` on. ``target`` is the
        instance's, of ``layout.TARGET``. What was dropped before ``start`` is not walked over again."""
        size = len(target)
        found = {
            prefix[size] for prefix in self._dirty if len(prefix) == size + 1 and prefix.startswith(target)
        }
        number = first
        while number < 256:
            row = next(self.stored(target + bytes((number,)) + start, following(target), False), None)
            if row is None:
                break
            found.add(row[0][size])
            number, start = row[0][size] + 1, b""
        return sorted(number for number in found if number >= first)

    def host_table(self, prefix: bytes) -> Table:
        """A table of the host's own. One for each prefix is to be made, and kept."""
        return Table(self, prefix, is_host=True)

    def begin(self) -> None:
        """Sets the savepoint."""
        if self.undo:
            self.undo.clear()
        self._rows_left = self._rows_max
        self._host_left = self._host_max
        self._scans_left = self._scans_max
        self.failure = None
        self._saved_bytes = self.bytes

    def begin_query(self) -> None:
        """Sets the savepoint for something that only reads: it may pass any number of rows."""
        self.begin()
        self._rows_left = self._host_left = 0
        self._scans_left = _UNBOUNDED

    def used(self) -> int:
        """How many rows of machines were written since :meth:`begin`."""
        return self._rows_max - self._rows_left

    def written(self) -> int:
        """How many rows were written since :meth:`begin`, of machines and of the host."""
        return self._rows_max - self._rows_left + self._host_max - self._host_left

    def rollback(self) -> None:
        """Back to the savepoint."""
        undo = self.undo
        while undo:
            changed, key, previous = undo.pop()
            changed.restore(key, previous)
        self.bytes = self._saved_bytes

    @property
    def cache_bytes(self) -> int:
        """About how much the clean rows in memory take, but for those of the older generation."""
        return self._young_bytes

    def take(self, is_host: bool) -> None:
        """Counts a row that is written, the host's or a machine's, against the present command's bound;
        raises :class:`RowsExceeded`."""
        if is_host:
            if self._host_left <= 0:
                self._exceeded()
            self._host_left -= 1
        else:
            if self._rows_left <= 0:
                self._exceeded()
            self._rows_left -= 1

    def take_of_host(self, rows: int) -> None:
        """Counts so many rows of the host."""
        if self._host_left < rows:
            self._exceeded()
        self._host_left -= rows

    def take_scanned(self) -> None:
        """Counts a row that a scan passes, likewise."""
        if self._scans_left <= 0:
            self._exceeded()
        self._scans_left -= 1

    def _exceeded(self) -> NoReturn:
        self.failure = RowsExceeded("a command touches too many rows")
        raise self.failure

    def take_answer(self) -> None:
        """Counts a late answer like a row."""
        self.take(False)

    def allow_host(self) -> None:
        """The host may write one more row, however many the present command has written."""
        self._host_left = max(self._host_left, 1)

    def mark_dirty(self, prefix: bytes, table: Table) -> None:
        """The table has an overlay now."""
        self._dirty[prefix] = table

    def read_row(self, key: bytes) -> bytes | None:
        """A row as it stands in the store, past overlays and caches."""
        try:
            return self._rows.get(key)
        except Exception as error:
            self.failure = error
            raise

    def mark_caching(self, prefix: bytes, table: Table, size: int) -> None:
        """The table keeps one more clean row, of about so many bytes."""
        self._caching[prefix] = table
        self._remembered(size)

    def _remembered(self, size: int) -> None:
        self._young_bytes += size
        if self._young_bytes * 2 > self._cache_bytes_max:
            self._young_bytes = 0
            self._caching = {at: kept for at, kept in self._caching.items() if kept.age()}

    def stored(self, start: bytes, end: bytes | None, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
        """Clean rows in order, from the store."""
        try:
            yield from self._rows.scan(start, end, reverse=reverse)
        except Exception as error:
            self.failure = error
            raise

    def flush(self, sink: Sink) -> None:
        """Hands every overlay to ``sink``; then reads go to the store for them, so it must have them before
        the next command or query."""
        for prefix, table in self._dirty.items():
            if table.has_swept:
                table.drop_swept(sink)
            sink.write(prefix, table.overlay)
            table.clean()
        self._caching.update(self._dirty)
        self._remembered(self.bytes)
        self._dirty.clear()
        self.undo.clear()
        self.bytes = self._saved_bytes = 0

    def forget(self) -> bool:
        """Drops the machines' tables if they are too many; whoever keeps some must drop them too. To be
        called after a flush."""
        if len(self._tables) <= TABLES_KEPT_MAX or self._dirty:
            return False
        self._tables.clear()
        for table in self._caching.values():
            table.forget()
        self._caching.clear()
        self._young_bytes = 0
        return True


class _Swept(NamedTuple):
    """Rows that lie side by side and went together."""

    first: bytes
    last: bytes
    gone: Sequence[bytes]
    """All keys that had rows from the first to the last, but for those that stay."""


class Table(machine.Table):
    """Ordered rows, bytes to bytes, under one prefix."""

    __slots__ = (
        "_index", "_is_host", "_old", "_swept", "_tables", "_version", "_young", "overlay", "prefix",
    )  # fmt: skip

    def __init__(self, tables: Tables, prefix: bytes, *, is_host: bool) -> None:
        self._tables: Final = tables
        self.prefix: Final = prefix
        self._is_host: Final = is_host
        self.overlay: Final[dict[bytes, bytes | None]] = {}
        """What is applied and not written; None stands for a removed row."""
        self._young: dict[bytes, bytes | None] = {}
        self._old: Mapping[bytes, bytes | None] = _NO_ROWS
        """Clean rows, of two generations: what the younger has is right, whatever the older says."""
        self._index: SortedList[bytes] | None = None
        """The overlay's keys in order, from the first scan on until the flush."""
        self._version = 0
        """One up whenever the overlay gets or loses a key."""
        self._swept: list[_Swept] = []

    def get(self, key: bytes) -> bytes | None:
        """The row's value, or None."""
        value = self.overlay.get(key, _ABSENT)
        if value is _ABSENT:
            value = self._young.get(key, _ABSENT)
            if value is _ABSENT:
                return self._fetch(key)
        return value

    def _fetch(self, key: bytes) -> bytes | None:
        """A row that is neither in the overlay nor young."""
        value = self._old.get(key, _ABSENT)
        if value is _ABSENT:
            value = self._tables.read_row(self.prefix + key)
        self._young[key] = value
        size = len(key) + len(value or b"") + ROW_OVERHEAD_BYTES
        self._tables.mark_caching(self.prefix, self, size)
        return value

    def put(self, key: bytes, value: bytes) -> None:
        """Sets the row."""
        if type(key) is not bytes or type(value) is not bytes:
            raise TypeError("rows are bytes to bytes")
        tables = self._tables
        tables.take(self._is_host)
        overlay = self.overlay
        previous = overlay.get(key, _ABSENT)
        tables.undo.append((self, key, previous))
        if previous is _ABSENT:
            if not overlay or self._index is not None:
                self._added(key)
            self._version += 1
            tables.bytes += len(key) + len(value) + ROW_OVERHEAD_BYTES
        else:
            tables.bytes += len(value) - len(previous or b"")
        overlay[key] = value

    def add(self, key: bytes, value: bytes) -> None:
        """Sets a row whose key was never set before, which spares looking for it."""
        tables = self._tables
        tables.take(self._is_host)
        tables.undo.append((self, key, _ABSENT))
        overlay = self.overlay
        if not overlay or self._index is not None:
            self._added(key)
        self._version += 1
        tables.bytes += len(key) + len(value) + ROW_OVERHEAD_BYTES
        overlay[key] = value

    def delete(self, key: bytes) -> None:
        """Removes the row, if it is there."""
        if type(key) is not bytes:
            raise TypeError("rows are bytes to bytes")
        tables = self._tables
        tables.take(self._is_host)
        overlay = self.overlay
        previous = overlay.get(key, _ABSENT)
        tables.undo.append((self, key, previous))
        if previous is _ABSENT:
            self._added(key)
            self._version += 1
            tables.bytes += len(key) + ROW_OVERHEAD_BYTES
        else:
            tables.bytes -= len(previous or b"")
        overlay[key] = None

    def sweep(self, gone: Sequence[bytes], kept: Mapping[bytes, bytes]) -> None:
        """Removes the rows ``gone``, for good: the store drops them as one range, and is given again those in
        between that are ``kept``, with their values. There are no others from the first to the last of
        them, and none of their keys is ever set again. Of the host's tables alone, and not to be undone."""
        tables, overlay = self._tables, self.overlay
        tables.take_of_host(len(gone))
        if not overlay:
            tables.mark_dirty(self.prefix, self)
        overlay.update(dict.fromkeys(gone))
        overlay.update(kept)
        self._swept.append(_Swept(min(gone), max(gone), gone))
        self._index = None
        self._version += 1
        tables.bytes += (len(gone) + len(kept)) * ROW_OVERHEAD_BYTES
        tables.bytes += sum([len(row) for row in kept.values()])

    @property
    def has_swept(self) -> bool:
        """Whether rows were swept since the last flush."""
        return bool(self._swept)

    def drop_swept(self, sink: Sink) -> None:
        """Has ``sink`` drop what was swept, so that the overlay need not tell it row by row."""
        overlay, prefix = self.overlay, self.prefix
        for first, last, gone in self._swept:
            sink.drop(prefix + first, prefix + last)
            self._young.update(dict.fromkeys(gone))
            for key in gone:
                del overlay[key]
        self._swept.clear()

    def _added(self, key: bytes) -> None:
        if not self.overlay:
            self._tables.mark_dirty(self.prefix, self)
        if self._index is not None:
            self._index.add(key)

    def restore(self, key: bytes, previous: bytes | None) -> None:
        """Undoes one write."""
        if previous is not _ABSENT:
            self.overlay[key] = previous
            return
        del self.overlay[key]
        self._version += 1
        if self._index is not None:
            self._index.remove(key)

    def clean(self) -> None:
        """What is in the overlay is written: its rows are clean now."""
        self._young.update(self.overlay)
        self.overlay.clear()
        self._index = None
        self._version += 1

    def age(self) -> bool:
        """A generation of clean rows goes; whether any are left."""
        self._old, self._young = self._young, {}
        return bool(self._old)

    def forget(self) -> None:
        """Drops the clean rows."""
        self._old, self._young = _NO_ROWS, {}

    def scan(
        self, start: bytes = b"", end: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows with ``start <= key`` and, unless ``end`` is None, ``key < end``; in order, or reversed.

        Live: what the command changes ahead of the scan is seen as changed.
        """
        if end is not None and end <= start:
            return
        size = len(self.prefix)
        high = following(self.prefix) if end is None else self.prefix + end
        stored = self._tables.stored(self.prefix + start, high, reverse)
        version = -1
        candidates: Iterator[bytes] = iter(())
        candidate: bytes | None = None
        cursor: bytes | None = None
        row = next(stored, None)
        while True:
            if version != self._version:
                version = self._version
                candidates = self._ahead(start, end, cursor, reverse)
                candidate = next(candidates, None)
            key = None if row is None else row[0][size:]
            if candidate is not None and (
                key is None or candidate == key or (candidate < key) is not reverse
            ):
                if candidate == key:
                    row = next(stored, None)
                cursor = candidate
                value = self.overlay[candidate]
                candidate = next(candidates, None)
                if value is None:
                    continue
            elif row is not None:
                cursor, value = row[0][size:], row[1]
                row = next(stored, None)
            else:
                return
            if not self._is_host:
                self._tables.take_scanned()
            yield cursor, value

    def appended(self, after: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Rows behind the key ``after``, in order, of a table whose new keys only grow: what is not in the
        store yet comes behind all that is, in the order it was put. The table must not change meanwhile."""
        size, overlay, last = len(self.prefix), self.overlay, after
        start = self.prefix + after + b"\x00"
        for key, stored in self._tables.stored(start, following(self.prefix), False):
            last = key[size:]
            value = overlay.get(last, stored)
            if value is not None:
                yield last, value
        for key, value in overlay.items():
            if key > last and value is not None:
                yield key, value

    def _ahead(
        self, start: bytes, end: bytes | None, cursor: bytes | None, reverse: bool
    ) -> Iterator[bytes]:
        """Keys of the overlay that a scan at ``cursor`` has still before it."""
        if not self.overlay:
            return iter(())
        index = self._index
        if index is None:
            index = self._index = SortedList(self.overlay)
        if cursor is None:
            return index.irange(start, end, (True, False), reverse)
        if reverse:
            return index.irange(start, cursor, (True, False), True)
        return index.irange(cursor, end, (False, False))
