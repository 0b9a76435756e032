"""Links within a process: what a link over a socket promises, they promise too."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from router.link import RECEIVE_BYTES, LinkLost
from router.memorylink import MemoryLink, memory_pair


async def test_bytes_arrive_whole_and_in_order_in_bounded_pieces() -> None:
    near, far = memory_pair()
    sent = b"".join(number.to_bytes(4, "big") for number in range(100_000))
    for at in range(0, len(sent), 1003):
        assert near.send(sent[at : at + 1003])
    assert near.queued_bytes == len(sent)
    got = bytearray()
    while len(got) < len(sent):
        piece = await far.receive()
        assert 0 < len(piece) <= RECEIVE_BYTES
        got += piece
    assert got == sent
    assert near.queued_bytes == 0


async def test_a_piece_over_the_usual_size_comes_alone() -> None:
    near, far = memory_pair()
    for piece in (bytes(3 * RECEIVE_BYTES), b"x", b"y"):
        near.send(piece)
    assert [await far.receive(), await far.receive()] == [bytes(3 * RECEIVE_BYTES), b"xy"]


async def test_both_ends_talk_at_once() -> None:
    near, far = memory_pair()
    counts = {"near": 0, "far": 0}

    async def talk(name: str, link: MemoryLink) -> None:
        for turn in range(1, 101):
            assert link.send(b"ping")
            while counts[name] < turn:
                counts[name] += len(await link.receive()) // 4

    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk, "near", near)
        nursery.start_soon(talk, "far", far)
    assert counts == {"near": 100, "far": 100}


async def test_who_takes_all_the_time_lets_others_run() -> None:
    near, far = memory_pair()
    for _ in range(10):
        near.send(bytes(RECEIVE_BYTES))
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(10):
            await far.receive()
        nursery.cancel_scope.cancel()
    assert turns >= 9


async def test_an_end_that_does_not_read_loses_the_link_and_holds_up_nobody() -> None:
    near, far = memory_pair(near_bytes_max=1 << 20)
    while near.send(bytes(1 << 18)):
        assert near.queued_bytes <= 1 << 20
    assert near.is_lost
    assert not near.send(b"more")
    assert not far.send(b"answer")
    with pytest.raises(LinkLost, match="does not read"):
        await near.receive()
    with pytest.raises(LinkLost):
        await far.receive()


async def test_what_was_sent_before_the_end_is_still_received() -> None:
    near, far = memory_pair()
    near.send(b"goodbye")
    near.close()
    assert not far.send(b"too late")
    assert await far.receive() == b"goodbye"
    with pytest.raises(LinkLost, match="the other end closed"):
        await far.receive()
    assert far.is_lost


async def test_closing_wakes_whoever_waits_at_either_end(autojump_clock: trio.testing.MockClock) -> None:
    near, far = memory_pair()
    ended: list[str] = []

    async def receive(name: str, link: MemoryLink) -> None:
        with pytest.raises(LinkLost):
            await link.receive()
        ended.append(name)

    async def drained() -> None:
        far.send(b"never taken")
        await far.drained()
        ended.append("drained")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive, "far", far)
        nursery.start_soon(drained)
        nursery.start_soon(near.run)
        await trio.testing.wait_all_tasks_blocked()
        near.close()
        near.close()
    assert sorted(ended) == ["drained", "far"]


async def test_drained_returns_once_all_was_taken(autojump_clock: trio.testing.MockClock) -> None:
    near, far = memory_pair()
    for _ in range(3):
        near.send(bytes(RECEIVE_BYTES))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(near.drained)
        for left in (2, 1, 0):
            await far.receive()
            assert near.queued_bytes == left * RECEIVE_BYTES
            await trio.testing.wait_all_tasks_blocked()
            assert bool(nursery.child_tasks) == bool(left)


async def test_finishing_lets_what_is_queued_be_taken_first(autojump_clock: trio.testing.MockClock) -> None:
    near, far = memory_pair()
    near.send(b"last words")
    near.finish()
    assert not near.send(b"too late")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(near.run)
        await trio.testing.wait_all_tasks_blocked()
        assert not near.is_lost
        assert await far.receive() == b"last words"
        with pytest.raises(LinkLost):
            await far.receive()
    assert near.is_lost


async def test_cancelled_receiving_loses_nothing(autojump_clock: trio.testing.MockClock) -> None:
    near, far = memory_pair()
    with trio.move_on_after(1):
        await far.receive()
    near.send(b"kept")
    with trio.CancelScope() as scope:
        scope.cancel()
        await far.receive()
    assert await far.receive() == b"kept"
