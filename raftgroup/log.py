"""A replica's log: what is stored, and over it a tail in memory with what is recent or not yet written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raftgroup.types import Entry, Index, InvariantViolation, LogReader, Term

ENTRY_BYTES: Final = 64
"""What an entry counts for beside its data, wherever bytes are bounded."""


class Log:
    """The stored log joined with the entries in memory.

    The tail holds every entry from ``offset`` on; whatever is below is in the store, the same. Entries
    below ``unwritten`` were handed over for writing. They leave memory once the store shows them, synced or
    not: so the tail drains though durability notices are dropped when their term is over, and no entry is
    missed while the store holds a batch back.
    """

    __slots__ = (
        "_reader", "_tail", "_tail_bytes", "_tail_bytes_max", "last", "last_term", "offset", "unwritten",
    )  # fmt: skip

    def __init__(self, reader: LogReader, tail_bytes_max: int) -> None:
        self._reader: Final = reader
        self._tail: list[Entry] = []
        self._tail_bytes = 0
        self._tail_bytes_max: Final = tail_bytes_max
        self.last = reader.last_index()
        self.last_term = reader.term(self.last)
        self.offset = Index(self.last + 1)
        self.unwritten = self.offset

    def first(self) -> Index:
        """Index of the first entry that was not cut away."""
        return self._reader.first_index()

    def term(self, index: int) -> Term | None:
        """The term of the entry at ``index``; None when there is none, not yet or no longer."""
        if index >= self.offset:
            return self._tail[index - self.offset].term if index <= self.last else None
        if index == self.last:
            return self.last_term
        if index < self._reader.first_index() - 1:
            return None
        return self._reader.term(Index(index))

    def append(self, entry: Entry) -> None:
        """Adds an entry of the leader's own."""
        self._tail.append(entry)
        self._tail_bytes += len(entry.data) + ENTRY_BYTES
        self.last = entry.index
        self.last_term = entry.term

    def extend(self, entries: Sequence[Entry]) -> None:
        """Adds entries that follow the last one, at least one."""
        expected, term = self.last + 1, self.last_term
        size = 0
        for entry in entries:
            if entry.index != expected or entry.term < term:
                raise InvariantViolation(f"entry {entry} after {self.last_term}/{self.last}")
            expected += 1
            term = entry.term
            size += len(entry.data) + ENTRY_BYTES
        self._tail.extend(entries)
        self._tail_bytes += size
        self.last = entries[-1].index
        self.last_term = term

    def truncate(self, index: Index) -> None:
        """Drops every entry from ``index`` on. The caller has found a conflict there, above the commit."""
        keep = index - self.offset
        if keep >= 0:
            for entry in self._tail[keep:]:
                self._tail_bytes -= len(entry.data) + ENTRY_BYTES
            del self._tail[keep:]
        else:
            self._tail.clear()
            self._tail_bytes = 0
            self.offset = index
        self.last = Index(index - 1)
        if index > self.offset:
            self.last_term = self._tail[-1].term
        else:
            self.last_term = self._reader.term(self.last)
        self.unwritten = min(self.unwritten, index)

    def slice(self, low: Index, high_exclusive: Index, bytes_max: int) -> Sequence[Entry]:
        """Entries from ``low`` on: at least one, else at most ``bytes_max`` bytes; perhaps fewer than there
        are."""
        offset = self.offset
        if low < offset:
            entries = self._reader.entries(low, min(high_exclusive, offset), bytes_max)
            if not entries or entries[0].index != low:
                raise InvariantViolation(f"the store has no entry {low} below the tail from {offset} on")
            return entries
        tail = self._tail
        start = end = low - offset
        limit = high_exclusive - offset
        if limit - start == 1:
            return (tail[start],)
        size = 0
        while end < limit:
            size += len(tail[end].data) + ENTRY_BYTES
            if size > bytes_max and end > start:
                break
            end += 1
        return tail[start:end]

    def take_unwritten(self) -> Sequence[Entry]:
        """Hands over the entries that are to be written."""
        if self._tail_bytes > self._tail_bytes_max:
            self._trim()
        if self.unwritten > self.last:
            return ()
        entries = self._tail[self.unwritten - self.offset :]
        self.unwritten = Index(self.last + 1)
        return entries

    def _trim(self) -> None:
        """Lets go of stored entries, the oldest first, down to half of the bound: so that each entry is
        moved a bounded number of times.

        One look at the store is enough: logs that hold the same entry, by index and term, are equal up to
        it (thesis, section 3.5), and what the store holds was this log at some time. What was cut away there
        was committed, and is nobody's to ask for.
        """
        tail, goal = self._tail, self._tail_bytes_max >> 1
        drop, size = 0, self._tail_bytes
        droppable = self.unwritten - self.offset
        while drop < droppable and size > goal:
            size -= len(tail[drop].data) + ENTRY_BYTES
            drop += 1
        if not drop:
            return
        last, reader = tail[drop - 1], self._reader
        if reader.last_index() < last.index:
            return
        if last.index >= reader.first_index() - 1 and reader.term(last.index) != last.term:
            return
        del tail[:drop]
        self._tail_bytes = size
        self.offset = Index(self.offset + drop)

    def last_not_above(self, term: Term, index: Index, floor: Index) -> Index:
        """The last index in ``floor`` to ``index`` whose entry's term is at most ``term``, else ``floor``.

        Terms never fall along a log, so a search by halves does; its cost does not follow the log's length.
        """
        low, high = floor, min(index, self.last)
        while low < high:
            middle = Index((low + high + 1) >> 1)
            found = self.term(middle)
            if found is None or found <= term:
                # None: cut away, hence committed, hence not in conflict.
                low = middle
            else:
                high = Index(middle - 1)
        return low
