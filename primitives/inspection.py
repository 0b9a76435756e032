"""What administrators ask about a group's replicated state: counts and sessions, in bounded pieces."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from primitives.ids import CATALOG_ID, GROUP_SLOT
from primitives.instances import Instances
from primitives.layout import GROUP_NAMES, HostTable, after
from primitives.records import U32, U64
from primitives.sessions import SessionTable
from primitives.tables import Tables


class Inspection:
    """A group's state, to be looked at between two entries. Nothing here changes it."""

    __slots__ = ("_instances", "_sessions", "_tables")

    def __init__(self, tables: Tables, sessions: SessionTable, instances: Instances) -> None:
        self._tables: Final = tables
        self._sessions: Final = sessions
        self._instances: Final = instances

    @property
    def session_count(self) -> int:
        """How many sessions live."""
        return len(self._sessions.alive)

    @property
    def cache_bytes(self) -> int:
        """About how much the cache of clean rows takes."""
        return self._tables.cache_bytes

    def session_of(self, session_id: bytes) -> int | None:
        """The number of the live session with that id."""
        return self._sessions.number_of(session_id)

    def sessions_behind(self, number: int) -> Iterator[int]:
        """Numbers of live sessions above ``number``, ascending."""
        return (found for found in self._sessions.alive if found > number)

    def holdings(self, number: int, rows_max: int) -> int:
        """How many things a live session holds, counted over ``rows_max`` partitions at the most."""
        session = self._sessions.alive.get(number)
        if session is None:
            return 0
        start = U64.pack(number)
        held = 0
        for slot in session.numberings:
            holdings = self._instances.slot_table(slot, HostTable.HOLDING)
            for _, count in islice(holdings.scan(start, after(start)), rows_max):
                held += U32.unpack(count)[0]
                rows_max -= 1
        return held

    def count_names(self, names_max: int) -> tuple[int, bool]:
        """How many primitives have their names here, up to ``names_max``, and whether there are more."""
        catalog = self._instances.find((GROUP_SLOT, CATALOG_ID, 0))
        if catalog is None:
            return 0, False
        self._tables.begin_query()
        count = sum(1 for _ in islice(catalog.table(GROUP_NAMES).scan(), names_max + 1))
        return min(count, names_max), count > names_max
