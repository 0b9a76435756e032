"""A hundred watchers under load, one of them cut off, while a leader is killed and nodes start again: each
of them is told each change once and in order, so all agree entry by entry, with the writers too.

``QUORATE_CUT_SECONDS`` says for how long the one is cut off: 4 unless it does; 60 for the full length.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

import quorate
from tests.cluster.test_reads_any_replica import busiest
from tests.cluster.watcher import Told, watch
from tests.devprocess import environment
from tests.nodeprocess import NAMES, Cluster, a_cluster

pytestmark = pytest.mark.cluster
CUT_SECONDS = float(os.environ.get("QUORATE_CUT_SECONDS", "4"))
CLIENTS = 9
WATCHERS = 11
"""Of each client; the hundredth has a process of its own."""
WRITERS = 4
KEYS = 10
"""Of each writer."""
PAUSE_SECONDS = 0.04
"""Between two changes of a writer."""
MAP = "watched"


class Load:
    """Writers, each with keys of its own, and what they were told."""

    def __init__(self) -> None:
        self.written: list[tuple[int, str, object]] = []
        """Revision, key and value of each change."""
        self.is_over = False

    async def write(self, client: quorate.Client, writer: int) -> None:
        """Changes entries until it is over, then sets each to ``end``."""
        entries = client.map(MAP)
        keys = [f"{writer}-{number}" for number in range(KEYS)]
        number = 0
        while not self.is_over:
            key = keys[number % KEYS]
            self.written.append((await entries.put(key, number), key, number))
            number += 1
            await trio.sleep(PAUSE_SECONDS)
        for key in keys:
            self.written.append((await entries.put(key, "end"), key, "end"))


def by_partition(told: Iterable[Told]) -> dict[int, list[Told]]:
    """Events in the order in which they came, for each partition."""
    found: defaultdict[int, list[Told]] = defaultdict(list)
    for one in told:
        found[one[0]].append(one)
    return dict(found)


@contextmanager
def a_watcher(cluster: Cluster, journal: Path) -> Iterator[subprocess.Popen[str]]:
    """The hundredth, in a process of its own."""
    command = [sys.executable, "-m", "tests.cluster.watcher", cluster.url(), MAP,
               str(WRITERS * KEYS), str(journal)]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


async def restart(cluster: Cluster, name: str) -> None:
    cluster.kill(name)
    cluster.start(name)
    await trio.to_thread.run_sync(partial(cluster.wait_until_ready, name))


async def watch_and_disturb(
    cluster: Cluster, process: subprocess.Popen[str]
) -> tuple[list[list[Told]], Load]:
    load = Load()
    logs: list[list[Told]] = []

    async def follow(client: quorate.Client, started: trio.Event) -> None:
        logs.append(await watch(client, MAP, WRITERS * KEYS, started))

    async def use(number: int, all_started: list[trio.Event]) -> None:
        url = cluster.url(NAMES[number % len(NAMES)])
        async with quorate.connect(url, session_timeout=60) as client, trio.open_nursery() as nursery:
            for started in all_started:
                nursery.start_soon(follow, client, started)

    async with trio.open_nursery() as nursery, quorate.connect(cluster.url(), session_timeout=60) as client:
        started = [[trio.Event() for _ in range(WATCHERS)] for _ in range(CLIENTS)]
        for number in range(CLIENTS):
            nursery.start_soon(use, number, started[number])
        for one in started:
            for other in one:
                await other.wait()
        async with trio.open_nursery() as writers:
            for writer in range(WRITERS):
                writers.start_soon(load.write, client, writer)
            await trio.sleep(1)
            process.send_signal(signal.SIGSTOP)
            await trio.sleep(CUT_SECONDS)
            process.send_signal(signal.SIGCONT)
            await trio.sleep(0.5)
            leader = await busiest(client)
            await restart(cluster, leader)
            await trio.sleep(1)
            await restart(cluster, next(name for name in NAMES if name != leader))
            await trio.sleep(1)
            load.is_over = True
    return logs, load


def test_a_hundred_watchers_agree_entry_by_entry_whatever_is_cut_off_or_killed(tmp_path: Path) -> None:
    journal = tmp_path / "journal"

    async def limited(cluster: Cluster) -> tuple[list[list[Told]], Load]:
        with trio.fail_after(180 + 4 * CUT_SECONDS):
            async with quorate.connect(cluster.url()) as client:
                await client.map(MAP, partitions=4).put("made", 0)
            with a_watcher(cluster, journal) as process:
                assert process.stdout is not None
                assert await trio.to_thread.run_sync(process.stdout.readline) == "watching\n"
                found = await watch_and_disturb(cluster, process)
                assert await trio.to_thread.run_sync(partial(process.wait, 60)) == 0
            return found

    (tmp_path / "nodes").mkdir()
    with a_cluster(tmp_path / "nodes") as cluster:
        logs, load = trio.run(limited, cluster)
    assert len(logs) == CLIENTS * WATCHERS
    first = by_partition(logs[0])
    assert all(kind == "put" for _, _, kind, _, _ in logs[0])
    told = [(revision, key, value) for _, revision, _, key, value in logs[0]]
    assert sorted(told, key=repr) == sorted(load.written, key=repr)
    for events in first.values():
        revisions = [one[1] for one in events]
        assert revisions == sorted(set(revisions)), "in order, and once"
    for log in logs[1:]:
        assert by_partition(log) == first
    cut_off: list[Told] = [tuple(json.loads(line)) for line in journal.read_text().splitlines()]
    assert by_partition(cut_off) == first
