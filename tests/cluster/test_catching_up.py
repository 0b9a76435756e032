"""A node that was stopped while the others went on catches up by snapshot; the others stop for nothing."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import quorate
from tests.nodeprocess import Cluster, a_cluster

pytestmark = pytest.mark.cluster
ENTRIES = 20_000
CALLERS = 128
VALUE = "x" * 1200


async def write(cluster: Cluster, *names: str) -> None:
    """``ENTRIES`` entries of a map, through these nodes."""
    async with quorate.connect(cluster.url(*names)) as client:
        words = client.map("words")
        numbers = iter(range(ENTRIES))

        async def call() -> None:
            for number in numbers:
                await words.put(f"key-{number % 5000}", f"{number} {VALUE}")

        async with trio.open_nursery() as nursery:
            for _ in range(CALLERS):
                nursery.start_soon(call)


async def installed(cluster: Cluster, name: str) -> int:
    """Snapshots that a node has installed since its start."""
    async with quorate.connect(cluster.url(name)) as client:
        told: dict[str, Any] = await client.status()
        found: int = told["snapshots"]["installed"]
        return found


async def is_cut(cluster: Cluster, *names: str) -> bool:
    """Whether nobody has the beginning of the data group's log any more: who lacks it needs a snapshot."""
    firsts = []
    for name in names:
        async with quorate.connect(cluster.url(name)) as client:
            told: dict[str, Any] = await client.status()
            firsts += [group["first"] for group in told["groups"] if group["group"] == 1]
    return min(firsts) > 1


async def stop_and_catch_up(cluster: Cluster) -> int:
    cluster.kill("n3")
    with trio.fail_after(60):
        while not await is_cut(cluster, "n1", "n2"):
            await write(cluster, "n1", "n2")
    cluster.start("n3")
    await trio.to_thread.run_sync(partial(cluster.wait_until_ready, "n3"))
    with trio.fail_after(60):
        while not await installed(cluster, "n3"):
            await trio.sleep(0.1)
    return await installed(cluster, "n3")


def hashes_agree(told: dict[str, Any]) -> bool:
    """Whether all replicas told a hash, and those of a group the same."""
    by_group: dict[int, set[tuple[int, str]]] = {}
    for one in told["hashes"]:
        by_group.setdefault(one["group"], set()).add((one["revision"], one["hash"]))
    return told["hashes_missing"] == [] and all(len(found) == 1 for found in by_group.values())


def test_a_node_that_was_stopped_for_long_catches_up_by_snapshot_and_states_are_equal(tmp_path: Path) -> None:
    with a_cluster(tmp_path, groups=1) as cluster:
        assert trio.run(stop_and_catch_up, cluster) >= 1
        told = cluster.status("--hashes", name="n3")
        assert hashes_agree(told), json.dumps(told["hashes"])
        cluster.kill("n3")
        cluster.start("n3")
        cluster.wait_until_ready("n3")
        assert hashes_agree(cluster.status("--hashes", name="n3"))
