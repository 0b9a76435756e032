"""The queue's handle over a group in the process: waiting, cancellation, capacity and lost leases."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from local_group import Group
from local_port import LocalPort
from trio.testing import wait_all_tasks_blocked

from primitives.errors import ConfigMismatch, Overloaded, Retry, SessionLost, TooLarge
from primitives.limits import VALUE_BYTES_MAX
from primitives.queue import Queue, QueueFull


class Pair:
    """Two clients of one queue."""

    def __init__(self) -> None:
        self.group = Group()
        self.near = LocalPort(self.group)
        self.far = LocalPort(self.group)
        self.queue = Queue(self.near, "", "q")
        self.other = Queue(self.far, "", "q")


@pytest.fixture
def pair() -> Pair:
    return Pair()


async def everything(queue: Queue) -> list[object]:
    return [element async for element in queue]


async def test_asking_a_queue_that_was_never_written_creates_nothing(pair: Pair) -> None:
    assert await pair.queue.peek() is None
    assert await pair.queue.peek("nothing") == "nothing"
    assert await pair.queue.size() == 0
    assert await everything(pair.queue) == []
    assert not await pair.queue.exists()


async def test_calls_answer_what_their_names_say(pair: Pair) -> None:
    first = await pair.queue.offer({"job": 1})
    assert await pair.other.offer(None) > first
    assert await pair.queue.size() == 2
    assert await pair.other.peek() == {"job": 1}
    assert await pair.other.take() == {"job": 1}
    assert await pair.queue.poll("nothing") is None, "a stored None"
    assert await pair.queue.poll("nothing") == "nothing"
    await pair.queue.offer_many(range(3))
    await pair.queue.offer_many([])
    await pair.queue.clear()
    assert await pair.queue.size() == 0


async def test_large_elements_and_many_of_them_go_in_bounded_commands_and_pages(pair: Pair) -> None:
    large = [bytes([number]) * (VALUE_BYTES_MAX // 3) for number in range(7)]
    await pair.queue.offer_many(large)
    assert await everything(pair.other) == large
    await pair.queue.clear()
    await pair.queue.offer_many(range(1234))
    assert await everything(pair.other) == list(range(1234))
    with pytest.raises(TooLarge):
        await pair.queue.offer(bytes(VALUE_BYTES_MAX))


async def test_takers_wait_and_are_served_in_the_order_they_came(pair: Pair) -> None:
    taken: list[tuple[int, object]] = []

    async def take(number: int) -> None:
        taken.append((number, await (pair.queue if number % 2 else pair.other).take()))

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(take, number)
            await wait_all_tasks_blocked()
        for element in "abcdef":
            await pair.queue.offer(element)
            await wait_all_tasks_blocked()
    assert taken == list(enumerate("abcdef"))


async def test_a_full_queue_raises_an_error_that_says_what_to_do(pair: Pair) -> None:
    bounded = Queue(pair.near, "", "b", capacity=3)
    await bounded.offer_many([1, 2])
    await Queue(pair.far, "", "b").offer(3)
    with pytest.raises(QueueFull, match="offer again when elements were taken") as raised:
        await Queue(pair.far, "", "b").offer(4)
    assert raised.value.retry is Retry.SAFE
    assert isinstance(raised.value, Overloaded)
    assert await bounded.take() == 1
    await bounded.offer(4)
    with pytest.raises(ConfigMismatch):
        await Queue(pair.far, "", "b", capacity=4).offer(1)
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="capacity"):
            Queue(pair.near, "", "b", capacity=wrong)
    with pytest.raises(TypeError):
        Queue(pair.near, "", "b", capacity=1.5)  # type: ignore[arg-type]


async def test_offering_many_to_a_full_queue_tells_how_many_were_offered(pair: Pair) -> None:
    bounded = Queue(pair.near, "", "b", capacity=450)
    with pytest.raises(QueueFull) as raised:
        await bounded.offer_many(range(600))
    assert raised.value.offered == 400
    assert await everything(bounded) == list(range(400))


@pytest.mark.parametrize("arrived", [True, False])
async def test_a_cancelled_take_leaves_the_queue_as_it_was(pair: Pair, arrived: bool) -> None:
    await pair.other.offer_many(["a", "b"])
    pair.near.delivers = False
    pair.near.sends = arrived
    for call in (pair.queue.take, pair.queue.poll):
        with trio.move_on_after(0.01) as scope:
            await call()
        assert scope.cancelled_caught
        assert await everything(pair.other) == ["a", "b"]
    pair.near.open()
    assert await pair.queue.take() == "a"


async def test_an_element_that_comes_too_late_goes_to_the_next(pair: Pair) -> None:
    taken: list[object] = []

    async def take() -> None:
        taken.append(await pair.other.take())

    async with trio.open_nursery() as nursery:
        pair.near.delivers = False
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as inner:
                inner.start_soon(pair.queue.take)
                await wait_all_tasks_blocked()
                nursery.start_soon(take)
                await wait_all_tasks_blocked()
                await pair.other.offer("x")
                await wait_all_tasks_blocked()
                assert taken == []
                scope.cancel()
        await wait_all_tasks_blocked()
        assert taken == ["x"]


async def test_a_taker_whose_lease_is_lost_is_told_and_leaves_the_line(pair: Pair) -> None:
    await pair.other.offer("x")
    assert await pair.other.take() == "x"

    async def lose() -> None:
        await wait_all_tasks_blocked()
        pair.near.lose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lose)
        with pytest.raises(SessionLost):
            await pair.queue.take()
    await pair.other.offer("y")
    assert await everything(pair.other) == ["y"]


async def test_each_element_is_delivered_once_among_many_takers_and_pollers(pair: Pair) -> None:
    taken: Counter[object] = Counter()

    async def work(queue: Queue) -> None:
        while True:
            element = await queue.take()
            if element is None:
                return
            taken[element] += 1

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(work, pair.queue if number % 2 else pair.other)
        await pair.queue.offer_many(range(50))
        for number in range(50, 80):
            await pair.other.offer(number)
        await pair.other.offer_many([None] * 6)
    assert taken == Counter(range(80))
