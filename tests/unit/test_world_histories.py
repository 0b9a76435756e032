"""Histories are judged as they must be: what cannot come from a correct cluster is refused, doubt is not."""

from __future__ import annotations

import pytest

from bench.histories import HistoryViolation, Operation, check_real_time
from bench.workloads_held import Fenced


def operation(begun: int, ended: int | None, position: int | None, *, writes: bool = True) -> Operation:
    made = Operation(begun, "op", writes)
    made.ended_ms, made.position = ended, position
    return made


def test_write_that_began_after_another_ended_must_stand_behind_it() -> None:
    check_real_time([operation(0, 5, 1), operation(6, 9, 2), operation(4, 9, 3)])
    with pytest.raises(HistoryViolation, match="stands before"):
        check_real_time([operation(0, 5, 2), operation(6, 9, 1)])


def test_overlapping_calls_may_stand_in_either_order() -> None:
    check_real_time([operation(0, 5, 2), operation(5, 9, 1)])
    check_real_time([operation(0, 50, 2), operation(5, 9, 1), operation(1, 2, 0, writes=False)])


def test_read_may_see_the_same_as_before_but_nothing_older() -> None:
    check_real_time([operation(0, 5, 2), operation(6, 9, 2, writes=False)])
    with pytest.raises(HistoryViolation):
        check_real_time([operation(0, 5, 2), operation(6, 9, 1, writes=False)])


def test_write_is_not_seen_before_it_began() -> None:
    with pytest.raises(HistoryViolation):
        check_real_time([operation(0, 5, 2, writes=False), operation(6, 9, 2)])


def test_call_of_unknown_outcome_may_take_effect_late_but_not_before_it_began() -> None:
    check_real_time([operation(0, None, 9), operation(50, 60, 8), operation(0, None, None)])
    with pytest.raises(HistoryViolation):
        check_real_time([operation(0, 5, 9), operation(6, None, 8)])


def test_fenced_number_refuses_tokens_of_the_past() -> None:
    fenced = Fenced()
    assert fenced.write(5, 1)
    assert fenced.read(7) == 1
    assert not fenced.write(5, 2)
    assert fenced.read(6) is None
    assert (fenced.number, fenced.changes) == (1, 1)
