"""Writes on conditions and bounded queues under every fault, judged by the search; and planted bugs.

A leader that was deposed and does not know it is here, too: what it answers shows in conditions and reads.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.world.outcomes import judge
from bench.world.setting import Setting
from tests.mutations.bugs import plant
from tests.simulation.noticing import first_said

ALONE = Setting(groups=1, fault_ms=4000)
DEPOSED = Setting(
    groups=1, clients=5, callers=3, workloads=("register", "reads"), faults=("depose", "weather")
)  # fmt: skip


@pytest.mark.parametrize("name", ["conditions", "bounded"])
def test_what_callers_were_told_has_an_order_under_every_fault(name: str) -> None:
    judged = valid = 0
    for seed in range(4):
        outcome = judge(seed, replace(ALONE, workloads=(name,)))
        judged += outcome.judged.total()
        valid += outcome.judged["valid"]
    assert judged and valid > judged / 2


def test_a_bounded_queue_refuses_offers_and_goes_on() -> None:
    outcome = judge(0, replace(ALONE, workloads=("bounded",), faults=()))
    assert outcome.judged["valid"] == 1
    assert outcome.calls["bounded"] > 100


def test_deposed_leaders_answer_nothing_of_the_past() -> None:
    for seed in range(4, 9):
        assert judge(seed, DEPOSED).faults["depose"]


# --- Planted bugs ---------------------------------------------------------------------------------------


def noticed(setting: Setting, first: int, count: int) -> str:
    """What the first seed of them says that fails."""
    return first_said(lambda seed: judge(seed, setting), range(first, first + count))


@pytest.mark.parametrize("bug", [
    "condition-not-looked-at", "absence-not-looked-at", "previous-is-the-new-one",
    "counter-compares-with-zero",
])  # fmt: skip
def test_planted_conditions_that_do_not_hold_are_noticed(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, bug)
    assert "fits nowhere" in noticed(replace(ALONE, workloads=("conditions",)), 0, 10)


def test_a_planted_queue_over_its_bound_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "queue-over-its-bound")
    assert "at the least in 5 places" in noticed(replace(ALONE, workloads=("bounded",)), 0, 4)


def test_a_planted_queue_that_is_full_for_good_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "queue-full-for-good")
    assert "finds no room" in noticed(replace(ALONE, workloads=("bounded",)), 0, 10)


def test_planted_reads_without_a_quorum_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "readindex-without-a-quorum")
    said = noticed(DEPOSED, 4, 10)
    assert "though it must hold" in said or "is ahead of the group" in said
