"""Logs that are cut, replicas that need snapshots, leaderships that move; bugs that the world must notice."""

from __future__ import annotations

import pytest
from test_engine_world import noticed

from bench.world.run import Setting, run_seed
from tests.mutations.bugs import plant

AWAY = Setting(workloads=("counter", "register"), groups=1, faults=("crash", "isolate", "split"))
"""Nodes are away for a while; most seeds cut logs down to a few entries."""


def test_replicas_that_were_away_are_brought_up_to_date_by_snapshots() -> None:
    installed = 0
    for seed in range(500, 512):
        installed += run_seed(seed, AWAY).cluster.installed
    assert installed > 5


def test_planted_snapshot_that_lacks_a_row_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "snapshot-lacks-a-row")
    assert "differ in their state" in noticed(AWAY, first=500)


def test_planted_cut_of_entries_whose_effects_are_not_written_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch, "log-cut-beyond-what-is-written")
    assert "which is not applied" in noticed(AWAY, first=500)


def test_planted_log_that_is_kept_beyond_a_snapshot_whatever_it_holds_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch, "log-kept-beyond-a-snapshot")
    assert "is cut behind" in noticed(AWAY, first=500)


def test_planted_epoch_that_is_used_again_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "epoch-used-again")
    assert "epoch" in noticed(AWAY, first=500)


def test_storms_of_transfers_lose_nothing() -> None:
    calls = 0
    for seed in range(600, 610):
        faults = ("transfer",) if seed % 2 else ("transfer", "crash", "split")
        calls += run_seed(seed, Setting(faults=faults, fault_ms=5000)).calls
    assert calls > 500
