"""The map's handle over a group in the process: what a program sees."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from local_group import Group
from local_port import LocalPort

from primitives.counter import Counter
from primitives.errors import BadPosition, ConfigMismatch, OverflowRefused, TooLarge, TypeMismatch
from primitives.handle import SEQUENTIAL, Causal
from primitives.limits import INT_MAX, VALUE_BYTES_MAX
from primitives.map import Entry, Map


@pytest.fixture
def port() -> LocalPort:
    return LocalPort(Group())


async def all_of(walk: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in walk]


@pytest.fixture(params=[{}, {"pinned": True}, {"partitions": 3}], ids=["spread", "pinned", "three"])
def m(request: pytest.FixtureRequest, port: LocalPort) -> Map:
    return Map(port, "", "m", **request.param)


async def test_queries_do_not_create_a_map(m: Map) -> None:
    assert await m.get("k") is None
    assert await m.get("k", 7) == 7
    assert await m.entry("k") is None
    assert not await m.contains("k")
    assert await m.size() == 0
    assert await m.get_many(["k", "l"]) == {}
    assert await all_of(m.keys()) == []
    await m.clear()
    assert not await m.exists()
    await m.put("k", 1)
    assert await m.exists()


VALUES: list[Any] = [
    None, True, False, 0, -1, INT_MAX, 1.5, "", "é", b"", b"\x00", [], [1, [None]], {}, {"a": {"b": [b"c"]}},
    datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES)
async def test_what_is_put_is_got(m: Map, value: Any) -> None:
    revision = await m.put("k", value)
    got = await m.get("k", "absent")
    assert got == value
    assert type(got) is type(value)
    assert await m.entry("k") == Entry(value, revision, revision, None)


async def test_a_stored_none_is_told_from_no_entry(m: Map) -> None:
    await m.put("k", None)
    assert await m.get("k", "absent") is None
    assert await m.contains("k")
    assert await m.get_many(["k", "l"]) == {"k": None}
    assert not await m.put_if_absent("k", 1)
    assert not await m.compare_and_set("l", None, 1)
    assert not await m.remove("l", value=None)
    assert await m.compare_and_set("k", None, 2)
    assert await m.get("k") == 2


async def test_keys_of_different_types_are_different(m: Map) -> None:
    keys: list[Any] = [1, -1, "1", b"1", "", b"", 0, INT_MAX]
    for key in keys:
        await m.put(key, [key])
    assert {key: value async for key, value in m.items()} == {key: [key] for key in keys}
    assert await m.size() == len(keys)


async def test_conditional_writes_say_whether_they_took_place(m: Map) -> None:
    first = await m.put("k", 1)
    assert await m.replace("k", 2, revision=first)
    assert not await m.replace("k", 3, revision=first)
    assert not await m.replace("l", 3, revision=first)
    assert not await m.compare_and_set("k", 1, 4)
    assert not await m.compare_and_set("k", 2.0, 4)
    assert await m.compare_and_set("k", 2, 4)
    entry = await m.entry("k")
    assert entry is not None
    assert (entry.value, entry.created) == (4, first)
    assert not await m.remove("k", revision=first)
    assert not await m.remove("k", value=2, revision=entry.revision)
    assert await m.remove("k", value=4, revision=entry.revision)
    assert not await m.remove("k")
    assert await m.put_if_absent("k", 5)
    before = await _entry(m, "k")
    assert await m.get_and_put("k", 6) == before
    assert await m.remove("k")
    assert await m.get_and_put("k", 7) is None


async def _entry(m: Map, key: str) -> Entry:
    entry = await m.entry(key)
    assert entry is not None
    return entry


async def test_times_to_live_are_in_seconds_and_never_shorter(m: Map, port: LocalPort) -> None:
    await m.put("a", 1, ttl=0.2501)
    await m.put_many({"b": 1, "c": 2}, ttl=1)
    assert await m.put_if_absent("d", 1, ttl=1.0)
    entry = await _entry(m, "a")
    assert entry.expires == port.group.now_ms + 252
    port.group.advance(251)
    assert await m.contains("a")
    port.group.advance(1)
    assert not await m.contains("a")
    await m.put("b", 3)
    port.group.advance(1_000)
    assert await all_of(m.items()) == [("b", 3)]


async def test_increments_count_and_refuse_what_is_no_int(m: Map) -> None:
    assert await m.increment("n") == 1
    assert await m.increment("n", -3) == -2
    assert await m.get("n") == -2
    await m.put("n", INT_MAX)
    with pytest.raises(OverflowRefused):
        await m.increment("n")
    await m.put("n", "1")
    with pytest.raises(TypeError, match="no int"):
        await m.increment("n")


async def test_computing_sees_every_change_of_others(m: Map) -> None:
    async def add() -> None:
        for _ in range(5):
            await m.compute("n", lambda n: n + 1, 0)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(add)
    assert await m.get("n") == 20


async def test_what_the_function_raises_comes_out_and_changes_nothing(m: Map) -> None:
    await m.put("k", 1)
    with pytest.raises(ZeroDivisionError):
        await m.compute("k", lambda n: n / 0)
    assert await m.get("k") == 1


async def test_many_entries_go_and_come_in_pages(m: Map) -> None:
    entries = {n: "v" * (n % 50) for n in range(2_500)}
    entries[-1] = "x" * 300_000
    entries[-2] = "y" * 300_000
    await m.put_many(entries)
    assert await m.size() == len(entries)
    assert await m.get_many([*entries, "none", 0]) == entries
    found = await all_of(m.items())
    assert dict(found) == entries
    assert len(found) == len(entries)
    assert sorted(await all_of(m.keys()), key=str) == sorted(entries, key=str)
    assert sorted(await all_of(m.values())) == sorted(entries.values())
    await m.clear()
    assert await m.size() == 0
    assert await all_of(m.keys()) == []


async def test_long_keys_and_large_values_are_split_over_commands(m: Map) -> None:
    entries = {f"{n:1024}": bytes(VALUE_BYTES_MAX // 3) if n < 9 else b"" for n in range(40)}
    await m.put_many(entries)
    assert await m.get_many(entries) == entries


async def test_nothing_is_sent_for_no_entries(m: Map) -> None:
    await m.put_many({})
    assert await m.get_many([]) == {}
    assert not await m.exists()


async def test_an_iteration_may_be_left_at_any_time(m: Map) -> None:
    await m.put_many({n: n for n in range(50)})
    async for _ in m.items():
        break
    walk = m.keys()
    seen = {await anext(walk) for _ in range(25)}
    assert len(seen) == 25


async def test_entries_that_stay_are_seen_once_while_others_come_and_go(m: Map) -> None:
    stay = {f"s{n}" for n in range(1_200)}
    await m.put_many(dict.fromkeys(stay, 1))
    seen: list[Any] = []
    async for key in m.keys():
        seen.append(key)
        if len(seen) % 100 == 0:
            await m.put(f"t{len(seen)}", 1)
            await m.remove(f"t{len(seen) - 100}")
    assert sorted(key for key in seen if key[0] == "s") == sorted(stay)


async def test_what_cannot_be_carried_is_refused_at_the_call(m: Map) -> None:
    for key in (None, 1.5, True, ("a",), 2**63):
        with pytest.raises(TypeError):
            await m.get(key)  # type: ignore[arg-type]  # what is tried
    for value in (object(), (1,), {1: 2}, 2**63, {1, 2}):
        with pytest.raises(TypeError):
            await m.put("k", value)
    with pytest.raises(TooLarge):
        await m.put("k" * 1025, 1)
    with pytest.raises(TooLarge):
        await m.put("k", bytes(VALUE_BYTES_MAX))
    with pytest.raises(TooLarge):
        await m.compare_and_set("k", bytes(VALUE_BYTES_MAX // 2), bytes(VALUE_BYTES_MAX // 2))
    for ttl in (0, -1, float("nan"), float("inf"), 10**12):
        with pytest.raises(ValueError, match="ttl"):
            await m.put("k", 1, ttl=ttl)
    for ttl in ("1", True):
        with pytest.raises(TypeError, match="ttl"):
            await m.put("k", 1, ttl=ttl)  # type: ignore[arg-type]  # what is tried
    with pytest.raises(ValueError, match="revision"):
        await m.replace("k", 1, revision=-1)
    with pytest.raises(TypeError, match="n is an int"):
        await m.increment("k", 1.0)  # type: ignore[arg-type]  # what is tried
    assert not await m.exists()


async def test_a_position_of_another_primitive_is_refused(m: Map, port: LocalPort) -> None:
    other = Map(port, "", "other", pinned=True)
    assert await m.position() is await other.position() is None
    await m.put("k", 1)
    await other.put("k", 1)
    assert await m.get("k", read=SEQUENTIAL) == 1
    position = await m.position()
    assert await m.get("k", read=Causal(position)) == 1
    with pytest.raises(BadPosition):
        await other.get("k", read=Causal(position))


async def test_a_second_opener_gets_what_is_there_unless_he_asks_for_something_else(port: LocalPort) -> None:
    await Map(port, "", "m", partitions=3).put("k", 1)
    assert await Map(port, "", "m").get("k") == 1
    assert await Map(port, "", "m").put("l", 1)
    assert await Map(port, "", "m", partitions=3).put("l", 2)
    with pytest.raises(ConfigMismatch):
        await Map(port, "", "m", pinned=True).put("k", 2)
    with pytest.raises(TypeMismatch):
        await Counter(port, "", "m").get()
    with pytest.raises(TypeMismatch):
        await Counter(port, "", "m").exists()
    assert not await Map(port, "other", "m").exists()


def test_names_and_options_are_checked_when_the_handle_is_made(port: LocalPort) -> None:
    for name in ("", "a\nb"):
        with pytest.raises(ValueError, match="name"):
            Map(port, "", name)
    with pytest.raises(TooLarge):
        Map(port, "", "n" * 513)
    with pytest.raises(TypeError):
        Map(port, "", 5)  # type: ignore[arg-type]  # what is tried
    for partitions in (0, -1, 1025):
        with pytest.raises(ValueError, match="partitions"):
            Map(port, "", "m", partitions=partitions)
    with pytest.raises(ValueError, match="pinned"):
        Map(port, "", "m", partitions=2, pinned=True)
    assert Map(port, "", "e\u0301").name == "é"
    assert repr(Map(port, "space", "m")) == "<map space/m>"


async def test_a_write_that_was_called_off_before_it_left_changes_nothing(m: Map, port: LocalPort) -> None:
    await m.put("k", 1)
    port.sends = False
    with trio.move_on_after(0):
        await m.put("k", 2)
    port.open()
    assert await m.get("k") == 1
