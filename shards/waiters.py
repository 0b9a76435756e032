"""Who waits for what a leading replica proposed: each is resolved exactly once.

An entry's waiters are kept by its index and matched by its term: if another entry is committed there, or
leadership goes, the fate of theirs is unknown to them (``LOST``), not failed. A command that is answered late
is kept by its session's number, slot and sequence until its answer comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from primitives.records import Command, Record
from raftgroup.types import Index, Term
from shards.ports import Origin


class Pending(NamedTuple):
    """An entry proposed here, and who waits for its records."""

    term: Term
    records: Sequence[Record]
    origins: Sequence[Origin]


class Waiters:
    """The waiters of one group."""

    __slots__ = ("_late", "_pending")

    def __init__(self) -> None:
        self._pending: dict[Index, Pending] = {}
        self._late: dict[int, dict[tuple[int, int], Origin]] = {}

    def add(self, index: Index, pending: Pending) -> None:
        """An entry was proposed."""
        self._pending[index] = pending

    def pop(self, index: Index) -> Pending | None:
        """The entry committed at ``index`` is about to be applied."""
        return self._pending.pop(index, None)

    def add_late(self, command: Command, origin: Origin) -> None:
        """A command was applied, and its answer comes late. A retry takes its first sending's place."""
        self._late.setdefault(command.number, {})[command.slot, command.sequence] = origin

    def pop_late(self, number: int, slot: int, sequence: int) -> Origin | None:
        """A late answer is there."""
        waiting = self._late.get(number)
        if waiting is None:
            return None
        origin = waiting.pop((slot, sequence), None)
        if not waiting:
            del self._late[number]
        return origin

    def pop_session(self, number: int) -> Iterator[Origin]:
        """A session ended with everything that it waited for."""
        yield from self._late.pop(number, {}).values()

    def clear(self) -> list[Origin]:
        """Leadership went: everyone."""
        found = [origin for pending in self._pending.values() for origin in pending.origins]
        found.extend(origin for waiting in self._late.values() for origin in waiting.values())
        self._pending.clear()
        self._late.clear()
        return found
