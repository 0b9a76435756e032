"""Watches under every fault: all logs of watchers tell the same as the writers; planted bugs are noticed."""

from __future__ import annotations

import pytest

from bench.histories import HistoryViolation
from bench.world.run import Setting, run_seed
from tests.mutations.bugs import plant

SETTING = Setting(workloads=("watch-log", "watch-log-pinned"))
SEEDS = 12
PLANTED_SEEDS = 20


def test_every_log_tells_every_change_once_and_in_order() -> None:
    calls = 0
    for seed in range(SEEDS):
        calls += run_seed(seed, SETTING).calls
    assert calls > 10 * SEEDS


def test_more_nodes_than_replicas_hold_too() -> None:
    for seed in range(3):
        run_seed(100 + seed, Setting(workloads=SETTING.workloads, nodes=5, groups=3))


def noticed() -> None:
    with pytest.raises(HistoryViolation, match="logged"):
        for seed in range(PLANTED_SEEDS):
            run_seed(seed, SETTING)


def test_planted_resumption_behind_the_next_event_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "watch-resumed-off-by-one")
    noticed()


def test_planted_event_lost_on_the_way_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "event-lost-on-the-way")
    noticed()


def test_planted_marks_ahead_of_their_events_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "marks-ahead-of-their-events")
    noticed()
