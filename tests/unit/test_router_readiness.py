"""Readiness: what has arrived anywhere is handed over in one step; what goes wrong stays with its link."""

from __future__ import annotations

import select
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing

import pytest
import trio
import trio.testing

from router.link import Link, LinkLost
from router.readiness import Readiness, Selecting


@pytest.fixture(params=[select.epoll, Selecting])
def readiness(request: pytest.FixtureRequest) -> Iterator[Readiness]:
    with closing(Readiness(request.param)) as made:
        yield made


@asynccontextmanager
async def pair(readiness: Readiness) -> AsyncIterator[tuple[Link, Link]]:
    """Two connected links over loopback; what arrives at the second is looked for by ``readiness``."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        near = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        far = await listener.accept()
    links = Link(near), Link(far, readiness=readiness)
    try:
        yield links
    finally:
        for link in links:
            link.close()


async def look(readiness: Readiness) -> None:
    await trio.lowlevel.wait_readable(readiness.fileno())
    readiness.take()
    await trio.testing.wait_all_tasks_blocked()


async def test_what_arrived_on_several_links_is_handed_over_in_one_step(readiness: Readiness) -> None:
    got: list[bytes] = []
    async with pair(readiness) as (a, b), pair(readiness) as (c, d), trio.open_nursery() as nursery:
        for link in (b, d):
            nursery.start_soon(link.pour, lambda data: not got.append(data))
        await trio.testing.wait_all_tasks_blocked()
        a.send(b"one")
        c.send(b"two")
        await look(readiness)
        assert sorted(got) == [b"one", b"two"]
        assert b.statistics().received_bytes == 3
        nursery.cancel_scope.cancel()


async def test_pouring_ends_when_no_more_is_wanted_and_goes_on_later(readiness: Readiness) -> None:
    got: list[bytes] = []
    async with pair(readiness) as (near, far), trio.open_nursery() as nursery:
        for text in (b"first", b"second"):
            near.send(text)
            nursery.start_soon(look, readiness)
            await far.pour(lambda data: bool(got.append(data)))
        assert got == [b"first", b"second"]


async def test_what_the_taker_raises_is_raised_by_its_own_link_alone(readiness: Readiness) -> None:
    def refuse(data: bytes) -> bool:
        raise ValueError(data)

    got: list[bytes] = []
    async with pair(readiness) as (a, b), pair(readiness) as (c, d), trio.open_nursery() as nursery:
        nursery.start_soon(d.pour, lambda data: not got.append(data))
        a.send(b"bad")
        c.send(b"good")
        nursery.start_soon(look, readiness)
        with pytest.raises(ValueError, match="bad"):
            await b.pour(refuse)
        assert got == [b"good"]
        nursery.cancel_scope.cancel()


async def test_the_stream_s_end_and_a_close_end_the_pouring(readiness: Readiness) -> None:
    async with pair(readiness) as (near, far), trio.open_nursery() as nursery:
        near.close()
        nursery.start_soon(look, readiness)
        with pytest.raises(LinkLost, match="other end closed"):
            await far.pour(lambda _: True)
    async with pair(readiness) as (_, far), trio.open_nursery() as nursery:
        nursery.start_soon(_close_later, far)
        with pytest.raises(LinkLost, match="closed"):
            await far.pour(lambda _: True)
        with pytest.raises(LinkLost, match="closed"):
            await far.pour(lambda _: True)


async def _close_later(link: Link) -> None:
    await trio.testing.wait_all_tasks_blocked()
    link.close()


async def test_a_link_that_another_one_s_taker_closes_is_not_read_any_more(readiness: Readiness) -> None:
    got: list[bytes] = []
    async with pair(readiness) as (a, b), pair(readiness) as (c, d), trio.open_nursery() as nursery:

        async def pour(link: Link, other: Link) -> None:
            def take(data: bytes) -> bool:
                got.append(data)
                other.close()
                return True

            with pytest.raises(LinkLost):
                await link.pour(take)

        nursery.start_soon(pour, b, d)
        nursery.start_soon(pour, d, b)
        await trio.testing.wait_all_tasks_blocked()
        a.send(b"one")
        c.send(b"two")
        with trio.move_on_after(5):
            while not got:
                await look(readiness)
        assert len(got) == 1
        b.close()
        d.close()


async def test_a_cancelled_pouring_leaves_the_socket_to_the_next(readiness: Readiness) -> None:
    got: list[bytes] = []
    async with pair(readiness) as (near, far):
        with trio.move_on_after(0.01):
            await far.pour(lambda _: True)
        near.send(b"later")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look, readiness)
            await far.pour(lambda data: bool(got.append(data)))
        assert got == [b"later"]


async def test_a_call_from_another_thread_runs_where_it_is_looked(readiness: Readiness) -> None:
    ran: list[tuple[int, int]] = []

    def call(number: int) -> None:
        ran.append((number, threading.get_ident()))

    def other() -> None:
        for number in range(10_000):  # More than the door's pipe is read of at once.
            readiness.run_sync_soon(call, number)

    await trio.to_thread.run_sync(other)
    await look(readiness)
    assert ran == [(number, threading.get_ident()) for number in range(10_000)]
