"""The end of sessions, in slices: wakes whoever waits for what a session held, then drops its rows.

What an ended session held is void from the entry that ended it, since whoever checks a holder asks whether
the session lives. The rest may take any number of commands.
"""

from __future__ import annotations

import struct
from typing import Final

from primitives.context import HOLDER
from primitives.execution import Execution
from primitives.ids import PrimitiveId, Revision, SlotId
from primitives.instances import Instances
from primitives.layout import HostTable, after
from primitives.records import U64
from primitives.sessions import Session, SessionTable
from primitives.tables import Tables

STEP_ROWS: Final = 10
"""What looking at a slot or at a holding is taken to cost at least, in rows."""

_ONE: Final = struct.pack(">I", 1)


class Ending:
    """Takes ended sessions apart."""

    __slots__ = ("_execution", "_instances", "_rows_max", "_sessions", "_tables")

    def __init__(
        self, sessions: SessionTable, instances: Instances, tables: Tables, rows_max: int,
        execution: Execution,
    ) -> None:  # fmt: skip
        self._sessions: Final = sessions
        self._instances: Final = instances
        self._tables: Final = tables
        self._rows_max: Final = rows_max
        self._execution: Final = execution

    def slice(self, session: Session) -> bool:
        """Does a bounded piece of work on an ended session; True when nothing of it is left."""
        left = self._rows_max
        for numbering in list(session.numberings.values()):
            left = self._holdings(session.number, numbering.slot, left - STEP_ROWS)
            if left > 0:
                left -= numbering.drop(left)
                self._sessions.touch(numbering)
            if left <= 0:
                return False
            self._sessions.remove_numbering(session, numbering)
        self._sessions.remove(session)
        return True

    def _holdings(self, number: int, slot: int, left: int) -> int:
        """Tells the machines of a slot; returns the rows left of the budget, 0 or less to be called again."""
        holdings = self._instances.slot_table(slot, HostTable.HOLDING)
        start = U64.pack(number)
        for key, _ in holdings.scan(start, after(start)):
            _, primitive_slot, revision, partition = HOLDER.unpack(key)
            primitive = PrimitiveId(SlotId(primitive_slot), Revision(revision))
            instance = self._instances.find((slot, primitive, partition))
            done = True
            if instance is not None:
                ended = instance.machine.session_ended
                done = self._execution.run(instance, 0, 0, ended, number) is not False
                left -= self._tables.used()
            left -= STEP_ROWS
            self._tables.begin()
            if done:
                holdings.delete(key)
            else:
                if holdings.get(key) is None:
                    holdings.put(key, _ONE)  # the machine gave its holdings back, yet wants to go on
                return 0
            if left <= 0:
                return 0
        return left
