"""Watches and reads from replicas through the trio client, over sockets, against a model cluster."""

from __future__ import annotations

import pytest
import trio
from router_model import ModelCluster
from router_server import serving, until

import quorate
from primitives.errors import BadPosition, InvariantViolation, Unavailable
from primitives.handle import SEQUENTIAL, Causal


async def test_a_watch_tells_what_happens_and_survives_broken_connections() -> None:
    cluster = ModelCluster()
    async with serving(cluster) as server, quorate.connect(server.url) as client:
        users = client.map("users")
        await users.put("a", 0)
        with trio.fail_after(20):
            async with users.watch(previous=True) as events:
                for at in range(1, 60):
                    await users.put("a", at)
                    event = await events.__anext__()
                    assert (event.kind, event.key, event.value, event.previous) == ("put", "a", at, at - 1)
                    if at % 20 == 0:
                        server.cut()
            position = events.position
            await users.remove("a")
            async with users.watch(position=position) as events:
                assert (await events.__anext__()).kind == "removed"
        await until(lambda: not cluster.streams.streams)


async def test_a_listing_is_followed_by_what_happens() -> None:
    async with serving(ModelCluster()) as server, quorate.connect(server.url) as client:
        users = client.map("users")
        await users.put_many({f"k{at}": at for at in range(100)})
        with trio.fail_after(20):
            found = {}
            async with users.watch(initial=True, progress=True) as events:
                async for event in events:
                    if event.kind == "progress":
                        break
                    found[event.key] = event.value
                await users.put("more", 1)
                assert (await events.__anext__()).key == "more"
        assert found == {f"k{at}": at for at in range(100)}


async def test_a_waiting_watcher_is_cancelled_and_told_that_the_client_is_closed() -> None:
    async with serving(ModelCluster()) as server:
        async with quorate.connect(server.url) as client, client.map("users").watch() as events:
            with trio.move_on_after(0.05) as scope:
                await events.__anext__()
            assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            ended = trio.Event()

            async def wait(client: quorate.Client) -> None:
                with pytest.raises(Unavailable, match="closed"):
                    async with client.map("users").watch() as events:
                        await events.__anext__()
                ended.set()

            async with quorate.connect(server.url) as client:
                nursery.start_soon(wait, client)
                await trio.sleep(0.1)
            with trio.fail_after(3):
                await ended.wait()
        with pytest.raises(Unavailable):
            async with client.map("users").watch():
                pass


async def test_a_watch_is_entered_once() -> None:
    async with serving(ModelCluster()) as server, quorate.connect(server.url) as client:
        watch = client.map("users").watch()
        with pytest.raises(InvariantViolation):
            watch._stream.pop()
        async with watch:
            with pytest.raises(InvariantViolation):
                await watch.__aenter__()


async def test_reads_at_every_level_and_positions_between_clients() -> None:
    cluster = ModelCluster()
    async with (
        serving(cluster) as server, quorate.connect(server.url) as one, quorate.connect(server.url) as other,
    ):
        mine, theirs = one.map("users"), other.map("users", read=SEQUENTIAL)
        assert await mine.position() is None
        for at in range(20):
            key = f"k{at}"  # Of all groups, so that no client prefers the leader of each one.
            await mine.put(key, at)
            position = quorate.Position.parse(str(await mine.position()))
            assert await theirs.get(key, read=Causal(position)) == at
            assert await theirs.get(key) == at
            assert await mine.get(key, read=quorate.Stale(5)) == at
        await one.counter("c").add(1)
        with pytest.raises(BadPosition):
            await one.counter("c").get(read=Causal(position))
        assert sum(cluster.served.values()) > 10
