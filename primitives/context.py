"""What the host hands to machines: the views and contexts that ``machine.py`` promises."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from primitives.errors import Code
from primitives.history import HAS_PREVIOUS, HEAD, KEPT, MARK, Emitted, Histories, History, value_of
from primitives.ids import CATALOG_ID, GROUP_SLOT, PrimitiveId, Revision, SlotId
from primitives.instances import Instance, Instances
from primitives.layout import GROUP_NAMES, HOST_TARGET, HostTable, deletion_payload, drop_payload
from primitives.machine import CatalogContext, Machine, Result, Table, TableView
from primitives.records import ANSWER_HEADER, U64, encode_answer
from primitives.sessions import SessionTable
from primitives.tables import Tables
from primitives.timers import Timers
from primitives.watch import EventKind

WAITER: Final = struct.Struct(">QHQ")
"""Session number, slot and sequence of a command that waits."""
HOLDER: Final = struct.Struct(">QHQH")
"""Key of a holding's row: session number, primitive and partition."""
_COUNT: Final = struct.Struct(">I")
_MARK_BYTES: Final = MARK.size
_FIRST: Final = bytes(2)
"""End of the first mark of a command."""
_ANSWERED_OK: Final = bytes((Code.OK,))
PLAIN: Final = bytes(bytearray(ANSWER_HEADER.size))
"""Stands for the answer "OK, with no result" of a command of a burst, and is as long; told from answers by
its identity."""
_OUTSIDE: Final = "a context is of use only while its command executes"


class HostContext(CatalogContext):
    """The one context of a group, set anew for each command, timer, end of a session and query.

    What a command does beyond its rows is collected here and takes effect only when it succeeded.
    """

    __slots__ = ("_alive", "_head", "_head_of", "_histories", "_instances", "_marked", "_number", "_stamp",
                 "_tables", "_timers", "asked_late", "at_once", "emitted", "held_closing", "instance",
                 "resolved")  # fmt: skip

    def __init__(
        self, tables: Tables, timers: Timers, sessions: SessionTable, instances: Instances,
        histories: Histories,
    ) -> None:  # fmt: skip
        self._tables: Final = tables
        self._timers: Final = timers
        self._alive: Final = sessions.alive
        self._instances: Final = instances
        self._histories: Final = histories
        self._marked = 0
        """The revision that the last mark, and the stamp, are of."""
        self._stamp = U64.pack(0)
        """That revision as bytes."""
        self._head_of: tuple[int, int, int, int] = (0, 0, 0, 0)
        """Kind, flags, log time and length of the key of the event that was emitted last."""
        self._head = HEAD.pack(0, 0, 0, 0)
        """What its row begins with: those of one entry mostly begin alike."""
        self._number = 0
        """The next mark's number. Marks of what is undone are not given again."""
        self.instance: Instance | None = None
        self.revision = Revision(0)
        self.log_time_ms = 0
        self.session = 0
        self.sequence = 0
        self.asked_late = False
        """Whether :meth:`later` was called."""
        self.at_once = False
        """Whether the command is one of a burst, which cannot be answered late."""
        self.held_closing = False
        """Whether :meth:`hold` was called for a session whose lease is renewed no more."""
        self.resolved: list[tuple[bytes, bytes]] = []
        """Waiters with their answers."""
        self.emitted: list[Emitted] = []
        """Events, whose rows are put already."""

    def begin(self, instance: Instance, session: int, sequence: int) -> None:
        """Sets everything for the next thing to execute, with a savepoint."""
        self._tables.begin()
        self.instance = instance
        self.session = session
        self.sequence = sequence
        self.asked_late = self.held_closing = False
        if self.resolved:
            self.resolved.clear()
        if self.emitted:
            self.emitted.clear()

    def rollback(self) -> None:
        """Undoes everything since :meth:`begin`. Raises what a table raised: a failing store stops the
        node, whatever the machine caught."""
        self._tables.rollback()
        self._timers.rollback()
        self.resolved.clear()
        self.emitted.clear()

    @property
    def _here(self) -> Instance:
        instance = self.instance
        if instance is None:
            raise RuntimeError(_OUTSIDE)
        return instance

    @property
    def primitive(self) -> PrimitiveId:
        """See ``machine.View``."""
        return self._here.key[1]

    @property
    def partition(self) -> int:
        """See ``machine.View``."""
        return self._here.key[2]

    @property
    def config(self) -> bytes:
        """See ``machine.View``."""
        return self._here.config

    def table(self, number: int) -> Table:
        """See ``machine.Context``."""
        return (self.instance or self._here).table(number)

    def view(self, number: int) -> TableView:
        """See ``machine.View``. What a query writes is undone, and fails it."""
        return (self.instance or self._here).table(number)

    def alive(self, session: int) -> bool:
        """See ``machine.View``."""
        return session in self._alive

    def event(self, mark: bytes) -> bytes | None:
        """See ``machine.View``."""
        instance = self._here
        row = (instance.history or self._history(instance)).table.get(mark)
        return None if row is None else value_of(row)

    def _history(self, instance: Instance) -> History:
        history = instance.history = self._histories.of(instance.key, instance.target)
        return history

    def emit(
        self, kind: int, key: bytes, value: bytes = b"", *, previous: bytes = b"", kept: bool = False
    ) -> bytes:
        """See ``machine.Context``."""
        if self.revision != self._marked:
            self._mark()
        number = self._number
        mark = self._stamp + (number.to_bytes(2, "big") if number else _FIRST)
        self._number = number + 1
        flags = KEPT if kept else 0
        if previous:
            if len(previous) != _MARK_BYTES:
                raise ValueError("not a mark")
            flags |= HAS_PREVIOUS
        like = self._head_of
        if len(key) != like[3] or self.log_time_ms != like[2] or flags != like[1] or kind != like[0]:
            self._head = HEAD.pack(kind, flags, self.log_time_ms, len(key))
            self._head_of = (kind, flags, self.log_time_ms, len(key))
        row = self._head + previous + key + value
        instance = self.instance or self._here
        history = instance.history or self._history(instance)
        history.table.add(mark, row)
        self.emitted.append((history, mark, row))
        return mark

    def _mark(self) -> None:
        """The revision is another now."""
        self._marked, self._number = self.revision, 0
        self._stamp = self.revision.to_bytes(8, "big")

    def answered(self, code: int, text: bytes) -> bytes:
        """The answer to the present command, or :data:`PLAIN`; raises unless these make one."""
        if code == Code.OK and isinstance(code, int):  # as a machine that is not compiled may give 0.0
            if self.at_once and text == b"":
                return PLAIN
            if self.revision != self._marked:
                self._mark()
            head = _ANSWERED_OK + self._stamp
            return head if text == b"" else head + text
        return ANSWER_HEADER.pack(code, self.revision) + text

    def release(self, mark: bytes) -> None:
        """See ``machine.Context``."""
        if len(mark) != _MARK_BYTES:
            raise ValueError("not a mark")
        instance = self._here
        self._histories.release(instance.history or self._history(instance), mark)

    def arm(self, deadline_ms: int, payload: bytes) -> bytes:
        """See ``machine.Context``. A deadline of 0 becomes the present log time, so that slices take turns
        with whatever else is due."""
        return self._timers.arm(deadline_ms or self.log_time_ms, self._here.target, payload)

    def disarm(self, handle: bytes) -> None:
        """See ``machine.Context``."""
        self._timers.disarm(handle)

    def later(self) -> bytes:
        """See ``machine.Context``."""
        if not self.sequence:
            raise RuntimeError("only a session's command can be answered late")
        if self.at_once:
            raise RuntimeError("a command of a burst cannot be answered late")
        self.asked_late = True
        return WAITER.pack(self.session, self._here.key[0], self.sequence)

    def answer(self, waiter: bytes, result: Result) -> None:
        """See ``machine.Context``."""
        code, text = result
        if code == Code.PENDING or len(waiter) != WAITER.size:
            raise ValueError("not a waiter, or no answer")
        self._tables.take_answer()
        self.resolved.append((waiter, encode_answer(code, self.revision, text)))

    def hold(self) -> None:
        """See ``machine.Context``."""
        if not self.session:
            raise RuntimeError("only a session can hold something")
        if self._alive[self.session].closing:
            self.held_closing = True
        self._count(self.session, 1)

    def unhold(self, session: int) -> None:
        """See ``machine.Context``."""
        self._count(session, -1)

    def _count(self, session: int, change: int) -> None:
        slot, primitive, partition = self._here.key
        table = self._instances.slot_table(slot, HostTable.HOLDING)
        key = HOLDER.pack(session, primitive[0], primitive[1], partition)
        row = table.get(key)
        count = change + (0 if row is None else int(_COUNT.unpack(row)[0]))
        if count > 0:
            table.put(key, _COUNT.pack(count))
        elif row is not None:
            table.delete(key)

    @property
    def slot(self) -> SlotId:
        """The slot of this instance; for the catalog."""
        return SlotId(self._here.key[0])

    def type_name(self, type: int) -> str | None:
        """What machines of that type are called, None if there are none; for the catalog."""
        machine = self._instances.machine(type)
        return None if machine is None else machine.NAME

    def group_names(self) -> Table:
        """Names of all slots of the group; for the catalog."""
        catalog = self._instances.find((GROUP_SLOT, CATALOG_ID, 0))
        if catalog is None:
            raise RuntimeError("a group without a catalog")
        return catalog.table(GROUP_NAMES)

    def open(self, type: int, config: bytes) -> None:
        """Opens partition 0, in this instance's slot, of the primitive that this command creates; for the
        catalog. Raises ValueError for an unknown type."""
        machine = self._instances.machine(type)
        if machine is None:
            raise ValueError("an unknown type")
        slot = SlotId(self._here.key[0])
        self.open_partition((slot, PrimitiveId(slot, self.revision), 0), machine, config)

    @contextmanager
    def _inside(self, instance: Instance) -> Iterator[None]:
        """Lets another instance be the present one for a while."""
        before = self._here
        self.instance = instance
        try:
            yield
        finally:
            self.instance = before

    def open_partition(self, key: tuple[int, PrimitiveId, int], machine: Machine, config: bytes) -> None:
        """Makes an instance that is not here yet, and lets its machine begin."""
        with self._inside(self._instances.open(key, machine, config)):
            machine.opened(self)

    def close(self, revision: Revision) -> None:
        """Deletes partition 0, in this instance's slot, of the pinned primitive that was created at
        ``revision``; for the catalog."""
        slot = self.slot
        self.close_partition((slot, PrimitiveId(slot, revision), 0))

    def close_partition(self, key: tuple[int, PrimitiveId, int]) -> None:
        """Deletes an instance, if it is here. Those who watch it are told; its rows are dropped in slices.
        Nothing that was asked before opens it again."""
        slot = key[0]
        deleted = self._instances.slot_table(slot, HostTable.DELETED)
        deleted.put(b"", U64.pack(self.revision))
        instance = self._instances.find(key)
        if instance is None:
            return
        with self._inside(instance):
            self.emit(EventKind.DELETED, b"")
        self._instances.close(key)
        self._timers.arm(self.log_time_ms, HOST_TARGET, drop_payload(instance.target))

    def delete(self, revision: Revision, partitions: int) -> None:
        """Has the group's leader delete the partitions of the spread primitive that was created in this
        instance's slot at ``revision``; for the catalog."""
        self._timers.arm(self.log_time_ms, HOST_TARGET, deletion_payload(self.slot, revision, partitions))
