"""Logs that are cut, replicas that need snapshots, leaderships that move; bugs that the world must notice."""

from __future__ import annotations

from typing import Any

import pytest
from test_engine_world import noticed

from bench.world.disk import SimBatch
from bench.world.run import Setting, run_seed
from primitives.ids import GroupId
from raftgroup.types import Index, Term
from shards.applying import Applying
from shards.group import GroupDriver
from shards.sending import Sending
from shards.staging import Staging

AWAY = Setting(workloads=("counter", "register"), groups=1, faults=("crash", "isolate", "split"))
"""Nodes are away for a while; most seeds cut logs down to a few entries."""


def test_replicas_that_were_away_are_brought_up_to_date_by_snapshots() -> None:
    installed = 0
    for seed in range(500, 512):
        installed += run_seed(seed, AWAY).cluster.installed
    assert installed > 5


def test_planted_snapshot_that_lacks_a_row_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    make = Sending._make

    def careless(self: Sending, part_bytes: int) -> bytes:
        if self._rows and self._walk is not None:
            next(self._walk, None)
        return make(self, part_bytes)

    monkeypatch.setattr(Sending, "_make", careless)
    assert "differ in their state" in noticed(AWAY, first=500)


def test_planted_cut_of_entries_whose_effects_are_not_written_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Applying, "flushed_index", property(lambda self: self.applied))
    flush = GroupDriver.flush
    monkeypatch.setattr(GroupDriver, "flush", lambda self, batch: flush(self, batch) if self.leads else None)
    assert "which is not applied" in noticed(AWAY, first=500)


def test_planted_log_that_is_kept_beyond_a_snapshot_whatever_it_holds_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut = SimBatch.cut_log

    def keeping(self: SimBatch, group: GroupId, index: Index, term: Term, *, keep: bool = True) -> None:
        cut(self, group, index, term, keep=True)

    monkeypatch.setattr(SimBatch, "cut_log", keeping)
    assert "is cut behind" in noticed(AWAY, first=500)


def test_planted_epoch_that_is_used_again_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Staging.__init__

    def frugal(self: Staging, *arguments: Any) -> None:
        group, node, message, membership, _, now_ms = arguments
        stage(self, group, node, message, membership, 2, now_ms)

    monkeypatch.setattr(Staging, "__init__", frugal)
    assert "epoch" in noticed(AWAY, first=500)


def test_storms_of_transfers_lose_nothing() -> None:
    calls = 0
    for seed in range(600, 610):
        faults = ("transfer",) if seed % 2 else ("transfer", "crash", "split")
        calls += run_seed(seed, Setting(faults=faults, fault_ms=5000)).calls
    assert calls > 500
