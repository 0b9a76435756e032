"""The list, from its machine to its handle."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import trio
from local_group import Group, Session, create
from local_port import LocalPort

from primitives.errors import Code, TooLarge
from primitives.limits import VALUE_BYTES_MAX
from primitives.list import FIND_MAX, INSERT_MANY_MAX, Ask, List, ListMachine, Op

TYPE = ListMachine.TYPE


@pytest.fixture
def port() -> LocalPort:
    return LocalPort(Group())


async def everything(of: List) -> list[Any]:
    found = [element async for element in of]
    assert await of.size() == len(found)
    return found


async def test_asking_a_list_that_was_never_written_creates_nothing(port: LocalPort) -> None:
    of = List(port, "", "l")
    assert await everything(of) == []
    assert await of.index("x") is None
    with pytest.raises(IndexError, match="has no element 0"):
        await of.get(0)
    assert not await of.remove("x")
    await of.extend([])
    assert not await of.exists()


async def test_calls_answer_what_their_names_say(port: LocalPort) -> None:
    of = List(port, "", "l")
    first = await of.append("a")
    assert await of.append("c") > first
    await of.insert(1, "b")
    await of.insert(-100, "first")
    await of.insert(100, "last")
    await of.insert(-1, None)
    assert await everything(of) == ["first", "a", "b", "c", None, "last"]
    assert await of.get(0) == "first"
    assert await of.get(-2) is None
    await of.set(-2, {"d": 1})
    await of.set(0, 0)
    assert await everything(of) == [0, "a", "b", "c", {"d": 1}, "last"]
    assert await of.index({"d": 1}) == 4
    assert await of.index("a", 1) == 1
    assert await of.index("a", 2) is None
    assert await of.pop() == "last"
    assert await of.pop(0) == 0
    assert await of.pop(-2) == "c"
    await of.extend(["a", "b"])
    assert await of.remove("a")
    assert await everything(of) == ["b", {"d": 1}, "a", "b"]
    assert not await of.remove("zzz")
    assert [element async for element in of.slice(1, 3)] == [{"d": 1}, "a"]
    assert [element async for element in of.slice(2)] == ["a", "b"]
    assert [element async for element in of.slice(3, 2)] == []
    assert [element async for element in of.slice(9)] == []
    await of.clear()
    assert await everything(of) == []


async def test_there_is_an_error_where_python_has_one(port: LocalPort) -> None:
    of = List(port, "", "l")
    await of.append("x")
    for call in (of.get, of.pop, lambda index: of.set(index, "y")):
        for index in (1, -2, 2**62):
            with pytest.raises(IndexError):
                await call(index)
        with pytest.raises(TypeError):
            await call("0")
    with pytest.raises(ValueError, match="negative"):
        await of.index("x", -1)
    with pytest.raises(ValueError, match="negative"):
        of.slice(-1)
    with pytest.raises(TypeError):
        await of.append({1})
    with pytest.raises(TooLarge):
        await of.append(bytes(VALUE_BYTES_MAX))
    assert await everything(of) == ["x"]


async def test_many_and_large_elements_go_in_bounded_commands_and_pages(port: LocalPort) -> None:
    of = List(port, "", "l")
    await of.extend(range(INSERT_MANY_MAX * 13 + 5))
    assert await everything(of) == list(range(INSERT_MANY_MAX * 13 + 5))
    assert await of.index(FIND_MAX + 100) == FIND_MAX + 100
    assert [element async for element in of.slice(500, 2300)] == list(range(500, 2300))
    await of.clear()
    large = [bytes([number]) * (VALUE_BYTES_MAX // 3) for number in range(7)]
    await of.extend(large)
    assert await everything(of) == large


async def test_whatever_is_done_it_does_what_a_list_does(port: LocalPort) -> None:
    of, model, random = List(port, "", "l"), list[Any](), Random(1)
    for step in range(600):
        index = random.randint(-len(model) - 2, len(model) + 2)
        there = -len(model) <= index < len(model)
        kind = random.randrange(12)
        if kind < 3:
            model.append(step % 20)
            await of.append(step % 20)
        elif kind < 5:
            model.insert(index, step % 20)
            await of.insert(index, step % 20)
        elif kind < 6:
            many = [random.randrange(20) for _ in range(random.randrange(60))]
            model.extend(many)
            await of.extend(many)
        elif kind < 9 and there:
            assert await of.pop(index) == model.pop(index)
        elif kind == 9 and there:
            model[index] = -step
            await of.set(index, -step)
        elif kind == 10:
            assert await of.remove(step % 20) is (step % 20 in model)
            if step % 20 in model:
                model.remove(step % 20)
        elif step % 97 == 0:
            model.clear()
            await of.clear()
        if there and model and -len(model) <= index < len(model):
            assert await of.get(index) == model[index]
        if step % 50 == 0:
            assert await everything(of) == model
            port.group.settle()
    assert await everything(of) == model


async def test_removing_a_value_removes_just_one_though_others_do_the_same(port: LocalPort) -> None:
    of = List(port, "", "l")
    await of.extend(["x", "y"] * 40)
    removed: list[bool] = []

    async def remove(port: LocalPort) -> None:
        for _ in range(12):
            removed.append(await List(port, "", "l").remove("x"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(remove, port)
        for _ in range(3):
            nursery.start_soon(remove, LocalPort(port.group))
    assert removed.count(True) == 40
    assert await everything(of) == ["y"] * 40


async def test_a_cleared_list_drops_its_rows_in_slices_and_a_removed_element_its_value(
    port: LocalPort,
) -> None:
    of = List(port, "", "l")
    await of.append("x")
    await of.pop()
    port.group.forget()
    empty = len(port.group.state())
    await of.extend(range(3000))
    await of.clear()
    await of.extend(["a", "b"])
    assert await everything(of) == ["a", "b"]
    assert port.group.settle() >= 4, "each slice is a command of its own"
    assert await everything(of) == ["a", "b"]
    assert await of.pop(0) == "a"
    assert await of.pop(0) == "b"
    port.group.forget()
    assert len(port.group.state()) <= empty + 1, "an empty block more"
    assert port.group.applier.next_deadline_ms is None, "no timer is left"


BAD: list[tuple[int, list[Any], bytes]] = [
    (0, [], b""), (9, [1], b""), (Op.INSERT, [], b""), (Op.INSERT, [None, 1], b"x"),
    (Op.INSERT, [0, 2], b"x"), (Op.INSERT, [2**63, 1], b"x"), (Op.APPEND, [0, 1], b"x"),
    (Op.APPEND, [1], b""), (Op.SET, [], b"x"),
    (Op.SET, [0], b""), (Op.SET, [b"0"], b"x"), (Op.REMOVE, [], b""), (Op.REMOVE, [0], b"x"),
    (Op.REMOVE, [0, 1], b""), (Op.REMOVE, [True], b""), (Op.CLEAR, [1], b""), (Op.CLEAR, [], b"x"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "args", "body"), BAD)
def test_a_malformed_command_is_refused_with_a_text(op: int, args: list[Any], body: bytes) -> None:
    group = Group()
    session = Session(group)
    slot, primitive = create(session, "l", TYPE)
    session.send(slot, primitive, 0, TYPE, Op.APPEND, [1], b"\x07")
    at = session.send(slot, primitive, 0, TYPE, op, args, body)
    answer = session.answers[slot, at]
    assert (answer.code, bool(answer.result.decode())) == (Code.BAD_REQUEST, True)
    assert group.query(slot, primitive, 0, TYPE, Ask.SIZE, []).result == (1).to_bytes(8, "big")


def test_a_command_that_carries_too_much_is_refused() -> None:
    group = Group()
    session = Session(group)
    slot, primitive = create(session, "l", TYPE)
    many = [1] * (INSERT_MANY_MAX + 1)
    for op, args, body in (
        (Op.APPEND, many, bytes(len(many))), (Op.INSERT, [0, *many], bytes(len(many))),
        (Op.SET, [0], bytes(VALUE_BYTES_MAX + 1)),
        (Op.APPEND, [VALUE_BYTES_MAX + 1], bytes(VALUE_BYTES_MAX + 1)),
    ):  # fmt: skip
        at = session.send(slot, primitive, 0, TYPE, op, args, body)
        assert session.answers[slot, at].code == Code.TOO_LARGE


@pytest.mark.parametrize(
    ("op", "args", "body"),
    [(0, [], b""), (9, [], b""), (Ask.GET, [], b""), (Ask.GET, ["0"], b""), (Ask.GET, [0], b"x"),
     (Ask.SIZE, [1], b""), (Ask.PAGE, [b"x", 1, True], b""), (Ask.PAGE, [b"", 0, True], b""),
     (Ask.PAGE, [b"", 1, 1], b""), (Ask.FIND, [0], b""), (Ask.FIND, [-1], b"x"), (Ask.FIND, [], b"x")],
)  # fmt: skip
def test_a_malformed_query_is_refused(op: int, args: list[Any], body: bytes) -> None:
    group = Group()
    slot, primitive = create(Session(group), "l", TYPE)
    assert group.query(slot, primitive, 0, TYPE, op, args, body).code == Code.BAD_REQUEST
