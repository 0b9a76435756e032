"""Clients that read from whichever replica they like, and writers, while leaders are killed in turn: for none
of them does time go back.

``QUORATE_READS`` sets how many reads are checked: 4,000 unless it does; 100,000 for the full count.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import trio

import quorate
from bench.ground import TrioGround
from bench.workloads_reads import ReadWorkload
from tests.nodeprocess import NAMES, Cluster, a_cluster

pytestmark = pytest.mark.cluster
READS = int(os.environ.get("QUORATE_READS", "4000"))
CLIENTS = 6
CALLERS = 8
"""Of each client."""
KILLS = 4 if READS < 20_000 else 20


async def busiest(client: quorate.Client) -> str:
    """The node that leads most groups, as some node sees it."""
    while True:
        with trio.move_on_after(2):
            told = await client.status()
            leaders = Counter(one["leader"] for one in told["groups"] if one["leader"] is not None)
            if leaders:
                return NAMES[leaders.most_common(1)[0][0] - 1]
        await trio.sleep(0.05)


async def read_while_leaders_die(cluster: Cluster) -> tuple[ReadWorkload, list[str]]:
    """The workload, with its checks done, and the nodes that were killed."""
    workload = ReadWorkload()
    killed: list[str] = []

    async def call(client: quorate.Client, number: int) -> None:
        ground = TrioGround(random.Random(number))
        while workload.reads < READS:
            await workload.call(client, ground)

    async def use(number: int) -> None:
        async with (
            quorate.connect(cluster.url(NAMES[number % len(NAMES)]), session_timeout=60) as client,
            trio.open_nursery() as nursery,
        ):
            for caller in range(CALLERS):
                nursery.start_soon(call, client, number * CALLERS + caller)

    async with quorate.connect(cluster.url()) as watcher, trio.open_nursery() as nursery:
        for number in range(CLIENTS):
            nursery.start_soon(use, number)
        for kill in range(1, KILLS + 1):
            while workload.reads < kill * READS // (KILLS + 1):
                await trio.sleep(0.01)
            name = await busiest(watcher)
            cluster.kill(name)
            killed.append(name)
            cluster.start(name)
            await trio.to_thread.run_sync(partial(cluster.wait_until_ready, name))
    async with quorate.connect(cluster.url()) as client:
        await workload.finish(client, TrioGround(random.Random(0)))
    return workload, killed


def test_time_never_goes_back_for_a_client_whichever_replica_answers(tmp_path: Path) -> None:
    async def limited(cluster: Cluster) -> tuple[ReadWorkload, list[str]]:
        with trio.fail_after(120 + READS / 100):
            return await read_while_leaders_die(cluster)

    with a_cluster(tmp_path) as cluster:
        workload, killed = trio.run(limited, cluster)
        assert workload.reads >= READS
        assert len(killed) == KILLS
