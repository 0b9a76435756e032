"""What watches of values, sets, queues, lists and elections tell, over a group in the process."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest
import trio
from local_group import Group
from local_port import LocalPort
from trio.testing import wait_all_tasks_blocked

from primitives.election import Election, Leadership
from primitives.list import List
from primitives.queue import Queue
from primitives.set import Set
from primitives.value import Value
from primitives.watching import Watch


@pytest.fixture
def port() -> LocalPort:
    return LocalPort(Group())


async def told(events: Watch, count: int) -> list[tuple[Any, ...]]:
    with trio.fail_after(5):
        found = [await events.__anext__() for _ in range(count)]
    return [(event.kind, event.key, event.value, event.previous) for event in found]


async def test_a_values_changes_are_told(port: LocalPort) -> None:
    value = Value(port, "", "v")
    await value.set("before")
    async with value.watch(initial=True, previous=True) as events:
        assert await told(events, 1) == [("listed", None, "before", None)]
        await value.set("x")
        await value.compare_and_set("x", "y", ttl=1)
        port.group.advance(2000)
        await value.set("z")
        await value.unset()
        assert await told(events, 5) == [
            ("put", None, "x", "before"), ("put", None, "y", "x"), ("expired", None, None, "y"),
            ("put", None, "z", None), ("removed", None, None, "z"),
        ]  # fmt: skip


@pytest.mark.parametrize("pinned", [True, False])
async def test_a_sets_changes_are_told(port: LocalPort, pinned: bool) -> None:
    of = Set(port, "", "s", pinned=pinned)
    await of.add("before")
    async with of.watch(initial=True) as events:
        assert await told(events, 1) == [("listed", "before", None, None)]
        await of.add(1)
        await of.remove("before")
        await of.add("short", ttl=1)
        port.group.advance(2000)
        assert sorted(await told(events, 4), key=repr) == sorted(
            [("put", 1, None, None), ("removed", "before", None, None), ("put", "short", None, None),
             ("expired", "short", None, None)], key=repr,
        )  # fmt: skip
    async with of.watch("x") as events:
        await of.add_all(["w", "x", "y"])
        assert await told(events, 1) == [("put", "x", None, None)]


async def test_a_queues_changes_are_told_by_the_elements_indexes(port: LocalPort) -> None:
    queue = Queue(port, "", "q")
    await queue.offer_many(["a", "b"])
    async with queue.watch(initial=True, previous=True) as events:
        assert await told(events, 2) == [("listed", 0, "a", None), ("listed", 1, "b", None)]
        assert await queue.take() == "a"
        await queue.offer("c")
        port.delivers = False
        with trio.move_on_after(0.01):
            await queue.poll()
        port.open()
        await queue.clear()
        assert await told(events, 5) == [
            ("removed", 0, None, "a"), ("put", 2, "c", None), ("removed", 1, None, "b"),
            ("put", 1, "b", None), ("cleared", None, None, None),
        ]  # fmt: skip


async def test_a_lists_changes_are_told_with_the_indexes_at_that_time(port: LocalPort) -> None:
    of, copy = List(port, "", "l"), list[Any]()
    async with of.watch(previous=True) as events:
        await of.extend(["a", "b", "c"])
        await of.insert(1, "x")
        await of.set(0, "A")
        await of.pop(2)
        await of.remove("c")
        expected = [element async for element in of]
        for _ in range(7):
            event = await events.__anext__()
            if event.kind == "inserted":
                copy.insert(event.key, event.value)
            elif event.kind == "put":
                assert copy[event.key] == event.previous
                copy[event.key] = event.value
            else:
                assert event.kind == "removed"
                assert copy.pop(event.key) == event.previous
    assert copy == expected == ["A", "x"]
    with pytest.raises(TypeError):
        of.watch(initial=True)  # type: ignore[call-arg]


async def test_each_change_of_leadership_is_observed_once_and_in_order(port: LocalPort) -> None:
    near, far = Election(port, "", "e"), Election(LocalPort(port.group), "", "e")
    seen: list[Leadership] = []

    async def observe() -> None:
        async for leadership in near.observe():
            seen.append(leadership)
            if len(seen) == 9:
                nursery.cancel_scope.cancel()

    terms: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(observe)
        await wait_all_tasks_blocked()
        for number in range(3):
            async with far.campaign(number) as term:
                terms.append(term.term)
        async with near.campaign("last") as term:
            terms.append(term.term)
            nursery.start_soon(far.stand, "next")
            await wait_all_tasks_blocked()
        await trio.sleep(5)
    leaders = [(one.leader.data, one.term) if one.leader else None for one in seen]
    assert leaders[:8] == [
        None, (0, terms[0]), None, (1, terms[1]), None, (2, terms[2]), None, ("last", terms[3]),
    ]  # fmt: skip
    assert leaders[8] is not None
    assert leaders[8][0] == "next"


async def test_who_observes_while_somebody_leads_sees_him_first(port: LocalPort) -> None:
    election = Election(port, "", "e")
    async with election.campaign("x") as term, aclosing(election.observe()) as leaderships:
        assert (await anext(leaderships)).term == term.term
