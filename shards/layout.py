"""Keys and rows of the store's column families, as they are on disk. Never change one without a new format.

``log``    ``group u32 | index u64`` to a log record, see ``logrecord``
``state``  ``group u32 | epoch u32 | key`` to a row of a group's state
``meta``   a letter and, but for the store's own rows, ``group u32``, to a checksummed row:

    ``I``  the id of the store, 16 bytes
    ``W``  the round of the last batch, and the last round that was known to be synced when it was written
    ``R``  the replica: its id and the epoch of its state
    ``H``  its hard state
    ``A``  its applied index, with the membership as of it
    ``B``  where its log begins: index and term of the last entry that was cut away; no row: nothing was
    ``E``  the last epoch whose number was used for rows of a snapshot that was received, whatever came of it

Every batch begins with its ``W`` row, so that a batch found in the write-ahead log tells its round. Numbers
are big-endian. A row of ``meta`` starts with the CRC-32C of its key and of all that follows.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from primitives.errors import InvariantViolation
from primitives.ids import GroupId
from raftgroup.membership import BadMembership, decode_membership, encode_membership
from raftgroup.types import HardState, Index, Membership, ReplicaId, Term
from shards.checksum import crc32c, crc32c_extend
from shards.ports import StoreDamaged

LOG_KEY: Final = struct.Struct(">IQ")
STATE_PREFIX: Final = struct.Struct(">II")
GROUP_MAX: Final = 0xFFFF_FFFE
"""Groups and epochs end one below 2**32 - 1, so that each prefix has a successor to end a scan at."""

STORE_KEY: Final = b"I"
ROUND_KEY: Final = b"W"

_GROUP_KEY: Final = struct.Struct(">cI")
_CRC: Final = struct.Struct(">I")
_ROUND: Final = struct.Struct(">QQ")
_REPLICA: Final = struct.Struct(">QI")
_HARD_STATE: Final = struct.Struct(">QQQ")
_HARD_STATE_ROW: Final = struct.Struct(">cI" + "QQQ")
_APPLIED: Final = struct.Struct(">Q")
_BASE: Final = struct.Struct(">QQ")
_EPOCH: Final = struct.Struct(">I")


class RoundRow(NamedTuple):
    """What every batch says of itself."""

    round: int
    """The batch's number."""
    synced: int
    """The last round that was durable when the batch was written."""


def replica_key(group: GroupId) -> bytes:
    """Where a group's replica id and epoch are."""
    return _GROUP_KEY.pack(b"R", group)


def hard_state_key(group: GroupId) -> bytes:
    """Where a group's hard state is."""
    return _GROUP_KEY.pack(b"H", group)


def applied_key(group: GroupId) -> bytes:
    """Where a group's applied index and membership are."""
    return _GROUP_KEY.pack(b"A", group)


def base_key(group: GroupId) -> bytes:
    """Where it stands how much of a group's log was cut away."""
    return _GROUP_KEY.pack(b"B", group)


def staged_key(group: GroupId) -> bytes:
    """Where a group's last used epoch is."""
    return _GROUP_KEY.pack(b"E", group)


def group_of_key(key: bytes) -> GroupId:
    """The group of a group's key in ``meta``. Raises :class:`StoreDamaged` for another key."""
    if len(key) != _GROUP_KEY.size:
        raise StoreDamaged(f"a key of {len(key)} bytes stands among the rows of replicas")
    return GroupId(_GROUP_KEY.unpack(key)[1])


def state_prefix(group: GroupId, epoch: int) -> bytes:
    """What the keys of a group's rows start with in one epoch."""
    if not (0 <= group <= GROUP_MAX and 0 <= epoch <= GROUP_MAX):
        raise InvariantViolation(f"group {group}, epoch {epoch} is out of range")
    return STATE_PREFIX.pack(group, epoch)


def state_end(group: GroupId, epoch: int) -> bytes:
    """The first key after all the keys that start with :func:`state_prefix`."""
    return struct.pack(">Q", (group << 32 | epoch) + 1)


def sealed(key: bytes, content: bytes) -> bytes:
    """A row of ``meta``: its content behind the checksum of key and content."""
    return crc32c(key + content).to_bytes(4, "big") + content


def opened(key: bytes, row: bytes) -> bytes:
    """The content of a row of ``meta``. Raises :class:`StoreDamaged` when its checksum does not fit."""
    content = row[4:]
    if len(row) < 4 or _CRC.unpack_from(row)[0] != crc32c_extend(crc32c(key), content):
        raise StoreDamaged(f"the row {key!r} fails its checksum")
    return content


def _unpack(form: struct.Struct, key: bytes, content: bytes) -> tuple[int, ...]:
    if len(content) != form.size:
        raise StoreDamaged(f"the row {key!r} has {len(content)} bytes, not {form.size}")
    return form.unpack(content)


def encode_round(round_number: int, synced: int) -> bytes:
    """The row that tells a batch's round."""
    return sealed(ROUND_KEY, _ROUND.pack(round_number, synced))


def decode_round(row: bytes) -> RoundRow:
    """The inverse of :func:`encode_round`; raises :class:`StoreDamaged`."""
    return RoundRow(*_unpack(_ROUND, ROUND_KEY, opened(ROUND_KEY, row)))


def encode_replica(group: GroupId, replica: ReplicaId, epoch: int) -> bytes:
    """The row of a group's replica id and epoch."""
    return sealed(replica_key(group), _REPLICA.pack(replica, epoch))


def decode_replica(group: GroupId, row: bytes) -> tuple[ReplicaId, int]:
    """The inverse of :func:`encode_replica`; raises :class:`StoreDamaged`."""
    key = replica_key(group)
    replica, epoch = _unpack(_REPLICA, key, opened(key, row))
    return ReplicaId(replica), epoch


def hard_state_row(group: GroupId, state: HardState) -> tuple[bytes, bytes]:
    """Key and row of a group's hard state, laid out in one step: every entry is written with one."""
    term, vote, commit = state
    covered = _HARD_STATE_ROW.pack(b"H", group, term, vote, commit)
    size = _GROUP_KEY.size
    return covered[:size], crc32c(covered).to_bytes(4, "big") + covered[size:]


def decode_hard_state(group: GroupId, row: bytes) -> HardState:
    """The inverse of :func:`hard_state_row`; raises :class:`StoreDamaged`."""
    key = hard_state_key(group)
    term, vote, commit = _unpack(_HARD_STATE, key, opened(key, row))
    return HardState(Term(term), ReplicaId(vote), Index(commit))


def encode_applied(group: GroupId, index: Index, membership: Membership) -> bytes:
    """The row of a group's applied index and membership."""
    return sealed(applied_key(group), _APPLIED.pack(index) + encode_membership(membership))


def decode_applied(group: GroupId, row: bytes) -> tuple[Index, Membership]:
    """The inverse of :func:`encode_applied`; raises :class:`StoreDamaged`."""
    key = applied_key(group)
    content = opened(key, row)
    if len(content) < _APPLIED.size:
        raise StoreDamaged(f"the row {key!r} has only {len(content)} bytes")
    try:
        membership = decode_membership(content[_APPLIED.size :])
    except BadMembership as error:
        raise StoreDamaged(f"the row {key!r} has {error}") from error
    return Index(_APPLIED.unpack_from(content)[0]), membership


def encode_base(group: GroupId, index: Index, term: Term) -> bytes:
    """The row of the last entry that was cut from a group's log."""
    return sealed(base_key(group), _BASE.pack(index, term))


def decode_base(group: GroupId, row: bytes) -> tuple[Index, Term]:
    """The inverse of :func:`encode_base`; raises :class:`StoreDamaged`."""
    key = base_key(group)
    index, term = _unpack(_BASE, key, opened(key, row))
    return Index(index), Term(term)


def encode_staged(group: GroupId, epoch: int) -> bytes:
    """The row of the last epoch that a received snapshot used."""
    return sealed(staged_key(group), _EPOCH.pack(epoch))


def decode_staged(group: GroupId, row: bytes) -> int:
    """The inverse of :func:`encode_staged`; raises :class:`StoreDamaged`."""
    key = staged_key(group)
    return _unpack(_EPOCH, key, opened(key, row))[0]
