"""Reads every replica from the store at its opening, and checks that what was written is all there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from primitives.ids import GroupId
from raftgroup.types import Index, Term
from shards.layout import (
    GROUP_MAX,
    LOG_KEY,
    applied_key,
    decode_applied,
    decode_hard_state,
    decode_replica,
    group_of_key,
    hard_state_key,
)
from shards.logrecord import decode_record
from shards.ports import ReplicaIdentity, StoreDamaged, StoredReplica
from shards.rocksviews import Reader, forward

_LOG_END: Final = LOG_KEY.pack(GROUP_MAX + 1, 0)


class LogEnds(NamedTuple):
    """What is kept in memory of a stored log."""

    first: Index
    last: Index
    last_term: Term


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
        yield StoredReplica(
            ReplicaIdentity(group, replica), membership, decode_hard_state(group, hard_state), index, epoch
        )


def check_logs(log: Reader, replicas: dict[GroupId, StoredReplica]) -> dict[GroupId, LogEnds]:
    """The ends of every group's log, after going over all of them: indexes are contiguous from 1, every
    log has a replica, the records not yet applied and the last one are whole, and neither the applied nor
    the commit index is beyond the last one. Blocks for about 2 s for each million entries.

    Raises :class:`StoreDamaged`.
    """
    ends: dict[GroupId, LogEnds] = {}
    group: GroupId | None = None
    last = applied = Index(0)
    record = b""
    for key, row in forward(log.moment(_LOG_END), b"", _LOG_END, 0):
        of_group, index = LOG_KEY.unpack(key)
        if of_group != group:
            if group is not None:
                ends[group] = _end(replicas[group], last, record)
            if of_group not in replicas:
                raise StoreDamaged(f"there are log records of group {of_group}, which has no replica here")
            group, last, applied = of_group, Index(0), replicas[of_group].applied
        if index != last + 1:
            raise StoreDamaged(f"the log of group {group} goes from entry {last} to {index}")
        last, record = index, row
        if index > applied:
            _check(of_group, index, record)
    if group is not None:
        ends[group] = _end(replicas[group], last, record)
    for of_group, replica in replicas.items():
        if of_group not in ends:
            ends[of_group] = _end(replica, Index(0), b"")
    return ends


def _end(replica: StoredReplica, last: Index, record: bytes) -> LogEnds:
    group = replica.identity.group
    last_term = _check(group, last, record) if last else Term(0)
    if max(replica.applied, replica.hard_state.commit) > last:
        raise StoreDamaged(
            f"group {group} has applied {replica.applied} and committed {replica.hard_state.commit}, "
            f"and its log ends at {last}"
        )
    if last_term > replica.hard_state.term:
        raise StoreDamaged(
            f"the log of group {group} ends in term {last_term}, above its own term {replica.hard_state.term}"
        )
    return LogEnds(Index(1), last, last_term)


def _check(group: GroupId, index: Index, record: bytes) -> Term:
    entry = decode_record(record)
    if entry.index != index:
        raise StoreDamaged(f"group {group}: the record at {index} says {entry.index}")
    return entry.term


