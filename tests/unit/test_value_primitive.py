"""The value, from its machine to its handle."""

from __future__ import annotations

from typing import Any

import pytest
from local_group import Group, Session, create
from local_port import LocalPort

from primitives.errors import Code, TooLarge
from primitives.limits import VALUE_BYTES_MAX
from primitives.value import GET, Op, Value, ValueMachine


@pytest.fixture
def port() -> LocalPort:
    return LocalPort(Group())


async def test_a_value_that_was_never_set_reads_as_nothing_and_does_not_exist(port: LocalPort) -> None:
    value = Value(port, "", "v")
    assert await value.get() is None
    assert await value.get("other") == "other"
    assert await value.entry() is None
    assert not await value.exists()


async def test_calls_answer_what_their_names_say(port: LocalPort) -> None:
    value = Value(port, "", "v")
    first = await value.set({"a": 1})
    entry = await value.entry()
    assert entry is not None
    assert (entry.value, entry.revision, entry.created, entry.expires) == ({"a": 1}, first, first, None)
    assert await value.get_and_set([2]) == {"a": 1}
    assert await value.get() == [2]
    second = await value.entry()
    assert second is not None
    assert second.revision > second.created == first
    assert not await value.compare_and_set([3], 4)
    assert await value.compare_and_set([2], 4)
    assert not await value.replace(5, revision=second.revision)
    third = await value.entry()
    assert third is not None
    assert await value.replace(5, revision=third.revision)
    assert await value.get() == 5


async def test_unset_removes_what_is_set_if_it_is_the_one_meant(port: LocalPort) -> None:
    value = Value(port, "", "v")
    assert not await value.unset()
    revision = await value.set("x")
    assert not await value.unset(revision=revision - 1)
    assert await value.unset(revision=revision)
    assert await value.get() is None
    assert not await value.unset()
    assert await value.get_and_set("y", "nothing") == "nothing"
    assert await value.unset()


async def test_none_compares_equal_to_nothing(port: LocalPort) -> None:
    value = Value(port, "", "v")
    assert not await value.compare_and_set("x", "y")
    assert await value.compare_and_set(None, "x")
    assert not await value.compare_and_set(None, "y")
    await value.set(None)
    assert await value.compare_and_set(None, "z")
    assert await value.get() == "z"


async def test_revision_0_stands_for_nothing(port: LocalPort) -> None:
    value = Value(port, "", "v")
    assert not await value.replace("x", revision=7)
    assert await value.replace("x", revision=0)
    assert not await value.replace("y", revision=0)
    assert await value.unset()
    assert await value.replace("y", revision=0)


async def test_a_value_with_a_time_to_live_goes_when_it_is_over(port: LocalPort) -> None:
    value = Value(port, "", "v")
    await value.set("x", ttl=1)
    port.group.advance(1000)
    assert await value.get() == "x"
    port.group.advance(1)
    assert await value.get() is None
    await value.set("x", ttl=1)
    assert await value.compare_and_set("x", "y")
    port.group.advance(5000)
    assert await value.get() == "y", "one set again without it has none"
    assert await value.compare_and_set("y", "z", ttl=2)
    assert await value.unset()
    port.group.advance(5000)
    port.group.forget()
    assert port.group.applier.next_deadline_ms is None, "no timer is left"


async def test_what_cannot_be_stored_is_refused_at_the_call(port: LocalPort) -> None:
    value = Value(port, "", "v")
    for call in (value.set, value.get_and_set):
        with pytest.raises(TypeError):
            await call({1, 2})
    with pytest.raises(TooLarge):
        await value.set(bytes(VALUE_BYTES_MAX))
    with pytest.raises(TooLarge):
        await value.compare_and_set(bytes(VALUE_BYTES_MAX // 2), bytes(VALUE_BYTES_MAX // 2))
    with pytest.raises(ValueError, match="ttl"):
        await value.set(1, ttl=0)
    with pytest.raises(ValueError, match="negative"):
        await value.replace(1, revision=-1)
    assert not await value.exists()


BAD: list[tuple[int, list[Any], bytes]] = [
    (0, [], b"x"), (9, [], b"x"), (Op.SET, [], b""), (Op.SET, [1], b"x"), (Op.SET, [-1, 0, 0], b"x"),
    (Op.SET, [0, 4, 0], b"x"), (Op.SET, [0, 0, -1], b"x"), (Op.SET, [0, None, 0], b"x"),
    (Op.COMPARE_AND_SET, [], b"xy"), (Op.COMPARE_AND_SET, [0, 0, True], b"xy"),
    (Op.COMPARE_AND_SET, [0, 2, True], b"xy"), (Op.COMPARE_AND_SET, [0, 1, 1], b"xy"),
    (Op.COMPARE_AND_SET, [None, 1, True], b"xy"), (Op.UNSET, [], b""), (Op.UNSET, [0, 0], b"x"),
    (Op.UNSET, [0, -1], b""), (Op.UNSET, [True, 0], b""),
]  # fmt: skip


@pytest.mark.parametrize(("op", "args", "body"), BAD)
def test_a_malformed_command_is_refused_with_a_text(op: int, args: list[Any], body: bytes) -> None:
    group = Group()
    session = Session(group)
    slot, primitive = create(session, "v", ValueMachine.TYPE)
    session.send(slot, primitive, 0, ValueMachine.TYPE, Op.SET, [], b"\x07")
    at = session.send(slot, primitive, 0, ValueMachine.TYPE, op, args, body)
    answer = session.answers[slot, at]
    assert (answer.code, bool(answer.result.decode())) == (Code.BAD_REQUEST, True)
    for query, arguments in ((GET, [1]), (0, []), (2, [])):
        asked = group.query(slot, primitive, 0, ValueMachine.TYPE, query, arguments)
        assert asked.code == Code.BAD_REQUEST
    asked = group.query(slot, primitive, 0, ValueMachine.TYPE, GET, [])
    assert asked.result[24:] == b"\x07"
