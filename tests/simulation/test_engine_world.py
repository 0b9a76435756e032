"""Whole nodes and real client sessions under every fault: invariants after every step, histories at the end.

The second half plants bugs in the product and demands that the world notices them. Those that no seed finds
soon have a scene of their own, in ``test_former_leaders``.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.world.run import VIOLATIONS, Setting, repeat_command, run_seed
from bench.world.seedfile import decode
from tests.mutations.bugs import plant
from tests.simulation.noticing import first_said

SEEDS = 30
SEEDS_KEPT = Path(__file__).parent / "seeds"


def test_every_seed_holds_and_makes_progress_after_healing() -> None:
    calls = grants = 0
    for seed in range(SEEDS):
        try:
            world = run_seed(seed)
        except VIOLATIONS as violation:
            pytest.fail(f"{repeat_command(seed, Setting())}: {type(violation).__name__}: {violation}")
        calls += world.calls
        grants += sum(getattr(workload, "grants", 0) for workload in world.workloads)
    assert calls > 2500
    assert grants > 250


def test_five_nodes_hold_too() -> None:
    setting = Setting(nodes=5, replicas=5, groups=1, fault_ms=5000)
    for seed in range(5):
        assert run_seed(seed, setting).calls > 0


def test_same_seed_gives_the_same_trace_to_the_byte() -> None:
    for seed in (2, 6, 9):
        one, other = run_seed(seed), run_seed(seed)
        assert one.trace.count > 1000
        assert one.trace.digest() == other.trace.digest()


def test_trace_does_not_depend_on_the_hashes_of_strings() -> None:
    traces = {
        subprocess.run(
            [sys.executable, "-m", "ops.main", "simulate", "--seed", "3", "--verbose"],
            env={"PYTHONHASHSEED": hashes}, check=True, stdout=subprocess.PIPE, text=True,
        ).stdout
        for hashes in ("1", "77")
    }  # fmt: skip
    assert len(traces) == 1
    assert traces.pop().count("\n") > 1000


def test_sessions_that_a_former_leaders_last_entries_registered_expire_too() -> None:
    file = decode((SEEDS_KEPT / "expiry_of_a_former_leaders_sessions.json").read_text())
    run_seed(file.number, file.setting, plan=file.plan)


def test_whoever_stands_in_a_long_line_for_one_leadership_is_given_time() -> None:
    """Hundreds of callers of a burst, each of whom leads for up to three seconds, take about a minute,
    which is more than each is given by itself."""
    file = decode((SEEDS_KEPT / "long_line_after_bursts.json").read_text())
    setting = replace(file.setting, heal_ms=45_000)
    world = run_seed(file.number, setting, plan=file.plan)
    assert world.heap.now_ms > setting.fault_ms + setting.heal_ms



def test_sessions_end_although_their_leaders_clock_jumped_by_minutes() -> None:
    file = decode((SEEDS_KEPT / "sessions_after_jumps_of_clocks.json").read_text())
    run_seed(file.number, file.setting, plan=file.plan)


def test_nodes_without_a_groups_replica_pass_operations_on() -> None:
    for seed in range(1014, 1022):
        run_seed(seed, Setting(nodes=5, groups=3, replicas=3, fault_ms=3000))


# --- Planted bugs ---------------------------------------------------------------------------------------


def noticed(setting: Setting, first: int = 0, count: int = 40) -> str:
    """What the first violation says, over ``count`` seeds from ``first`` on."""
    return first_said(lambda seed: run_seed(seed, setting), range(first, first + count))


COUNTER = Setting(workloads=("counter",), groups=1, fault_ms=6000)
LOCK = Setting(workloads=("lock",), groups=1, fault_ms=6000)


def test_planted_retries_that_take_effect_again_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "duplicate-table-dropped")
    said = noticed(COUNTER)
    assert "count is" in said or "differ in their state" in said


def test_planted_expiry_before_the_lease_ends_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "expiry-before-the-lease-ends")
    assert "is granted while" in noticed(replace(LOCK, faults=("client", "isolate", "split")))


def test_planted_promises_before_the_sync_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "rounds-not-awaited")
    assert "disk" in noticed(COUNTER)


def test_planted_difference_between_replicas_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "replicas-differ")
    assert "differ in their state" in noticed(COUNTER)


def test_planted_end_of_a_session_that_wakes_nobody_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "session-end-wakes-nobody")
    assert "no progress" in noticed(replace(LOCK, faults=("client",)))


