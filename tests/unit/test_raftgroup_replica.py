"""A replica of a group alone, its peers played by the test: what a transcript would show only clumsily."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from raftgroup.reads import ROUNDS_MAX
from raftgroup.replica import Replica
from raftgroup.types import (
    Config,
    Entry,
    EntryKind,
    HardState,
    Index,
    InvariantViolation,
    Membership,
    Message,
    MessageKind,
    Ready,
    ReplicaId,
    Role,
    Term,
)

ONE, TWO, THREE, FOUR = (ReplicaId(number) for number in (1, 2, 3, 4))
THREE_VOTERS = Membership((ONE, TWO, THREE))


class Log:
    """A stored log."""

    def __init__(self, *terms: int) -> None:
        self.stored = entries(1, *terms)

    def first_index(self) -> Index:
        return Index(1)

    def last_index(self) -> Index:
        return Index(len(self.stored))

    def term(self, index: Index) -> Term:
        return self.stored[index - 1].term if index else Term(0)

    def entries(self, low: Index, high_exclusive: Index, bytes_max: int) -> Sequence[Entry]:
        return self.stored[low - 1 : high_exclusive - 1]


def entries(first: int, *terms: int) -> list[Entry]:
    return [
        Entry(Term(term), Index(first + at), EntryKind.NORMAL, b"x") for at, term in enumerate(terms)
    ]


def replica(
    *terms: int, term: int = 0, vote: int = 0, commit: int = 0, applied: int = 0,
    membership: Membership = THREE_VOTERS, config: Config | None = None,
) -> tuple[Replica, Log]:  # fmt: skip
    """Replica 1 on a log of these terms."""
    log = Log(*terms)
    hard = HardState(Term(term or max(terms, default=0)), ReplicaId(vote), Index(commit))
    made = Replica(ONE, membership, hard, log, Index(applied), config or Config(), random.Random(1))
    return made, log


def take(made: Replica, log: Log, *, synced: bool = True) -> Ready:
    """Takes a Ready and carries it out."""
    ready = made.ready()
    assert ready is not None
    if ready.entries:
        log.stored[ready.entries[0].index - 1 :] = ready.entries
        if synced:
            made.synced(ready.entries[-1].term, ready.entries[-1].index)
    if ready.committed:
        made.applied_to(ready.committed[-1].index)
    return ready


def message(kind: int, sender: ReplicaId, term: int, **fields: object) -> Message:
    return Message(kind, sender, ONE, Term(term), **fields)  # type: ignore[arg-type]  # a test's shorthand


def elect(made: Replica, log: Log) -> None:
    """Makes it the leader, by a vote of replica 2, and has its first entry on its own disk and on 2's."""
    made.campaign(force=True)
    take(made, log)
    made.step(message(MessageKind.VOTE_REPLY, TWO, made.term))
    assert made.role == Role.LEADER
    take(made, log)
    acknowledge(made, TWO)
    take(made, log)


def acknowledge(made: Replica, sender: ReplicaId, index: int = 0) -> None:
    made.step(message(MessageKind.APPEND_REPLY, sender, made.term, index=index or made.last_index))


# --- Following ----------------------------------------------------------------------------------------


def test_follower_commits_and_acknowledges_no_more_than_the_message_shows() -> None:
    """The tail of term 2 may differ from the leader's: neither the leader's commit nor the own log's end
    says anything about it."""
    made, log = replica(1, 1, 2, 2, 2)
    made.step(message(MessageKind.APPEND, TWO, 3, index=2, log_term=1, commit=5))
    ready = take(made, log)
    assert made.commit == 2
    (reply,) = ready.messages_after_sync
    assert (reply.kind, reply.index, reply.reject) == (MessageKind.APPEND_REPLY, 2, False)
    assert made.last_index == 5


def test_replies_of_several_outstanding_writes_wait_each_for_its_own() -> None:
    """An entry is written, replaced and written again: each Ready holds the reply that rests on it, so a sync
    of the first write frees nothing that speaks of the third."""
    made, log = replica(1)
    made.step(message(MessageKind.APPEND, TWO, 1, index=1, log_term=1, entries=entries(2, 1)))
    first = take(made, log)
    made.step(message(MessageKind.APPEND, THREE, 2, index=1, log_term=1, entries=entries(2, 2)))
    second = take(made, log)
    made.step(message(MessageKind.APPEND, TWO, 3, index=1, log_term=1, entries=entries(2, 1, 3)))
    third = take(made, log)
    assert [
        [(reply.receiver, reply.term, reply.index) for reply in ready.messages_after_sync]
        for ready in (first, second, third)
    ] == [[(TWO, 1, 2)], [(THREE, 2, 2)], [(TWO, 3, 3)]]
    assert not (first.messages or second.messages or third.messages)


def test_a_reply_to_a_former_leader_is_not_sent_in_a_later_term() -> None:
    made, log = replica(1)
    made.step(message(MessageKind.APPEND, TWO, 1, index=1, log_term=1, entries=entries(2, 1)))
    made.step(message(MessageKind.VOTE, THREE, 2, index=9, log_term=1, context=1))
    kinds = [reply.kind for reply in take(made, log).messages_after_sync]
    assert kinds == [MessageKind.VOTE_REPLY]


def test_follower_that_lacks_what_it_acknowledged_stops() -> None:
    made, _ = replica(1)
    with pytest.raises(InvariantViolation, match="lost entries"):
        made.step(message(MessageKind.HEARTBEAT, TWO, 1, commit=2))


def test_two_leaders_of_a_term_stop_the_replica() -> None:
    made, _ = replica(1)
    made.step(message(MessageKind.HEARTBEAT, TWO, 1))
    with pytest.raises(InvariantViolation, match="led by 2 and by 3"):
        made.step(message(MessageKind.HEARTBEAT, THREE, 1))


def test_entries_with_a_gap_are_never_taken() -> None:
    made, _ = replica(1)
    with pytest.raises(InvariantViolation):
        made.step(message(MessageKind.APPEND, TWO, 1, index=1, log_term=1, entries=entries(3, 1)))


def test_a_part_of_a_snapshot_is_word_of_the_leader() -> None:
    made, _ = replica(1)
    made.step(message(MessageKind.SNAPSHOT, TWO, 1, index=7, log_term=1))
    assert made.leader == TWO
    assert made.ready() is None


def test_messages_of_unknown_kinds_change_nothing() -> None:
    made, _ = replica(1)
    made.step(message(99, TWO, 1))
    assert made.ready() is None


def test_commit_alone_costs_no_write_and_is_saved_with_the_next_entries() -> None:
    made, log = replica(1, 1)
    made.step(message(MessageKind.APPEND, TWO, 1, index=2, log_term=1, commit=1))
    assert take(made, log).hard_state is None
    made.step(message(MessageKind.APPEND, TWO, 1, index=2, log_term=1, commit=2, entries=entries(3, 1)))
    assert take(made, log).hard_state == HardState(Term(1), ReplicaId(0), Index(2))


def test_what_is_applied_comes_in_bounded_portions() -> None:
    made, log = replica(*[1] * 10, config=Config(committed_bytes_max=1))
    made.step(message(MessageKind.APPEND, TWO, 1, index=10, log_term=1, commit=10, entries=entries(11, 1)))
    made.step(message(MessageKind.APPEND, TWO, 1, index=11, log_term=1, commit=11, entries=entries(12, 1)))
    applied: list[Entry] = []
    while made.applied < 11:
        portion = take(made, log).committed
        assert portion
        applied += portion
    assert [entry.index for entry in applied] == list(range(1, 12))


# --- Elections ----------------------------------------------------------------------------------------


def test_no_campaign_before_all_that_is_known_to_be_committed_is_applied() -> None:
    """A change of membership may be among it. Neither silence nor a wish nor the leader's own hand-over
    starts one; once it is applied, all do."""
    made, log = replica(1, 1, commit=2)
    for _ in range(40):
        made.tick()
    made.campaign()
    made.campaign(force=True)
    assert (made.role, made.term) == (Role.FOLLOWER, 1)
    take(made, log)
    made.tick()
    assert made.role == Role.PRE_CANDIDATE
    summoned, log = replica(1, 1, commit=2)
    summoned.step(message(MessageKind.TIMEOUT_NOW, TWO, 1))
    assert (summoned.role, summoned.term) == (Role.FOLLOWER, 1)
    take(summoned, log)
    assert (summoned.role, summoned.term) == (Role.CANDIDATE, 2)


def test_timeouts_are_spread_over_the_injected_range() -> None:
    seen = set()
    for seed in range(200):
        made = Replica(ONE, THREE_VOTERS, HardState(), Log(), Index(0), Config(), random.Random(seed))
        ticks = 0
        while made.role == Role.FOLLOWER:
            made.tick()
            ticks += 1
        seen.add(ticks)
    assert seen == set(range(10, 20))


def test_refusal_of_an_earlier_request_does_not_prove_the_new_term_durable() -> None:
    """The candidate of term 1 stands again, in term 2, unsynced, when a voter that is in term 2 already
    refuses the request of term 1. Nothing of term 2 may leave yet."""
    membership = Membership((ONE, TWO, THREE), learners=(FOUR,))
    made, log = replica(membership=membership)
    made.campaign(force=True)
    take(made, log)
    made.campaign(force=True)
    made.step(message(MessageKind.VOTE_REPLY, TWO, 2, reject=True))
    made.step(message(MessageKind.APPEND, THREE, 2, entries=()))
    made.step(message(MessageKind.HEARTBEAT, THREE, 2))
    ready = take(made, log)
    assert not ready.messages
    assert MessageKind.HEARTBEAT_REPLY in [reply.kind for reply in ready.messages_after_sync]


def test_vote_that_comes_after_the_candidate_lost_patience_counts() -> None:
    """Where a sync takes longer than a timeout, votes come late; the term is still the candidate's own."""
    made, log = replica()
    made.campaign(force=True)
    take(made, log)
    while made.role == Role.CANDIDATE:
        made.tick()
    assert made.role == Role.PRE_CANDIDATE
    made.step(message(MessageKind.VOTE_REPLY, TWO, 1))
    assert (made.role, made.term) == (Role.LEADER, 1)


def test_vote_for_a_former_life_does_not_count() -> None:
    """Restarted in the term that it stood in, with its own vote stored: a grant that comes now elects nobody,
    even while it asks for pre-votes in that very term."""
    made, log = replica(term=1, vote=1)
    made.campaign()
    take(made, log)
    assert made.role == Role.PRE_CANDIDATE
    made.step(message(MessageKind.VOTE_REPLY, TWO, 1))
    made.step(message(MessageKind.VOTE_REPLY, THREE, 1))
    assert made.role == Role.PRE_CANDIDATE


def test_leader_that_stepped_down_is_not_elected_again_by_late_votes() -> None:
    made, log = replica()
    elect(made, log)
    for _ in range(20):
        made.tick()
    assert made.role == Role.FOLLOWER
    made.campaign()
    made.step(message(MessageKind.VOTE_REPLY, THREE, made.term))
    assert made.role == Role.PRE_CANDIDATE


def test_candidate_grows_patient() -> None:
    """Each failed candidacy waits longer, up to four times, so that slow syncs do not prevent elections."""
    waits = []
    made, log = replica()
    for _ in range(4):
        made.campaign(force=True)
        take(made, log)
        ticks = 0
        while made.role == Role.CANDIDATE:
            made.tick()
            ticks += 1
        waits.append(ticks)
    for wait, factor in zip(waits, (1, 2, 4, 4), strict=True):
        assert 10 * factor <= wait < 20 * factor


def test_state_that_does_not_fit_the_log_is_refused() -> None:
    with pytest.raises(InvariantViolation):
        replica(1, 1, commit=3)
    with pytest.raises(InvariantViolation):
        replica(1, 1, applied=3)
    with pytest.raises(InvariantViolation):
        replica(1, 2, term=1)


# --- Leading ------------------------------------------------------------------------------------------


def test_ready_is_none_when_there_is_nothing_to_do() -> None:
    made, log = replica()
    elect(made, log)
    assert made.ready() is None
    made.tick()
    assert made.ready() is None
    assert made.read() is not None
    assert made.ready() is not None
    assert made.ready() is None


def test_proposals_stop_at_the_bound_and_go_on_after_a_commit() -> None:
    made, log = replica(config=Config(uncommitted_bytes_max=3000))
    elect(made, log)
    taken = 0
    while made.propose(b"x" * 1000) is not None:
        taken += 1
    assert taken == 3
    take(made, log)
    acknowledge(made, TWO)
    take(made, log)
    assert made.propose(b"x" * 1000) is not None


@pytest.mark.parametrize(
    ("config", "sent"),
    [(Config(inflight_messages_max=3), 3), (Config(inflight_bytes_max=2000), 2), (Config(), 9)],
)
def test_no_more_is_on_its_way_than_the_window_takes(config: Config, sent: int) -> None:
    made, log = replica(config=config)
    elect(made, log)
    count = 0
    for _ in range(9):
        made.propose(b"x" * 1000)
        ready = take(made, log, synced=False)
        count += sum(append.receiver == TWO for append in ready.messages)
    assert count == sent
    acknowledge(made, TWO, made.last_index if sent == 9 else Index(1 + sent))
    more = made.ready()
    assert (more is not None and any(append.receiver == TWO for append in more.messages)) == (sent < 9)


def test_one_message_takes_many_entries_but_no_more_bytes_than_allowed() -> None:
    made, log = replica(config=Config(append_bytes_max=2500))
    elect(made, log)
    for _ in range(5):
        made.propose(b"x" * 1000)
    sizes = [len(append.entries) for append in take(made, log).messages if append.receiver == TWO]
    assert sizes == [2, 2, 1]


def test_unreachable_member_is_probed_from_its_last_acknowledgement() -> None:
    made, log = replica()
    elect(made, log)
    made.propose(b"a")
    take(made, log)
    made.unreachable(TWO)
    made.propose(b"b")
    (append,) = [append for append in take(made, log).messages if append.receiver == TWO]
    assert (append.index, len(append.entries)) == (1, 2)


def test_late_refusals_do_not_move_a_member_back() -> None:
    made, log = replica()
    elect(made, log)
    made.propose(b"a")
    take(made, log)
    acknowledge(made, TWO)
    take(made, log)
    made.step(message(MessageKind.APPEND_REPLY, TWO, made.term, index=1, reject=True, hint=0))
    assert made.ready() is None
    assert made.status().match[TWO] == 2


def test_rounds_on_their_way_are_bounded_and_later_reads_share_one() -> None:
    made, log = replica()
    elect(made, log)
    for _ in range(ROUNDS_MAX):
        made.read()
        take(made, log)
    contexts = set()
    for _ in range(10):
        contexts.add(made.read())
        assert made.ready() is None
    assert contexts == {ROUNDS_MAX + 1}
    made.step(message(MessageKind.HEARTBEAT_REPLY, TWO, made.term, context=ROUNDS_MAX))
    first, second = take(made, log), made.ready()
    assert [read.context for read in first.reads] == list(range(1, ROUNDS_MAX + 1))
    assert {beat.context for beat in first.messages} == {ROUNDS_MAX + 1}
    assert second is None


def test_heartbeats_carry_the_clock_as_it_was_set() -> None:
    made, log = replica()
    elect(made, log)
    made.clock = 77
    made.tick()
    made.tick()
    assert {beat.clock for beat in take(made, log).messages} == {77}


def test_acknowledgement_beyond_the_log_stops_the_leader() -> None:
    made, log = replica()
    elect(made, log)
    with pytest.raises(InvariantViolation):
        acknowledge(made, TWO, 99)


def test_host_cannot_apply_what_it_was_not_handed() -> None:
    made, log = replica()
    elect(made, log)
    with pytest.raises(InvariantViolation):
        made.applied_to(Index(2))


# --- Membership ---------------------------------------------------------------------------------------


def test_one_change_of_membership_at_a_time() -> None:
    made, log = replica()
    elect(made, log)
    first = made.propose(b"change", EntryKind.MEMBERSHIP)
    assert first is not None
    assert made.propose(b"another", EntryKind.MEMBERSHIP) is None
    assert made.propose(b"data") is not None
    take(made, log)
    acknowledge(made, TWO)
    take(made, log)
    assert made.propose(b"another", EntryKind.MEMBERSHIP) is not None


def test_new_leader_proposes_no_change_before_it_applied_what_it_found() -> None:
    """A change of membership may be among the entries that it found uncommitted."""
    made, log = replica(1, 1)
    made.campaign(force=True)
    take(made, log)
    made.step(message(MessageKind.VOTE_REPLY, TWO, made.term))
    assert made.propose(b"change", EntryKind.MEMBERSHIP) is None
    take(made, log)
    acknowledge(made, TWO)
    while made.applied < 3:
        take(made, log)
    assert made.propose(b"change", EntryKind.MEMBERSHIP) is not None


def test_membership_takes_effect_when_it_is_applied() -> None:
    made, log = replica()
    elect(made, log)
    made.set_membership(Membership((ONE, TWO, THREE), learners=(FOUR,)))
    made.propose(b"a")
    assert FOUR in {append.receiver for append in take(made, log).messages}
    acknowledge(made, FOUR)
    assert made.commit == 1
    made.set_membership(Membership((ONE, FOUR), outgoing=(ONE, TWO, THREE)))
    assert made.commit == 1
    acknowledge(made, THREE)
    assert made.commit == 2
    made.set_membership(Membership((ONE, FOUR)))
    assert set(made.status().match) == {ONE, FOUR}


def test_smaller_quorum_commits_what_it_already_has() -> None:
    made, log = replica()
    elect(made, log)
    made.propose(b"a")
    take(made, log)
    assert made.commit == 1
    made.set_membership(Membership((ONE,)))
    assert made.commit == 2


def test_leader_that_is_no_voter_any_more_steps_down() -> None:
    made, log = replica()
    elect(made, log)
    context = made.read()
    made.set_membership(Membership((TWO, THREE)))
    assert made.role == Role.FOLLOWER
    assert list(take(made, log).lost_reads) == [context]
    for _ in range(40):
        made.tick()
    assert made.role == Role.FOLLOWER


def test_an_acknowledgement_stirs_a_leader_only_if_it_completes_a_quorum_or_lets_more_be_sent() -> None:
    made, log = replica(config=Config(inflight_messages_max=1))
    elect(made, log)
    acknowledge(made, THREE)
    assert made.ready() is None
    first = made.propose(b"first")
    assert first is not None
    assert made.is_stirred
    take(made, log, synced=False)
    assert not made.is_stirred
    made.step(message(MessageKind.APPEND_REPLY, TWO, made.term, index=first))
    assert not made.is_stirred, "one of three has it"
    made.synced(made.term, first)
    assert made.is_stirred, "it is committed"
    take(made, log)
    made.step(message(MessageKind.APPEND_REPLY, THREE, made.term, index=first))
    assert not made.is_stirred, "the quorum was complete"
    for _ in range(2):
        made.propose(b"more")
        take(made, log)
    assert made.is_stirred, "the window of one message is full, and there is more to send"
    second = Index(first + 1)
    made.step(message(MessageKind.APPEND_REPLY, TWO, made.term, index=second))
    (append,) = [sent for sent in take(made, log).messages if sent.receiver == TWO]
    assert append.index == second


def test_a_follower_that_a_sync_makes_promise_is_not_stirred_by_it() -> None:
    made, log = replica()
    made.step(message(MessageKind.APPEND, TWO, Term(1), entries=entries(1, 1)))
    assert made.is_stirred
    ready = take(made, log, synced=False)
    assert [sent.kind for sent in ready.messages_after_sync] == [MessageKind.APPEND_REPLY]
    made.synced(Term(1), Index(1))
    assert not made.is_stirred
