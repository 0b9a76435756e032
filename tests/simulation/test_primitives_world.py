"""Each primitive under every fault, its history judged at the end; and planted bugs that must be noticed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from bench.workloads_queues import QueueWorkload
from bench.world.run import VIOLATIONS, Setting, run_seed
from primitives.commands import Commands
from primitives.limits import BURST_COMMANDS_MAX
from primitives.records import Burst
from router.session import SessionCore
from tests.mutations.bugs import plant
from tests.simulation.noticing import first_said

SEEDS = 3
ALONE = Setting(groups=1, fault_ms=4000)


@pytest.mark.parametrize("name", ["value", "set", "queue", "list", "election", "key", "presence"])
def test_a_primitive_holds_under_every_fault(name: str) -> None:
    calls = 0
    for seed in range(SEEDS):
        try:
            calls += run_seed(seed, replace(ALONE, workloads=(name,))).calls
        except VIOLATIONS as violation:
            pytest.fail(f"seed {seed} of {name}: {type(violation).__name__}: {violation}")
    assert calls > 30


def test_commands_that_share_records_hold_under_every_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: Counter[int] = Counter()
    again = refused = 0
    apply = Commands.apply_burst

    def counted(self: Commands, burst: Burst) -> bytes:
        nonlocal again, refused
        session = self._alive.get(burst.number)
        numbering = None if session is None else session.numberings.get(burst.slot)
        again += numbering is not None and burst.sequence <= numbering.last
        sizes[len(burst.bodies)] += 1
        return apply(self, burst)

    def told(self: SessionCore, *told: Any) -> None:
        nonlocal refused
        refused += 1
        refuse(self, *told)

    refuse = SessionCore._refused
    monkeypatch.setattr(SessionCore, "_refused", told)
    monkeypatch.setattr(Commands, "apply_burst", counted)
    for seed in range(6):
        try:
            run_seed(seed, replace(ALONE, workloads=("together",), callers=3))
        except VIOLATIONS as violation:
            pytest.fail(f"seed {seed}: {type(violation).__name__}: {violation}")
    assert sizes.total() > 1000
    assert len(sizes) > 20
    assert min(again, sizes[BURST_COMMANDS_MAX]) > 20
    assert refused


def test_all_of_them_hold_together() -> None:
    names = ("value", "set", "queue", "list", "election", "key", "presence", "counter")
    for seed in range(100, 104):
        try:
            run_seed(seed, Setting(workloads=names, clients=5, callers=3, fault_ms=4000))
        except VIOLATIONS as violation:
            pytest.fail(f"seed {seed}: {type(violation).__name__}: {violation}")


# --- Planted bugs ---------------------------------------------------------------------------------------


def noticed(name: str, count: int = 12, setting: Setting = ALONE) -> str:
    """What the first violation says."""
    return first_said(lambda seed: run_seed(seed, replace(setting, workloads=(name,))), range(count))


def test_a_planted_element_that_is_delivered_and_kept_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "element-delivered-and-kept")
    assert "delivered twice" in noticed("queue")


def missing(seeds: int) -> int:
    """Elements that nobody got, though no fault explains it: without faults no session ends."""
    found = 0
    for seed in range(seeds):
        world = run_seed(seed, replace(ALONE, workloads=("queue",), faults=(), sessions_ms=(20_000,)))
        (workload,) = world.workloads
        assert isinstance(workload, QueueWorkload)
        found += workload.missing
    return found


def test_no_element_is_missing_whoever_changes_his_mind() -> None:
    assert missing(3) == 0


def test_planted_elements_that_do_not_go_back_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "element-not-put-back")
    assert missing(3) > 0


def test_a_planted_leader_that_outlives_its_session_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "leader-outlives-its-session")
    assert noticed("election")


def test_planted_additions_that_nobody_is_told_of_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "addition-nobody-is-told-of")
    assert "is there" in noticed("set")


def test_planted_entries_that_outlive_their_sessions_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "entries-outlive-their-sessions")
    assert "no progress" in noticed("presence", setting=replace(ALONE, faults=("client",)))
