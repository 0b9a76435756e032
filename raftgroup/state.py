"""The state of one replica, and the changes of it that several parts of the algorithm share.

The parts are modules of functions over a :class:`State`: ``election``, ``leading`` and ``following``;
``replica`` puts them together.
"""

from __future__ import annotations

from typing import Final

from raftgroup.log import Log
from raftgroup.progress import Progress
from raftgroup.reads import Reads
from raftgroup.types import (
    NOBODY,
    Config,
    HardState,
    Index,
    InvariantViolation,
    LogReader,
    Membership,
    Message,
    Random,
    ReplicaId,
    Role,
    Term,
)


class State:
    """Everything that a replica knows. Owned by its ``Replica``; nobody else holds one."""

    __slots__ = (
        "acknowledge", "applied", "beat", "candidacy", "clock", "commit", "config", "elapsed", "failures",
        "handed", "hurry", "id", "incoming", "lacking", "leader", "log", "membership", "messages",
        "messages_after_sync", "outgoing", "own", "own_first", "peers", "pending_membership", "prevotes",
        "progress", "random", "reads", "role", "saved_commit", "saved_term", "saved_vote", "summoned", "term",
        "term_unsynced", "timeout", "transfer_elapsed", "transferee", "uncommitted_bytes", "vote", "voters",
        "votes",
    )  # fmt: skip

    def __init__(
        self, replica_id: ReplicaId, membership: Membership, hard_state: HardState, log: LogReader,
        applied: Index, config: Config, random: Random, unsynced: bool,
    ) -> None:  # fmt: skip
        self.id: Final = replica_id
        self.config: Final = config
        self.random: Final = random
        self.log: Final = Log(log, config.tail_bytes_max)
        self.reads: Final = Reads()
        self.clock = 0

        # What is durable, and what of it was handed over for writing last.
        self.term = self.saved_term = hard_state.term
        self.vote = self.saved_vote = hard_state.vote
        self.commit = Index(max(hard_state.commit, applied))
        self.saved_commit = hard_state.commit
        self.term_unsynced = unsynced
        """The term may not be durable yet, so that no message of it may leave before a sync."""
        self.applied = applied
        self.handed = applied
        """The last entry handed over for applying."""
        if self.commit > self.log.last or self.term < self.log.last_term:
            raise InvariantViolation(
                f"replica {replica_id}: term {self.term} and commit {self.commit} do not fit a log that ends"
                f" in {self.log.last_term}/{self.log.last}"
            )

        # Elections.
        self.role: int = Role.FOLLOWER
        self.leader = NOBODY
        self.elapsed = 0
        """Ticks since the leader was heard, the campaign began, or (on a leader) its quorum was checked."""
        self.timeout = random.randrange(config.election_ticks, 2 * config.election_ticks)
        self.prevotes: dict[ReplicaId, bool] = {}
        self.votes: dict[ReplicaId, bool] = {}
        self.candidacy = Term(0)
        """The term that this object stood in and neither won nor left: votes for it still count."""
        self.summoned = Term(0)
        """The term whose leader asked this replica to stand, which waits until all is applied; 0: none."""
        self.failures = 0
        """Candidacies in a row that came to nothing."""
        self.hurry = 0
        """Pre-votes that may still be asked for at short intervals: the leader is known to be gone."""

        # Following.
        self.acknowledge = Index(0)
        """What the next Ready tells the leader to be in the log here; 0: nothing."""

        # Leading.
        self.beat = 0
        self.own_first = Index(0)
        """Index of the first entry of this leader's term."""
        self.progress: dict[ReplicaId, Progress] = {}
        self.own = Progress(replica_id, Index(1), True)
        self.peers: tuple[Progress, ...] = ()
        self.incoming: tuple[Progress, ...] = ()
        self.outgoing: tuple[Progress, ...] = ()
        self.lacking = False
        """Some member may need a snapshot."""
        self.uncommitted_bytes = 0
        self.pending_membership = Index(0)
        """No change of membership may be proposed before this entry is applied."""
        self.transferee = NOBODY
        self.transfer_elapsed = 0

        self.membership = membership
        self.voters = frozenset(membership.incoming + membership.outgoing)
        self.messages: list[Message] = []
        self.messages_after_sync: list[Message] = []


def send(s: State, message: Message) -> None:
    """Sends what rests on the term alone: at once, unless the term is not durable yet."""
    (s.messages_after_sync if s.term_unsynced else s.messages).append(message)


def random_timeout(s: State) -> int:
    """Ticks of silence before a campaign (thesis, section 3.4)."""
    return s.random.randrange(s.config.election_ticks, 2 * s.config.election_ticks)


def enter_term(s: State, term: Term) -> None:
    """Moves to a later term, with the vote free."""
    if term <= s.term:
        raise InvariantViolation(f"replica {s.id}: from term {s.term} to {term}")
    s.term = term
    s.vote = NOBODY
    s.term_unsynced = True
    s.candidacy = Term(0)
    s.acknowledge = Index(0)


def become_follower(s: State, term: Term, leader: ReplicaId) -> None:
    """Follows ``leader``, or waits for one if it is ``NOBODY``."""
    if s.role == Role.LEADER:
        resign(s)
    if term != s.term:
        enter_term(s, term)
    s.role = Role.FOLLOWER
    s.leader = leader
    s.candidacy = Term(0)
    s.elapsed = 0
    s.timeout = random_timeout(s)


def resign(s: State) -> None:
    """Lets go of all that only a leader has."""
    s.reads.drop()
    s.progress = {}
    s.peers = s.incoming = s.outgoing = ()
    s.uncommitted_bytes = 0
    s.lacking = False
    s.transferee = NOBODY


def install_members(s: State, *, heard: bool = False) -> None:
    """On a leader: keeps a :class:`Progress` of exactly the members; ``heard`` gives new ones until the
    next check of the quorum to be heard."""
    membership = s.membership
    members = dict.fromkeys(
        membership.incoming + membership.outgoing + membership.learners + membership.learners_next
    )
    former = s.progress
    following = Index(s.log.last + 1)
    s.progress = {member: former.get(member) or Progress(member, following, heard) for member in members}
    s.own = s.progress.get(s.id) or Progress(s.id, following, True)
    s.own.active = True
    s.peers = tuple(p for p in s.progress.values() if p.id != s.id)
    s.incoming = tuple(s.progress[member] for member in membership.incoming)
    s.outgoing = tuple(s.progress[member] for member in membership.outgoing)


def leased(s: State) -> bool:
    """Whether a leader was heard so lately that nobody else is to be helped into its place (thesis,
    section 4.2.3)."""
    return s.leader != NOBODY and s.elapsed < s.config.election_ticks
