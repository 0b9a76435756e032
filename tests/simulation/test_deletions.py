"""Primitives deleted and created again under every fault; and planted bugs, which must be noticed."""

from __future__ import annotations

import pytest

from bench.world.run import VIOLATIONS, Setting, run_seed
from tests.mutations.bugs import plant
from tests.simulation.noticing import first_said

NAMES = Setting(workloads=("names",), callers=3, groups=3)


def test_every_seed_holds_and_deletes() -> None:
    deleted = 0
    for seed in range(200, 207):
        try:
            world = run_seed(seed, NAMES)
        except VIOLATIONS as violation:
            pytest.fail(f"seed {seed}, {NAMES}: {type(violation).__name__}: {violation}")
        deleted += sum(getattr(one, "deleted", 0) for one in world.workloads)
    assert deleted > 45


def noticed(count: int = 30) -> str:
    """What the first seed that notices something says."""
    return first_said(lambda seed: run_seed(seed, NAMES), range(count))


def test_planted_names_that_are_free_before_all_partitions_are_deleted_are_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch, "name-free-too-early")
    noticed()


def test_planted_partitions_that_stay_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "partition-stays")
    assert "was deleted before" in noticed()


def test_planted_deletions_that_nobody_takes_up_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "deletion-nobody-takes-up")
    assert "no progress" in noticed()
