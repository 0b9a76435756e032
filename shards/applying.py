"""The applying side of one replica: committed entries into its state machines, and their answers.

It owns what is committed and not applied, the applied and the written (flushed) index, whoever waits for an
entry, and the hashes that markers asked for. The driver of the group hands it what consensus committed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from primitives.applier import Applied, Applier
from primitives.errors import Code, InvariantViolation
from primitives.ids import GroupId
from primitives.records import BadRecord, Command, Fire, Record, Register, encode_answer
from raftgroup.membership import BadMembership, decode_membership
from raftgroup.types import Entry, EntryKind, Index, Membership, Term
from shards.hashing import HashJob, StateHash
from shards.leases import LeaderLeases
from shards.outbox import Outbox
from shards.ports import Batch, Origin, Store, StoreDamaged, StoredReplica
from shards.statesink import StateSink
from shards.waiters import Waiters

_LOST: Final = encode_answer(Code.LOST, 0)
_SESSION_LOST: Final = encode_answer(Code.SESSION_LOST, 0)


class Applying:
    """Applies one group's committed entries, answers for them and writes what they changed."""

    __slots__ = (
        "_applier", "_epoch", "_events", "_flushed", "_group", "_hash_due", "_hash_jobs", "_leases", "_store",
        "_to_apply", "applied", "applied_bytes", "firing", "flushed_bytes", "waiters",
    )  # fmt: skip

    def __init__(self, stored: StoredReplica, applier: Applier, leases: LeaderLeases, store: Store) -> None:
        self.waiters: Final = Waiters()
        self.applied: Index = stored.applied
        self.applied_bytes = 0
        """Of entries' data, since the start."""
        self.flushed_bytes = 0
        """The same, when the state was written last."""
        self.firing = False
        """Whether a FIRE of this leader is proposed and not applied."""
        self._group: Final[GroupId] = stored.identity.group
        self._epoch: Final = stored.epoch
        self._applier: Final = applier
        self._leases: Final = leases
        self._store: Final = store
        self._flushed: Index = stored.applied
        self._to_apply: deque[Entry] = deque()
        self._events: list[tuple[bytes, bytes, bytes]] = []
        self._hash_due: list[tuple[bytes, int]] = []
        self._hash_jobs: deque[HashJob] = deque()

    # --- Entries ------------------------------------------------------------------------------------

    @property
    def may_apply(self) -> bool:
        """Whether committed entries wait, and nothing holds them back."""
        return bool(self._to_apply) and not self._hash_due

    def take(self, committed: Sequence[Entry]) -> None:
        """Takes entries that are committed now, in their order."""
        self._to_apply.extend(committed)

    def apply(self, now_ms: int, led_term: Term, out: Outbox) -> Membership | None:
        """Applies what waits, up to a marker. ``led_term``: the term that this replica leads, else 0. Returns
        the membership that takes effect, if one of the entries changes it."""
        entries = self._to_apply
        membership: Membership | None = None
        while entries and not self._hash_due:
            entry = entries.popleft()
            if entry.kind == EntryKind.NORMAL:
                self._apply_entry(entry, now_ms, out)
                out.answer_early()
            elif entry.kind != EntryKind.EMPTY:
                membership = self._membership(entry)
            elif entry.term == led_term:
                self._leases.confirmed(now_ms, self._applier.sessions)
            self.applied = entry.index
        return membership

    def _membership(self, entry: Entry) -> Membership:
        try:
            if entry.kind == EntryKind.MEMBERSHIP:
                return decode_membership(entry.data)
        except BadMembership as error:
            raise StoreDamaged(f"group {self._group}: entry {entry}: {error}") from error
        raise StoreDamaged(f"group {self._group}: {entry} is of unknown kind {entry.kind}")

    def _apply_entry(self, entry: Entry, now_ms: int, out: Outbox) -> None:
        self.applied_bytes += len(entry.data)
        pending = self.waiters.pop(entry.index)
        if pending is not None and pending.term != entry.term:
            self.lose(pending.origins, out)
            pending = None
        try:
            applied = self._applier.apply(entry.data, None if pending is None else pending.records)
        except BadRecord as error:
            raise StoreDamaged(f"group {self._group}: entry {entry.index}: {error}") from error
        if pending is not None:
            records, origins, answers = pending.records, pending.origins, applied.answers
            if len(answers) != len(records):
                raise InvariantViolation(f"{len(answers)} answers to {len(records)} records")
            for at, answer in enumerate(answers):
                record, origin = records[at], origins[at]
                if answer is not None:
                    out.answer(origin, answer)
                elif isinstance(record, Command):
                    self.waiters.add_late(record, origin)
                if type(record) is not Command:
                    self._applied_own(record, answer, now_ms)
        if applied.late or applied.ended:
            self._resolve(applied, out)
        if self._applier.closed:
            self._close(now_ms)
        if applied.events:
            self._events += applied.events
        self._hash_due.extend(applied.markers)

    def _applied_own(self, record: Record, answer: bytes | None, now_ms: int) -> None:
        if isinstance(record, Fire):
            self.firing = False
        elif isinstance(record, Register) and answer is not None and answer[0] == Code.OK:
            self._leases.registered(now_ms, int.from_bytes(answer[1:9], "big"), record.timeout_ms)

    def _close(self, now_ms: int) -> None:
        for number in self._applier.closed:
            self._leases.closing(now_ms, number)
        self._applier.closed.clear()

    def _resolve(self, applied: Applied, out: Outbox) -> None:
        for number, slot, sequence, answer in applied.late:
            for origin in self.waiters.pop_late(number, slot, sequence):
                out.answer(origin, answer)
        for number in applied.ended:
            self._leases.ended(number)
            for origin in self.waiters.pop_session(number):
                out.answer(origin, _SESSION_LOST)

    def take_events(self) -> list[tuple[bytes, bytes, bytes]]:
        """Events of watched partitions since the last call: target, mark and row of each."""
        events, self._events = self._events, []
        return events

    def lose(self, origins: Sequence[Origin], out: Outbox) -> None:
        """Tells whoever waited that the fate of their records is unknown here."""
        for origin in origins:
            out.answer(origin, _LOST)

    # --- What is written ----------------------------------------------------------------------------

    @property
    def must_flush(self) -> bool:
        """Whether a marker wants its hash, so that the state must be written before anything else."""
        return bool(self._hash_due)

    @property
    def flushed_index(self) -> Index:
        """The last entry whose effects are written."""
        return self._flushed

    @property
    def is_dirty(self) -> bool:
        """Whether something was applied that is not written."""
        return self.applied != self._flushed

    def flush(self, batch: Batch, membership: Membership) -> None:
        """Writes what was applied, with the applied index and the membership as of it, into ``batch``."""
        self._applier.flush(StateSink(batch, self._group, self._epoch))
        batch.applied(self._group, self.applied, membership)
        self._flushed = self.applied
        self.flushed_bytes = self.applied_bytes

    def discard(self) -> None:
        """The state is replaced by another: what was applied and not written, or waits, is for nobody."""
        self._to_apply.clear()
        self._hash_due.clear()
        self._flushed = self.applied

    # --- Hashes -------------------------------------------------------------------------------------

    def flushed(self) -> None:
        """The flush is in the store: a marker's hash is begun from this state."""
        if self._hash_due:
            snapshot = self._store.state_snapshot(self._group, self._epoch)
            self._hash_jobs.extend(HashJob(nonce, revision, snapshot) for nonce, revision in self._hash_due)
            self._hash_due = []

    def inherit(self, former: Applying) -> None:
        """Goes on with hashes of the state that this one has replaced."""
        self._hash_jobs.extend(former._hash_jobs)
        former._hash_jobs.clear()

    def hash(self) -> StateHash | None:
        """Goes on with a marker's hash; returns one that is done."""
        if not self._hash_jobs:
            return None
        done = self._hash_jobs[0].advance()
        if done is not None:
            self._hash_jobs.popleft()
        return done

    @property
    def is_hashing(self) -> bool:
        """Whether a hash is under way."""
        return bool(self._hash_jobs)
