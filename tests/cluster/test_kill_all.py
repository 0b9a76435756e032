"""All nodes killed with -9 at once, in the middle of a load: what was acknowledged is there, once."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

import quorate
from tests.nodeprocess import NAMES, Cluster, a_cluster

pytestmark = pytest.mark.cluster
SESSION_SECONDS = 60.0
"""Outlasts the time for which no node is there, even on a busy machine, so that every call completes."""
IMPATIENT_SECONDS = 0.25
"""Less than a restart takes: these calls end without knowing."""


class Load:
    """Tasks that write until they are told to stop, and what they know of their writes."""

    def __init__(self, client: quorate.Client) -> None:
        self.patient = client.counter("patient")
        self.impatient = client.counter("impatient")
        self.entries = client.map("entries")
        self.increments = 0
        self.acknowledged = 0
        self.unknown = 0
        self.written: dict[str, int] = {}
        self.attempted: dict[str, int] = {}
        self.stopping = False

    @property
    def writes(self) -> int:
        """Acknowledged."""
        return self.increments + self.acknowledged + len(self.written)

    async def count(self) -> None:
        """Increments that are waited for."""
        while not self.stopping:
            await self.patient.increment()
            self.increments += 1

    async def count_impatiently(self) -> None:
        """Increments with a short time limit."""
        while not self.stopping:
            with trio.move_on_after(IMPATIENT_SECONDS) as limit:
                await self.impatient.increment()
                self.acknowledged += 1
            # An answer may come together with the limit: then it counts as both.
            self.unknown += limit.cancelled_caught

    async def put(self, task: int) -> None:
        """Entries, of which each third is written twice."""
        number = 0
        while not self.stopping:
            number += 1
            key = f"{task}/{number - (number % 3 == 0)}"
            self.attempted[key] = number
            await self.entries.put(key, number)
            self.written[key] = number

    async def check(self) -> None:
        """That everything is as the tasks know it."""
        assert await self.patient.get() == self.increments
        value = await self.impatient.get()
        assert self.acknowledged <= value <= self.acknowledged + self.unknown
        found = {key: value async for key, value in self.entries.items()}
        assert found == self.written


async def load_while_all_are_killed(cluster: Cluster) -> Load:
    """Writes on; all nodes are killed and started again twice."""
    async with quorate.connect(cluster.url(), session_timeout=SESSION_SECONDS) as client:
        load = Load(client)
        with trio.fail_after(120):
            async with trio.open_nursery() as tasks:
                for task in range(16):
                    tasks.start_soon(load.count)
                    tasks.start_soon(load.count_impatiently)
                    tasks.start_soon(load.put, task)
                for _ in range(2):
                    await until(load, load.writes + 1500)
                    cluster.kill(*NAMES)
                    silent = load.writes
                    await until_unknown(load, load.unknown + 1)
                    assert load.writes <= silent + 48
                    cluster.start(*NAMES)
                await until(load, load.writes + 1500)
                load.stopping = True
            await load.check()
        return load


async def until(load: Load, writes: int) -> None:
    while load.writes < writes:
        await trio.sleep(0.01)


async def until_unknown(load: Load, unknown: int) -> None:
    while load.unknown < unknown:
        await trio.sleep(0.01)


def test_acknowledged_writes_survive_the_death_of_all_and_no_increment_counts_twice(tmp_path: Path) -> None:
    with a_cluster(tmp_path) as cluster:
        load = trio.run(load_while_all_are_killed, cluster)
        assert load.unknown > 0
        cluster.wait_until_ready(*NAMES)
        # Once more from the disks alone, by a client that knows nothing.
        cluster.kill(*NAMES)
        cluster.start(*NAMES)
        cluster.wait_until_ready(*NAMES)
        trio.run(check_anew, cluster, load)
        assert cluster.status("--hashes", name="n1")["hashes_missing"] == []


async def check_anew(cluster: Cluster, load: Load) -> None:
    async with quorate.connect(cluster.url()) as client:
        load.patient = client.counter("patient")
        load.impatient = client.counter("impatient")
        load.entries = client.map("entries")
        with trio.fail_after(60):
            await load.check()
