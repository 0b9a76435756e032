"""Planted bugs in replication: what is committed, where logs meet, and ReadIndex."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.world.bare import BareHost
from raftgroup import following, leading
from raftgroup.quorum import joint_index
from raftgroup.reads import Reads
from raftgroup.replica import Replica
from raftgroup.state import State
from raftgroup.types import Entry, Index, Message, MessageKind, ReadState
from tests.mutations.registry import Patch, mutation, swap
from tests.mutations.suites import CONSENSUS


@mutation(
    "commit-by-counting-an-old-term", "A leader commits entries of earlier terms by counting replicas.",
    rule="pitfall 1", suites=CONSENSUS,
)  # fmt: skip
def _commit_by_counting_an_old_term(patch: Patch) -> None:
    def counting(s: State) -> None:
        index = joint_index([p.match for p in s.incoming], [p.match for p in s.outgoing])
        if index > s.commit:
            s.commit = Index(index)

    swap(patch, leading, "advance_commit", counting)


@mutation(
    "readindex-context-reused", "ReadIndex rounds have the same context time and again.", rule="pitfall 5",
    suites=CONSENSUS,
)  # fmt: skip
def _readindex_context_reused(patch: Patch) -> None:
    join = Reads.join

    def reusing(self: Reads) -> int:
        self._made = 0
        return join(self)

    patch.setattr(Reads, "join", reusing)


@mutation(
    "readindex-before-own-commit", "A leader takes its commit index for the group's before an entry of its"
    " own term is committed.", rule="pitfall 6", suites=CONSENSUS,
)  # fmt: skip
def _readindex_before_own_commit(patch: Patch) -> None:
    begin = leading.begin_reads

    def early(s: State) -> None:
        own_first, s.own_first = s.own_first, Index(0)
        begin(s)
        s.own_first = own_first

    swap(patch, leading, "begin_reads", early)


@mutation(
    "readindex-without-a-quorum", "A leader answers a ReadIndex round without asking whether it still leads.",
    rule="pitfall 6", suites=(*CONSENSUS, "deposed"),
)  # fmt: skip
def _readindex_without_a_quorum(patch: Patch) -> None:
    begin = Reads.begin

    def eager(self: Reads, index: Index) -> int:
        context = begin(self, index)
        self.answered.append(ReadState(*self.rounds.pop()))
        return context

    patch.setattr(Reads, "begin", eager)


def _cut_at_its_end(s: State, entries: Sequence[Entry]) -> None:
    """Has the log end where the message does."""
    log = s.log
    if entries and entries[0].index <= log.last:
        log.truncate(entries[0].index)
    if entries:
        log.extend(entries)


@mutation(
    "truncation-without-conflict", "A message that ends before the log does cuts it off.", rule="pitfall 9",
    suites=CONSENSUS,
)  # fmt: skip
def _truncation_without_conflict(patch: Patch) -> None:
    swap(patch, following, "_merge", _cut_at_its_end)


@mutation(
    "truncation-below-commit", "A message that was overtaken rewrites what is committed.", rule="pitfall 9",
    suites=CONSENSUS,
)  # fmt: skip
def _truncation_below_commit(patch: Patch) -> None:
    on_append = following.on_append

    def rewriting(s: State, m: Message) -> None:
        on_append(s, m)
        if m.entries and m.index < s.commit and s.log.term(m.index) == m.log_term:
            _cut_at_its_end(s, m.entries)

    swap(patch, following, "on_append", rewriting)


@mutation(
    "follower-commits-all-it-is-told", "A follower takes the leader's commit index beyond what a message"
    " shows to be equal.", rule="pitfall 11", suites=CONSENSUS,
)  # fmt: skip
def _follower_commits_all_it_is_told(patch: Patch) -> None:
    on_append = following.on_append

    def trusting(s: State, m: Message) -> None:
        on_append(s, m)
        commit = min(m.commit, s.log.last)
        if s.leader == m.sender and m.term == s.term and commit > s.commit:
            s.commit = commit

    swap(patch, following, "on_append", trusting)


@mutation(
    "heartbeat-commit-not-capped", "A heartbeat carries the commit index beyond what the follower is known to"
    " have.", rule="pitfall 11", suites=CONSENSUS,
)  # fmt: skip
def _heartbeat_commit_not_capped(patch: Patch) -> None:
    def uncapped(s: State, p: Any, context: int) -> None:
        leading.send(s, Message(
            MessageKind.HEARTBEAT, s.id, p.id, s.term, commit=s.commit, context=context, clock=s.clock,
        ))  # fmt: skip

    swap(patch, leading, "_heartbeat", uncapped)


@mutation(
    "back-off-by-one", "A leader looks for the place where logs meet one entry at a time.",
    rule="pitfall 12", suites=CONSENSUS,
)  # fmt: skip
def _back_off_by_one(patch: Patch) -> None:
    def slow(s: State, p: Any, m: Message) -> None:
        if p.state == leading.ProgressState.PROBE and m.index == p.next - 1:
            p.probe(Index(max(p.match + 1, p.next - 1)))
        elif p.state == leading.ProgressState.REPLICATE and m.index > p.match:
            p.probe(Index(max(p.match + 1, m.index)))

    swap(patch, leading, "_back_off", slow)


@mutation(
    "lost-window-not-found-out", "A leader whose window is full of lost messages waits for ever.",
    rule="pitfall 13", suites=CONSENSUS,
)  # fmt: skip
def _lost_window_not_found_out(patch: Patch) -> None:
    swap(patch, leading, "_nudge", lambda s, p: None)


@mutation(
    "entries-never-arrive", "Replica 1 never takes an entry from another one.", rule="pitfall 13",
    suites=CONSENSUS,
)  # fmt: skip
def _entries_never_arrive(patch: Patch) -> None:
    step = Replica.step

    def deaf(self: Replica, message: Message) -> None:
        if self.id != 1 or message.kind != MessageKind.APPEND or not message.entries:
            step(self, message)

    patch.setattr(Replica, "step", deaf)


@mutation(
    "one-host-applies-differently", "Of replicas without an engine, one applies entries in another way.",
    rule="pitfall 22", suites=("bare",),
)  # fmt: skip
def _one_host_applies_differently(patch: Patch) -> None:
    apply = BareHost._apply

    def different(self: BareHost, committed: Sequence[Entry]) -> None:
        if self.node == 2 and any(entry.index % 20 == 0 for entry in committed):
            self.digest += 1
        apply(self, committed)

    patch.setattr(BareHost, "_apply", different)
