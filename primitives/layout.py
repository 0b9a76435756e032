"""Keys of a group's rows.

A row's key is ``slot u16 | primitive id 10 | partition u16 | table u8 | key``, relative to the group and the
epoch of its state. What the host of the machines keeps for itself stands under the reserved id
:data:`HOST_ID`: rows that belong to a slot under that slot, so that a move of the slot finds them in its
range of keys, the others under ``GROUP_SLOT``.
"""

from __future__ import annotations

import struct
from typing import Final

from primitives.ids import GROUP_SLOT, PrimitiveId, Revision

HOST_ID: Final = PrimitiveId(GROUP_SLOT, Revision(1))
INTERNAL_ID: Final = PrimitiveId(GROUP_SLOT, Revision(0))
"""The instance that internal records go to."""

TARGET: Final = struct.Struct(">HHQH")
"""Slot, primitive and partition: one instance of a machine."""
PREFIX: Final = struct.Struct(">HHQHB")
"""One table of an instance."""


HOST_TARGET: Final = TARGET.pack(GROUP_SLOT, HOST_ID[0], HOST_ID[1], 0)
"""What timers of the host are armed for."""
GROUP_NAMES: Final = 3
"""Table of the group's own catalog, under ``GROUP_SLOT``: the names of all its slots."""


class HostTimer:
    """First byte of what a timer of the host says; its kind. Never renumber."""

    END_SLICE: Final = 1
    FORGET_FORMER: Final = 2
    TRIM: Final = 3
    DROP: Final = 4
    DELETION: Final = 5


DROP: Final = struct.Struct(">BB14s")
"""Kind of the timer, what is being dropped, and the target; how far that came follows."""
DELETION: Final = struct.Struct(">BHQH")
"""Kind of the timer, slot and revision of what is being deleted, and how many partitions it has."""


def drop_payload(target: bytes) -> bytes:
    """What the first timer says that drops what is left of a deleted instance."""
    return DROP.pack(HostTimer.DROP, 0, target)


def deletion_payload(slot: int, revision: int, partitions: int) -> bytes:
    """What timers say by which a leader goes on with a deletion."""
    return DELETION.pack(HostTimer.DELETION, slot, revision, partitions)


class HostTable:
    """Tables of the host. Never renumber."""

    META: Final = 0
    """One row of the group: revision, log time, timers made, version of the ownership."""
    OWNED: Final = 1
    """Group-wide, by slot: its epoch."""
    SESSION: Final = 2
    """Group-wide, by number."""
    FORMER: Final = 3
    """Group-wide, by session id: the last registration's count, kept a while after its end."""
    TIMER: Final = 4
    """Group-wide, by deadline and creation."""
    INSTANCE: Final = 5
    """Of a slot, by primitive and partition: type and configuration."""
    NUMBERING: Final = 6
    """Of a slot, by session number: how far its commands came, with stored answers that are short."""
    ANSWER: Final = 7
    """Of a slot, by session number and sequence: a stored answer that is long, or a command that waits."""
    HOLDING: Final = 8
    """Of a slot, by session number, primitive and partition: how many things the session holds there."""
    DELETED: Final = 9
    """Of a slot: revision of the last deletion logged in it."""
    HISTORY: Final = 10
    """Of a slot, by primitive, partition and mark: an event. Under the primitive and partition alone: the
    sums of that history."""


def table_prefix(slot: int, primitive: PrimitiveId, partition: int, table: int) -> bytes:
    """What the keys of a table start with; 15 bytes."""
    return PREFIX.pack(slot, primitive[0], primitive[1], partition, table)


def host_prefix(slot: int, table: int) -> bytes:
    """What the keys of a table of the host start with, under ``slot`` or ``GROUP_SLOT``."""
    return PREFIX.pack(slot, HOST_ID[0], HOST_ID[1], 0, table)


def after(prefix: bytes) -> bytes | None:
    """The least key beyond all that start with ``prefix``; None if there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else None
