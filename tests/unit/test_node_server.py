"""The client port over real sockets: who is served, who is refused, and that none of it ends the node."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from by_hand import FrameStream, Witness

from primitives.ids import SLOTS, NodeId
from primitives.limits import CLIENT_FRAME_BYTES_MAX, UNAUTHENTICATED_FRAME_BYTES_MAX
from router.connection import State, decode_refused, decode_welcome, encode_hello
from router.frames import FrameKind, encode_answers, encode_control, encode_frame, encode_requests
from router.shardmap import ShardMap
from shards.server import UNREAD_BYTES_MAX, ClientServer

A_MAP = ShardMap(3, b"c" * 16, b"salt", {}, {}, [0] * SLOTS, [1] * SLOTS)
BOOT_ID = b"b" * 16


class FakeEngine(Witness):
    """Remembers what came."""

    def __init__(self) -> None:
        super().__init__()
        self.shard_map: ShardMap | None = A_MAP
        self.frames: list[tuple[int, int, bytes]] = []
        self.closed: list[int] = []

    def client_frame(self, connection: int, kind: int, payload: bytes) -> None:
        self.frames.append((connection, kind, payload))

    def client_closed(self, connection: int) -> None:
        self.closed.append(connection)


class Client(FrameStream):
    """A client by hand."""

    async def refusal(self) -> tuple[str, str]:
        """The refusal that comes next; the stream ends behind it."""
        found = await self.next()
        assert found is not None
        assert found[0] == FrameKind.REFUSED
        assert await self.next() is None
        return decode_refused(found[1])

    async def greet(self) -> None:
        await self.stream.send_all(encode_hello("test"))
        found = await self.next()
        assert found is not None
        assert found[0] == FrameKind.WELCOME


class Rig:
    def __init__(
        self, server: ClientServer, engine: FakeEngine, port: int, stop: Callable[[], None]
    ) -> None:
        self.server, self.engine, self.port, self.stop = server, engine, port, stop
        self.clients: list[Client] = []

    async def client(self) -> Client:
        self.clients.append(Client(await trio.open_tcp_stream("127.0.0.1", self.port)))
        return self.clients[-1]

    async def greeted(self) -> Client:
        client = await self.client()
        await client.greet()
        return client


@asynccontextmanager
async def serving(*, clients_max: int = 10, handshake_s: float = 0.2) -> AsyncIterator[Rig]:
    engine = FakeEngine()
    server = ClientServer(
        engine, node=NodeId(2), boot_id=BOOT_ID, clients_max=clients_max, wake=engine.wake,
        handshake_s=handshake_s,
    )  # fmt: skip
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    scope = trio.CancelScope()
    rig = Rig(server, engine, listeners[0].socket.getsockname()[1], scope.cancel)

    async def run() -> None:
        with scope:
            await server.run(listeners)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            yield rig
            nursery.cancel_scope.cancel()
    finally:
        for client in rig.clients:
            client.stream.socket.close()


async def test_a_client_is_welcomed_with_who_the_node_is() -> None:
    async with serving() as rig:
        client = await rig.client()
        await client.stream.send_all(encode_hello("test"))
        found = await client.next()
        assert found is not None
        assert decode_welcome(found[1]) == (1, b"c" * 16, 2, BOOT_ID, 3)


async def test_frames_go_to_the_engine_in_order_even_behind_the_greeting_in_one_piece() -> None:
    async with serving() as rig:
        client = await rig.client()
        requests = [encode_requests([(number, 1, b"record")]) for number in range(5)]
        await client.stream.send_all(encode_hello("test") + b"".join(requests))
        await rig.engine.until(lambda: len(rig.engine.frames) == 5)
        assert rig.engine.frames == [(0, FrameKind.OPS, request[8:]) for request in requests]


async def test_answers_go_to_their_connection_and_to_no_other() -> None:
    async with serving() as rig:
        one, two = await rig.greeted(), await rig.greeted()
        rig.server.send(1, [encode_answers([(1, b"to two")]), encode_control(FrameKind.LEADERS, [[1, 2]])])
        rig.server.send(0, [encode_answers([(2, b"to one")])])
        rig.server.send(99, [encode_answers([(2, b"to nobody")])])
        assert ((await two.next()) or (0, b""))[1].endswith(b"to two")
        assert ((await two.next()) or (0,))[0] == FrameKind.LEADERS
        assert ((await one.next()) or (0, b""))[1].endswith(b"to one")


async def test_a_cluster_that_has_not_formed_serves_nobody_and_says_so() -> None:
    async with serving() as rig:
        rig.engine.shard_map = None
        client = await rig.client()
        await client.stream.send_all(encode_hello("test"))
        assert await client.refusal() == ("unavailable", "the cluster has not formed yet")
        rig.engine.shard_map = A_MAP
        await rig.greeted()


GARBAGE = {
    "text": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes": bytes(range(255, 0, -1)),
    "oversized before the greeting": struct.pack(
        ">IBBH", UNAUTHENTICATED_FRAME_BYTES_MAX + 1, FrameKind.HELLO, 0, 0
    ),
    "operations before the greeting": encode_requests([(1, 1, b"x")]),
    "a greeting that cannot be read": encode_frame(FrameKind.HELLO, b"\xff" * 8),
    "another version": encode_control(FrameKind.HELLO, [2, "x"]),
    "a node's frame": encode_control(FrameKind.GOODBYE, ["x"]),
}


@pytest.mark.parametrize("what", GARBAGE)
async def test_garbage_is_refused_and_others_are_served_on(what: str) -> None:
    async with serving() as rig:
        good, bad = await rig.greeted(), await rig.client()
        await bad.stream.send_all(GARBAGE[what])
        code, text = await bad.refusal()
        assert code == "protocol"
        assert text
        rig.server.send(0, [encode_answers([(1, b"still")])])
        assert ((await good.next()) or (0, b""))[1].endswith(b"still")
        assert rig.engine.frames == []


async def test_an_oversized_frame_is_refused_from_its_header_alone() -> None:
    async with serving() as rig:
        client = await rig.greeted()
        await client.stream.send_all(struct.pack(">IBBH", CLIENT_FRAME_BYTES_MAX + 1, FrameKind.OPS, 0, 0))
        assert "at most" in (await client.refusal())[1]
        await rig.engine.until(lambda: rig.engine.closed == [0])


async def test_a_client_that_does_not_greet_is_closed_in_time() -> None:
    async with serving() as rig:
        client = await rig.client()
        await client.stream.send_all(b"\0\0")
        assert "no greeting within 0.2 s" in (await client.refusal())[1]


async def test_connections_are_capped_and_a_closed_one_makes_room() -> None:
    async with serving(clients_max=2) as rig:
        first = await rig.greeted()
        await rig.greeted()
        code, text = await (await rig.client()).refusal()
        assert (code, text) == ("overloaded", "the node serves 2 connections already")
        await first.stream.aclose()
        await rig.engine.until(lambda: rig.engine.closed == [0])
        await rig.greeted()


async def test_a_connection_that_the_engine_finishes_gets_its_last_frames_and_is_taken_from_no_more() -> None:
    async with serving() as rig:
        client = await rig.greeted()
        rig.server.send(0, [encode_control(FrameKind.REFUSED, ["protocol", "why"])])
        rig.server.finish(0)
        await client.stream.send_all(encode_requests([(1, 1, b"late")]))
        assert await client.refusal() == ("protocol", "why")
        await rig.engine.until(lambda: rig.engine.closed == [0])
        assert rig.engine.frames == []
        rig.server.finish(0)
        rig.server.send(0, [b""])


async def test_what_follows_a_refusal_is_dropped_and_the_node_serves_on() -> None:
    async with serving() as rig:
        client = await rig.greeted()
        refusal = encode_control(FrameKind.REFUSED, ["protocol", "no"])
        answers = encode_answers([(1, b"x" * 9)])
        rig.server.send(0, [refusal, refusal, answers])
        rig.server.send(0, [answers])
        rig.server.finish(0)
        assert await client.refusal() == ("protocol", "no")
        await rig.greeted()


async def test_an_answer_that_comes_after_the_clients_mistake_is_dropped() -> None:
    async with serving() as rig:
        client = await rig.greeted()
        rig.server._clients[0].protocol.state = State.CLOSED
        rig.server.send(0, [encode_answers([(1, b"x" * 9)])])
        await client.stream.send_all(b"\xff" * 8)
        assert (await client.refusal())[0] == "protocol"
        await rig.greeted()


async def test_a_client_that_reads_nothing_is_taken_from_no_more_until_it_does() -> None:
    async with serving() as rig:
        client = await rig.greeted()
        answer = encode_answers([(1, bytes(1 << 20))])
        for _ in range(20):
            rig.server.send(0, [answer])
        # The node may be waiting for a frame already; the one behind it stays in the socket.
        for number in range(2):
            await client.stream.send_all(encode_requests([(number, 1, b"x")]))
            await trio.testing.wait_all_tasks_blocked(0.02)
        assert len(rig.engine.frames) == 1
        assert UNREAD_BYTES_MAX < 20 << 20
        for _ in range(20):
            assert await client.next() is not None
        await rig.engine.until(lambda: len(rig.engine.frames) == 2)


async def test_stopping_says_goodbye() -> None:
    async with serving() as rig:
        client = await rig.greeted()
        rig.stop()
        found = await client.next()
        assert found is not None
        assert found[0] == FrameKind.GOODBYE
        assert await client.next() is None
        assert rig.engine.closed == [0]


async def test_a_connection_number_is_never_used_twice() -> None:
    async with serving() as rig:
        for number in range(3):
            client = await rig.greeted()
            await client.stream.aclose()
            await rig.engine.until(lambda: len(rig.engine.closed) > number)  # noqa: B023  # at once
        assert rig.engine.closed == [0, 1, 2]
