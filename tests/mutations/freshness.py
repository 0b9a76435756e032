"""Planted bugs in reads from any replica, and in watches."""

from __future__ import annotations

from typing import Any

from primitives.history import MARK
from raftgroup.types import Index
from router import session_watches
from router.session_network import Outgoing
from router.session_reads import GroupReads
from router.session_streams import Stream
from router.watchframes import Mark, WireEvent
from shards import streams
from shards.localreads import LocalReads
from shards.outbox import Outbox
from tests.mutations.registry import Patch, mutation
from tests.mutations.suites import READS, WATCHES


@mutation(
    "read-forgets-what-was-seen", "A client's sequential reads do not ask for what it was told.",
    rule="for no client time goes back", suites=READS,
)  # fmt: skip
def _read_forgets_what_was_seen(patch: Patch) -> None:
    give = GroupReads.give

    def forgetful(self: GroupReads, now_ms: int, outgoing: Outgoing) -> bool:
        seen, self.session.seen = self.session.seen, 0
        whole = give(self, now_ms, outgoing)
        self.session.seen = max(seen, self.session.seen)
        return whole

    patch.setattr(GroupReads, "give", forgetful)


@mutation(
    "causal-read-ignores-the-position", "A replica serves sequential and causal reads before it has applied"
    " what they ask for.", rule="a causal read sees its position", suites=READS,
)  # fmt: skip
def _causal_read_ignores_the_position(patch: Patch) -> None:
    due = LocalReads.due

    def heedless(self: LocalReads, now_ms: int, applied: Index, revision: int, *, leads: bool) -> Any:
        return due(self, now_ms, applied, (1 << 64) - 1, leads=leads)

    patch.setattr(LocalReads, "due", heedless)


@mutation(
    "stale-read-without-a-proof", "A replica serves stale reads without a proof of how old its state is.",
    rule="who cannot prove the bound refuses", suites=READS,
)  # fmt: skip
def _stale_read_without_a_proof(patch: Patch) -> None:
    patch.setattr(LocalReads, "_is_fresh", lambda self, one: True)


@mutation(
    "age-from-the-proofs-arrival", "The age of a replica's state counts from the arrival of the proof, not"
    " from when it was asked for.", rule="an age counts from the beginning of the round",
    suites=("reads-unit", "far-reads", "reads"),
)  # fmt: skip
def _age_from_the_proofs_arrival(patch: Patch) -> None:
    due = LocalReads.due

    def late(self: LocalReads, now_ms: int, applied: Index, revision: int, *, leads: bool) -> Any:
        self._proofs = [proof._replace(began_ms=now_ms) for proof in self._proofs]
        return due(self, now_ms, applied, revision, leads=leads)

    patch.setattr(LocalReads, "due", late)


@mutation(
    "events-come-again", "A watch goes on some revisions before its last event, and takes what comes again.",
    rule="pitfall 32", suites=WATCHES,
)  # fmt: skip
def _events_come_again(patch: Patch) -> None:
    take = Stream.take

    def gullible(self: Stream, event: WireEvent, size: int) -> bool:
        self.mark = 0
        return take(self, event, size)

    patch.setattr(Stream, "take", gullible)
    patch.setattr(session_watches, "revision_of", lambda mark: max((mark >> 16) - 3, 0))


@mutation(
    "watch-resumes-too-late", "A client asks for events from beyond the next one on when a watch goes on.",
    rule="pitfall 32", suites=WATCHES,
)  # fmt: skip
def _watch_resumes_too_late(patch: Patch) -> None:
    patch.setattr(session_watches, "revision_of", lambda mark: (mark >> 16) + 2)


@mutation(
    "watch-resumed-off-by-one", "A node begins a watch behind the event after the one asked for.",
    rule="pitfall 32", suites=WATCHES,
)  # fmt: skip
def _watch_resumed_off_by_one(patch: Patch) -> None:
    patch.setattr(streams, "behind", lambda revision: MARK.pack(revision + 1, 0xFFFF))


@mutation(
    "event-lost-on-the-way", "Of the events of a round the first is not sent, if there are more.",
    rule="pitfall 32", suites=WATCHES,
)  # fmt: skip
def _event_lost_on_the_way(patch: Patch) -> None:
    whole = streams.GroupStreams._give

    def give(self: Any, concerned: Any, parts: list[bytes], out: Outbox) -> None:
        whole(self, concerned, parts[1:] if len(parts) > 1 else parts, out)

    patch.setattr(streams.GroupStreams, "_give", give)


@mutation(
    "marks-ahead-of-their-events", "Marks call a revision complete before its events are sent.",
    rule="events come before the answers that they led to", suites=WATCHES,
)  # fmt: skip
def _marks_ahead_of_their_events(patch: Patch) -> None:
    whole = streams.encode_marks

    def ahead(marks: list[Mark]) -> bytes:
        return whole([mark._replace(revision=mark.revision + 1) for mark in marks])

    patch.setattr(streams, "encode_marks", ahead)
