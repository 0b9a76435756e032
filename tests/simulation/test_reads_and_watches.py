"""Reads from any replica and watches under every fault; and planted bugs in both, which must be noticed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.world.run import VIOLATIONS, Setting, run_seed
from tests.mutations.bugs import plant

READS = Setting(workloads=("reads",), callers=3)
WATCH = Setting(workloads=("watch",))


@pytest.mark.parametrize(
    ("setting", "seeds"), [(READS, 10), (WATCH, 10), (replace(WATCH, nodes=5, groups=3, fault_ms=5000), 4)]
)
def test_every_seed_holds(setting: Setting, seeds: int) -> None:
    checked = 0
    for seed in range(100, 100 + seeds):
        try:
            world = run_seed(seed, setting)
        except VIOLATIONS as violation:
            pytest.fail(f"seed {seed}, {setting}: {type(violation).__name__}: {violation}")
        checked += sum(getattr(one, "reads", 0) + getattr(one, "events", 0) for one in world.workloads)
    assert checked > 50 * seeds


def noticed(setting: Setting, count: int = 30) -> str:
    """What the first seed that notices something says."""
    for seed in range(count):
        try:
            run_seed(seed, setting)
        except VIOLATIONS as violation:
            return str(violation)
    pytest.fail("no seed noticed")


def test_planted_reads_that_forget_what_was_seen_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "read-forgets-what-was-seen")
    assert "was told" in noticed(READS)


def test_planted_stale_reads_without_a_proof_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "stale-read-without-a-proof")
    assert "though it must hold" in noticed(READS)


def test_planted_events_that_come_again_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "events-come-again")
    assert "after revision" in noticed(WATCH)


def test_planted_streams_that_resume_too_late_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "watch-resumes-too-late")
    assert "was not told" in noticed(WATCH)
