"""The engine's way to the store: one batch a round, in order, and what waits for each to be synced.

A batch that the store refuses for now is tried again before any later one; while one waits, the engine
applies nothing and serves no read, for both would read rows that are not there yet.
"""

from __future__ import annotations

from collections import deque

from primitives.errors import InvariantViolation
from shards.group import SyncWait
from shards.ports import Batch, Store


class Writer:
    """Numbers batches, writes them in order and remembers who waits for their sync."""

    __slots__ = ("_next", "_refused", "_requested", "_store", "_synced", "_waits", "_written", "syncs")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._next = store.last_round + 1
        self._written = store.last_round
        # What an earlier process wrote may still be in the system's cache only.
        self._requested = -1
        self._synced = -1
        self._refused: deque[tuple[int, Batch]] = deque()
        self._waits: deque[tuple[int, list[SyncWait]]] = deque()
        self.syncs = 0
        """Those of the store's log that were done."""

    @property
    def next_round(self) -> int:
        """The number of the next batch."""
        return self._next

    @property
    def written(self) -> int:
        """The last batch that is in the store."""
        return self._written

    @property
    def synced_round(self) -> int:
        """The last batch that is known to be durable; below 0 before the first sync."""
        return self._synced

    @property
    def is_stalled(self) -> bool:
        """Whether the store refused a batch that still waits."""
        return bool(self._refused)

    def batch(self) -> Batch:
        """A batch with the next number."""
        return self._store.batch(self._next)

    def write(self, batch: Batch, waits: list[SyncWait]) -> bool:
        """Writes the batch, or keeps it behind those refused before. ``waits`` are for its sync.

        Returns whether it is in the store. Raises ``StoreFailed``.
        """
        if waits:
            self._waits.append((self._next if not batch.is_empty else self._next - 1, waits))
        if batch.is_empty:
            return not self._refused
        number = self._next
        self._next += 1
        if self._refused or not self._store.write(batch):
            self._refused.append((number, batch))
            return False
        self._written = number
        return True

    def retry(self) -> bool:
        """Writes what was refused, in order; whether nothing is left of it."""
        while self._refused:
            number, batch = self._refused[0]
            if not self._store.write(batch):
                return False
            self._written = number
            self._refused.popleft()
        return True

    def wanted(self) -> int | None:
        """The round to ask the syncer for, if one waits that was not asked for yet."""
        for number, _ in reversed(self._waits):
            if number <= self._written:
                if number <= self._requested:
                    return None
                self._requested = number
                return number
        return None

    def synced(self, number: int) -> None:
        """Everything up to ``number`` is durable."""
        if number > self._written:
            raise InvariantViolation(f"round {number} is synced, but {self._written} is the last written")
        self.syncs += 1
        if number > self._synced:
            self._synced = number
            self._store.synced(number)

    def due(self) -> list[SyncWait]:
        """Whoever waited for a round that is synced by now."""
        found: list[SyncWait] = []
        while self._waits and self._waits[0][0] <= self._synced:
            found.extend(self._waits.popleft()[1])
        return found
