"""Watches under every fault: all logs of watchers tell the same as the writers; planted bugs are noticed."""

from __future__ import annotations

from typing import Any

import pytest

from bench.histories import HistoryViolation
from bench.world.run import Setting, run_seed
from primitives.history import MARK
from router.watchframes import Mark
from shards import streams
from shards.outbox import Outbox

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
    monkeypatch.setattr(streams, "behind", lambda revision: MARK.pack(revision + 1, 0xFFFF))
    noticed()


def test_planted_event_lost_on_the_way_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = streams.GroupStreams._give

    def give(self: Any, concerned: Any, parts: list[bytes], out: Outbox) -> None:
        whole(self, concerned, parts[1:] if len(parts) > 1 else parts, out)

    monkeypatch.setattr(streams.GroupStreams, "_give", give)
    noticed()


def test_planted_marks_ahead_of_their_events_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = streams.encode_marks

    def ahead(marks: list[Mark]) -> bytes:
        return whole([mark._replace(revision=mark.revision + 1) for mark in marks])

    monkeypatch.setattr(streams, "encode_marks", ahead)
    noticed()
