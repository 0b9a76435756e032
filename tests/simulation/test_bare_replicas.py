"""Replicas of one group alone, under every fault: hundreds of seeds, each invariant after every step.

The second half plants bugs and demands that the invariants notice them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.world.bare import run_bare
from bench.world.seedfile import decode
from primitives.errors import InvariantViolation
from raftgroup import types as raft
from tests.mutations.bugs import plant

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
    plant(monkeypatch, "promises-before-sync")
    assert "its disk" in noticed_by_some_seed()


def test_planted_vote_that_is_never_written_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "vote-not-persisted")
    assert "vote" in noticed_by_some_seed()


def test_planted_lost_replication_is_noticed_after_healing(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "entries-never-arrive")
    assert "no progress" in noticed_by_some_seed()


def test_planted_difference_in_applying_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "one-host-applies-differently")
    assert "differ in their state" in noticed_by_some_seed()


def test_planted_reads_without_a_round_of_their_own_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "readindex-without-a-quorum")
    assert "a read is served" in noticed_by_some_seed(200)


def test_planted_leader_that_counts_itself_unsynced_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "leader-counts-itself-unsynced")
    assert "disks keep it" in noticed_by_some_seed()
