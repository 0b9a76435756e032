"""A whole node in this process: real store, engine and sockets; how it starts, and how it does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from by_hand import FrameStream

from primitives.codec import unpack
from primitives.ids import NodeId
from router.connection import decode_welcome, encode_hello
from router.frames import FrameKind, encode_control
from router.shardmap import ShardMap
from shards.config import NodeConfig, NodeFailed, StartError
from shards.engine import Engine
from shards.node import run_node
from shards.ports import StoreDamaged, StoreFailed
from shards.rocks import RocksStore
from shards.settings import EngineSettings


async def a_port() -> int:
    """A port that is free now."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port: int = listener.socket.getsockname()[1]
    await listener.aclose()
    return port


async def a_config(tmp_path: Path, *, groups: int = 2) -> NodeConfig:
    peer, client = ("127.0.0.1", await a_port()), ("127.0.0.1", await a_port())
    return NodeConfig(
        name="n1", data=tmp_path / "n1", listen=client, peer=peer, advertise=client, cluster={"n1": peer},
        groups=groups, replicas=1, engine=EngineSettings(tick_ms=5),
    )  # fmt: skip


@asynccontextmanager
async def running(config: NodeConfig) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        with trio.fail_after(5):
            node = await nursery.start(run_node, config)
            await node.ready.wait()
        yield
        nursery.cancel_scope.cancel()


async def fails(config: NodeConfig, error: type[Exception]) -> str:
    """The one line with which the node ends."""
    with trio.fail_after(5), pytest.raises(error) as caught:
        await run_node(config)
    text = str(caught.value)
    assert text
    assert "\n" not in text
    return text


class Client(FrameStream):
    """A client by hand, whose node does not hang up."""

    async def must(self) -> tuple[int, bytes]:
        """The next frame."""
        found = await self.next()
        assert found is not None
        return found


@asynccontextmanager
async def connected(config: NodeConfig) -> AsyncIterator[Client]:
    async with await trio.open_tcp_stream(*config.listen) as stream:
        client = Client(stream)
        await stream.send_all(encode_hello("test"))
        yield client


async def the_map(config: NodeConfig) -> ShardMap:
    async with connected(config) as client:
        assert (await client.must())[0] == FrameKind.WELCOME
        await client.stream.send_all(encode_control(FrameKind.MAP_REQUEST, []))
        kind, payload = await client.must()
        assert kind == FrameKind.MAP
        return ShardMap.decode(payload[4 + int.from_bytes(payload[:4], "big") :])


async def test_a_single_node_founds_serves_and_is_the_same_cluster_after_a_restart(tmp_path: Path) -> None:
    config = await a_config(tmp_path)
    async with running(config):
        founded = await the_map(config)
        assert set(founded.groups) == {0, 1, 2}
        assert [node.name for node in founded.nodes.values()] == ["n1"]
    async with running(config):
        again = await the_map(config)
        assert (again.cluster_id, again.salt, again.version) == (
            founded.cluster_id, founded.salt, founded.version,
        )  # fmt: skip


async def test_each_start_has_a_boot_id_of_its_own(tmp_path: Path) -> None:
    config = await a_config(tmp_path)
    boots = set()
    for _ in range(2):
        async with running(config), connected(config) as client:
            boots.add(decode_welcome((await client.must())[1]).boot_id)
    assert len(boots) == 2


async def test_a_new_client_address_gets_into_the_map(tmp_path: Path) -> None:
    config = await a_config(tmp_path)
    async with running(config):
        pass
    moved = replace(config, advertise=("elsewhere", 1234))
    async with running(moved):
        with trio.fail_after(5):
            while (await the_map(moved)).nodes[NodeId(1)].client_address != "elsewhere:1234":
                pass


async def test_stopping_says_goodbye_to_clients(tmp_path: Path) -> None:
    config = await a_config(tmp_path)
    async with running(config):
        stream = await trio.open_tcp_stream(*config.listen)
        client = Client(stream)
        await stream.send_all(encode_hello("test"))
        await client.must()
    kind, payload = await client.must()
    assert kind == FrameKind.GOODBYE
    assert unpack(payload[4:]) == ["the node is stopping"]
    await stream.aclose()


@pytest.mark.parametrize("which", ["listen", "peer"])
async def test_a_port_that_is_taken_is_a_clear_line(tmp_path: Path, which: str) -> None:
    config = await a_config(tmp_path)
    address = config.listen if which == "listen" else config.peer
    [holder] = await trio.open_tcp_listeners(address[1], host="127.0.0.1")
    text = await fails(config, StartError)
    assert text == f"cannot listen at --{which} 127.0.0.1:{address[1]}: address already in use"
    await holder.aclose()
    async with running(config):  # Nothing stays held.
        pass


async def test_a_directory_in_use_is_a_clear_line(tmp_path: Path) -> None:
    config = await a_config(tmp_path)
    async with running(config):
        other = replace(config, listen=("127.0.0.1", await a_port()))
        assert "is open in this process already" in await fails(other, StartError)


async def test_a_directory_of_another_node_is_a_clear_line(tmp_path: Path) -> None:
    config = await a_config(tmp_path)
    async with running(config):
        pass
    other = replace(config, name="n2", cluster={"n2": config.peer})
    assert "is the directory of node 'n1'" in await fails(other, StartError)


async def test_a_formed_node_with_another_list_is_a_clear_line(tmp_path: Path) -> None:
    config = await a_config(tmp_path)
    async with running(config):
        pass
    other = replace(config, cluster={**config.cluster, "n2": ("127.0.0.1", 1)})
    assert "was founded with nodes n1; --cluster lists n1, n2" in await fails(other, StartError)


async def test_a_sync_that_fails_stops_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = await a_config(tmp_path)
    real = RocksStore.sync
    calls = 0

    def sync(store: RocksStore) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise StoreFailed("the sync failed: input/output error")
        real(store)

    monkeypatch.setattr(RocksStore, "sync", sync)
    assert "input/output error" in await fails(config, NodeFailed)


async def test_damage_that_the_engine_finds_is_recorded_and_the_store_never_serves_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = await a_config(tmp_path)
    async with running(config):
        pass
    with monkeypatch.context() as patch:

        def start(engine: object) -> None:
            raise StoreDamaged("an entry is missing")

        patch.setattr(Engine, "start", start)
        assert "an entry is missing" in await fails(config, NodeFailed)
    assert "an entry is missing" in await fails(config, StartError)


async def test_garbage_on_both_ports_leaves_the_node_serving(tmp_path: Path) -> None:
    config = await a_config(tmp_path)
    async with running(config):
        for address in (config.listen, config.peer):
            for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, b""):
                async with await trio.open_tcp_stream(*address) as stream:
                    if garbage:
                        await stream.send_all(garbage)
                        assert await stream.receive_some(1000)
        assert set((await the_map(config)).groups) == {0, 1, 2}
