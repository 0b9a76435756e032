"""The bytes of a membership: in log entries that change it, beside the applied index, and in snapshots.

``incoming, outgoing, learners, learners_next``, each a count u16, then all their replica ids u64, big-endian.
"""

from __future__ import annotations

import struct
from typing import Final

from raftgroup.types import Membership, ReplicaId

_COUNTS: Final = struct.Struct(">4H")


class BadMembership(ValueError):
    """Bytes that are no membership."""


def encode_membership(membership: Membership) -> bytes:
    """The bytes of a membership."""
    sets = (membership.incoming, membership.outgoing, membership.learners, membership.learners_next)
    members = [replica for replicas in sets for replica in replicas]
    return _COUNTS.pack(*map(len, sets)) + struct.pack(f">{len(members)}Q", *members)


def decode_membership(data: bytes) -> Membership:
    """The inverse of :func:`encode_membership`. Raises :class:`BadMembership`."""
    try:
        counts = _COUNTS.unpack_from(data)
        members = struct.unpack(f">{sum(counts)}Q", data[_COUNTS.size :])
    except struct.error:
        raise BadMembership(f"{len(data)} bytes that are no membership") from None
    sets: list[tuple[ReplicaId, ...]] = []
    begin = 0
    for count in counts:
        sets.append(tuple(ReplicaId(number) for number in members[begin : begin + count]))
        begin += count
    return Membership(*sets)


def left(membership: Membership) -> Membership:
    """What a joint membership becomes when it is left (thesis, section 4.3): the incoming half, and those
    that were to be learners as such."""
    return Membership(
        membership.incoming, learners=tuple(sorted({*membership.learners, *membership.learners_next}))
    )


def members_of(membership: Membership) -> frozenset[ReplicaId]:
    """Everyone in it, voters and learners, of either half while it is joint."""
    return frozenset(
        membership.incoming + membership.outgoing + membership.learners + membership.learners_next
    )
