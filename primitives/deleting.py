"""Deletion as replicated state: of partitions, and of what they leave, in slices that are commands.

A partition is gone from the entry that deleted it, and its id never comes back. What it leaves may be much:
commands that wait for something of it are answered, holdings of sessions are forgotten, then its rows are
dropped and its history. A slice does a bounded piece of that, and its timer carries how far it came. Timers
of the partition that are still to come fire for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Final

from primitives.catalog import IDS, CatalogMachine
from primitives.context import HOLDER, WAITER
from primitives.errors import Code
from primitives.execution import FAILED, FAILED_TEXT, Execution
from primitives.history import Histories
from primitives.ids import CATALOG_ID, GROUP_SLOT, PrimitiveId, Revision, SlotId
from primitives.instances import Instance, Instances
from primitives.layout import DELETION, DROP, HOST_TARGET, TARGET, HostTable, HostTimer, table_prefix
from primitives.numbering import Target
from primitives.records import U64, Delete, Deleted, encode_answer
from primitives.sessions import SessionTable
from primitives.tables import Tables
from primitives.timers import Timers

RETRY_MS: Final = 1000
"""How often, in log time, a group's leader is told of a deletion that is not over."""
DUE_MAX: Final = 1024
ROWS_A_SLICE: Final = 250
SESSIONS_A_SLICE: Final = 5000
"""Sessions that a slice looks at for commands that wait."""

_WAITERS: Final = 0
_HOLDINGS: Final = 1
_ROWS: Final = 2
_HISTORY: Final = 3
_DONE: Final = 4


class Deleting:
    """Deletes partitions of a group, and drops what they left. ``owned`` gives the group's slots."""

    __slots__ = ("_execution", "_histories", "_instances", "_owned", "_rows_max", "_sessions", "_tables",
                 "_timers", "due")  # fmt: skip

    def __init__(
        self, execution: Execution, sessions: SessionTable, instances: Instances, histories: Histories,
        tables: Tables, timers: Timers, owned: Mapping[int, int], rows_max: int,
    ) -> None:  # fmt: skip
        self._execution: Final = execution
        self._sessions: Final = sessions
        self._instances: Final = instances
        self._histories: Final = histories
        self._tables: Final = tables
        self._timers: Final = timers
        self._owned: Final = owned
        self._rows_max: Final = min(rows_max, ROWS_A_SLICE)
        self.due: dict[PrimitiveId, int] = {}
        """Primitives whose deletion is to go on, with their partitions, for the group's leader; no replicated
        state."""

    def delete(self, record: Delete) -> bytes:
        """Deletes a partition. From here on whatever names it is answered that it does not exist."""
        context = self._execution.context
        slot, primitive, partition = record
        if slot not in self._owned:
            return encode_answer(Code.WRONG_SLOT, context.revision)
        catalog = self._instances.find((slot, CATALOG_ID, 0))
        if catalog is None or primitive == CATALOG_ID or primitive.slot == GROUP_SLOT:
            return encode_answer(Code.BAD_REQUEST, context.revision)
        done = self._execution.run(
            catalog, 0, 0, lambda ctx: ctx.close_partition((slot, primitive, partition))
        )
        return encode_answer(Code.MACHINE_FAILED if done is FAILED else Code.OK, context.revision)

    def deleted(self, record: Deleted) -> bytes:
        """All partitions of a primitive are deleted: its name becomes free."""
        revision = self._execution.context.revision
        if record.slot not in self._owned:
            return encode_answer(Code.WRONG_SLOT, revision)
        catalog = self._instances.find((record.slot, CATALOG_ID, 0))
        if catalog is None or not isinstance(catalog.machine, CatalogMachine):
            return encode_answer(Code.BAD_REQUEST, revision)
        machine = catalog.machine
        code, answer = self._execution.execute(catalog, 0, 0, machine.freed, record.revision)
        self._execution.settle()
        if code == Code.OK:
            self._resume(catalog, machine, record.revision)
        return answer

    def _resume(self, catalog: Instance, machine: CatalogMachine, revision: Revision) -> None:
        """Goes on with those who waited to create the name, each under a savepoint of its own: if a type's
        machine fails on what one of them gives it, that is an answer to him alone."""
        run = self._execution.run
        more = True
        while more is True:
            more = run(catalog, 0, 0, machine.resume, revision)
            if more is FAILED:
                more = run(catalog, 0, 0, machine.resume, revision, (Code.MACHINE_FAILED, FAILED_TEXT))

    def timer(self, payload: bytes) -> None:
        """A timer of a deletion is due. The savepoint is the host's."""
        log_time_ms = self._execution.context.log_time_ms
        if payload[0] == HostTimer.DROP:
            following = self._slice(payload)
            if following is not None:
                self._tables.allow_host()
                self._timers.arm(log_time_ms, HOST_TARGET, following)
        elif self._goes_on(payload):
            self._timers.arm(log_time_ms + RETRY_MS, HOST_TARGET, payload)

    def _goes_on(self, payload: bytes) -> bool:
        """Whether a deletion is not over: then it is told to whoever leads."""
        _, slot, revision, partitions = DELETION.unpack(payload)
        catalog = self._instances.find((slot, CATALOG_ID, 0))
        if catalog is None or catalog.table(IDS).get(U64.pack(revision)) is None:
            return False
        if len(self.due) < DUE_MAX:
            self.due[PrimitiveId(SlotId(slot), Revision(revision))] = partitions
        return True

    def _slice(self, payload: bytes) -> bytes | None:
        """Does the piece of work that a timer with this payload is for; the payload of the next one, or None
        when nothing is left."""
        _, phase, packed = DROP.unpack_from(payload)
        slot, primitive_slot, revision, partition = TARGET.unpack(packed)
        key = (slot, PrimitiveId(SlotId(primitive_slot), Revision(revision)), partition)
        cursor = payload[DROP.size :]
        if phase == _WAITERS:
            following = self._waiters(key, cursor)
        elif phase == _HOLDINGS:
            following = self._holdings(key, cursor)
        elif phase == _ROWS:
            following = self._rows(key, packed, cursor)
        else:
            following = self._history(key, packed, cursor)
        if following is None:
            phase, following = phase + 1, b""
        return None if phase == _DONE else DROP.pack(HostTimer.DROP, phase, packed) + following

    def _waiters(self, key: Target, cursor: bytes) -> bytes | None:
        """Answers commands that wait for the partition: it does not exist any more."""
        first = U64.unpack(cursor)[0] if cursor else 0
        context = self._execution.context
        gone = encode_answer(Code.UNKNOWN_PRIMITIVE, context.revision)
        answered = 0
        for looked_at, number in enumerate(_from(self._sessions.alive, first)):
            if answered >= self._rows_max or looked_at >= SESSIONS_A_SLICE:
                self._execution.settle()
                return U64.pack(number)
            numbering = self._sessions.alive[number].numberings.get(key[0])
            if numbering is not None and numbering.pending:
                for sequence, target in numbering.pending.items():
                    if target == key:
                        context.resolved.append((WAITER.pack(number, key[0], sequence), gone))
                        answered += 1
        self._execution.settle()
        return None

    def _holdings(self, key: Target, cursor: bytes) -> bytes | None:
        """Forgets what sessions held of the partition."""
        slot, primitive, partition = key
        holdings = self._instances.slot_table(slot, HostTable.HOLDING)
        for looked_at, (at, _) in enumerate(holdings.scan(cursor)):
            if looked_at >= self._rows_max:
                return at
            if HOLDER.unpack(at)[1:] == (*primitive, partition):
                holdings.delete(at)
        return None

    def _rows(self, key: Target, target: bytes, cursor: bytes) -> bytes | None:
        """Drops rows of the partition's tables."""
        first, start = (cursor[0], cursor[1:]) if cursor else (0, b"")
        left = self._rows_max
        for number in self._tables.numbers(target, first, start):
            table = self._tables.table(table_prefix(*key, number))
            for at, _ in list(islice(table.scan(start if number == first else b""), left)):
                table.delete(at)
                left -= 1
                if not left:
                    return bytes((number,)) + at
        return None

    def _history(self, key: Target, target: bytes, cursor: bytes) -> bytes | None:
        """Drops the partition's events."""
        history = self._histories.of(key, target)
        marks = [mark for mark, _ in islice(history.table.appended(cursor), self._rows_max)]
        self._histories.drop(history, (), marks, {})
        if len(marks) == self._rows_max:
            return marks[-1]
        self._histories.dropped(history)
        return None


def _from(numbers: Iterable[int], first: int) -> Iterator[int]:
    """Those of ascending ``numbers`` that are ``first`` or more."""
    return (number for number in numbers if number >= first)
