"""A counter that tasks increment through every node, while the leaders of its group are killed in turn."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio

import quorate
from tests.nodeprocess import NAMES, Cluster, a_cluster

pytestmark = pytest.mark.cluster
TASKS = 64
TIMES = 200
KILLS = 5
SESSION_SECONDS = 60.0


async def leader(client: quorate.Client, group: int) -> str | None:
    """The node that leads a group, as some node sees it."""
    with trio.move_on_after(1):
        told = await client.status()
        (found,) = [one["leader"] for one in told["groups"] if one["group"] == group]
        return None if found is None else NAMES[found - 1]
    return None


async def group_of_counter(client: quorate.Client) -> int:
    """The group that logs increments of the counter: the one whose revision they raise."""

    async def revisions() -> dict[int, int]:
        return {one["group"]: one["revision"] for one in (await client.status())["groups"]}

    counter = client.counter("visits")
    await counter.get()
    before = await revisions()
    found: set[int] = set()
    while not found:
        await counter.add(0)
        found = {group for group, revision in (await revisions()).items() if revision > before[group] + 5}
    (group,) = found
    return group


async def count_while_leaders_die(cluster: Cluster) -> list[str]:
    """The counter is exact; the nodes that were killed, each while it led."""
    killed: list[str] = []
    done = 0

    async def count(client: quorate.Client) -> None:
        nonlocal done
        counter = client.counter("visits")
        for _ in range(TIMES):
            await counter.increment()
            done += 1

    async def through(name: str, tasks: int) -> None:
        async with (
            quorate.connect(cluster.url(name), session_timeout=SESSION_SECONDS) as client,
            trio.open_nursery() as nursery,
        ):
            for _ in range(tasks):
                nursery.start_soon(count, client)

    async with quorate.connect(cluster.url()) as watcher:
        group = await group_of_counter(watcher)
        async with trio.open_nursery() as nursery:
            for number, name in enumerate(NAMES):
                nursery.start_soon(through, name, TASKS // 3 + (number < TASKS % 3))
            for kill in range(1, KILLS + 1):
                while done < kill * TASKS * TIMES // (KILLS + 1):
                    await trio.sleep(0.01)
                while (found := await leader(watcher, group)) is None:
                    await trio.sleep(0.01)
                cluster.kill(found)
                killed.append(found)
                cluster.start(found)
                await trio.to_thread.run_sync(partial(cluster.wait_until_ready, found))
        assert await watcher.counter("visits").get() == TASKS * TIMES
    return killed


def test_increments_through_all_nodes_count_once_each_while_leaders_die(tmp_path: Path) -> None:
    async def limited(cluster: Cluster) -> list[str]:
        with trio.fail_after(120):
            return await count_while_leaders_die(cluster)

    with a_cluster(tmp_path) as cluster:
        killed = trio.run(limited, cluster)
        assert len(killed) == KILLS
        assert len(set(killed)) > 1
