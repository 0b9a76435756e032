"""Timers of a group: rows in order of (deadline, creation), so that due ones fire in that order.

Only the first deadline is kept in memory. A deadline is absolute, in log time.
"""

from __future__ import annotations

import struct
from itertools import islice
from typing import Final

from primitives.ids import GROUP_SLOT
from primitives.layout import TARGET, HostTable, host_prefix
from primitives.tables import Tables

_HANDLE: Final = struct.Struct(">QQ")
_DEADLINE: Final = struct.Struct(">Q")
HANDLE_BYTES: Final = _HANDLE.size


class Timers:
    """The timers of a group."""

    __slots__ = ("_first", "_from", "_known", "_table", "_undo", "made")

    def __init__(self, tables: Tables, made: int) -> None:
        self._table: Final = tables.host_table(host_prefix(GROUP_SLOT, HostTable.TIMER))
        self.made = made
        """Timers made so far: replicated state, the order of creation."""
        self._undo: Final = tables.undo
        self._first: bytes | None = None
        self._known = False
        """Whether ``_first`` is the first timer's handle, or None for none."""
        self._from = b""
        """No timer stands before this key, so that a scan need not pass those that fired."""

    def restore(self, key: bytes, previous: bytes | None) -> None:
        """Undoes the making of a timer; its row is put back by itself."""
        self.made -= 1

    def rollback(self) -> None:
        """Something was undone, with the tables' rows."""
        self._known = False

    def arm(self, deadline_ms: int, target: bytes, payload: bytes) -> bytes:
        """Makes a timer and returns its handle. ``target`` is :data:`layout.TARGET`'s 14 bytes."""
        made = self.made + 1
        handle = _HANDLE.pack(deadline_ms, made)
        self._table.put(handle, target + payload)
        self.made = made
        self._undo.append((self, handle, None))
        if handle < self._from:
            self._from = handle
        if self._known and (self._first is None or handle < self._first):
            self._first = handle
        return handle

    def disarm(self, handle: bytes) -> None:
        """Forgets a timer, if it is there."""
        if len(handle) != HANDLE_BYTES:
            raise ValueError("not the handle of a timer")
        self._table.delete(handle)
        if handle == self._first:
            self._known = False

    def first_ms(self) -> int | None:
        """The first deadline; None when there is no timer."""
        if not self._known:
            self._first = next((handle for handle, _ in self._table.scan(self._from)), None)
            self._known = True
            if self._first is not None:
                self._from = self._first
        return None if self._first is None else int(_DEADLINE.unpack_from(self._first)[0])

    def due(self, log_time_ms: int, count: int) -> list[bytes]:
        """Handles of the first ``count`` timers with deadlines up to ``log_time_ms``, in order."""
        first_ms = self.first_ms()
        if first_ms is None or first_ms > log_time_ms:
            return []
        rows = self._table.scan(self._from, _DEADLINE.pack(log_time_ms + 1))
        return [handle for handle, _ in islice(rows, count)]

    def fire(self, handle: bytes) -> tuple[tuple[int, int, int, int], bytes] | None:
        """Takes a due timer away: its target's slot, id (two parts) and partition, and its payload. None if
        it was disarmed meanwhile."""
        row = self._table.get(handle)
        if row is None:
            return None
        self.disarm(handle)
        slot, primitive_slot, revision, partition = TARGET.unpack_from(row)
        return (slot, primitive_slot, revision, partition), row[TARGET.size :]
