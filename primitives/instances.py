"""Instances of machines in a group: which partitions of which primitives are here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from primitives.history import History
from primitives.ids import CATALOG_ID, GROUP_SLOT, PrimitiveId
from primitives.layout import INTERNAL_ID, TARGET, HostTable, host_prefix, table_prefix
from primitives.machine import Machine
from primitives.numbering import Target
from primitives.records import Type
from primitives.tables import Table, Tables

INSTANCES_KEPT_MAX: Final = 65_536


class Instance:
    """One partition of one primitive, with its machine and its tables."""

    __slots__ = ("_numbered", "_tables", "config", "history", "key", "machine", "target", "type")

    def __init__(self, tables: Tables, key: Target, machine: Machine, type: int, config: bytes) -> None:
        self._tables: Final = tables
        self._numbered: Final[list[Table | None]] = []
        """Its tables by number, as far as they were asked for."""
        self.key: Final = key
        """Slot, primitive and partition."""
        self.machine: Final = machine
        self.type: Final = type
        self.config: Final = config
        slot, primitive, partition = key
        self.target: Final = TARGET.pack(slot, primitive[0], primitive[1], partition)
        self.history: History | None = None
        """Its history, once that was needed."""

    def table(self, number: int) -> Table:
        """Its table of a number, 0 to 255; raises ``struct.error`` for another."""
        numbered = self._numbered
        if 0 <= number < len(numbered):
            table = numbered[number]
            if table is not None:
                return table
        slot, primitive, partition = self.key
        table = self._tables.table(table_prefix(slot, primitive, partition, number))
        numbered += [None] * (number + 1 - len(numbered))
        numbered[number] = table
        return table


class Instances:
    """The instances of a group: one row each, of the slot, and a bounded number in memory."""

    __slots__ = ("_found", "_last", "_machines", "_slots", "_tables")

    def __init__(self, tables: Tables, machines: Mapping[int, Machine]) -> None:
        self._tables: Final = tables
        self._machines: Final = machines
        self._found: dict[Target, Instance] = {}
        self._last: Instance | None = None
        """The one that was found last: most commands in a row go to the same."""
        self._slots: dict[tuple[int, int], Table] = {}

    def slot_table(self, slot: int, table: int) -> Table:
        """A table of the host that belongs to a slot."""
        found = self._slots.get((slot, table))
        if found is None:
            found = self._tables.host_table(host_prefix(slot, table))
            self._slots[slot, table] = found
        return found

    def machine(self, type: int) -> Machine | None:
        """The machine of a type, None for an unknown one."""
        return self._machines.get(type)

    def find(self, key: Target) -> Instance | None:
        """The instance of (slot, primitive, partition), None if it is not here. Each slot has a catalog, and
        the group one for all of them, and an instance for internal records; others are opened."""
        last = self._last
        if last is not None:
            at = last.key
            if at[1] is key[1] and at[0] == key[0] and at[2] == key[2]:
                return last
        instance = self._found.get(key)
        if instance is None:
            instance = self._load(key)
            if instance is None:
                return None
            self._found[key] = instance
        self._last = instance
        return instance

    def _load(self, key: Target) -> Instance | None:
        slot, primitive, partition = key
        if primitive == CATALOG_ID:
            type, config = Type.CATALOG, b""
            if partition:
                return None
        elif primitive == INTERNAL_ID:
            type, config = Type.SYSTEM, b""
            if partition or slot != GROUP_SLOT:
                return None
        else:
            row = self.slot_table(slot, HostTable.INSTANCE).get(_row_key(primitive, partition))
            if row is None:
                return None
            type, config = row[0], row[1:]
        machine = self._machines.get(type)
        return None if machine is None else Instance(self._tables, key, machine, type, config)

    def open(self, key: Target, machine: Machine, config: bytes) -> Instance:
        """Makes an instance, which must not be here yet. Undone with the command."""
        slot, primitive, partition = key
        row = bytes((machine.TYPE,)) + config
        self.slot_table(slot, HostTable.INSTANCE).put(_row_key(primitive, partition), row)
        return Instance(self._tables, key, machine, machine.TYPE, config)

    def close(self, key: Target) -> None:
        """Removes an instance; its rows stay, for slices. Undone with the command."""
        slot, primitive, partition = key
        self.slot_table(slot, HostTable.INSTANCE).delete(_row_key(primitive, partition))
        self._found.pop(key, None)
        self._last = None

    def forget(self) -> bool:
        """Bounds what is in memory: whether all instances were dropped. To be called after a flush."""
        if len(self._found) > INSTANCES_KEPT_MAX or self._tables.forget():
            self._found.clear()
            self._last = None
            return True
        return False


def _row_key(primitive: PrimitiveId, partition: int) -> bytes:
    return primitive.to_bytes() + partition.to_bytes(2, "big")
