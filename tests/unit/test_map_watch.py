"""Watching a map, over a group in the process: what a program is told."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import trio
from local_group import Group
from local_port import LocalPort

from primitives.errors import BadPosition, Deleted
from primitives.limits import PAGE_ROWS_MAX
from primitives.map import Map
from primitives.position import Position
from primitives.watch import Event
from primitives.watching import Watch


@pytest.fixture
def port() -> LocalPort:
    return LocalPort(Group())


@pytest.fixture(params=[{}, {"pinned": True}, {"partitions": 3}], ids=["spread", "pinned", "three"])
def m(request: pytest.FixtureRequest, port: LocalPort) -> Map:
    return Map(port, "", "m", **request.param)


async def told(events: Watch, count: int) -> list[Event]:
    with trio.fail_after(5):
        return [await events.__anext__() for _ in range(count)]


async def nothing(events: Watch) -> None:
    with trio.move_on_after(0.01) as scope:
        raise AssertionError(f"{await events.__anext__()} is told")
    assert scope.cancelled_caught


def brief(events: list[Event]) -> list[tuple[Any, ...]]:
    return [(event.kind, event.key, event.value, event.previous) for event in events]


def replay(state: dict[Any, Any], event: Event, partitions: dict[Any, int]) -> None:
    """What a consumer makes of an event."""
    if event.kind in ("put", "listed"):
        state[event.key] = event.value
        partitions[event.key] = event.partition
    elif event.kind == "cleared":
        for key in [key for key in state if partitions[key] == event.partition]:
            del state[key]
    elif event.kind != "progress":
        state.pop(event.key, None)


async def test_changes_are_told_in_order_with_their_revisions(m: Map) -> None:
    await m.put("before", 0)
    async with m.watch() as events:
        revisions = [await m.put("k", {"a": 1}), await m.put("k", None)]
        await m.remove("k")
        await m.put("t", 1, ttl=1.0)
        found = await told(events, 4)
        assert brief(found) == [
            ("put", "k", {"a": 1}, None), ("put", "k", None, None), ("removed", "k", None, None),
            ("put", "t", 1, None),
        ]  # fmt: skip
        assert [event.revision for event in found[:2]] == revisions
        await nothing(events)


async def test_values_that_were_replaced_are_told_where_asked_for(m: Map, port: LocalPort) -> None:
    await m.put("k", 0)
    async with m.watch(previous=True) as events:
        await m.put("k", 1)
        await m.remove("k")
        await m.put("k", 2, ttl=0.5)
        port.group.advance(1000)
        assert brief(await told(events, 4)) == [
            ("put", "k", 1, 0), ("removed", "k", None, 1), ("put", "k", 2, None), ("expired", "k", None, 2),
        ]  # fmt: skip


async def test_filters_choose_keys_of_their_type(m: Map) -> None:
    await m.put("a", 0)
    async with m.watch("a1") as one, m.watch(prefix="a") as some, m.watch(prefix=b"a") as other:
        for key in ("a", "a1", b"a1", "b", 1):
            await m.put(key, 1)
        assert [event.key for event in await told(one, 1)] == ["a1"]
        assert sorted(str(event.key) for event in await told(some, 2)) == ["a", "a1"]
        assert [event.key for event in await told(other, 1)] == [b"a1"]
        for events in (one, some, other):
            await nothing(events)
    with pytest.raises(ValueError, match="not both"):
        m.watch("a", prefix="b")


async def test_a_watch_goes_on_from_a_position_without_gap_or_repetition(m: Map) -> None:
    await m.put("x", 0)
    start = await m.position()
    await m.put_many({f"k{n:02}": n for n in range(40)})
    seen: list[Any] = []
    position: Position | None = start
    while len(seen) < 40:
        assert position is not None
        async with m.watch(position=Position.parse(str(position))) as events:
            seen += [event.key for event in await told(events, 3 if len(seen) < 39 else 1)]
            position = events.position
    assert sorted(seen) == [f"k{n:02}" for n in range(40)]
    async with m.watch(position=position) as events:
        await nothing(events)


async def test_the_position_of_a_quiet_watch_moves_on(m: Map, port: LocalPort) -> None:
    await m.put("x", 0)
    async with m.watch("k", progress=True) as events:
        await told(events, 1)
        first = events.position
        await m.put("other", 1)
        assert [event.kind for event in await told(events, 1)] == ["progress"]
        assert first is not None
        assert events.position is not None
        assert events.position.covers(first)
        assert not first.covers(events.position)


async def test_a_watch_waits_for_a_map_to_be_created(m: Map) -> None:
    async with m.watch() as events, m.watch(initial=True) as listed:
        await nothing(events)
        assert events.position is None
        await m.put("k", 1)
        assert brief(await told(events, 1)) == brief(await told(listed, 1)) == [("put", "k", 1, None)]


async def test_a_position_of_another_map_is_refused(m: Map, port: LocalPort) -> None:
    await m.put("k", 1)
    other = Map(port, "", "other")
    position = await m.position()
    with pytest.raises(Deleted):
        async with other.watch(position=position):
            pass
    await other.put("k", 1)
    with pytest.raises(BadPosition):
        async with other.watch(position=position):
            pass


async def test_what_is_there_is_listed_first(m: Map) -> None:
    for key in ("a", "ab", "b"):
        await m.put(key, key)
    revision = await m.put("c", "c")
    async with m.watch(initial=True, progress=True) as events:
        found = await told(events, 4)
        assert sorted(brief(found)) == [("listed", key, key, None) for key in ("a", "ab", "b", "c")]
        assert [event.revision for event in found if event.key == "c"] == [revision]
        assert events.position is None
        assert [event.kind for event in await told(events, 1)] == ["progress"]
        assert events.position is not None
        await m.put("a", 2)
        assert brief(await told(events, 1)) == [("put", "a", 2, None)]
    async with m.watch(initial=True, prefix="a") as events:
        assert sorted(event.key for event in await told(events, 2)) == ["a", "ab"]
        await nothing(events)
    async with m.watch("ab", initial=True) as events:
        assert [event.key for event in await told(events, 1)] == ["ab"]
        await nothing(events)
    async with m.watch("nobody", initial=True, progress=True) as events:
        assert [event.kind for event in await told(events, 1)] == ["progress"]
    with pytest.raises(ValueError, match="not both"):
        m.watch(initial=True, position=await m.position())
    with pytest.raises(TypeError, match="Position"):
        m.watch(position="x")  # type: ignore[arg-type]  # what is tried
    for size in (0, -1, 1 << 40, 1.5):
        with pytest.raises(ValueError, match="buffer_bytes"):
            m.watch(buffer_bytes=size)  # type: ignore[arg-type]  # what is tried


@pytest.mark.parametrize("seed", range(8))
async def test_listing_and_changes_together_make_the_state(m: Map, seed: int) -> None:
    random = Random(seed)
    keys = [f"{n:04}" for n in range(PAGE_ROWS_MAX * 2 + 500)]
    await m.put_many(dict.fromkeys(keys, -1))
    state: dict[Any, Any] = {}
    partitions: dict[Any, int] = {}
    last: dict[int, int] = {}
    async with m.watch(initial=True, progress=True) as events:
        changes = 0
        while events.position is None or changes < 30:
            event = (await told(events, 1))[0]
            replay(state, event, partitions)
            if event.kind not in ("listed", "progress"):
                assert event.revision >= last.get(event.partition, 0)
                last[event.partition] = event.revision
            if random.random() < 0.02:
                changes += 1
                kind = random.randrange(12)
                if kind == 0:
                    await m.clear()
                elif kind < 5:
                    await m.remove(random.choice(keys))
                else:
                    await m.put(random.choice(keys), changes)
            if events.position is not None and changes < 30:
                await m.put("more", changes)
                changes += 1
        await m.put("last", seed)
        while state.get("last") != seed:
            replay(state, (await told(events, 1))[0], partitions)
    assert state == {key: value async for key, value in m.items()}
