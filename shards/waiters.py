"""Who waits for what a leading replica proposed: each is resolved exactly once.

An entry's waiters are kept by its index and matched by its term: if another entry is committed there, or
leadership goes, the fate of theirs is unknown to them (``LOST``), not failed. A command that is answered late
is kept by its session's number, slot and sequence until its answer comes.

A client that repeats a late command by another way has forgotten the former one, and copies that took
different ways arrive in any order: one that a stopped node passes on only now may be the older. So every way
is kept, and the answer goes all of them; along one way the last copy is the latest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from primitives.records import Command, Record
from raftgroup.types import Index, Term
from shards.ports import Origin

WAYS_MAX: Final = 16
"""Of one late command; beyond it the one that came first is forgotten."""


class Pending:
    """An entry proposed here, and who waits for its records."""

    __slots__ = ("origins", "records", "term")

    def __init__(self, term: Term, records: Sequence[Record], origins: Sequence[Origin]) -> None:
        self.term: Final = term
        self.records: Final = records
        self.origins: Final = origins


class Waiters:
    """The waiters of one group."""

    __slots__ = ("_late", "_pending")

    def __init__(self) -> None:
        self._pending: dict[Index, Pending] = {}
        self._late: dict[int, dict[tuple[int, int], tuple[Origin, ...]]] = {}

    def add(self, index: Index, pending: Pending) -> None:
        """An entry was proposed."""
        self._pending[index] = pending

    def pop(self, index: Index) -> Pending | None:
        """The entry committed at ``index`` is about to be applied."""
        return self._pending.pop(index, None)

    def add_late(self, command: Command, origin: Origin) -> None:
        """A command was applied, and its answer comes late. A retry takes the place of one that came over the
        same connection."""
        waiting = self._late.setdefault(command.number, {})
        key = command.slot, command.sequence
        way = origin[:2]
        others = [other for other in waiting.get(key, ()) if other[:2] != way]
        waiting[key] = (*others[1 - WAYS_MAX :], origin)

    def pop_late(self, number: int, slot: int, sequence: int) -> tuple[Origin, ...]:
        """A late answer is there."""
        waiting = self._late.get(number)
        if waiting is None:
            return ()
        origins = waiting.pop((slot, sequence), ())
        if not waiting:
            del self._late[number]
        return origins

    def pop_session(self, number: int) -> Iterator[Origin]:
        """A session ended with everything that it waited for."""
        for origins in self._late.pop(number, {}).values():
            yield from origins

    def clear(self) -> list[Origin]:
        """Leadership went: everyone."""
        found = [origin for pending in self._pending.values() for origin in pending.origins]
        for number in list(self._late):
            found.extend(self.pop_session(number))
        self._pending.clear()
        return found
