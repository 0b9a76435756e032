"""Planted bugs in sessions: leases, numbers and stored answers, registrations, waiters, boots."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from primitives.commands import Commands
from primitives.errors import Code
from primitives.numbering import Numbering
from primitives.records import Command, Register, encode_answer
from primitives.sessions import Session, SessionTable
from raftgroup.types import Index, Term
from router.session_leases import LeaseClock
from shards import applying
from shards.forwarding import Forwarding
from shards.group import GroupDriver
from shards.leases import LeaderLeases
from shards.localreads import LocalReads
from shards.outbox import Outbox
from shards.peerlink import PeerLink
from shards.reads import Confirm
from shards.waiters import Pending, Waiters
from tests.mutations.registry import Patch, mutation
from tests.mutations.suites import BOOTS, LEASES, SESSIONS

EARLY_MS = 900


@mutation(
    "expiry-before-the-lease-ends", "A leader proposes expiries before the leases have run out.",
    rule="pitfall 8", suites=LEASES,
)  # fmt: skip
def _expiry_before_the_lease_ends(patch: Patch) -> None:
    expired = LeaderLeases.expired
    patch.setattr(LeaderLeases, "expired", lambda self, now_ms: expired(self, now_ms + EARLY_MS))


@mutation(
    "renewal-by-a-stale-leader", "A leader confirms leases without a ReadIndex round begun after the"
    " keepalive's arrival.", rule="pitfall 8", suites=("scenes", *LEASES),
)  # fmt: skip
def _renewal_by_a_stale_leader(patch: Patch) -> None:
    confirm = GroupDriver.confirm

    def at_once(self: GroupDriver, question: Confirm, now_ms: int) -> None:
        confirm(self, question, now_ms)
        asked = [one for one in self._reads._asking if isinstance(one, Confirm)]
        self._reads._asking = [one for one in self._reads._asking if not isinstance(one, Confirm)]
        self._reads._serving.append((self.replica.applied, list(asked)))

    patch.setattr(GroupDriver, "confirm", at_once)


@mutation(
    "lease-counted-from-the-answer", "A client counts its lease from the arrival of the confirmation, not"
    " from its own sending.", rule="pitfall 8", suites=LEASES,
)  # fmt: skip
def _lease_counted_from_the_answer(patch: Patch) -> None:
    confirm = LeaseClock.confirm
    patch.setattr(LeaseClock, "confirm", lambda self, now_ms, sent_ms: confirm(self, now_ms, now_ms))


@mutation(
    "lease-revived", "A lease that was lost lives again when a late confirmation comes.", rule="pitfall 29",
    suites=LEASES,
)  # fmt: skip
def _lease_revived(patch: Patch) -> None:
    def reviving(self: LeaseClock, now_ms: int, sent_ms: int) -> None:
        self.is_lost = False
        self.confirmed_ms = max(self.confirmed_ms, sent_ms)

    patch.setattr(LeaseClock, "confirm", reviving)


@mutation(
    "lease-not-judged-by-ones-own-clock", "A client believes in its leases until the group says that they"
    " ended.", rule="pitfall 29", suites=LEASES,
)  # fmt: skip
def _lease_not_judged_by_ones_own_clock(patch: Patch) -> None:
    patch.setattr(LeaseClock, "judge", lambda self, now_ms: not self.is_lost)


@mutation(
    "expiring-lease-renewed", "A leader that proposed a session's expiry goes on confirming its lease.",
    rule="pitfall 27", suites=LEASES,
)  # fmt: skip
def _expiring_lease_renewed(patch: Patch) -> None:
    patch.setattr(LeaderLeases, "is_expiring", lambda self, number: False)


@mutation(
    "leases-not-counted-anew", "A new leader counts leases from long before its election.",
    rule="pitfall 27", suites=LEASES,
)  # fmt: skip
def _leases_not_counted_anew(patch: Patch) -> None:
    elected = LeaderLeases.elected

    def impatient(self: LeaderLeases, now_ms: int, sessions: Iterable[tuple[int, bytes, int]]) -> None:
        elected(self, now_ms - 10_000, sessions)

    patch.setattr(LeaderLeases, "elected", impatient)


@mutation(
    "duplicate-table-dropped", "A command that comes again takes effect again.", rule="pitfall 24",
    suites=SESSIONS,
)  # fmt: skip
def _duplicate_table_dropped(patch: Patch) -> None:
    apply = Commands.apply

    def forgetful(self: Commands, command: Command) -> bytes | None:
        session = self._alive.get(command.number)
        numbering = session.numberings.get(command.slot) if session is not None else None
        if numbering is not None and command.sequence <= numbering.last:
            numbering.last = command.sequence - 1
        return apply(self, command)

    patch.setattr(Commands, "apply", forgetful)


@mutation(
    "answers-evicted-at-the-cap", "At the cap a stored answer gives way to the next one.", rule="pitfall 26",
    suites=SESSIONS,
)  # fmt: skip
def _answers_evicted_at_the_cap(patch: Patch) -> None:
    apply = Commands.apply

    def evicting(self: Commands, command: Command) -> bytes | None:
        session = self._alive.get(command.number)
        numbering: Numbering | None = session.numberings.get(command.slot) if session is not None else None
        if numbering is not None and numbering.held >= self._answers_stored_max:
            numbering.drop(1)
        return apply(self, command)

    patch.setattr(Commands, "apply", evicting)


@mutation(
    "repeated-registration-counts-again", "A registration that comes again makes another session.",
    rule="pitfall 25", suites=SESSIONS,
)  # fmt: skip
def _repeated_registration_counts_again(patch: Patch) -> None:
    register = SessionTable.register

    def doubling(self: SessionTable, record: Register, revision: int) -> Any:
        present: Session | None = self._by_id.get(record.session_id)
        if present is not None and present.count == record.count:
            record = record._replace(count=record.count + 1)
        return register(self, record, revision)

    patch.setattr(SessionTable, "register", doubling)


@mutation(
    "session-brought-back", "A registration that was delayed brings an ended session back.",
    rule="pitfall 25", suites=SESSIONS,
)  # fmt: skip
def _session_brought_back(patch: Patch) -> None:
    end = SessionTable.end

    def forgetful(self: SessionTable, session: Session) -> bool:
        kept = end(self, session)
        if kept:
            self._former.delete(session.id)
        return kept

    patch.setattr(SessionTable, "end", forgetful)


@mutation(
    "slot-epoch-unchecked-at-apply", "A command is applied whatever its slot's epoch is by then.",
    rule="pitfall 33", suites=SESSIONS,
)  # fmt: skip
def _slot_epoch_unchecked_at_apply(patch: Patch) -> None:
    apply = Commands.apply

    def careless(self: Commands, command: Command) -> bytes | None:
        return apply(self, command._replace(epoch=self._owned.get(command.slot, command.epoch)))

    patch.setattr(Commands, "apply", careless)


class _AnyTerm(int):
    """A term that is like every other one."""

    __hash__ = int.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


@mutation(
    "waiters-matched-by-index-only", "Whoever waits for an entry is answered for whatever is committed at its"
    " index.", rule="pitfall 31", suites=SESSIONS,
)  # fmt: skip
def _waiters_matched_by_index_only(patch: Patch) -> None:
    add = Waiters.add

    def loose(self: Waiters, index: Index, pending: Pending) -> None:
        add(self, index, Pending(Term(_AnyTerm(pending.term)), pending.records, pending.origins))

    patch.setattr(Waiters, "add", loose)
    patch.setattr(Waiters, "clear", lambda self: [])


@mutation(
    "unknown-fate-told-as-refusal", "Whoever waits when leadership goes is told that nothing happened.",
    rule="pitfall 31", suites=SESSIONS,
)  # fmt: skip
def _unknown_fate_told_as_refusal(patch: Patch) -> None:
    refusal = encode_answer(Code.OVERLOADED, 0)

    def lose(self: applying.Applying, origins: Iterable[Any], out: Outbox) -> None:
        for origin in origins:
            out.answer(origin, refusal)

    patch.setattr(applying.Applying, "lose", lose)


@mutation(
    "answer-to-an-earlier-boot", "What another node answers to an earlier boot of this one is taken for an"
    " answer to this boot.", rule="a late answer counts for the boot that asked", suites=BOOTS,
)  # fmt: skip
def _answer_to_an_earlier_boot(patch: Patch) -> None:
    begin = Forwarding.__init__
    patch.setattr(Forwarding, "__init__", lambda self, boot_id: begin(self, bytes(len(boot_id))))


@mutation(
    "proof-for-an-earlier-boot", "A proof of freshness that an earlier boot asked for counts for this one's"
    " round.", rule="a late answer counts for the boot that asked", suites=("engine-unit", *BOOTS, "reads"),
)  # fmt: skip
def _proof_for_an_earlier_boot(patch: Patch) -> None:
    patch.setattr(LocalReads, "number_from", lambda self, number: None)


@mutation(
    "queued-for-an-earlier-boot", "What was queued for an earlier boot of a peer is sent to its next one.",
    rule="pitfall 2", suites=BOOTS,
)  # fmt: skip
def _queued_for_an_earlier_boot(patch: Patch) -> None:
    begin = PeerLink.__init__
    links: dict[str, PeerLink] = {}

    def faithful(self: PeerLink, name: str, link: Any) -> None:
        begin(self, name, link)
        former = links.get(name)
        if former is not None and not former.queue.is_empty:
            self.queue._waiting, self.queue._bytes = former.queue._waiting, former.queue._bytes
            self.backlog.set()
        links[name] = self

    patch.setattr(PeerLink, "__init__", faithful)
