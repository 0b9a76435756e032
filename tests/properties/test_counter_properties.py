"""A counter does what an int of 64 bits would."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from local_group import Group, Session, create

from primitives.counter import ADD, COMPARE_AND_SET, GET, SET, CounterMachine
from primitives.errors import Code
from primitives.limits import INT_MAX, INT_MIN

EDGES = st.sampled_from([INT_MAX, INT_MAX - 1, INT_MIN, INT_MIN + 1])
NUMBERS = st.one_of(st.integers(-3, 3), EDGES, st.integers(INT_MIN, INT_MAX))
STEPS = st.lists(st.tuples(st.sampled_from([SET, ADD, COMPARE_AND_SET]), NUMBERS, NUMBERS, st.booleans()))


@settings(deadline=None)
@given(steps=STEPS, flush_every=st.integers(1, 5))
def test_a_counter_follows_an_int(steps: list[tuple[int, int, int, bool]], flush_every: int) -> None:
    group = Group(flush_every=flush_every)
    session = Session(group)
    slot, primitive = create(session, "c", CounterMachine.TYPE)
    number = 0
    for op, first, second, matching in steps:
        args = [number if matching else first, second] if op == COMPARE_AND_SET else [first]
        at = session.send(slot, primitive, 0, CounterMachine.TYPE, op, args)
        answer = session.answers[slot, at]
        if op == SET:
            number = first
            assert answer.code == Code.OK
        elif op == ADD and not INT_MIN <= number + first <= INT_MAX:
            assert answer.code == Code.OVERFLOW
        elif op == ADD:
            number += first
            assert (answer.code, answer.result) == (Code.OK, number.to_bytes(8, "big", signed=True))
        else:
            assert (answer.code == Code.OK) is (args[0] == number)
            number = second if args[0] == number else number
        asked = group.query(slot, primitive, 0, CounterMachine.TYPE, GET, [])
        assert asked.result == number.to_bytes(8, "big", signed=True)
