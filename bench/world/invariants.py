"""What must hold after every step, checked only for what the step changed.

Raft's properties (thesis, figure 3.2) are checked inductively. *Log matching*: every entry written anywhere
is looked up by its index and term, and must have the same data and the same term before it. *Leader
completeness* and *state machine safety*: every index that any replica calls committed is entered in one
ledger, which later leaders and commits must agree with. A promise that leaves a node (a vote, an
acknowledgement) is compared with what its disk would keep if the power went now.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, NoReturn, Protocol

from xxhash import xxh3_64_intdigest

from bench.world.disk import Disk
from bench.world.image import Image, Log
from primitives.errors import InvariantViolation
from primitives.ids import GroupId
from raftgroup.types import Entry, Index, Message, MessageKind, ReplicaId, Role, Term


class ReplicaView(Protocol):
    """What a replica tells of itself."""

    @property
    def id(self) -> ReplicaId:
        """Its id."""

    @property
    def term(self) -> Term:
        """Its current term."""

    @property
    def role(self) -> int:
        """See :class:`raftgroup.types.Role`."""

    @property
    def commit(self) -> Index:
        """What it knows to be committed."""

    @property
    def applied(self) -> Index:
        """What it has applied."""

    @property
    def last_index(self) -> Index:
        """The end of its log."""


class _Committed(NamedTuple):
    """A ledger's line. ``known_in`` is the term of the replica that was first seen to call it committed."""

    term: Term
    digest: int
    known_in: Term


class _Seen:
    """The last that was seen of one boot of a replica."""

    __slots__ = ("applied", "commit", "led", "term", "verified")

    def __init__(self) -> None:
        self.term = Term(0)
        self.commit = Index(0)
        self.applied = Index(0)
        self.verified = Index(0)
        """Its committed entries up to here agree with the ledger."""
        self.led = Term(0)
        """The last term in which its leadership was checked."""


class GroupChecks:
    """Everything that is known of one group, over all replicas and boots."""

    def __init__(self, group: GroupId, disks: Sequence[Disk], voters: int) -> None:
        self.group = group
        self._disks = disks
        """Every disk on which one of the voters may be."""
        self._voters = voters
        self.ledger: list[_Committed] = []
        """Line i stands for index i + 1."""
        self.leaders: dict[Term, ReplicaId] = {}
        self._entries: dict[tuple[Index, Term], tuple[int, Term]] = {}
        """By index and term: digest of the data and the term of the entry before."""
        self._votes: dict[tuple[ReplicaId, Term], ReplicaId] = {}
        self._seen: dict[ReplicaId, _Seen] = {}
        self._sums: dict[Index, int] = {}

    def started(self, replica: ReplicaId) -> None:
        """A replica starts from its disk: what was known of its former boot no longer binds it."""
        self._seen[replica] = _Seen()

    def wrote(self, log: Log, entries: Sequence[Entry]) -> None:
        """``entries`` were just written at the end of ``log``."""
        before = log.term(Index(entries[0].index - 1))
        for entry in entries:
            found = (_digest(entry), before)
            if self._entries.setdefault((entry.index, entry.term), found) != found:
                self.fail(f"log matching: two different entries {entry!r}, or one behind different ones")
            if entry.term < before:
                self.fail(f"entry {entry!r} follows one of the later term {before}")
            before = entry.term

    def observed(self, replica: ReplicaView, log: Log, *, settled: bool) -> None:
        """A replica has worked. ``settled``: its log is as it believes, no write being refused."""
        seen = self._seen[replica.id]
        if replica.term < seen.term:
            self.fail(f"replica {replica.id}: term {replica.term} after {seen.term}")
        if replica.commit < seen.commit:
            self.fail(f"replica {replica.id}: commit goes back from {seen.commit} to {replica.commit}")
        if not seen.applied <= replica.applied <= replica.commit <= replica.last_index:
            self.fail(
                f"replica {replica.id}: applied {seen.applied}, then {replica.applied},"
                f" commit {replica.commit}, last {replica.last_index}"
            )
        seen.term, seen.commit, seen.applied = replica.term, replica.commit, replica.applied
        if replica.role == Role.LEADER:
            self._observe_leader(replica, seen, log, settled)
        if settled and seen.verified < replica.commit:
            self._observe_commit(replica, seen, log)

    def sent(self, message: Message, durable: Image, live: Image, *, settled: bool) -> None:
        """A message left its node: what it promises must be on the disk already."""
        kind, sender, term = message.kind, message.sender, message.term
        if kind in (MessageKind.PRE_VOTE, MessageKind.PRE_VOTE_REPLY):
            return
        state = durable.hard_states.get(self.group)
        if state is None or state.term < term:
            self.fail(f"replica {sender} speaks in term {term}, its disk would keep {state}")
        if kind == MessageKind.VOTE:
            self._voted(sender, term, sender)
        elif kind == MessageKind.VOTE_REPLY and not message.reject:
            self._voted(sender, term, message.receiver)
            if state.term == term and state.vote != message.receiver:
                self.fail(f"replica {sender} votes for {message.receiver}, its disk would keep {state}")
        elif kind == MessageKind.APPEND_REPLY and not message.reject and state.term == term:
            # One of an earlier term, which a refused write held back, tells of a log that a later leader may
            # have cut since: like one that was long on its way.
            kept = durable.log(self.group)
            if kept.last_index() < message.index:
                self.fail(f"replica {sender} acknowledges {message.index}, keeps {kept.last_index()}")
            log, index = live.log(self.group), message.index
            if settled and log.last_index() >= index:
                written = log.term(index) if index > log.base else self.ledger[index - 1].term
                if not kept.holds(index, written):
                    self.fail(f"replica {sender} acknowledges {written}/{message.index}, not yet kept")

    def flushed(self, index: Index, total: int) -> None:
        """A replica has written its state as of ``index``, whose hash is ``total``."""
        if self._sums.setdefault(index, total) != total:
            self.fail(f"two replicas differ in their state at applied index {index}")

    def fail(self, what: str) -> NoReturn:
        """Raises the violation, naming the group."""
        raise InvariantViolation(f"group {self.group}: {what}")

    def _observe_leader(self, replica: ReplicaView, seen: _Seen, log: Log, settled: bool) -> None:
        term = replica.term
        if self.leaders.setdefault(term, replica.id) != replica.id:
            self.fail(f"two leaders in term {term}: {self.leaders[term]} and {replica.id}")
        if not settled or seen.led == term:
            return
        seen.led = term
        index = len(self.ledger)
        while index and self.ledger[index - 1].known_in >= term:
            index -= 1
        if index and not log.holds(Index(index), self.ledger[index - 1].term):
            self.fail(f"leader completeness: {replica.id} leads term {term} without committed entry {index}")

    def _recall(self, log: Log, known_in: Term) -> None:
        """The log was cut in the very write in which its replica's commitment could first be seen, as after a
        time of refused writes: what is lacking is taken as it was written."""
        term, missing = log.term(log.base), []
        for index in range(log.base, len(self.ledger), -1):
            digest, before = self._entries[Index(index), term]
            missing.append(_Committed(term, digest, known_in))
            term = before
        self.ledger.extend(reversed(missing))

    def _observe_commit(self, replica: ReplicaView, seen: _Seen, log: Log) -> None:
        if log.last_index() < replica.commit:
            self.fail(f"replica {replica.id} calls {replica.commit} committed, wrote {log.last_index()}")
        if log.base > len(self.ledger):
            self._recall(log, replica.term)
        # What was cut away was verified before, here or by whoever sent the state that stands for it.
        for index in range(max(seen.verified, log.base) + 1, replica.commit + 1):
            entry = log.entry(Index(index))
            if index > len(self.ledger):
                self._check_kept(entry)
                self.ledger.append(_Committed(entry.term, _digest(entry), replica.term))
            else:
                line = self.ledger[index - 1]
                if (line.term, line.digest) != (entry.term, _digest(entry)):
                    self.fail(f"replica {replica.id} commits {entry!r}, {line.term}/{index} was committed")
        seen.verified = replica.commit

    def _check_kept(self, entry: Entry) -> None:
        """What is committed would survive a loss of power everywhere on a majority of the voters."""
        logs = [disk.durable.log(self.group) for disk in self._disks]
        index, term = entry.index, entry.term
        kept = sum(log.holds(index, term) for log in logs)
        if 2 * kept <= self._voters:
            self.fail(f"entry {entry!r} is called committed, {kept} of {self._voters} disks keep it")

    def _voted(self, replica: ReplicaId, term: Term, candidate: ReplicaId) -> None:
        if self._votes.setdefault((replica, term), candidate) != candidate:
            self.fail(f"replica {replica} votes twice in term {term}")


class SessionChecks:
    """A session that ended in a group never returns there, on no replica."""

    def __init__(self, group: GroupId) -> None:
        self._group = group
        self._seen_alive: dict[int, Index] = {}
        """By session number: the highest applied index at which some replica had it."""
        self._seen_gone: dict[int, Index] = {}
        """The lowest applied index at which some replica no longer had it."""
        self._former: dict[ReplicaId, frozenset[int]] = {}

    def started(self, replica: ReplicaId) -> None:
        """A replica starts from its disk."""
        self._former.pop(replica, None)

    def observed(self, replica: ReplicaId, applied: Index, alive: Iterable[int]) -> None:
        """A replica at ``applied`` has these sessions, by number."""
        now = frozenset(alive)
        former = self._former.get(replica, frozenset())
        if now == former:
            return
        self._former[replica] = now
        for number in sorted(now):
            self._seen_alive[number] = max(self._seen_alive.get(number, Index(0)), applied)
            self._judge(number)
        for number in sorted(former - now):
            self._seen_gone[number] = min(self._seen_gone.get(number, applied), applied)
            self._judge(number)

    def _judge(self, number: int) -> None:
        gone = self._seen_gone.get(number)
        if gone is not None and self._seen_alive[number] >= gone:
            raise InvariantViolation(f"group {self._group}: session {number} is back after its end at {gone}")


def _digest(entry: Entry) -> int:
    return xxh3_64_intdigest(entry.data, seed=entry.kind)
