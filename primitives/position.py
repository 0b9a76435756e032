"""Positions: how far somebody has come in the history of a primitive, to be kept, compared and handed on."""

from __future__ import annotations

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from primitives.errors import BadPosition
from primitives.ids import PrimitiveId, Revision, SlotId
from primitives.limits import PARTITIONS_MAX

NUMBER_BITS: Final = 16
WHOLE: Final = (1 << NUMBER_BITS) - 1
"""The number in a mark that stands for all events of its revision."""

_FORMAT: Final = 1
_HEADER: Final = struct.Struct(">B16sHQH")
_MARK: Final = struct.Struct(">QH")
_CHECK: Final = struct.Struct(">I")


def mark_of(revision: int, number: int = WHOLE) -> int:
    """A mark: everything up to the event ``number`` of ``revision``, inclusive. Marks compare as places."""
    return revision << NUMBER_BITS | number


def revision_of(mark: int) -> int:
    """The mark's revision, of which perhaps only some events are behind it."""
    return mark >> NUMBER_BITS


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the history of one primitive of one cluster. Opaque: made by watches and handles.

    Keep it as ``bytes(position)`` or ``str(position)``, read it back with :meth:`from_bytes` or
    :meth:`parse`, in any process. :meth:`covers` compares; two positions may be such that neither covers
    the other. Give it to ``watch(position=)`` to go on from there, or to ``Causal`` to read what is at least
    as new.
    """

    cluster: bytes
    """The cluster's id, 16 bytes."""
    primitive: PrimitiveId
    marks: tuple[int, ...]
    """For each partition, up to where in its history; see :func:`mark_of`."""

    @classmethod
    def at(cls, cluster: bytes, primitive: PrimitiveId, revisions: Iterable[int]) -> Position:
        """All that has these revisions, one for each partition, or less."""
        return cls(cluster, primitive, tuple(mark_of(revision) for revision in revisions))

    @property
    def partitions(self) -> int:
        """How many partitions the primitive has; 1 for a pinned one."""
        return len(self.marks)

    def revision(self, partition: int) -> Revision:
        """The revision that has been reached in a partition."""
        return Revision(revision_of(self.marks[partition]))

    def covers(self, other: Position) -> bool:
        """Whether everything before ``other`` is before this one, too: it is not ahead in any partition.
        Raises BadPosition if they are of different primitives."""
        self._check(other)
        return all(mine >= theirs for mine, theirs in zip(self.marks, other.marks, strict=True))

    def merged(self, other: Position) -> Position:
        """The least position that covers both. Raises BadPosition like :meth:`covers`."""
        self._check(other)
        return Position(self.cluster, self.primitive, tuple(map(max, self.marks, other.marks)))

    def _check(self, other: Position) -> None:
        other.check(self.cluster, self.primitive, self.partitions)

    def check(self, cluster: bytes, primitive: PrimitiveId, partitions: int) -> None:
        """Raises BadPosition, which says what to do, unless the position is of that primitive."""
        if self.cluster != cluster:
            raise BadPosition(
                f"the position is of another cluster ({self.cluster.hex()}, not {cluster.hex()}): connect to"
                f" that one, or begin anew without a position"
            )
        if self.primitive != primitive or self.partitions != partitions:
            raise BadPosition(
                "the position is of another primitive, or of one that was deleted and created again since:"
                " begin anew without a position"
            )

    def __bytes__(self) -> bytes:
        """Bytes for :meth:`from_bytes`, about ten for each partition."""
        slot, revision = self.primitive
        parts = [_HEADER.pack(_FORMAT, self.cluster, slot, revision, len(self.marks))]
        parts += (_MARK.pack(mark >> NUMBER_BITS, mark & WHOLE) for mark in self.marks)
        data = b"".join(parts)
        return data + _CHECK.pack(crc32(data))

    @classmethod
    def from_bytes(cls, data: bytes) -> Position:
        """The inverse of ``bytes(position)``; raises BadPosition for anything else."""
        end = len(data) - _CHECK.size
        if end < _HEADER.size or _CHECK.unpack_from(data, end)[0] != crc32(data[:end]):
            raise BadPosition("not a position, or a damaged one: begin anew without a position")
        form, cluster, slot, revision, count = _HEADER.unpack_from(data)
        if form != _FORMAT or not 1 <= count <= PARTITIONS_MAX or end != _HEADER.size + count * _MARK.size:
            raise BadPosition("a position of another version: begin anew without a position")
        marks = (mark_of(*_MARK.unpack_from(data, _HEADER.size + at * _MARK.size)) for at in range(count))
        return cls(cluster, PrimitiveId(SlotId(slot), Revision(revision)), tuple(marks))

    def __str__(self) -> str:
        """Text for :meth:`parse`, without white space."""
        return urlsafe_b64encode(bytes(self)).rstrip(b"=").decode()

    @classmethod
    def parse(cls, text: str) -> Position:
        """The inverse of ``str(position)``; raises BadPosition for anything else."""
        try:
            data = urlsafe_b64decode(text.strip() + "=" * (-len(text.strip()) % 4))
        except (ValueError, Base64Error) as error:
            raise BadPosition("this text is not a position: begin anew without a position") from error
        return cls.from_bytes(data)
