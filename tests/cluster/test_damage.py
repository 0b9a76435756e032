"""A node whose log was damaged, or whose directory was wiped: it does not come back, and nothing is lost."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio

import quorate
from tests.devprocess import quorate as command
from tests.nodeprocess import NAMES, Cluster, a_cluster

pytestmark = pytest.mark.cluster
WAL_BYTES_MIN = 100_000
"""Of the log when a bit is flipped in its middle."""
TASKS = 32


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with a_cluster(tmp_path) as running:
        yield running


class Load:
    """What was acknowledged."""

    def __init__(self) -> None:
        self.written: dict[str, int] = {}
        self.increments = 0

    async def write(self, client: quorate.Client, task: int) -> None:
        entries, counter = client.map("entries"), client.counter("increments")
        number = len(self.written)
        while True:
            number += 1
            key = f"{task}/{number}"
            await entries.put(key, number)
            self.written[key] = number
            await counter.increment()
            self.increments += 1

    async def check(self, client: quorate.Client) -> None:
        """Everything that was acknowledged is there, and no more than one call of each task beyond it."""
        found = {key: value async for key, value in client.map("entries").items()}
        assert self.written.items() <= found.items()
        assert len(found) <= len(self.written) + TASKS
        assert self.increments <= await client.counter("increments").get() <= self.increments + TASKS


async def during_load(cluster: Cluster, load: Load, do: Callable[[], Awaitable[None]]) -> None:
    """Runs ``do`` while tasks write, sees that writing goes on after it, and checks all that is there."""
    async with quorate.connect(cluster.url()) as client:
        with trio.fail_after(90):
            async with trio.open_nursery() as tasks:
                for task in range(TASKS):
                    tasks.start_soon(load.write, client, task)
                await do()
                acknowledged = len(load.written)
                while len(load.written) < acknowledged + 500:
                    await trio.sleep(0.01)
                tasks.cancel_scope.cancel()
        await load.check(client)


def wal(directory: Path) -> Path:
    """The node's current log."""
    return max((directory / "rocks").glob("*.log"), key=lambda path: int(path.stem))


def flip_a_bit_in_the_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    used = len(data.rstrip(b"\0"))
    assert used >= WAL_BYTES_MIN
    data[used // 2] ^= 0x10
    path.write_bytes(data)


def test_a_flipped_bit_in_the_log_is_refused_for_good_and_the_others_go_on(cluster: Cluster) -> None:
    load = Load()

    async def damage() -> None:
        while wal(cluster.directory("n3")).stat().st_size < WAL_BYTES_MIN or not load.written:
            await trio.sleep(0.01)
        cluster.kill("n3")
        flip_a_bit_in_the_middle(wal(cluster.directory("n3")))
        cluster.start("n3")
        said = await trio.to_thread.run_sync(cluster.refused, "n3")
        assert str(cluster.directory("n3")) in said
        assert "damaged" in said
        cluster.start("n3")
        assert await trio.to_thread.run_sync(cluster.refused, "n3") == said

    trio.run(during_load, cluster, load, damage)
    no_help_for_a_lone_node(cluster, load, "damaged")


def test_a_wiped_node_is_refused_and_the_others_go_on(cluster: Cluster) -> None:
    load = Load()

    async def wipe() -> None:
        while len(load.written) < 500:
            await trio.sleep(0.01)
        cluster.kill("n3")
        shutil.rmtree(cluster.directory("n3"))
        for _ in range(2):
            cluster.start("n3")
            said = await trio.to_thread.run_sync(cluster.refused, "n3")
            assert "n3" in said
            assert "by another store" in said

    trio.run(during_load, cluster, load, wipe)
    shutil.rmtree(cluster.directory("n3"))
    no_help_for_a_lone_node(cluster, load, "n3")


def no_help_for_a_lone_node(cluster: Cluster, load: Load, says: str) -> None:
    """One node of three, and a node that must not vote again: no leader, so no write. With the other one
    back, all is there."""
    cluster.kill("n2")
    cluster.kill("n1")
    cluster.start("n1")
    cluster.start("n3")
    assert says in cluster.refused("n3")
    done = command("counter", "add", "alone", "--timeout", "2s", url=cluster.url("n1"))
    assert done.returncode in (5, 6), done
    cluster.start("n2")
    cluster.wait_until_ready("n1", "n2")

    async def check() -> None:
        async with quorate.connect(cluster.url("n1", "n2")) as client:
            with trio.fail_after(60):
                await load.check(client)
                await client.counter("alone").increment()

    trio.run(check)
    assert {node["name"]: node["connected"] for node in cluster.status(name="n1")["nodes"]} == {
        name: name != "n3" for name in NAMES
    }
