"""The counter, from its machine to its handle."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from local_group import Group, Session, create
from local_port import LocalPort

from primitives.counter import ADD, COMPARE_AND_SET, GET, SET, Counter, CounterMachine
from primitives.errors import Code, OverflowRefused
from primitives.limits import INT_MAX, INT_MIN


@pytest.fixture
def port() -> LocalPort:
    return LocalPort(Group())


async def test_a_counter_that_was_never_written_is_zero_and_does_not_exist(port: LocalPort) -> None:
    counter = Counter(port, "", "c")
    assert await counter.get() == 0
    assert not await counter.exists()
    assert await counter.compare_and_set(0, 5)
    assert await counter.get() == 5
    assert await counter.exists()


async def test_calls_answer_what_their_names_say(port: LocalPort) -> None:
    counter = Counter(port, "", "c")
    assert await counter.add(5) == 5
    assert await counter.increment() == 6
    assert await counter.decrement() == 5
    assert await counter.add(-7) == -2
    assert await counter.get_and_add(4) == -2
    assert await counter.get() == 2
    assert not await counter.compare_and_set(3, 9)
    assert await counter.compare_and_set(2, 9)
    first = await counter.set(1)
    assert await counter.set(-1) > first
    assert await counter.get() == -1


@pytest.mark.parametrize(("start", "step"), [(INT_MAX, 1), (INT_MIN, -1), (INT_MAX, INT_MAX), (-2, INT_MIN)])
async def test_what_would_overflow_is_refused_and_changes_nothing(
    port: LocalPort, start: int, step: int
) -> None:
    counter = Counter(port, "", "c")
    await counter.set(start)
    with pytest.raises(OverflowRefused):
        await counter.add(step)
    assert await counter.get() == start


@pytest.mark.parametrize("number", [None, "1", 1.0, True, 2**63, -(2**63) - 1])
async def test_only_64_bit_ints_are_taken(port: LocalPort, number: Any) -> None:
    counter = Counter(port, "", "c")
    for call in (counter.set, counter.add, counter.get_and_add):
        with pytest.raises(TypeError):
            await call(number)
    with pytest.raises(TypeError):
        await counter.compare_and_set(0, number)
    with pytest.raises(TypeError):
        await counter.compare_and_set(number, 0)
    assert not await counter.exists()


async def test_concurrent_additions_add_up(port: LocalPort) -> None:
    async def work(port: LocalPort) -> None:
        counter = Counter(port, "", "c")
        for _ in range(20):
            await counter.increment()

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(work, port)
            nursery.start_soon(work, LocalPort(port.group))
    assert await Counter(port, "", "c").get() == 200


BAD: list[tuple[int, list[Any], bytes]] = [
    (0, [], b""), (9, [1], b""), (SET, [], b""), (SET, [1, 2], b""), (SET, [1], b"x"), (SET, ["1"], b""),
    (ADD, [None], b""), (ADD, [True], b""), (ADD, [1.0], b""), (ADD, [2**63], b""), (ADD, [[1]], b""),
    (COMPARE_AND_SET, [1], b""), (COMPARE_AND_SET, [1, -(2**63) - 1], b""), (COMPARE_AND_SET, [b"", 1], b""),
]  # fmt: skip


@pytest.mark.parametrize(("op", "args", "body"), BAD)
def test_a_malformed_command_is_refused_with_a_text(op: int, args: list[Any], body: bytes) -> None:
    group = Group()
    session = Session(group)
    slot, primitive = create(session, "c", CounterMachine.TYPE)
    session.send(slot, primitive, 0, CounterMachine.TYPE, SET, [7])
    at = session.send(slot, primitive, 0, CounterMachine.TYPE, op, args, body)
    answer = session.answers[slot, at]
    assert (answer.code, bool(answer.result.decode())) == (Code.BAD_REQUEST, True)
    for query, arguments in ((GET, [1]), (0, []), (2, [])):
        asked = group.query(slot, primitive, 0, CounterMachine.TYPE, query, arguments)
        assert asked.code == Code.BAD_REQUEST
    asked = group.query(slot, primitive, 0, CounterMachine.TYPE, GET, [])
    assert asked.result == (7).to_bytes(8, "big")
