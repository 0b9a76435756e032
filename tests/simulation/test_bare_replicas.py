"""Replicas of one group alone, under every fault: hundreds of seeds, each invariant after every step.

The second half plants bugs and demands that the invariants notice them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bench.world.bare import BareHost, run_bare
from bench.world.seedfile import decode
from primitives.errors import InvariantViolation
from raftgroup import types as raft
from raftgroup.types import HardState, Message, MessageKind

SEEDS = 200
VIOLATIONS = (InvariantViolation, raft.InvariantViolation)


@pytest.mark.parametrize("count", [3, 5])
def test_invariants_hold_and_progress_returns_after_healing(count: int) -> None:
    committed = elections = 0
    for seed in range(SEEDS if count == 3 else SEEDS // 4):
        try:
            world = run_bare(seed, count=count)
        except VIOLATIONS as violation:
            pytest.fail(f"seed {seed} with {count} replicas: {violation}")
        committed += len(world.checks.ledger)
        elections += len(world.checks.leaders)
    assert committed > 2000
    assert elections > 50


def test_same_seed_gives_the_same_trace_to_the_byte() -> None:
    for seed in (2, 5, 13):
        one, other = run_bare(seed), run_bare(seed)
        assert one.trace.count > 100
        assert one.trace.digest() == other.trace.digest()
    assert run_bare(2).trace.digest() != run_bare(3).trace.digest()


def test_seed_16_vote_does_not_leave_with_the_sync_of_an_earlier_round() -> None:
    file = decode((Path(__file__).parent / "seeds" / "vote_with_an_earlier_sync.json").read_text())
    run_bare(file.number, plan=file.plan)


def noticed_by_some_seed(seeds: int = 60) -> str:
    """What the first violation says, over so many seeds."""
    for seed in range(seeds):
        try:
            run_bare(seed, fault_ms=5000)
        except VIOLATIONS as violation:
            return str(violation)
    pytest.fail(f"{seeds} seeds did not notice")


CarryOut = Callable[..., None]


def test_planted_promises_that_do_not_wait_for_the_sync_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    carry_out: CarryOut = BareHost._carry_out

    def hasty(
        self: BareHost, hard_state: HardState | None, entries: Sequence[raft.Entry], now: list[Message],
        later: list[Message], committed: Sequence[raft.Entry], must_sync: bool,
    ) -> None:  # fmt: skip
        carry_out(self, hard_state, entries, now, [], committed, must_sync)
        self._send(later)

    monkeypatch.setattr(BareHost, "_carry_out", hasty)
    assert "its disk" in noticed_by_some_seed()


def test_planted_vote_that_is_never_written_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    carry_out: CarryOut = BareHost._carry_out

    def forgetful(self: BareHost, hard_state: HardState | None, *rest: object) -> None:
        if hard_state is not None:
            hard_state = hard_state._replace(vote=raft.NOBODY)
        carry_out(self, hard_state, *rest)

    monkeypatch.setattr(BareHost, "_carry_out", forgetful)
    assert "vote" in noticed_by_some_seed()


def test_planted_lost_replication_is_noticed_after_healing(monkeypatch: pytest.MonkeyPatch) -> None:
    receive = BareHost.receive

    def deaf(self: BareHost, node: object, sections: Sequence[Message]) -> None:
        heard = [m for m in sections if self.node != 1 or m.kind != MessageKind.APPEND or not m.entries]
        receive(self, self.node, heard)

    monkeypatch.setattr(BareHost, "receive", deaf)
    assert "no progress" in noticed_by_some_seed()


def test_planted_difference_in_applying_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    apply = BareHost._apply

    def different(self: BareHost, committed: Sequence[raft.Entry]) -> None:
        if self.node == 2 and any(entry.index % 20 == 0 for entry in committed):
            self.digest += 1
        apply(self, committed)

    monkeypatch.setattr(BareHost, "_apply", different)
    assert "differ in their state" in noticed_by_some_seed()


def test_planted_reads_without_a_round_of_their_own_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def eager(self: BareHost) -> None:
        if self.replica.role == raft.Role.LEADER:
            self.judge_read(self.replica.commit, self.world.acknowledged)

    monkeypatch.setattr(BareHost, "read", eager)
    assert "a read is served" in noticed_by_some_seed(200)


def test_planted_leader_that_counts_itself_unsynced_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    synced = BareHost._synced

    def early(self: BareHost, round_number: int) -> None:
        synced(self, round_number)
        self.replica.synced(self.replica.term, self.log.last_index())

    monkeypatch.setattr(BareHost, "_synced", early)
    assert "disks keep it" in noticed_by_some_seed()
