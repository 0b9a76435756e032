"""Reads from any replica and watches under every fault; and planted bugs in both, which must be noticed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.histories import HistoryViolation
from bench.world.clock import PPM
from bench.world.machines import Machines
from bench.world.run import VIOLATIONS, Setting, run_seed
from primitives.ids import NodeId
from tests.mutations.bugs import plant
from tests.simulation.noticing import first_said

READS = Setting(workloads=("reads",), callers=3)
WATCH = Setting(workloads=("watch",))


@pytest.mark.parametrize(
    ("setting", "seeds"), [(READS, 6), (WATCH, 6), (replace(WATCH, nodes=5, groups=3, fault_ms=5000), 4)]
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


def test_planted_clocks_that_stop_while_their_machine_sleeps_are_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_frozen = Machines.set_frozen

    def asleep(self: Machines[Any, Any], node: NodeId, frozen: bool) -> None:
        self.clocks[node].set_rate(1 if frozen else PPM)
        set_frozen(self, node, frozen)

    monkeypatch.setattr(Machines, "set_frozen", asleep)
    setting = replace(READS, callers=4, clients=5, groups=1, faults=("freeze",), fault_ms=6000,
                      sessions_ms=(5000, 20_000))  # fmt: skip
    with pytest.raises(HistoryViolation, match="though it must hold"):
        for seed in (43, 154, 163, 261, 273, *range(100, 120)):  # About one in sixty notices.
            run_seed(seed, setting)


def noticed(setting: Setting, count: int = 30) -> str:
    """What the first seed that notices something says."""
    return first_said(lambda seed: run_seed(seed, setting), range(count))


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
