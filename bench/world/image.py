"""What a simulated disk holds at some moment: logs, hard states, and rows of state with their hash.

These are plain images that a batch is carried out on; what is durable of them is for :mod:`bench.world.disk`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from sortedcontainers import SortedDict
from xxhash import xxh3_64_intdigest

from primitives.errors import InvariantViolation
from primitives.ids import GroupId
from raftgroup.types import Entry, HardState, Index, Membership, Term
from shards.ports import StoredReplica

_SUM_MASK: Final = (1 << 64) - 1


def row_sum(key: bytes, value: bytes) -> int:
    """A row's share of its group's state hash, which is the sum over all rows modulo 2**64."""
    return xxh3_64_intdigest(b"%b\0%b" % (key, value))


class Rows:
    """One group's rows in one epoch, in order, with their running hash."""

    __slots__ = ("rows", "sum")

    def __init__(self, rows: Iterable[tuple[bytes, bytes]] = (), total: int = 0) -> None:
        self.rows: SortedDict[bytes, bytes] = SortedDict(rows)
        self.sum = total

    def set(self, key: bytes, value: bytes | None) -> None:
        """Sets the row, or removes it if ``value`` is None."""
        former = self.rows.get(key)
        total = self.sum
        if former is not None:
            total -= row_sum(key, former)
        if value is None:
            self.rows.pop(key, None)
        else:
            total += row_sum(key, value)
            self.rows[key] = value
        self.sum = total & _SUM_MASK

    def set_all(self, rows: dict[bytes, bytes | None]) -> None:
        """:meth:`set` for each."""
        if self.rows or None in rows.values():
            for key, value in rows.items():
                self.set(key, value)
        else:  # A new replica's thousands of rows, sorted once.
            new = {key: value for key, value in rows.items() if value is not None}
            self.rows.update(new)
            self.sum = sum(row_sum(key, value) for key, value in new.items()) & _SUM_MASK

    def drop(self, first: bytes, last: bytes) -> None:
        """Removes the rows from ``first`` to ``last``, both included."""
        for key in list(self.rows.irange(first, last)):
            self.set(key, None)

    def get(self, key: bytes) -> bytes | None:
        """The row's value, or None."""
        return self.rows.get(key)

    def scan(
        self, start: bytes, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows from ``start``, below ``end`` if there is one."""
        keys = list(self.rows.irange(start, end, inclusive=(True, False), reverse=reverse))
        for key in keys:
            yield key, self.rows[key]

    def copy(self) -> Rows:
        """An independent copy."""
        return Rows(self.rows.items(), self.sum)


class Log:
    """The stored part of one group's log, behind the last entry that was cut away."""

    __slots__ = ("base", "base_term", "stored")

    def __init__(self, stored: Iterable[Entry] = (), base: int = 0, base_term: int = 0) -> None:
        self.stored: list[Entry] = list(stored)
        self.base = Index(base)
        """The last entry that was cut away; 0: none was."""
        self.base_term = Term(base_term)

    def first_index(self) -> Index:
        """Index of the first entry kept."""
        return Index(self.base + 1)

    def last_index(self) -> Index:
        """Index of the last entry stored, that of the last one cut away when there is none."""
        return Index(self.base + len(self.stored))

    def term(self, index: Index) -> Term:
        """Term of a stored entry, or of the last one cut away; 0 at index 0."""
        return self.base_term if index == self.base else self.entry(index).term

    def entry(self, index: Index) -> Entry:
        """A stored entry."""
        return self.stored[self._at(index)]

    def entries(self, low: Index, high_exclusive: Index, bytes_max: int) -> Sequence[Entry]:
        """Entries from ``low`` on, below ``high_exclusive``: at least one, else ``bytes_max`` at most."""
        found: list[Entry] = []
        size = 0
        for entry in self.stored[self._at(low) : high_exclusive - self.base - 1]:
            size += len(entry.data)
            if found and size > bytes_max:
                break
            found.append(entry)
        return found

    def append(self, entries: Sequence[Entry], last_stored: Index) -> None:
        """Stores ``entries`` in place of what stands from the first one's index on."""
        last = self.last_index()
        if last_stored != last:
            raise InvariantViolation(f"the batch takes {last_stored} for the last stored index, it is {last}")
        low = entries[0].index
        if not self.base < low <= last + 1:
            raise InvariantViolation(f"a gap in the log: {low} after {self.base} to {last}")
        del self.stored[low - self.base - 1 :]
        for entry in entries:
            if entry.index != self.last_index() + 1:
                raise InvariantViolation(f"entries of a batch are not contiguous: {list(entries)}")
            self.stored.append(entry)

    def cut(self, index: Index, term: Term, *, keep: bool) -> None:
        """Lets the log begin behind that entry; unless ``keep``, nothing is left of it."""
        if index < self.base or (keep and (index > self.last_index() or self.term(index) != term)):
            raise InvariantViolation(
                f"a log of {self.base} to {self.last_index()} is cut behind {term}/{index}, keep {keep}"
            )
        self.stored = self.stored[index - self.base :] if keep else []
        self.base, self.base_term = index, term

    def holds(self, index: Index, term: Term) -> bool:
        """Whether that committed entry is here, or was cut away, its effects being here."""
        return index <= self.base or (index <= self.last_index() and self.term(index) == term)

    def copy(self) -> Log:
        """An independent copy."""
        return Log(self.stored, self.base, self.base_term)

    def _at(self, index: Index) -> int:
        if not self.base < index <= self.last_index():
            raise InvariantViolation(
                f"reads entry {index} of a log that holds {self.base + 1} to {self.last_index()}"
            )
        return index - self.base - 1


class Image:
    """What a store holds at some moment."""

    __slots__ = ("applied", "epochs_used", "hard_states", "last_round", "logs", "replicas", "rows")

    def __init__(self) -> None:
        self.last_round = 0
        self.logs: dict[GroupId, Log] = {}
        self.hard_states: dict[GroupId, HardState] = {}
        self.applied: dict[GroupId, tuple[Index, Membership]] = {}
        self.replicas: dict[GroupId, StoredReplica] = {}
        self.epochs_used: dict[GroupId, int] = {}
        self.rows: dict[tuple[GroupId, int], Rows] = {}

    def log(self, group: GroupId) -> Log:
        """The group's log."""
        log = self.logs.get(group)
        if log is None:
            log = self.logs[group] = Log()
        return log

    def state(self, group: GroupId, epoch: int) -> Rows:
        """The group's rows in ``epoch``."""
        rows = self.rows.get((group, epoch))
        if rows is None:
            rows = self.rows[group, epoch] = Rows()
        return rows

    def copy(self) -> Image:
        """An independent copy, sharing only what never changes."""
        image = Image()
        image.last_round = self.last_round
        image.logs = {group: log.copy() for group, log in self.logs.items()}
        image.hard_states = dict(self.hard_states)
        image.applied = dict(self.applied)
        image.replicas = dict(self.replicas)
        image.epochs_used = dict(self.epochs_used)
        image.rows = {key: rows.copy() for key, rows in self.rows.items()}
        return image
