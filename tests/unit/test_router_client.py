"""The trio client against a model cluster behind real sockets."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from router_model import ModelCluster
from router_server import serving, until

import quorate
from primitives.errors import TooLarge
from primitives.handle import LeaseState, Reference
from primitives.limits import ARGUMENT_BYTES_MAX
from primitives.registry import TYPES
from router.client import Client
from router.client_driver import boottime_ms
from router.session import SessionCore
from router.session_calls import Call


async def test_counters_maps_and_locks_work_through_one_address() -> None:
    async with serving(ModelCluster()) as server, quorate.connect(server.url) as client:
        assert await client.counter("c").add(5) == 5
        assert await client.counter("c").get() == 5
        users = client.map("users")
        revision = await users.put("alice", {"age": 3})
        assert await users.get("alice") == {"age": 3}
        assert await users.replace("alice", {"age": 4}, revision=revision)
        assert await users.get("nobody", "default") == "default"
        await users.put_many({f"k{at}": at for at in range(50)})
        assert await users.get_many(["k1", "k49", "none"]) == {"k1": 1, "k49": 49}
        assert len([item async for item in users.items()]) == 51
        async with client.lock("l") as grant:
            holder = await client.lock("l").holder()
            assert holder is not None and holder.token == grant.token
        assert await client.lock("l").holder() is None


async def test_many_tasks_calls_leave_in_few_frames() -> None:
    cluster = ModelCluster(groups=1)
    async with serving(cluster) as server, quorate.connect(server.url) as client:
        counter = client.counter("c")
        await counter.increment()
        frames, operations = cluster.frames, cluster.operations
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(counter.increment)
        assert await counter.get() == 201
        assert cluster.operations - operations >= 200
        assert cluster.frames - frames <= 5


async def test_calls_on_one_handle_take_effect_in_the_order_started() -> None:
    async with serving(ModelCluster()) as server, quorate.connect(server.url) as client:
        counter = client.counter("c")
        order: list[int] = []
        got: list[int] = []

        async def call(at: int) -> None:
            order.append(at)
            got.append((at, await counter.increment()))  # type: ignore[arg-type]

        async with trio.open_nursery() as nursery:
            for at in range(50):
                nursery.start_soon(call, at)
        sums = dict(got)  # type: ignore[arg-type]
        assert [sums[at] for at in order] == list(range(1, 51))


async def test_a_call_begins_at_the_time_of_its_own_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    command = SessionCore.command

    def noted(core: SessionCore, now_ms: int, *args: Any, **options: Any) -> Call:
        begun.append(now_ms)
        return command(core, now_ms, *args, **options)

    monkeypatch.setattr(SessionCore, "command", noted)
    async with serving(ModelCluster()) as server, quorate.connect(server.url) as client:
        counter = client.counter("c")
        for _ in range(4):
            before_ms = boottime_ms()
            await counter.increment()
            assert before_ms <= begun[-1] <= boottime_ms()
            with pytest.raises(TooLarge):  # A call that is not begun leaves no time behind.
                await client.command(Reference("", "c", counter.TYPE, 0, None), 1, ["x" * ARGUMENT_BYTES_MAX])
            await trio.sleep(0.02)


async def test_lost_connections_are_made_again_silently_and_each_call_counts_once() -> None:
    cluster = ModelCluster()
    async with serving(cluster) as server, quorate.connect(server.url) as client:
        async def work(counter: quorate.Counter) -> None:
            for _ in range(30):
                await counter.increment()

        counters = [client.counter(f"c{at}") for at in range(8)]
        async with trio.open_nursery() as nursery:
            for counter in counters:
                nursery.start_soon(work, counter)
            for _ in range(4):
                await trio.sleep(0.02)
                server.cut()
        assert [await counter.get() for counter in counters] == [30] * 8


async def test_calls_wait_for_a_node_until_their_callers_time_limit() -> None:
    async with quorate.connect("quorate://127.0.0.1:1") as client:
        assert client.session.state == LeaseState.SUSPENDED
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.2):
            await client.counter("c").increment()


async def test_a_cancelled_acquire_leaves_no_waiter_behind() -> None:
    async with serving(ModelCluster()) as server, quorate.connect(server.url) as client:
        async with quorate.connect(server.url) as other, client.lock("l"):
            with trio.move_on_after(0.1) as scope:
                await other.lock("l").acquire()
            assert scope.cancelled_caught
            with trio.fail_after(1):
                assert await other.lock("l").try_acquire() is None
        with trio.fail_after(1):
            assert await client.lock("l").try_acquire() is not None


@pytest.mark.parametrize("waits", [False, True])
async def test_a_grant_that_arrives_as_its_call_is_cancelled_is_given_back(
    monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    async with serving(ModelCluster()) as server, quorate.connect(server.url) as client:
        lock, scopes, received = client.lock("l"), list[trio.CancelScope](), SessionCore.received

        def cancelled_just_before(core: SessionCore, now_ms: int, connection: int, data: bytes) -> None:
            for scope in scopes:
                scope.cancel()
            received(core, now_ms, connection, data)

        monkeypatch.setattr(SessionCore, "received", cancelled_just_before)
        # Ends with an answer, so that the next one is received as above.
        await (await lock.acquire()).release()
        with trio.CancelScope() as scope:
            scopes.append(scope)
            await (lock.acquire() if waits else lock.try_acquire())
        assert scope.cancelled_caught
        assert await lock.holder() is None


async def test_cancelling_the_whole_client_leaves_no_waiter_behind() -> None:
    async with serving(ModelCluster()) as server, quorate.connect(server.url) as client:
        grant = await client.lock("l").acquire()
        with trio.move_on_after(0.2) as scope:
            async with quorate.connect(server.url) as other:
                await other.lock("l").acquire()
        assert scope.cancelled_caught
        await grant.release()
        with trio.fail_after(1):
            assert await client.lock("l").try_acquire() is not None


async def test_waiting_locks_are_handed_on_between_clients() -> None:
    async with serving(ModelCluster()) as server:
        tokens: list[int] = []
        inside = 0

        async def contend() -> None:
            nonlocal inside
            async with quorate.connect(server.url) as client:
                for _ in range(5):
                    async with client.lock("l") as grant:
                        inside += 1
                        assert inside == 1
                        tokens.append(grant.token)
                        await trio.lowlevel.checkpoint()
                        inside -= 1

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(contend)
        assert tokens == sorted(tokens) and len(set(tokens)) == 25


async def test_the_block_under_a_lock_is_cancelled_when_the_lease_is_lost() -> None:
    async with serving(ModelCluster()) as server, quorate.connect(server.url, session_timeout=0.5) as client:
        states: list[str] = []

        async def watch() -> None:
            async for state in client.session.states():
                states.append(state)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            with pytest.raises(quorate.SessionLost), trio.fail_after(3):
                async with client.lock("l") as grant:
                    assert grant.state == LeaseState.CONNECTED
                    assert 0 < grant.remaining() <= 0.5
                    await server.stop_listening()
                    server.cut()
                    await trio.sleep_forever()
            assert grant.state == LeaseState.LOST
            assert grant.remaining() == 0
            nursery.cancel_scope.cancel()
        assert LeaseState.SUSPENDED in states
        assert LeaseState.LOST in states


async def test_keepalives_hold_a_lock_for_longer_than_the_sessions_timeout() -> None:
    async with (
        serving(ModelCluster()) as server,
        quorate.connect(server.url, session_timeout=0.5) as client,
        client.lock("l") as grant,
    ):
        await trio.sleep(1.5)
        assert grant.state == LeaseState.CONNECTED


async def test_leaving_lets_go_what_is_held() -> None:
    cluster = ModelCluster()
    async with serving(cluster) as server:
        async with quorate.connect(server.url) as client:
            await client.lock("l").acquire()
            assert any(group.applier.sessions for group in cluster.groups.values())
        assert not any(group.applier.sessions for group in cluster.groups.values())


async def test_what_the_block_raises_comes_out_as_it_is() -> None:
    async with serving(ModelCluster()) as server:
        with pytest.raises(KeyError, match="mine"):
            async with quorate.connect(server.url) as client:
                await client.counter("c").increment()
                raise KeyError("mine")


async def test_a_call_after_the_end_is_refused() -> None:
    async with serving(ModelCluster()) as server:
        async with quorate.connect(server.url) as client:
            await client.counter("c").increment()
        with pytest.raises(quorate.Unavailable):
            await client.counter("c").increment()


async def test_calls_that_wait_at_the_end_get_an_error() -> None:
    cluster = ModelCluster()
    async with serving(cluster) as server, trio.open_nursery() as nursery:
        errors: list[BaseException] = []

        async def wait(client: Client) -> None:
            try:
                await client.lock("l").acquire()
            except quorate.QuorateError as error:
                errors.append(error)

        async with quorate.connect(server.url) as other, other.lock("l"):
            async with quorate.connect(server.url) as client:
                nursery.start_soon(wait, client)
                await until(lambda: any(group.late for group in cluster.groups.values()))
            await until(lambda: errors)
        assert isinstance(errors[0], quorate.SessionLost | quorate.OutcomeUnknown)


async def test_a_server_that_speaks_something_else_is_an_error_of_the_call() -> None:
    async def speak(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, speak, 0)
        port = listeners[0].socket.getsockname()[1]
        async with quorate.connect(f"quorate://localhost:{port}") as client:
            with pytest.raises(quorate.ProtocolError), trio.fail_after(3):
                await client.counter("c").increment()
        nursery.cancel_scope.cancel()


async def test_status_is_that_of_a_connected_node() -> None:
    async with serving(ModelCluster()) as server, quorate.connect(server.url) as client:
        assert await client.status() == {"node": 1, "hashes": False}
        assert (await client.status(hashes=True))["hashes"] is True


async def test_a_name_of_another_type_is_refused() -> None:
    async with serving(ModelCluster()) as server, quorate.connect(server.url) as client:
        await client.counter("x").increment()
        with pytest.raises(quorate.TypeMismatch):
            await client.map("x").put("a", 1)
        with pytest.raises(quorate.ConfigMismatch):
            await client.map("m").put("a", 1)
            await client.map("m", pinned=True).put("a", 1)


def test_every_registered_type_has_an_opener() -> None:
    for entry in TYPES:
        assert callable(getattr(Client, entry.name))


@pytest.mark.parametrize("timeout", [0.1, 10_000.0])
def test_a_session_timeout_out_of_range_is_refused_at_once(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        quorate.connect("quorate://localhost", session_timeout=timeout)
