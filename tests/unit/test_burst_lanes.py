"""Which calls of a lane share a record, and that they leave in the order of their numbers all the same."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primitives.ids import PrimitiveId, Revision, SlotId
from primitives.limits import BURST_COMMANDS_MAX
from primitives.records import Type
from router.session_calls import Call, CallKind
from router.session_lanes import BURST_BYTES_MAX, Lane

WINDOW = 512
NUMBER = 5
PRIMITIVE, OTHER = (PrimitiveId(SlotId(7), Revision(revision)) for revision in (9, 10))


def call(
    op: int = 1, *, type: int = 16, primitive: PrimitiveId = PRIMITIVE, partition: int = 0,
    late: bool = False, bytes_: int = 10,
) -> Call:  # fmt: skip
    made = Call(CallKind.COMMAND, type, op, b"\x80", bytes(bytes_))
    made.primitive, made.partition, made.late = primitive, partition, late
    return made


def lane(*calls: Call) -> Lane:
    made = Lane(7)
    for one in calls:
        made.waiting.push(one)
    return made


def taken(of: Lane, window: int = WINDOW) -> list[list[Call]]:
    """All that there is to be sent, by records."""
    return list(iter(lambda: of.take(NUMBER, window), []))


def sequences(records: list[list[Call]]) -> list[list[int]]:
    return [[one.sequence for one in record] for record in records]


def test_calls_for_one_operation_of_one_partition_share_a_record_in_their_order() -> None:
    calls = [call() for _ in range(5)]
    assert taken(lane(*calls)) == [calls]
    assert [one.sequence for one in calls] == [1, 2, 3, 4, 5]
    assert {one.number for one in calls} == {NUMBER}


@pytest.mark.parametrize(
    "other",
    [
        {"op": 2}, {"primitive": OTHER}, {"partition": 1}, {"late": True}, {"type": 17},
        {"type": Type.SESSION}, {"type": Type.CATALOG},
    ],
)  # fmt: skip
def test_a_call_that_differs_has_a_record_of_its_own_in_its_place(other: dict[str, Any]) -> None:
    of = lane(call(), call(), call(**other), call(), call())
    assert sequences(taken(of)) == [[1, 2], [3], [4, 5]]


@pytest.mark.parametrize("alike", [{"late": True}, {"type": Type.SESSION}, {"type": Type.CATALOG},
                                   {"type": Type.SYSTEM}])  # fmt: skip
def test_late_calls_and_those_of_the_group_itself_never_share_a_record(alike: dict[str, Any]) -> None:
    assert sequences(taken(lane(*(call(**alike) for _ in range(3))))) == [[1], [2], [3]]


def test_a_call_that_was_called_off_before_it_was_sent_leaves_no_gap() -> None:
    calls = [call() for _ in range(4)]
    of = lane(*calls)
    of.waiting.call_off(calls[1])
    assert taken(of) == [[calls[0], calls[2], calls[3]]]
    assert [calls[at].sequence for at in (0, 2, 3)] == [1, 2, 3]


def test_a_call_that_was_called_off_once_it_was_sent_is_sent_again_by_itself() -> None:
    calls = [call() for _ in range(5)]
    of = lane(*calls)
    taken(of)
    calls[0].called_off = calls[3].called_off = True
    of.rewind()
    assert sequences(taken(of)) == [[1], [2, 3], [4], [5]]


def test_what_is_sent_again_shares_no_record_over_a_gap() -> None:
    calls = [call() for _ in range(9)]
    of = lane(*calls)
    taken(of)
    for at in (0, 4, 6):
        of.settle(calls[at])
    of.rewind()
    assert sequences(taken(of)) == [[2, 3, 4], [6], [8, 9]]


def test_what_was_answered_since_the_rewind_is_not_sent_and_parts_a_record() -> None:
    calls = [call() for _ in range(6)]
    of = lane(*calls)
    taken(of)
    of.rewind()
    of.settle(calls[2])
    of.settle(calls[5])
    assert sequences(taken(of)) == [[1, 2], [4, 5]]


def test_new_calls_share_a_record_with_what_is_sent_again_if_their_numbers_follow() -> None:
    calls = [call() for _ in range(4)]
    of = lane(*calls)
    taken(of)
    of.rewind()
    of.waiting.push(call())
    assert sequences(taken(of)) == [[1, 2, 3, 4, 5]]
    of.settle(of.plain[5])
    of.rewind()
    of.waiting.push(call())
    assert sequences(taken(of)) == [[1, 2, 3, 4], [6]]


def test_a_late_call_between_those_that_are_sent_again_parts_them() -> None:
    of = lane(call(), call(), call(late=True), call())
    assert sequences(taken(of)) == [[1, 2], [3], [4]]
    of.rewind()
    assert sequences(taken(of)) == [[1, 2], [3], [4]]


def test_a_call_whose_record_could_not_be_read_shares_none_any_more() -> None:
    calls = [call() for _ in range(5)]
    of = lane(*calls)
    taken(of)
    calls[1].is_alone = calls[2].is_alone = True
    of.rewind()
    assert sequences(taken(of)) == [[1], [2], [3], [4, 5]]


def test_a_record_has_no_more_calls_than_the_window_has_room_for() -> None:
    of = lane(*(call() for _ in range(20)))
    assert sequences(taken(of, 7)) == [[1, 2, 3, 4, 5, 6, 7]]
    of.settle(of.plain[1])
    assert sequences(taken(of, 7)) == [[8]]
    assert taken(of, 7) == []
    for at in range(2, 6):
        of.settle(of.plain[at])
    assert sequences(taken(of, 7)) == [[9, 10, 11, 12]]
    of.rewind()
    assert sequences(taken(of, 0)) == [[6, 7, 8, 9, 10, 11, 12]]  # What was sent is, whatever the window.


def test_a_record_has_no_more_calls_than_a_burst_may_have() -> None:
    of = lane(*(call() for _ in range(2 * BURST_COMMANDS_MAX + 3)))
    assert [len(record) for record in taken(of)] == [BURST_COMMANDS_MAX, BURST_COMMANDS_MAX, 3]


def test_calls_that_share_a_record_are_no_larger_than_a_burst_may_be() -> None:
    size = BURST_BYTES_MAX // 4
    of = lane(*(call(bytes_=size) for _ in range(7)))
    records = taken(of)
    assert [len(record) for record in records] == [3, 3, 1]
    assert all(sum(one.size for one in record) <= BURST_BYTES_MAX for record in records)


def test_a_call_larger_than_a_burst_is_sent_by_itself_in_its_place() -> None:
    of = lane(call(), call(), call(bytes_=BURST_BYTES_MAX), call(), call(bytes_=2 * BURST_BYTES_MAX), call())
    assert sequences(taken(of)) == [[1, 2], [3], [4], [5], [6]]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(0, 5)), st.tuples(st.just("settle"), st.integers(0, 40)),
        st.tuples(st.just("off"), st.integers(0, 40)), st.tuples(st.just("rewind"), st.just(0)),
        st.tuples(st.just("take"), st.integers(0, 12)),
    ),
    max_size=60,
)  # fmt: skip
KINDS: list[dict[str, Any]] = [{}, {}, {"op": 2}, {"partition": 1}, {"late": True}, {"bytes_": 30_000}]


@given(STEPS)
def test_calls_leave_in_the_order_in_which_they_would_leave_one_by_one(steps: list[tuple[str, int]]) -> None:
    bursts, single = Lane(7), Lane(7)
    pairs: list[tuple[Call, Call]] = []
    for what, value in (*steps, ("rewind", 0), ("take", WINDOW)):
        if what == "push":
            pairs.append((call(**KINDS[value]), call(**KINDS[value])))
            for of, one in zip((bursts, single), pairs[-1], strict=True):
                of.waiting.push(one)
        elif what == "rewind":
            bursts.rewind()
            single.rewind()
        elif what == "take":
            records = taken(bursts, value)
            alone = list(iter(lambda: single.next(NUMBER, value), None))  # noqa: B023  # called at once
            assert [one.sequence for record in records for one in record] == [one.sequence for one in alone]
            for record in records:
                _check(record)
        elif value < len(pairs):
            for of, one in zip((bursts, single), pairs[value], strict=True):
                if what == "settle" and one.sequence and not one.answered:
                    of.settle(one)
                elif what == "off" and one.queue is not None:
                    of.waiting.call_off(one)
                elif what == "off":
                    one.called_off = True
        assert bursts.acknowledgement() == single.acknowledgement()


def _check(record: list[Call]) -> None:
    if len(record) == 1:
        return
    assert len(record) <= BURST_COMMANDS_MAX
    assert sum(one.size for one in record) <= BURST_BYTES_MAX
    assert not any(one.late or one.called_off or one.answered for one in record)
    assert len({(one.op, one.partition, one.primitive, one.type) for one in record}) == 1
    assert all(after.sequence == before.sequence + 1 for before, after in pairwise(record))
