"""Full members of a cluster inside this process: founding, serving, leaving, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

import quorate
from router import client_driver
from shards.ports import StoreFailed
from shards.rocks import RocksStore
from tests.devprocess import free_port

NAMES = ("n1", "n2", "n3")


def configs(tmp_path: Path, *names: str, groups: int = 3) -> dict[str, quorate.ReplicaConfig]:
    port = free_port(len(names))
    cluster = {name: f"127.0.0.1:{port + 100 + at}" for at, name in enumerate(names)}
    return {
        name: quorate.ReplicaConfig(
            name=name, data=tmp_path / name, listen=f"127.0.0.1:{port + at}", cluster=cluster, groups=groups
        )
        for at, name in enumerate(names)
    }


@asynccontextmanager
async def members(chosen: dict[str, quorate.ReplicaConfig]) -> AsyncIterator[dict[str, quorate.Replica]]:
    """All of them, ready."""
    async with AsyncExitStack() as stack:
        found = {name: await stack.enter_async_context(quorate.Replica(one)) for name, one in chosen.items()}
        with trio.fail_after(20):
            for replica in found.values():
                await replica.ready()
        yield found


async def test_three_in_one_process_found_a_cluster_and_all_serve(tmp_path: Path) -> None:
    async with members(configs(tmp_path, *NAMES)) as replicas:
        for at, replica in enumerate(replicas.values(), start=1):
            async with replica.client() as client:
                with trio.fail_after(10):
                    assert await client.counter("c").increment() == at
                    assert (await client.status())["node"] == at


async def test_the_others_go_on_without_one_that_left_and_it_comes_back(tmp_path: Path) -> None:
    chosen = configs(tmp_path, *NAMES)
    first = {"n1": chosen.pop("n1")}
    leave, left = trio.Event(), trio.Event()

    async def one() -> None:
        async with quorate.Replica(first["n1"]):
            await leave.wait()
        left.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one)
        async with members(chosen) as replicas, replicas["n2"].client() as client:
            with trio.fail_after(20):
                counters = [client.counter(f"c{at}") for at in range(6)]
                for counter in counters:
                    await counter.increment()
                leave.set()
                await left.wait()
                for counter in counters:
                    assert await counter.increment() == 2
                async with members(first) as again, again["n1"].client() as mine:
                    assert await mine.counter("c0").get() == 2


async def test_a_client_of_ones_own_replica_takes_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialled: list[str] = []
    dial = client_driver.dial_tcp

    async def seen(address: str) -> Any:
        dialled.append(address)
        return await dial(address)

    monkeypatch.setattr("shards.embedding.dial_tcp", seen)
    chosen = configs(tmp_path, *NAMES)
    async with members(chosen) as replicas, replicas["n2"].client() as client:
        with trio.fail_after(10):
            for at in range(20):
                await client.counter(f"c{at}").increment()
    others = {one.listen for name, one in chosen.items() if name != "n2"}
    assert set(dialled) == others, "its own node was dialled, or groups that others lead were asked nowhere"


async def test_it_waits_for_the_others_without_blocking_and_can_be_left_before(tmp_path: Path) -> None:
    config = configs(tmp_path, *NAMES)["n1"]
    async with quorate.Replica(config) as replica, replica.client() as client:
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.3):
            await replica.ready()
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.3):
            await client.counter("c").increment()


async def test_a_file_configures_it_and_reaches_it_from_outside(tmp_path: Path) -> None:
    port = free_port(1)
    file = tmp_path / "n1.toml"
    file.write_text(
        f'name = "n1"\ndata = "{tmp_path}/data"\nlisten = "127.0.0.1:{port}"\ngroups = 2\n'
        f'cluster = "n1=127.0.0.1:{port + 100}"\n'
    )
    async with quorate.Replica(file) as replica:
        with trio.fail_after(10):
            await replica.ready()
            async with quorate.connect(f"quorate://127.0.0.1:{port}") as client:
                assert await client.counter("c").increment() == 1
            async with replica.client(namespace="other") as client:
                assert await client.counter("c").get() == 0
    assert replica.name == "n1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "-"}, "not a node's name"),
        ({"name": "n9"}, "lists n1, but this node is n9"),
        ({"listen": "127.0.0.1"}, "expected HOST:PORT"),
        ({"listen": "0.0.0.0:7400"}, "not encrypted"),
        ({"groups": 0}, "1 to 4096"),
        ({"replicas": 2}, "1 to 1"),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_a_value_error(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    config = configs(tmp_path, "n1")["n1"]
    with pytest.raises(ValueError, match=said):
        quorate.Replica(replace(config, **change))
    with pytest.raises(ValueError, match="cannot read"):
        quorate.Replica(tmp_path / "none.toml")


async def test_a_directory_or_port_that_is_taken_is_a_start_error(tmp_path: Path) -> None:
    config = configs(tmp_path, "n1")["n1"]
    async with members({"n1": config}):
        with pytest.raises(quorate.DirectoryInUse, match="open in this process"):
            async with quorate.Replica(config):
                raise AssertionError("opened twice")
        with pytest.raises(quorate.StartError, match="cannot listen at --listen"):
            async with quorate.Replica(replace(config, data=tmp_path / "other")):
                raise AssertionError("listens twice")


async def test_it_is_entered_once_and_asked_inside_its_block(tmp_path: Path) -> None:
    replica = quorate.Replica(configs(tmp_path, "n1")["n1"])
    with pytest.raises(RuntimeError, match="does not run"):
        replica.client()
    async with replica:
        pass
    with pytest.raises(RuntimeError, match="entered once"):
        async with replica:
            raise AssertionError("entered again")


class OwnError(Exception):
    """Of the block."""


async def test_what_the_block_raises_comes_out_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(OwnError, match="mine"):
        async with quorate.Replica(configs(tmp_path, "n1")["n1"]):
            raise OwnError("mine")


async def test_a_store_that_fails_cancels_the_block_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(store: RocksStore) -> None:
        raise StoreFailed("the sync failed: input/output error")

    with pytest.raises(quorate.NodeFailed, match="input/output error"):
        async with members(configs(tmp_path, "n1")) as replicas, replicas["n1"].client() as client:
            await client.counter("c").increment()
            monkeypatch.setattr(RocksStore, "sync", fail)
            with trio.fail_after(5):
                await client.counter("c").increment()
            raise AssertionError("a call was acknowledged though nothing is synced")


async def test_a_founder_with_another_list_ends_the_younger_block(tmp_path: Path) -> None:
    chosen = configs(tmp_path, "n1", "n2")
    ended: list[str] = []
    one_ended = trio.Event()

    async def live(config: quorate.ReplicaConfig) -> None:
        try:
            async with quorate.Replica(config):
                await trio.sleep_forever()
        except quorate.StartError as error:
            ended.append(str(error))
            one_ended.set()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(live, chosen["n1"])
            await trio.sleep(0.2)
            nursery.start_soon(live, replace(chosen["n2"], groups=7))
            await one_ended.wait()
            nursery.cancel_scope.cancel()
    assert "the founding nodes must agree: n1 has --groups 3, n2 has --groups 7" in ended[0]


async def test_logs_stay_as_the_program_has_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with members(configs(tmp_path, "n1")):
        assert not structlog.is_configured()
    assert capsys.readouterr() == ("", "")
