"""``quorate bench run`` on real nodes, for a moment, and every load that it can ask for."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import trio

from bench.runs import fanout
from bench.runs.embedded_subject import QUORATE_EMBEDDED
from bench.runs.loader import WORKLOADS, measure
from bench.runs.operations import ENTRIES, entries, prepare
from bench.runs.quorate_subject import QUORATE
from bench.runs.recording import LoaderArguments
from bench.runs.results import Load, Shape, read
from router.client import connect
from tests.devprocess import Dev, environment, quorate

pytestmark = pytest.mark.cluster

NOT_HERE = {"fanout", "recovery"}
"""Workloads that have tests of their own below."""


def asked(dev: Dev, workload: str, rate: float | None = None) -> LoaderArguments:
    shape = Shape(workload=workload, callers=4, keys=20, rate=rate)
    return LoaderArguments(target=dev.url, shape=shape, seconds=0.3, warm_up=0.05)


@pytest.mark.parametrize("workload", [name for name in WORKLOADS if name not in NOT_HERE])
async def test_every_load_is_answered_without_an_error(dev: Dev, workload: str) -> None:
    begun: list[None] = []
    load = await measure(asked(dev, workload), lambda: begun.append(None))
    assert load.operations > 0
    assert load.errors == 0
    assert begun == [None]


async def test_with_many_groups_entries_are_spread_over_nearly_all_of_them(dev: Dev) -> None:
    shape = Shape(workload="write", callers=1, groups=64, keys=500)
    name = f"{ENTRIES}-256"
    async with connect(dev.url) as client:
        with trio.fail_after(60):
            await prepare(client, shape)
        assert [one.partitions async for one in client.primitives(name)] == [256]
        assert await entries(client, shape).size() == 500


async def test_at_a_rate_as_many_calls_are_made_as_were_due(dev: Dev) -> None:
    load = await measure(asked(dev, "mixed", rate=100.0), lambda: None)
    assert load.operations == 30
    assert load.seconds >= 0.29


async def test_every_change_reaches_every_watcher_once(dev: Dev) -> None:
    shape = Shape(workload="fanout", callers=2)
    load = await fanout.measure(dev.url, shape, 0.05, 0.3, lambda: None, watchers=30)
    assert load.operations > 0
    assert load.operations == pytest.approx(30 * load.extra["writes_per_s"] * load.seconds)


def test_a_run_keeps_what_a_cluster_was_measured_at_while_a_node_was_killed(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    done = quorate(
        "bench", "run", "--subjects", "quorate", "--workloads", "write,recovery", "--callers", "4",
        "--groups", "2", "--seconds", "1s", "--warm-up", "100ms", "--output", str(file),
        "--data", str(tmp_path), timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"quorate: the results are in {file}" in done.stderr
    assert "write" in done.stdout
    found = read(file)
    assert found.failed == []
    assert found.command.startswith("quorate bench run --subjects quorate --workloads write,recovery")
    assert [one.name for one in found.subjects] == ["quorate"]
    write, recovery = found.measurements
    assert write.shape == Shape(workload="write", callers=4, groups=2)
    assert (write.load.errors, recovery.load.errors) == (0, 0)
    assert write.load.operations > 10
    assert write.cost is not None
    assert write.cost.cpu_seconds > 0
    assert [megabytes > 20 for megabytes in write.cost.resident_mb] == [True] * 3
    assert write.cost.syncs is not None
    assert write.cost.syncs > write.load.operations / 8, "four share a sync, which two nodes have to do"
    assert write.cost.written_bytes is not None
    assert write.cost.written_bytes > 128 * write.load.operations
    assert recovery.cost is None
    assert 0 < recovery.load.extra["gap_s"] < 30
    assert 0 < recovery.load.extra["serving_s"] < 60
    assert [entry.name for entry in tmp_path.iterdir()] == [file.name], "clusters leave nothing behind"


async def test_the_same_load_runs_on_a_node_within_the_process(tmp_path: Path) -> None:
    cluster = QUORATE_EMBEDDED.start(tmp_path, 3, 2)
    for workload in ("write", "read"):
        shape = Shape(workload=workload, callers=4, groups=2, keys=20)
        command = QUORATE_EMBEDDED.load(cluster, shape, 0.2, 0.05)
        done = await trio.run_process(command, capture_stdout=True, env=environment())
        assert msgspec.json.decode(done.stdout.splitlines()[-1], type=Load).operations > 10


def test_a_cluster_that_does_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(RuntimeError, match=r"quorate dev ended instead of serving: quorate: .*data"):
        QUORATE.start(tmp_path, 1, 2)


async def test_a_load_on_nothing_says_so_and_ends(dev: Dev) -> None:
    wrong = LoaderArguments(
        target=dev.url, shape=Shape(workload="recovery", callers=1), seconds=0.1, warm_up=0.0, pids=(1, 2)
    )
    with pytest.raises(ValueError, match="1 nodes have 2 processes: --pids is needed"), trio.fail_after(20):
        await measure(wrong, lambda: None)
