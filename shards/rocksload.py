"""Reads every replica from the store at its opening, and checks that what was written is all there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from primitives.ids import GroupId
from raftgroup.types import Index, Term
from shards.layout import (
    GROUP_MAX,
    LOG_KEY,
    applied_key,
    base_key,
    decode_applied,
    decode_base,
    decode_hard_state,
    decode_replica,
    decode_staged,
    group_of_key,
    hard_state_key,
    staged_key,
)
from shards.logrecord import decode_record
from shards.ports import ReplicaIdentity, StoreDamaged, StoredReplica
from shards.rocksviews import LogEnds, Reader, forward

_LOG_END: Final = LOG_KEY.pack(GROUP_MAX + 1, 0)
NO_BASE: Final = (Index(0), Term(0))


def stored_replicas(meta: Reader) -> Iterator[StoredReplica]:
    """Every replica, in the order of their groups. Raises :class:`StoreDamaged`."""
    for key, row in forward(meta.moment(b"S"), b"R", b"S", 0):
        group = group_of_key(key)
        replica, epoch = decode_replica(group, row)
        hard_state = meta.get(hard_state_key(group))
        applied = meta.get(applied_key(group))
        if hard_state is None or applied is None:
            raise StoreDamaged(f"group {group} has lost its hard state or its applied index")
        index, membership = decode_applied(group, applied)
        staged = meta.get(staged_key(group))
        yield StoredReplica(
            ReplicaIdentity(group, replica), membership, decode_hard_state(group, hard_state), index, epoch,
            0 if staged is None else decode_staged(group, staged),
        )  # fmt: skip


def check_logs(log: Reader, meta: Reader, replicas: dict[GroupId, StoredReplica]) -> dict[GroupId, LogEnds]:
    """The ends of every group's log, after going over all of them: indexes are contiguous from where the log
    begins, every log has a replica, the records not yet applied and the last one are whole, what was cut away
    was applied, and neither the applied nor the commit index is beyond the last one. Blocks for about 2 s for
    each million entries.

    Raises :class:`StoreDamaged`.
    """
    ends: dict[GroupId, LogEnds] = {}
    group: GroupId | None = None
    base, last, applied = NO_BASE, Index(0), Index(0)
    record = b""
    for key, row in forward(log.moment(_LOG_END), b"", _LOG_END, 0):
        of_group, index = LOG_KEY.unpack(key)
        if of_group != group:
            if group is not None:
                ends[group] = _end(replicas[group], base, last, record)
            if of_group not in replicas:
                raise StoreDamaged(f"there are log records of group {of_group}, which has no replica here")
            group, base, applied = of_group, _base(meta, of_group), replicas[of_group].applied
            last = base[0]
        if index != last + 1:
            raise StoreDamaged(f"the log of group {group} goes from entry {last} to {index}")
        last, record = index, row
        if index > applied:
            _check(of_group, index, record)
    if group is not None:
        ends[group] = _end(replicas[group], base, last, record)
    for of_group, replica in replicas.items():
        if of_group not in ends:
            base = _base(meta, of_group)
            ends[of_group] = _end(replica, base, base[0], b"")
    return ends


def _base(meta: Reader, group: GroupId) -> tuple[Index, Term]:
    row = meta.get(base_key(group))
    return NO_BASE if row is None else decode_base(group, row)


def _end(replica: StoredReplica, base: tuple[Index, Term], last: Index, record: bytes) -> LogEnds:
    group = replica.identity.group
    last_term = _check(group, last, record) if last > base[0] else base[1]
    if replica.applied < base[0]:
        raise StoreDamaged(f"group {group} has applied {replica.applied}, and its log was cut at {base[0]}")
    if max(replica.applied, replica.hard_state.commit) > last:
        raise StoreDamaged(
            f"group {group} has applied {replica.applied} and committed {replica.hard_state.commit}, "
            f"and its log ends at {last}"
        )
    if last_term > replica.hard_state.term:
        raise StoreDamaged(
            f"the log of group {group} ends in term {last_term}, above its own term {replica.hard_state.term}"
        )
    return LogEnds(*base, last, last_term)


def _check(group: GroupId, index: Index, record: bytes) -> Term:
    entry = decode_record(record)
    if entry.index != index:
        raise StoreDamaged(f"group {group}: the record at {index} says {entry.index}")
    return entry.term
