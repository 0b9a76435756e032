"""Links: sending never waits, order holds, a peer that does not read is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from router.link import Link, LinkLost


@asynccontextmanager
async def pair(**options: int) -> AsyncIterator[tuple[Link, Link, trio.Nursery]]:
    """Two connected links over loopback; nobody runs their senders yet."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        near = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        far = await listener.accept()
    async with near, far, trio.open_nursery() as nursery:
        yield Link(near, **options), Link(far, **options), nursery
        nursery.cancel_scope.cancel()


async def test_bytes_arrive_in_order_whether_sent_at_once_or_queued() -> None:
    async with pair() as (near, far, nursery):
        nursery.start_soon(near.run)
        data = b"".join(number.to_bytes(4, "big") for number in range(2_000_000))
        assert near.send(data[:100])
        for at in range(100, len(data), 100_003):
            assert near.send(data[at : at + 100_003])
        assert near.statistics().queued_bytes > 0
        got = bytearray()
        while len(got) < len(data):
            got += await far.receive()
        assert got == data
        statistics = near.statistics()
        assert statistics.sent_bytes == len(data) == far.statistics().received_bytes
        assert 0 < statistics.sends_queued < statistics.sends
        assert statistics.queued_bytes == 0


async def test_a_small_message_leaves_at_once_without_the_sender() -> None:
    async with pair() as (near, far, _):
        assert near.send(b"hello")
        assert await far.receive() == b"hello"


async def test_a_peer_that_does_not_read_loses_the_link_and_holds_up_nobody() -> None:
    async with pair(queue_bytes_max=1 << 20) as (near, far, nursery):
        nursery.start_soon(near.run)
        while near.send(bytes(1 << 18)):
            pass
        assert near.is_lost
        assert not near.send(b"more")
        with pytest.raises(LinkLost, match="does not read"):
            await near.receive()
        with pytest.raises(LinkLost):
            while True:
                await far.receive()


async def test_the_end_of_the_stream_is_told() -> None:
    async with pair() as (near, far, _):
        far.close()
        with pytest.raises(LinkLost, match="closed"):
            await near.receive()
        assert near.is_lost


async def test_closing_wakes_whoever_waits() -> None:
    async with pair() as (near, far, nursery):
        nursery.start_soon(near.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(_close, near)
        with pytest.raises(LinkLost):
            await near.receive()
        del far


async def _close(link: Link) -> None:
    link.close()


async def test_finishing_sends_what_is_queued_first() -> None:
    async with pair() as (near, far, nursery):
        while not near.statistics().queued_bytes:
            near.send(bytes(1 << 18))
        sent = near.statistics().sent_bytes + near.statistics().queued_bytes
        near.finish()
        assert not near.send(b"too late")
        nursery.start_soon(near.run)
        got = 0
        with pytest.raises(LinkLost):
            while True:
                got += len(await far.receive())
        assert got == sent
