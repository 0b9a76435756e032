"""Elections with PreVote and CheckQuorum (thesis, sections 3.4, 4.2.3, 6.2 and 9.6)."""

from __future__ import annotations

from typing import Final

from raftgroup.leading import beat, lead, quorum_heard
from raftgroup.quorum import Vote, joint_vote
from raftgroup.state import State, become_follower, enter_term, leased, random_timeout
from raftgroup.types import NOBODY, Message, MessageKind, Role, Term

HURRIED_PREVOTES: Final = 8
HURRIED_TICKS: Final = (2, 5)
"""Ticks between pre-votes while the leader is known to be gone."""
RETRY_TICKS: Final = (2, 7)
"""Ticks until a candidate that a rival's voter refused tries again."""
FAILURES_MAX: Final = 2
"""A candidate's patience doubles with each failure, up to this often."""


def tick_leader(s: State) -> None:
    """Heartbeats, the check of the quorum, and the end of a transfer that does not come about."""
    if s.transferee != NOBODY:
        s.transfer_elapsed += 1
        if s.transfer_elapsed >= s.config.election_ticks:
            s.transferee = NOBODY
    s.elapsed += 1
    if s.elapsed >= s.config.election_ticks:
        s.elapsed = 0
        if not quorum_heard(s):
            become_follower(s, s.term, NOBODY)
            return
    s.beat += 1
    if s.beat >= s.config.heartbeat_ticks:
        s.beat = 0
        beat(s)


def tick_follower(s: State) -> None:
    """Counts the silence."""
    s.elapsed += 1
    if s.elapsed >= s.timeout and may_campaign(s):
        ask_prevotes(s)


def may_campaign(s: State) -> bool:
    """A voter may, once it applied all that it knows to be committed: a change of membership among that
    would change whose votes it needs."""
    return s.role != Role.LEADER and s.id in s.voters and s.applied >= s.commit


def ask_prevotes(s: State) -> None:
    """Asks who would vote for it; changes neither term nor vote.

    It forgets its leader, or it would refuse others' pre-votes for that leader's sake while asking for its
    own: two such replicas would refuse each other for ever.
    """
    s.role = Role.PRE_CANDIDATE
    s.leader = NOBODY
    s.elapsed = 0
    if s.hurry:
        s.hurry -= 1
        s.timeout = s.random.randrange(*HURRIED_TICKS)
    else:
        s.timeout = random_timeout(s)
    s.prevotes = {s.id: True}
    if joint_vote(s.membership, s.prevotes) == Vote.WON:
        stand(s)
        return
    term = Term(s.term + 1)
    for voter in sorted(s.voters):
        if voter != s.id:
            s.messages.append(Message(
                MessageKind.PRE_VOTE, s.id, voter, term, index=s.log.last, log_term=s.log.last_term,
                commit=s.commit,
            ))  # fmt: skip


def stand(s: State, *, transfer: bool = False) -> None:
    """Stands for election in a new term. The requests leave when term, vote and log are durable."""
    enter_term(s, Term(s.term + 1))
    s.role = Role.CANDIDATE
    s.leader = NOBODY
    s.vote = s.id
    s.candidacy = s.term
    s.votes = {s.id: True}
    s.elapsed = 0
    # Where a sync takes longer than a timeout no election would ever end, unless patience grows.
    s.timeout = random_timeout(s) << min(s.failures, FAILURES_MAX)
    s.failures += 1
    if joint_vote(s.membership, s.votes) == Vote.WON:
        lead(s)
        return
    for voter in sorted(s.voters):
        if voter != s.id:
            s.messages_after_sync.append(Message(
                MessageKind.VOTE, s.id, voter, s.term, index=s.log.last, log_term=s.log.last_term,
                commit=s.commit, context=int(transfer),
            ))  # fmt: skip


def on_pre_vote(s: State, m: Message) -> None:
    """Says whether it would vote so; a grant echoes the term asked for, a refusal carries its own."""
    free = m.term > s.term or s.vote == m.sender or (s.vote == NOBODY and s.leader == NOBODY)
    granted = free and _up_to_date(s, m)
    s.messages.append(Message(
        MessageKind.PRE_VOTE_REPLY, s.id, m.sender, m.term if granted else s.term, reject=not granted,
    ))  # fmt: skip


def on_vote(s: State, m: Message) -> None:
    """Votes once a term, for a log at least as complete as its own. A learner votes too when it is asked:
    the candidate may know of its promotion earlier than itself."""
    granted = (s.vote == m.sender or (s.vote == NOBODY and s.leader == NOBODY)) and _up_to_date(s, m)
    if granted:
        if s.role == Role.PRE_CANDIDATE:
            become_follower(s, s.term, NOBODY)
        s.vote = m.sender
        s.elapsed = 0
    s.messages_after_sync.append(Message(
        MessageKind.VOTE_REPLY, s.id, m.sender, s.term, reject=not granted,
    ))  # fmt: skip


def _up_to_date(s: State, m: Message) -> bool:
    """Whether the candidate's log is at least as complete as the one here (thesis, section 3.6.1)."""
    return (m.log_term, m.index) >= (s.log.last_term, s.log.last)


def on_pre_vote_reply(s: State, m: Message) -> None:
    """Stands once a quorum would vote for it."""
    if s.role != Role.PRE_CANDIDATE or not (m.reject or m.term == s.term + 1):
        return
    s.prevotes[m.sender] = not m.reject
    result = joint_vote(s.membership, s.prevotes)
    if result == Vote.WON:
        if may_campaign(s):
            stand(s)
    elif result == Vote.LOST and not s.hurry:
        become_follower(s, s.term, NOBODY)


def on_vote_reply(s: State, m: Message) -> None:
    """Leads once a quorum voted for it. A vote that comes after the candidate lost patience, but before it
    left the term, counts too."""
    if s.candidacy != s.term:
        return
    if not m.reject:
        # The request left after the sync. A refusal proves no such thing: it may answer a request of an
        # earlier term, from a voter that is in this one already.
        s.term_unsynced = False
    s.votes[m.sender] = not m.reject
    result = joint_vote(s.membership, s.votes)
    if result == Vote.WON:
        lead(s)
    elif result == Vote.LOST:
        become_follower(s, s.term, NOBODY)
        s.timeout = s.random.randrange(*RETRY_TICKS)
    elif m.reject and s.role == Role.CANDIDATE:
        # The vote is split, and its voters answer: no use in waiting for who does not.
        s.timeout = min(s.timeout, s.elapsed + s.random.randrange(*RETRY_TICKS))


def on_timeout_now(s: State, m: Message) -> None:
    """The leader hands over: stands at once, without pre-votes, and voters may disregard their leases. If the
    replica has yet to apply what it was just told to be committed, it stands when it has: the leader takes
    no proposals meanwhile."""
    if may_campaign(s):
        stand(s, transfer=True)
    else:
        s.summoned = s.term


def applied_all(s: State) -> None:
    """What was committed is applied: a replica that was summoned to lead its term's successor stands now."""
    summoned, s.summoned = s.summoned, Term(0)
    if summoned == s.term and may_campaign(s):
        stand(s, transfer=True)


def admit(s: State, m: Message) -> bool:
    """Judges a message of another term than the replica's own; whether it is to be looked at further."""
    kind = m.kind
    if m.term < s.term:
        _answer_stale(s, m)
        return False
    if kind in (MessageKind.PRE_VOTE, MessageKind.VOTE) and leased(s) and not m.context:
        return False
    if kind == MessageKind.PRE_VOTE or (kind == MessageKind.PRE_VOTE_REPLY and not m.reject):
        return True
    become_follower(s, m.term, NOBODY)
    return True


def _answer_stale(s: State, m: Message) -> None:
    """Tells a leader or a candidate of an older term about the later one. With PreVote nobody would else:
    a replica that was cut off in a later term does not disturb the others, and could not rejoin."""
    if m.kind in (MessageKind.APPEND, MessageKind.HEARTBEAT, MessageKind.SNAPSHOT):
        s.messages_after_sync.append(Message(
            MessageKind.APPEND_REPLY, s.id, m.sender, s.term, index=m.index, reject=True,
        ))  # fmt: skip
    elif m.kind in (MessageKind.PRE_VOTE, MessageKind.VOTE):
        kind = MessageKind.PRE_VOTE_REPLY if m.kind == MessageKind.PRE_VOTE else MessageKind.VOTE_REPLY
        s.messages_after_sync.append(Message(kind, s.id, m.sender, s.term, reject=True))
