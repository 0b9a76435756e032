"""One member of a Raft group, as its host drives it: messages, ticks and proposals in, :class:`Ready` out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from raftgroup.election import (
    HURRIED_PREVOTES,
    admit,
    applied_all,
    ask_prevotes,
    may_campaign,
    on_pre_vote,
    on_pre_vote_reply,
    on_timeout_now,
    on_vote,
    on_vote_reply,
    stand,
    tick_follower,
    tick_leader,
)
from raftgroup.following import acknowledge, on_append, on_heartbeat, on_snapshot
from raftgroup.leading import (
    begin_reads,
    change_members,
    lost_messages,
    needing_snapshot,
    on_append_reply,
    on_heartbeat_reply,
    on_synced,
    propose,
    send_entries,
    snapshot_ended,
    snapshot_sending,
    transfer,
)
from raftgroup.log import ENTRY_BYTES
from raftgroup.progress import ProgressState
from raftgroup.state import State
from raftgroup.types import (
    NOBODY,
    Config,
    Entry,
    EntryKind,
    HardState,
    Index,
    InvariantViolation,
    LogReader,
    Membership,
    Message,
    MessageKind,
    Random,
    Ready,
    ReplicaId,
    ReplicaStatus,
    Role,
    Term,
)

_HANDLERS: Final[dict[int, Callable[[State, Message], None]]] = {
    MessageKind.PRE_VOTE: on_pre_vote,
    MessageKind.PRE_VOTE_REPLY: on_pre_vote_reply,
    MessageKind.VOTE: on_vote,
    MessageKind.VOTE_REPLY: on_vote_reply,
    MessageKind.APPEND: on_append,
    MessageKind.HEARTBEAT: on_heartbeat,
    MessageKind.TIMEOUT_NOW: on_timeout_now,
    MessageKind.SNAPSHOT: on_snapshot,
}
_LEADER_HANDLERS: Final[dict[int, Callable[[State, Message], None]]] = {
    **_HANDLERS,
    MessageKind.APPEND_REPLY: on_append_reply,
    MessageKind.HEARTBEAT_REPLY: on_heartbeat_reply,
}


class Replica:
    """One member of a Raft group: pure and synchronous, nothing here blocks.

    The host feeds it, then takes :meth:`ready` and carries it out: writes the entries and the hard state
    (unsynced), in the order of the Readies; sends the messages that may leave at once; applies what is
    committed and says so by :meth:`applied_to`; and, when everything written so far is synced, sends the
    rest and calls :meth:`synced`. What it hands out is never changed afterwards.
    """

    __slots__ = ("_state",)

    def __init__(
        self, replica_id: ReplicaId, membership: Membership, hard_state: HardState, log: LogReader,
        applied: Index, config: Config, random: Random, *, unsynced: bool = False,
    ) -> None:  # fmt: skip
        """Starts as a follower from what is stored. ``applied`` may be ahead of the saved commit.
        ``unsynced``: what is stored may not be durable yet, as after the installing of a snapshot, so that
        nothing leaves before the next sync. Raises :class:`InvariantViolation` if the hard state does not
        fit the log."""
        self._state: Final = State(
            replica_id, membership, hard_state, log, applied, config, random, unsynced
        )

    @property
    def id(self) -> ReplicaId:
        """The replica's own id."""
        return self._state.id

    @property
    def term(self) -> Term:
        """The current term."""
        return self._state.term

    @property
    def vote(self) -> ReplicaId:
        """Whom it voted for in the current term, else ``NOBODY``."""
        return self._state.vote

    @property
    def role(self) -> int:
        """One of :class:`Role`."""
        return self._state.role

    @property
    def leader(self) -> ReplicaId:
        """The current term's leader as far as known, else ``NOBODY``."""
        return self._state.leader

    @property
    def commit(self) -> Index:
        """The last index known to be committed."""
        return self._state.commit

    @property
    def applied(self) -> Index:
        """The last index that the host said to be applied."""
        return self._state.applied

    @property
    def last_index(self) -> Index:
        """The last index of the log, written or not."""
        return self._state.log.last

    @property
    def membership(self) -> Membership:
        """The applied membership."""
        return self._state.membership

    @property
    def clock(self) -> int:
        """The log time in ms that outgoing heartbeats carry; the host sets it."""
        return self._state.clock

    @clock.setter
    def clock(self, clock: int) -> None:
        self._state.clock = clock

    def tick(self, phase: int | None = None) -> None:
        """One unit of time passed, see :class:`Config`. ``phase``, 0 to ``heartbeat_ticks`` - 1, counted
        by the host, has the heartbeats of all groups leave at the same ticks; else each counts for itself."""
        s = self._state
        if s.role == Role.LEADER:
            if phase is not None:
                s.beat = phase
            tick_leader(s)
        else:
            tick_follower(s)

    def step(self, message: Message) -> None:
        """Takes a message from another member. One that is late, repeated or of a kind not known is
        ignored. Raises :class:`InvariantViolation` if it contradicts what is committed."""
        s = self._state
        if message.term != s.term and not admit(s, message):
            return
        # Nearly all messages are of these two kinds: without a look at the table.
        if message.kind == MessageKind.APPEND:
            on_append(s, message)
            return
        if message.kind == MessageKind.APPEND_REPLY and s.role == Role.LEADER:
            on_append_reply(s, message)
            return
        handler = (_LEADER_HANDLERS if s.role == Role.LEADER else _HANDLERS).get(message.kind)
        if handler is not None:
            handler(s, message)

    def propose(self, data: bytes, kind: int = EntryKind.NORMAL) -> Index | None:
        """Appends an entry and returns its index; its term is the current one. It is committed if the
        entry applied at that index has that term.

        None, with nothing appended: this replica does not lead, hands over its leadership, or has too much
        uncommitted; for ``EntryKind.MEMBERSHIP`` also while an earlier change may not be applied.
        """
        return propose(self._state, data, kind)

    def read(self) -> int | None:
        """Joins the ReadIndex round that leaves with the next :meth:`ready`; its context comes back in
        ``Ready.reads`` or in ``Ready.lost_reads``. None: this replica does not lead."""
        s = self._state
        return s.reads.join() if s.role == Role.LEADER else None

    def campaign(self, *, force: bool = False) -> None:
        """Asks for pre-votes now, and again at short intervals for a while; nothing if it leads, is no
        voter or has something committed to apply. With ``force`` it stands at once, without pre-votes."""
        s = self._state
        if may_campaign(s):
            if force:
                stand(s)
            else:
                s.hurry = HURRIED_PREVOTES
                ask_prevotes(s)

    def leader_down(self) -> None:
        """The leader's node is known to be gone: forgets it, so that others' candidacies are not refused
        for its sake, and asks for pre-votes in 1 to 3 ticks. Nothing if no leader is followed."""
        s = self._state
        if s.role == Role.FOLLOWER and s.leader != NOBODY:
            s.leader = NOBODY
            s.hurry = HURRIED_PREVOTES
            s.timeout = s.elapsed + s.random.randrange(1, 4)

    def unreachable(self, replica: ReplicaId) -> None:
        """Messages to a member were dropped on this side: goes back to probing it."""
        lost_messages(self._state, replica)

    @property
    def is_handing_over(self) -> bool:
        """Whether a transfer of leadership is under way: nothing is proposed meanwhile."""
        return self._state.transferee != NOBODY

    def transfer(self, to: ReplicaId) -> None:
        """Hands leadership over to a voter once it has the whole log; given up after ``election_ticks``.
        Nothing if this replica does not lead."""
        transfer(self._state, to)

    @property
    def lacking(self) -> tuple[ReplicaId, ...]:
        """On a leader, the members that need entries which are no longer in the log, and are not being sent
        a snapshot: nothing but heartbeats goes to them. Cheap while there are none."""
        return needing_snapshot(self._state) if self._state.lacking else ()

    def snapshot_sending(self, member: ReplicaId, index: Index) -> None:
        """The host begins to send a member, which is :attr:`lacking`, the state as of ``index``."""
        snapshot_sending(self._state, member, index)

    def awaits_snapshot(self, member: ReplicaId) -> bool:
        """Whether the member is being sent a snapshot, as far as this leader knows, and still needs it."""
        p = self._state.progress.get(member)
        return p is not None and bool(p.pending)

    def snapshot_failed(self, member: ReplicaId) -> None:
        """Nothing came of it: the member is :attr:`lacking` again."""
        snapshot_ended(self._state, member, Index(0))

    def snapshot_installed(self, member: ReplicaId, index: Index) -> None:
        """The member has installed the state as of ``index``, durably: entries follow from there, unless
        they were cut away meanwhile. A heartbeat's answer tells as much, later."""
        snapshot_ended(self._state, member, index)

    def known_by(self, members: Collection[ReplicaId]) -> Index:
        """On a leader, the last entry that none of these members may still need: each has it, or is being
        sent a snapshot that does. Members that are lacking one do not count."""
        s = self._state
        return Index(min(
            [p.pending or p.match for p in s.peers
             if p.id in members and (p.pending or p.state != ProgressState.SNAPSHOT)],
            default=s.log.last,
        ))  # fmt: skip

    def is_up_to_date(self, member: ReplicaId, entries: int) -> bool:
        """On a leader, whether the member follows and lacks at most so many entries."""
        s = self._state
        p = s.progress.get(member)
        return p is not None and p.state == ProgressState.REPLICATE and p.match + entries >= s.log.last

    def synced(self, term: Term, index: Index) -> None:
        """Everything up to the write of the entry (``term``, ``index``) is durable, where that was the
        group's last entry written before a sync. Due after each sync that covers entries of the group."""
        on_synced(self._state, term, index)

    def applied_to(self, index: Index) -> None:
        """The host applied everything up to ``index``, which was handed over before."""
        s = self._state
        if index > s.handed or index < s.applied:
            raise InvariantViolation(f"applied {index}, with {s.applied} to {s.handed} possible")
        s.applied = index
        if s.summoned and index >= s.commit:
            applied_all(s)

    def set_membership(self, membership: Membership) -> None:
        """A membership takes effect: its entry was applied."""
        change_members(self._state, membership)

    @property
    def has_ready(self) -> bool:
        """Whether :meth:`ready` may have something to hand out, as far as that is known without making it:
        a leader's appends are made with it, and become due by what arrives, not by time."""
        s = self._state
        return bool(
            s.messages or s.messages_after_sync or s.acknowledge or s.log.unwritten <= s.log.last
            or s.commit > s.handed or s.term != s.saved_term or s.vote != s.saved_vote
            or s.reads.joining or s.reads.answered or s.reads.lost
        )  # fmt: skip

    @property
    def is_stirred(self) -> bool:
        """Whether what was stepped or synced left something for :meth:`ready`. Most acknowledgements leave
        nothing: a quorum is complete already, or still lacks one."""
        if self.has_ready:
            return True
        s = self._state
        return s.role == Role.LEADER and any(p.next <= s.log.last for p in s.peers)

    def ready(self) -> Ready | None:
        """What is to be done, see :class:`Ready`; None when there is nothing. One Ready is bounded, so more
        may be due at once."""
        s = self._state
        log = s.log
        if s.role == Role.LEADER:
            if s.reads.joining:
                begin_reads(s)
            last = log.last
            for p in s.peers:
                if p.next <= last:
                    send_entries(s, p)
        elif s.acknowledge:
            acknowledge(s)
        reads = s.reads
        if not (
            s.messages or s.messages_after_sync or log.unwritten <= log.last or s.commit > s.handed
            or s.term != s.saved_term or s.vote != s.saved_vote or reads.answered or reads.lost
        ):  # fmt: skip
            return None
        entries = log.take_unwritten()
        ready = Ready(
            _hard_state(s, bool(entries)), entries, s.messages, s.messages_after_sync,
            _committed(s) if s.commit > s.handed else (), reads.answered, reads.lost,
        )  # fmt: skip
        # Empty ones too are handed over: what is added from now on belongs to the next sync.
        s.messages, s.messages_after_sync, reads.answered, reads.lost = [], [], [], []
        return ready

    def status(self) -> ReplicaStatus:
        """A copy of what people and checks want to know."""
        s = self._state
        progress = s.progress.values()
        return ReplicaStatus(
            s.id, s.role, s.term, s.vote, s.leader, s.commit, s.applied, s.log.last,
            {p.id: p.match for p in progress},
            tuple(p.id for p in progress if p.state == ProgressState.SNAPSHOT),
        )  # fmt: skip


def _hard_state(s: State, with_entries: bool) -> HardState | None:
    """The hard state if it has to be written: a new term or vote, or entries, which are written with the
    commit index known then. A commit index alone costs no write: it may trail."""
    if s.term == s.saved_term and s.vote == s.saved_vote and (s.commit == s.saved_commit or not with_entries):
        return None
    s.saved_term, s.saved_vote, s.saved_commit = s.term, s.vote, s.commit
    # Without the named tuple's constructor, which costs more than all that is done here.
    return tuple.__new__(HardState, (s.term, s.vote, s.commit))


def _committed(s: State) -> Sequence[Entry]:
    """The next entries to be applied."""
    entries = s.log.slice(Index(s.handed + 1), Index(s.commit + 1), s.config.committed_bytes_max)
    s.handed = entries[-1].index
    if s.uncommitted_bytes:
        for entry in entries:
            if entry.term == s.term:
                s.uncommitted_bytes -= len(entry.data) + ENTRY_BYTES
    return entries
