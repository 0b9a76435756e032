"""What nodes take that nobody asks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from bench.growth.asked import Asked
from bench.growth.results import Idle
from bench.runs.sampling import resident_mb, spent
from bench.runs.scratch import a_cluster, a_directory, say

SETTLES_S: Final = 5.0
"""A cluster that serves still settles, for no longer than this, nor than it is watched."""


def measure(asked: Asked) -> Iterator[Idle]:
    """With few and with many groups, each on a fresh cluster. Raises RuntimeError if it does not serve."""
    for groups in asked.idle_groups:
        yield _measure(asked, groups)


def _measure(asked: Asked, groups: int) -> Idle:
    say(f"idle: {asked.nodes} nodes with {groups} groups for {asked.idle_seconds:g} s")
    with a_directory(asked.data) as directory, a_cluster(directory, asked.nodes, groups) as cluster:
        time.sleep(min(SETTLES_S, asked.idle_seconds))
        pids = cluster.pids
        before, began = [spent(pid).cpu_seconds for pid in pids], time.monotonic()
        time.sleep(asked.idle_seconds)
        after, took = [spent(pid).cpu_seconds for pid in pids], time.monotonic() - began
        return Idle(
            groups=groups, seconds=took, resident_mb=[resident_mb(pid) for pid in pids],
            cpu_percent=[100 * (end - start) / took for start, end in zip(before, after, strict=True)],
        )  # fmt: skip
