"""Each invariant of the simulated world notices what it is there for."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from bench.world.disk import Disk
from bench.world.image import Log
from bench.world.invariants import GroupChecks, SessionChecks
from primitives.errors import InvariantViolation
from primitives.ids import GroupId
from raftgroup.types import Entry, EntryKind, HardState, Index, Message, MessageKind, ReplicaId, Role, Term

GROUP = GroupId(1)
FIRST = Term(1)
START = Index(0)


@dataclass
class View:
    """A replica, as the checks see it."""

    id: ReplicaId
    term: Term = FIRST
    role: int = Role.FOLLOWER
    commit: Index = START
    applied: Index = START
    last_index: Index = START


def entry(term: int, index: int, data: bytes = b"") -> Entry:
    return Entry(Term(term), Index(index), EntryKind.NORMAL, data)


def disks_with(*entries: Entry, count: int = 3) -> list[Disk]:
    disks = [Disk() for _ in range(count)]
    for disk in disks:
        disk.durable.log(GROUP).stored.extend(entries)
    return disks


def checks(*disks: Disk) -> GroupChecks:
    found = GroupChecks(GROUP, disks, len(disks))
    for replica in (1, 2, 3):
        found.started(ReplicaId(replica))
    return found


def test_two_leaders_in_one_term() -> None:
    found = checks()
    found.observed(View(ReplicaId(1), role=Role.LEADER), Log(), settled=True)
    with pytest.raises(InvariantViolation, match="two leaders"):
        found.observed(View(ReplicaId(2), role=Role.LEADER), Log(), settled=True)


def test_same_index_and_term_with_other_data_or_another_entry_before() -> None:
    found = checks()
    log = Log([entry(1, 1), entry(1, 2, b"a")])
    found.wrote(log, log.stored)
    with pytest.raises(InvariantViolation, match="log matching"):
        found.wrote(Log([entry(1, 1), entry(1, 2, b"b")]), [entry(1, 2, b"b")])
    other = Log([entry(1, 1), entry(2, 2), entry(3, 3)])
    found.wrote(other, other.stored)
    with pytest.raises(InvariantViolation, match="log matching"):
        found.wrote(Log([entry(1, 1), entry(1, 2), entry(3, 3)]), [entry(3, 3)])


def test_leader_without_an_entry_that_was_committed_before_its_term() -> None:
    log = Log([entry(1, 1), entry(1, 2)])
    found = checks(*disks_with(*log.stored))
    found.observed(View(ReplicaId(1), commit=Index(2), last_index=Index(2)), log, settled=True)
    short = Log([entry(1, 1)])
    leader = View(ReplicaId(2), term=Term(2), role=Role.LEADER, last_index=Index(1))
    found.observed(leader, short, settled=False)
    with pytest.raises(InvariantViolation, match="leader completeness"):
        found.observed(leader, short, settled=True)


def test_two_replicas_that_commit_different_entries() -> None:
    found = checks(*disks_with(entry(1, 1)))
    found.observed(View(ReplicaId(1), commit=Index(1), last_index=Index(1)), Log([entry(1, 1)]), settled=True)
    with pytest.raises(InvariantViolation, match="was committed"):
        found.observed(
            View(ReplicaId(2), term=Term(2), commit=Index(1), last_index=Index(1)), Log([entry(2, 1)]),
            settled=True,
        )  # fmt: skip


def test_entry_called_committed_that_a_majority_would_lose_with_the_power() -> None:
    disks = disks_with(entry(1, 1))
    for disk in disks[:2]:
        disk.durable.log(GROUP).stored.clear()
    view = View(ReplicaId(1), commit=Index(1), last_index=Index(1))
    with pytest.raises(InvariantViolation, match="1 of 3 disks"):
        checks(*disks).observed(view, Log([entry(1, 1)]), settled=True)


def test_commit_or_term_that_goes_back_within_a_boot_but_not_across_boots() -> None:
    found = checks(*disks_with(entry(1, 1)))
    log = Log([entry(1, 1)])
    found.observed(View(ReplicaId(1), term=Term(3), commit=Index(1), last_index=Index(1)), log, settled=True)
    with pytest.raises(InvariantViolation, match="commit goes back"):
        found.observed(View(ReplicaId(1), term=Term(3), last_index=Index(1)), log, settled=True)
    with pytest.raises(InvariantViolation, match="term 2 after 3"):
        found.observed(View(ReplicaId(1), term=Term(2), commit=Index(1)), log, settled=True)
    found.started(ReplicaId(1))
    found.observed(View(ReplicaId(1), term=Term(2), last_index=Index(1)), log, settled=True)


def test_promises_that_the_disk_would_not_keep() -> None:
    disk = Disk()
    found = checks()
    vote = Message(MessageKind.VOTE_REPLY, ReplicaId(1), ReplicaId(2), Term(4))
    with pytest.raises(InvariantViolation, match="speaks in term 4"):
        found.sent(vote, disk.durable, disk.live, settled=True)
    disk.durable.hard_states[GROUP] = HardState(Term(4), ReplicaId(3))
    with pytest.raises(InvariantViolation, match="votes for 2"):
        found.sent(vote, disk.durable, disk.live, settled=True)
    append = Message(MessageKind.APPEND_REPLY, ReplicaId(1), ReplicaId(2), Term(4), index=Index(1))
    with pytest.raises(InvariantViolation, match="acknowledges 1"):
        found.sent(append, disk.durable, disk.live, settled=True)
    prevote = Message(MessageKind.PRE_VOTE_REPLY, ReplicaId(1), ReplicaId(2), Term(9))
    found.sent(prevote, disk.durable, disk.live, settled=True)


def test_acknowledgement_of_an_earlier_term_may_tell_of_a_log_that_was_cut_since() -> None:
    disk = Disk()
    found = checks()
    disk.durable.hard_states[GROUP] = HardState(Term(5))
    append = Message(MessageKind.APPEND_REPLY, ReplicaId(1), ReplicaId(2), Term(4), index=Index(1))
    found.sent(append, disk.durable, disk.live, settled=True)


def test_second_vote_in_a_term_after_a_restart() -> None:
    found = checks()
    for candidate in (2, 3):
        disk = Disk()
        disk.durable.hard_states[GROUP] = HardState(Term(4), ReplicaId(candidate))
        message = Message(MessageKind.VOTE_REPLY, ReplicaId(1), ReplicaId(candidate), Term(4))
        if candidate == 3:
            found.started(ReplicaId(1))
            with pytest.raises(InvariantViolation, match="votes twice"):
                found.sent(message, disk.durable, disk.live, settled=True)
        else:
            found.sent(message, disk.durable, disk.live, settled=True)


def test_state_that_differs_at_one_applied_index() -> None:
    found = checks()
    found.flushed(Index(5), 77)
    found.flushed(Index(6), 78)
    with pytest.raises(InvariantViolation, match="differ in their state at applied index 5"):
        found.flushed(Index(5), 79)


def test_session_that_returns_after_its_end() -> None:
    found = SessionChecks(GROUP)
    one, other = ReplicaId(1), ReplicaId(2)
    found.observed(one, Index(5), [3, 4])
    found.observed(one, Index(8), [4])
    found.observed(other, Index(7), [3, 4])
    with pytest.raises(InvariantViolation, match="session 3 is back"):
        found.observed(other, Index(9), [3])


def test_session_missing_on_a_replica_that_restarts_from_an_older_state_is_no_return() -> None:
    found = SessionChecks(GROUP)
    found.observed(ReplicaId(1), Index(5), [3])
    found.started(ReplicaId(1))
    found.observed(ReplicaId(1), Index(2), [])
    found.observed(ReplicaId(1), Index(5), [3])
    found.observed(ReplicaId(1), Index(9), [])
