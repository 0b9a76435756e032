"""The set, from its machine to its handle."""

from __future__ import annotations

from typing import Any

import pytest
from local_group import Group, Session, create
from local_port import LocalPort

from primitives.errors import Code, ConfigMismatch, TooLarge
from primitives.set import MANY_MAX, Ask, Op, Set, SetMachine


@pytest.fixture
def port() -> LocalPort:
    return LocalPort(Group())


async def everything(of: Set) -> set[Any]:
    found = [element async for element in of]
    assert len(found) == len(set(found)), "each once"
    assert await of.size() == len(found)
    return set(found)


async def test_asking_a_set_that_was_never_written_creates_nothing(port: LocalPort) -> None:
    of = Set(port, "", "s")
    assert not await of.contains("x")
    assert await everything(of) == set()
    assert await of.discard_all(["x"]) == 0
    assert await of.retain_all(["x"]) == 0
    await of.clear()
    assert await of.add_all([]) == 0
    assert not await of.exists()


@pytest.mark.parametrize("pinned", [True, False])
async def test_calls_answer_what_their_names_say(port: LocalPort, pinned: bool) -> None:
    of = Set(port, "", "s", pinned=pinned)
    assert await of.add("x")
    assert not await of.add("x")
    assert await of.add(1)
    assert await of.add("1"), "1 and '1' differ"
    assert await of.contains("x")
    assert not await of.contains(b"x")
    assert await of.remove("x")
    assert not await of.remove("x")
    assert await of.add_all(["a", "b", "a", 1]) == 2
    assert await everything(of) == {1, "1", "a", "b"}
    assert await of.discard_all(["a", "zzz", "a"]) == 1
    assert await of.retain_all(["b", 1, "zzz"]) == 1
    assert await everything(of) == {1, "b"}
    assert await of.retain_all([]) == 2
    assert await everything(of) == set()


@pytest.mark.parametrize("pinned", [True, False])
async def test_many_elements_go_in_bounded_commands(port: LocalPort, pinned: bool) -> None:
    of = Set(port, "", "s", pinned=pinned)
    count = MANY_MAX * 5 + 7
    assert await of.add_all(range(count)) == count
    assert await of.add_all(range(count + 3)) == 3
    assert await everything(of) == set(range(count + 3))
    kept = range(0, count, 3)
    assert await of.retain_all(kept) == count + 3 - len(kept)
    assert await everything(of) == set(kept)
    assert await of.discard_all(range(count)) == len(kept)
    long = [f"{number:01000}" for number in range(200)]
    assert await of.add_all(long) == 200
    assert await of.retain_all(long[:100]) == 100
    assert await everything(of) == set(long[:100])
    await of.clear()
    assert await everything(of) == set()
    assert await of.add_all(long[:2]) == 2
    port.group.settle()
    assert await everything(of) == set(long[:2])


async def test_adding_again_renews_a_time_to_live(port: LocalPort) -> None:
    of = Set(port, "", "s")
    assert await of.add("x", ttl=2)
    assert await of.add_all(["y", "z"], ttl=2) == 2
    port.group.advance(1500)
    assert not await of.add("x", ttl=2)
    assert not await of.add("z")
    port.group.advance(1500)
    assert await everything(of) == {"x", "z"}
    port.group.advance(600)
    assert await everything(of) == {"z"}, "for good, as it was added again without a time to live"
    port.group.forget()
    assert port.group.applier.next_deadline_ms is None, "no timer is left"


async def test_only_keys_are_elements(port: LocalPort) -> None:
    of = Set(port, "", "s")
    for wrong in (None, 1.5, True, ("a",), 2**63):
        with pytest.raises(TypeError):
            await of.add(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            await of.add_all(["a", wrong])  # type: ignore[list-item]
    with pytest.raises(TooLarge):
        await of.add("x" * 1025)
    assert not await of.exists()


async def test_a_second_opener_cannot_ask_for_other_partitions(port: LocalPort) -> None:
    assert await Set(port, "", "s", partitions=3).add("x")
    assert await Set(port, "", "s").contains("x")
    with pytest.raises(ConfigMismatch):
        await Set(port, "", "s", pinned=True).add("x")


BAD: list[tuple[int, list[Any], bytes]] = [
    (0, [], b""), (9, [b"x"], b""), (Op.ADD, [], b""), (Op.ADD, [b""], b""), (Op.ADD, ["x"], b""),
    (Op.ADD, [b"x"], b"x"), (Op.ADD, [b"x", -1], b""), (Op.ADD, [b"x", 0, 0], b""), (Op.REMOVE, [], b""),
    (Op.REMOVE, [None], b""), (Op.REMOVE, [bytes(1026)], b""), (Op.ADD_ALL, [], b""),
    (Op.ADD_ALL, [b"x"], b""), (Op.ADD_ALL, [0, 1], b""),
    (Op.DISCARD_ALL, [0], b""), (Op.RETAIN, [], b""), (Op.RETAIN, [b""], b""),
    (Op.RETAIN, [0, b""], b""), (Op.RETAIN, [b"", b"", b""], b""), (Op.CLEAR, [1], b""),
]  # fmt: skip


@pytest.mark.parametrize(("op", "args", "body"), BAD)
def test_a_malformed_command_is_refused_with_a_text(op: int, args: list[Any], body: bytes) -> None:
    group = Group()
    session = Session(group)
    slot, primitive = create(session, "s", SetMachine.TYPE)
    session.send(slot, primitive, 0, SetMachine.TYPE, Op.ADD, [b"\x03x"])
    at = session.send(slot, primitive, 0, SetMachine.TYPE, op, args, body)
    answer = session.answers[slot, at]
    assert (answer.code, bool(answer.result.decode())) == (Code.BAD_REQUEST, True)
    assert group.query(slot, primitive, 0, SetMachine.TYPE, Ask.SIZE, []).result == (1).to_bytes(8, "big")


@pytest.mark.parametrize("op", [Op.ADD_ALL, Op.DISCARD_ALL, Op.RETAIN])
def test_a_command_of_too_many_elements_is_refused(op: int) -> None:
    group = Group()
    session = Session(group)
    slot, primitive = create(session, "s", SetMachine.TYPE)
    firsts: dict[int, list[Any]] = {Op.ADD_ALL: [0], Op.DISCARD_ALL: [], Op.RETAIN: [b"", b""]}
    elements = [b"\x02%d" % number for number in range(MANY_MAX + 1)]
    at = session.send(slot, primitive, 0, SetMachine.TYPE, op, firsts[op] + elements)
    assert session.answers[slot, at].code == Code.TOO_LARGE


@pytest.mark.parametrize(
    ("op", "args"),
    [(0, []), (9, []), (Ask.CONTAINS, []), (Ask.CONTAINS, ["x"]), (Ask.SIZE, [1]), (Ask.PAGE, []),
     (Ask.PAGE, [b"", 0, True]), (Ask.PAGE, [b"", 1001, True]), (Ask.PAGE, ["", 1, True]),
     (Ask.PAGE, [b"", 1, 1])],
)  # fmt: skip
def test_a_malformed_query_is_refused(op: int, args: list[Any]) -> None:
    group = Group()
    slot, primitive = create(Session(group), "s", SetMachine.TYPE)
    assert group.query(slot, primitive, 0, SetMachine.TYPE, op, args).code == Code.BAD_REQUEST
