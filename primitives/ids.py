"""Identifiers that every layer shares."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple, NewType

GroupId = NewType("GroupId", int)
"""A Raft group; 0 is the system group. 32 bits, never used twice."""
NodeId = NewType("NodeId", int)
"""A node of the cluster, given by group 0; from 1, 32 bits, never used twice."""
SlotId = NewType("SlotId", int)
"""Unit of placement, 0 to ``SLOTS - 1``."""
Revision = NewType("Revision", int)
"""Replicated 63-bit counter of the commands applied; comparable within a partition."""

SLOTS: Final = 16384
SYSTEM_GROUP: Final = GroupId(0)
GROUP_SLOT: Final = SlotId(0xFFFF)
"""Stands where a slot would for rows that belong to a group as a whole; no key hashes there."""

_PRIMITIVE: Final = struct.Struct(">HQ")


class PrimitiveId(NamedTuple):
    """A primitive's identity: its name's slot and the revision of its creation."""

    slot: SlotId
    revision: Revision

    def to_bytes(self) -> bytes:
        """Ten bytes, big-endian, so that ids sort by slot and then by age."""
        return _PRIMITIVE.pack(self.slot, self.revision)

    @classmethod
    def from_bytes(cls, data: bytes) -> PrimitiveId:
        """The inverse of :meth:`to_bytes`."""
        slot, revision = _PRIMITIVE.unpack(data)
        return cls(SlotId(slot), Revision(revision))


CATALOG_ID: Final = PrimitiveId(SlotId(0), Revision(0))
"""The id that commands to a slot's catalog of names carry."""
