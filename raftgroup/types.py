"""What goes into a replica of a group and what comes out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, NewType, Protocol

Term = NewType("Term", int)
Index = NewType("Index", int)
ReplicaId = NewType("ReplicaId", int)
"""A member of a group, from 1, never used twice in a cluster (0 means none)."""

NOBODY: Final = ReplicaId(0)


class InvariantViolation(BaseException):
    """Something that consensus rests on does not hold. Never caught: the node stops before it does harm."""


class EntryKind:
    """What an entry's data is. Never renumber."""

    NORMAL: Final = 0
    """Opaque to this package."""
    EMPTY: Final = 1
    """A new leader's first entry."""
    MEMBERSHIP: Final = 2
    """An encoded :class:`Membership`, taking effect when applied."""


class Entry:
    """A log entry; immutable but for ``record``, the encoded form that whoever stores it wants to keep."""

    __slots__ = ("data", "index", "kind", "record", "term")

    def __init__(self, term: Term, index: Index, kind: int, data: bytes, record: bytes | None = None) -> None:
        self.term: Final = term
        self.index: Final = index
        self.kind: Final = kind
        self.data: Final = data
        self.record = record

    def __repr__(self) -> str:
        return f"{self.term}/{self.index}"


class MessageKind:
    """Never renumber: they are on the wire."""

    PRE_VOTE: Final = 1
    PRE_VOTE_REPLY: Final = 2
    VOTE: Final = 3
    VOTE_REPLY: Final = 4
    APPEND: Final = 5
    APPEND_REPLY: Final = 6
    HEARTBEAT: Final = 7
    HEARTBEAT_REPLY: Final = 8
    TIMEOUT_NOW: Final = 9
    SNAPSHOT: Final = 10


class Message:
    """One message between replicas of a group; never changed once handed on.

    ``term`` is the sender's (for PRE_VOTE and a granted PRE_VOTE_REPLY: the term that is campaigned for).

    ===============  ==========  =========  ========  ====================================================
    kind             index       log_term   commit    further
    ===============  ==========  =========  ========  ====================================================
    PRE_VOTE, VOTE   last        its term   commit    ``context`` 1: a leadership transfer, leases ignored
    .._REPLY                                          ``reject``
    APPEND           previous    its term   leader's  ``entries``
    APPEND_REPLY     last match             own       ``reject``: index is the refused previous index,
                                                      ``hint`` and ``log_term`` the follower's best guess
    HEARTBEAT                               capped    ``context``: the newest ReadIndex round, 0 if none;
                                                      ``clock``
    HEARTBEAT_REPLY                         own       ``context`` echoed
    SNAPSHOT         last        its term             ``context``: the transfer's number; the host sends
                                                      it with each part of a snapshot
    ===============  ==========  =========  ========  ====================================================
    """

    __slots__ = ("clock", "commit", "context", "entries", "hint", "index", "kind", "log_term", "receiver",
                 "reject", "sender", "term")  # fmt: skip

    def __init__(
        self, kind: int, sender: ReplicaId, receiver: ReplicaId, term: Term, index: Index = Index(0),
        log_term: Term = Term(0), commit: Index = Index(0), entries: Sequence[Entry] = (),
        reject: bool = False, hint: Index = Index(0), context: int = 0, clock: int = 0,
    ) -> None:  # fmt: skip
        self.kind: Final = kind
        self.sender: Final = sender
        self.receiver: Final = receiver
        self.term: Final = term
        self.index: Final = index
        self.log_term: Final = log_term
        self.commit: Final = commit
        self.entries: Final = entries
        self.reject: Final = reject
        self.hint: Final = hint
        self.context: Final = context
        self.clock: Final = clock
        """The leader's log time in ms when it sent this; opaque to this package."""


class HardState(NamedTuple):
    """What must be durable besides the log. ``commit`` may trail."""

    term: Term = Term(0)
    vote: ReplicaId = NOBODY
    commit: Index = Index(0)


@dataclass(frozen=True, slots=True)
class Membership:
    """A group's configuration; joint while ``outgoing`` is not empty (thesis, section 4.3)."""

    incoming: tuple[ReplicaId, ...]
    outgoing: tuple[ReplicaId, ...] = ()
    learners: tuple[ReplicaId, ...] = ()
    learners_next: tuple[ReplicaId, ...] = ()
    """Voters of ``outgoing`` that become learners when the joint configuration is left."""


class Role:
    """A replica's part in its group."""

    FOLLOWER: Final = 0
    PRE_CANDIDATE: Final = 1
    CANDIDATE: Final = 2
    LEADER: Final = 3


class ReadState(NamedTuple):
    """A ReadIndex round that a quorum confirmed: serve once ``index`` is applied."""

    context: int
    index: Index  # type: ignore[assignment]  # hides tuple.index, which nobody wants of a read state


class Ready:
    """What a replica wants done, in this order. Taking it hands it over: the replica counts ``entries`` as
    written (not as synced) and ``committed`` as being applied."""

    __slots__ = ("committed", "entries", "hard_state", "lost_reads", "messages", "messages_after_sync",
                 "reads")  # fmt: skip

    def __init__(
        self, hard_state: HardState | None, entries: Sequence[Entry], messages: list[Message],
        messages_after_sync: list[Message], committed: Sequence[Entry], reads: Sequence[ReadState],
        lost_reads: Sequence[int],
    ) -> None:  # fmt: skip
        self.hard_state = hard_state
        """To be written, when it changed."""
        self.entries = entries
        """To be written in one batch with the deletion of every stored entry from ``entries[0].index`` on."""
        self.messages = messages
        """May leave at once."""
        self.messages_after_sync = messages_after_sync
        """Leave when everything written up to now, this Ready's writes included, is synced."""
        self.committed = committed
        """To be applied, after the writes are handed to the store."""
        self.reads = reads
        self.lost_reads = lost_reads
        """Contexts of ReadIndex rounds that will not be answered: leadership went."""

    @property
    def must_sync(self) -> bool:
        """Whether a sync has to be asked for."""
        return bool(self.entries) or bool(self.messages_after_sync)


class LogReader(Protocol):
    """The stored part of a group's log, as the store sees it (written, perhaps not synced)."""

    def first_index(self) -> Index:
        """Index of the first entry kept; 1 when nothing was cut."""

    def last_index(self) -> Index:
        """Index of the last entry stored; ``first_index() - 1`` when there is none."""

    def term(self, index: Index) -> Term:
        """Term of a stored entry, or of the one just before the first kept (0 at index 0)."""

    def entries(self, low: Index, high_exclusive: Index, bytes_max: int) -> Sequence[Entry]:
        """Entries from ``low`` on, below ``high_exclusive``, at least one, else at most ``bytes_max``."""


class Random(Protocol):
    """An injected source of randomness."""

    def randrange(self, start: int, stop: int) -> int:
        """A whole number with ``start <= n < stop``."""


@dataclass(frozen=True, slots=True)
class Config:
    """A replica's bounds and timing. Ticks are the caller's; Quorate's are 50 ms."""

    election_ticks: int = 10
    """Silence before a campaign is randomized in ``election_ticks`` to ``2 * election_ticks - 1``."""
    heartbeat_ticks: int = 2
    append_bytes_max: int = 1 << 20
    """Entry bytes of one APPEND; one entry always fits."""
    inflight_messages_max: int = 256
    inflight_bytes_max: int = 8 << 20
    committed_bytes_max: int = 4 << 20
    """Entry bytes handed out for applying in one Ready."""
    uncommitted_bytes_max: int = 32 << 20
    """Proposals beyond this are refused until some commit."""
    tail_bytes_max: int = 2 << 20
    """Recent entries kept in memory for followers; older ones are read from the store."""


class ReplicaStatus(NamedTuple):
    """A copy of a replica's state, for people and checks."""

    id: ReplicaId
    role: int
    term: Term
    vote: ReplicaId
    leader: ReplicaId
    commit: Index
    applied: Index
    last: Index
    match: dict[ReplicaId, Index]
    """On a leader, each member's acknowledged index; else empty."""
    snapshot_needed: tuple[ReplicaId, ...] = ()
    """On a leader, the members that need entries which are no longer in the log, and so a snapshot."""
