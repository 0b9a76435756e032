"""A leader's half of replication, with its commit rule and ReadIndex rounds (thesis, sections 3.5, 3.6, 6.4,
10.2.1)."""

from __future__ import annotations

from raftgroup.log import ENTRY_BYTES
from raftgroup.progress import Progress, ProgressState
from raftgroup.quorum import joint_index
from raftgroup.reads import ROUNDS_MAX
from raftgroup.state import State, become_follower, install_members, send
from raftgroup.types import (
    NOBODY,
    Entry,
    EntryKind,
    Index,
    InvariantViolation,
    Membership,
    Message,
    MessageKind,
    ReplicaId,
    Role,
    Term,
)


def lead(s: State) -> None:
    """Begins to lead: with an empty entry, since only entries of its own term are committed by counting."""
    s.role = Role.LEADER
    s.leader = s.id
    s.candidacy = Term(0)
    s.failures = s.hurry = 0
    s.elapsed = s.beat = 0
    s.progress = {}
    install_members(s)
    s.uncommitted_bytes = ENTRY_BYTES
    s.own_first = Index(s.log.last + 1)
    # A change of membership may be among the entries that this leader found.
    s.pending_membership = s.log.last
    s.log.append(Entry(s.term, s.own_first, EntryKind.EMPTY, b""))


def propose(s: State, data: bytes, kind: int) -> Index | None:
    """Appends an entry of this term; None if none may be appended now."""
    if s.role != Role.LEADER or s.transferee != NOBODY:
        return None
    if s.uncommitted_bytes >= s.config.uncommitted_bytes_max:
        return None
    index = Index(s.log.last + 1)
    if kind == EntryKind.MEMBERSHIP:
        if s.pending_membership > s.applied:
            return None
        s.pending_membership = index
    s.log.append(Entry(s.term, index, kind, data))
    s.uncommitted_bytes += len(data) + ENTRY_BYTES
    return index


def send_entries(s: State, p: Progress) -> None:
    """Sends a member what it lacks, as much as its window takes."""
    log, config = s.log, s.config
    while p.next <= log.last:
        if p.state == ProgressState.REPLICATE:
            if p.window_bytes >= config.inflight_bytes_max or len(p.window) >= config.inflight_messages_max:
                return
        elif p.waiting or p.state == ProgressState.SNAPSHOT:
            return
        previous = Index(p.next - 1)
        term = log.term(previous)
        if term is None:
            p.need_snapshot()
            s.lacking = True
            return
        entries = log.slice(p.next, Index(log.last + 1), config.append_bytes_max)
        send(s, Message(
            MessageKind.APPEND, s.id, p.id, s.term, index=previous, log_term=term, commit=s.commit,
            entries=entries,
        ))  # fmt: skip
        if p.state == ProgressState.PROBE:
            p.waiting = True
            return
        size = 0
        for entry in entries:
            size += len(entry.data) + ENTRY_BYTES
        last = entries[-1].index
        p.sent(last, size)
        p.next = Index(last + 1)


def on_append_reply(s: State, m: Message) -> None:
    """A member acknowledged entries, or refused a message."""
    p = s.progress.get(m.sender)
    if p is None:
        return
    p.active = True
    if m.reject:
        _back_off(s, p, m)
        return
    index = m.index
    if index > s.log.last:
        raise InvariantViolation(f"replica {m.sender} acknowledged {index}, beyond the leader's log")
    if index <= p.match:
        if p.state == ProgressState.PROBE and index == p.match:
            p.replicate()
        return
    p.match = index
    if p.state == ProgressState.REPLICATE:
        p.arrived(index)
        if p.next <= index:
            p.next = Index(index + 1)
    elif p.state == ProgressState.PROBE or index + 1 >= s.log.first():
        p.replicate()
    if index > s.commit:
        advance_commit(s)
    if s.transferee == m.sender and index == s.log.last:
        _hand_over(s)


def _back_off(s: State, p: Progress, m: Message) -> None:
    """Finds the next place where the logs may meet: the last of our entries, not beyond the hint, whose
    term is not above the hint's."""
    if p.state == ProgressState.REPLICATE:
        if m.index <= p.match:
            return  # Refused before it acknowledged what it has now.
    elif p.state == ProgressState.SNAPSHOT or m.index != p.next - 1:
        return  # Not the probe that is on its way.
    meeting = s.log.last_not_above(m.log_term, min(m.hint, m.index), p.match)
    p.probe(Index(max(p.match + 1, min(m.index, meeting + 1))))


def on_heartbeat_reply(s: State, m: Message) -> None:
    """A member lives and follows: a ReadIndex round may be proven, and what was lost is sent again."""
    p = s.progress.get(m.sender)
    if p is None:
        return
    p.active = True
    if m.context > p.context:
        p.context = m.context
        confirm_reads(s)
    if p.state == ProgressState.SNAPSHOT:
        _meet_again(s, p, m.commit)
    elif p.nudge:
        p.nudge = False
        _nudge(s, p)


def _meet_again(s: State, p: Progress, commit: Index) -> None:
    """What a member calls committed is in our log too. If that is not cut away there, the logs meet: it has
    installed a snapshot, or caught up from another leader."""
    if s.log.first() - 1 <= commit <= s.log.last:
        p.probe(Index(commit + 1))
        if commit == s.log.last:
            _ask_empty(s, p)


def needing_snapshot(s: State) -> tuple[ReplicaId, ...]:
    """Members that need a snapshot and are not being sent one."""
    found = tuple(p.id for p in s.peers if p.state == ProgressState.SNAPSHOT)
    s.lacking = bool(found)
    return tuple(member for member in found if not s.progress[member].pending)


def snapshot_sending(s: State, member: ReplicaId, index: Index) -> None:
    """The host sends a member the state as of ``index``."""
    p = s.progress.get(member)
    if p is not None and p.state == ProgressState.SNAPSHOT:
        p.pending = index


def snapshot_ended(s: State, member: ReplicaId, installed: Index) -> None:
    """The host no longer sends that member a snapshot: it installed the state as of ``installed``, or, if
    that is 0, nothing came of it."""
    p = s.progress.get(member)
    if p is None or p.state != ProgressState.SNAPSHOT:
        return
    p.pending = Index(0)
    s.lacking = True
    if installed:
        _meet_again(s, p, installed)


def _nudge(s: State, p: Progress) -> None:
    """A heartbeat came back since the last acknowledgement, so entries on their way may be lost. While
    probing, the probe is repeated. Else one message without entries, behind the last sent, finds out: it
    is acknowledged or refused. It takes no place in the window, which may be full."""
    if p.state == ProgressState.PROBE and p.next <= s.log.last:
        p.waiting = False
    else:
        _ask_empty(s, p)


def _ask_empty(s: State, p: Progress) -> None:
    """Has a member acknowledge or refuse what stands before the next entry to be sent."""
    previous = Index(p.next - 1)
    term = s.log.term(previous)
    if term is not None:
        p.waiting = p.state == ProgressState.PROBE
        send(s, Message(
            MessageKind.APPEND, s.id, p.id, s.term, index=previous, log_term=term, commit=s.commit,
        ))  # fmt: skip


def advance_commit(s: State) -> None:
    """Commits what a quorum has durably, if it is of this leader's term (thesis, section 3.6.2)."""
    index = joint_index([p.match for p in s.incoming], [p.match for p in s.outgoing])
    if index > s.commit and index >= s.own_first:
        s.commit = Index(index)


def on_synced(s: State, term: Term, index: Index) -> None:
    """The leader's own acknowledgement. A notice of an earlier term proves nothing: its entry may have been
    replaced, and written again since, unsynced."""
    if term != s.term:
        return
    # The term was written before its entries.
    s.term_unsynced = False
    if s.role == Role.LEADER and index > s.own.match:
        if index > s.log.last:
            raise InvariantViolation(f"synced up to {index}, beyond the log's end {s.log.last}")
        s.own.match = index
        if index > s.commit:
            advance_commit(s)


def beat(s: State) -> None:
    """Sends every member a heartbeat."""
    context = s.reads.newest()
    for p in s.peers:
        if p.state == ProgressState.PROBE:
            p.nudge = p.waiting
        else:
            p.nudge = bool(p.window) and p.match == p.beat_match
        p.beat_match = p.match
        _heartbeat(s, p, context)


def _heartbeat(s: State, p: Progress, context: int) -> None:
    # Beyond match a follower's log may differ from the leader's, whatever is committed.
    send(s, Message(
        MessageKind.HEARTBEAT, s.id, p.id, s.term, commit=min(p.match, s.commit), context=context,
        clock=s.clock,
    ))  # fmt: skip


def begin_reads(s: State) -> None:
    """Begins the ReadIndex round that reads joined, unless no entry of this term is committed yet: before
    that the leader does not know what is committed (thesis, section 6.4)."""
    reads = s.reads
    if s.commit < s.own_first or len(reads.rounds) >= ROUNDS_MAX:
        return
    context = reads.begin(s.commit)
    s.own.context = context
    for p in s.peers:
        if p.id in s.voters:
            _heartbeat(s, p, context)
    confirm_reads(s)


def confirm_reads(s: State) -> None:
    """Answers the rounds that a quorum confirmed."""
    if s.reads.rounds:
        s.reads.confirm(joint_index([p.context for p in s.incoming], [p.context for p in s.outgoing]))


def quorum_heard(s: State) -> bool:
    """Whether a quorum was heard since the last time this was asked (thesis, section 6.2)."""
    heard = joint_index([int(p.active) for p in s.incoming], [int(p.active) for p in s.outgoing])
    for p in s.peers:
        p.active = False
    return heard > 0


def lost_messages(s: State, replica: ReplicaId) -> None:
    """Messages to a member were dropped on this side: back to one at a time."""
    p = s.progress.get(replica)
    if p is not None and p.state == ProgressState.REPLICATE:
        p.probe(Index(p.match + 1))


def change_members(s: State, membership: Membership) -> None:
    """Takes on an applied membership. A leader that is no voter in it steps down."""
    s.membership = membership
    s.voters = frozenset(membership.incoming + membership.outgoing)
    if s.role != Role.LEADER:
        return
    if s.id not in s.voters:
        become_follower(s, s.term, NOBODY)
        return
    install_members(s, heard=True)
    if s.transferee not in s.voters:
        s.transferee = NOBODY
    advance_commit(s)
    confirm_reads(s)


def transfer(s: State, to: ReplicaId) -> None:
    """Hands leadership to a voter as soon as it has the whole log; takes no proposals until then (thesis,
    section 3.10). Given up after an election timeout."""
    if s.role != Role.LEADER or to == s.id or to not in s.voters or to == s.transferee:
        return
    s.transferee = to
    s.transfer_elapsed = 0
    if s.progress[to].match == s.log.last:
        _hand_over(s)


def _hand_over(s: State) -> None:
    send(s, Message(MessageKind.TIMEOUT_NOW, s.id, s.transferee, s.term))
