"""Peers as the harness sees them: what they can do, how they are loaded, and a second of load on each."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from bench.peers import SUBJECTS
from bench.peers.native_programs import ETCD_NATIVE_WORKLOADS, ZOOKEEPER_NATIVE_WORKLOADS, options
from bench.processes.nodes import environment
from bench.runs.recording import BEGUN, LoaderArguments
from bench.runs.results import Load, Shape
from bench.runs.subjects import Subject
from bench.runs.workloads import WORKLOADS

NATIVE = Path(__file__).resolve().parents[2] / "bench" / "peers" / "native"
BY_NAME = {subject.name: subject for subject in SUBJECTS}
SYNCING = ("etcd", "etcd-native", "zookeeper", "zookeeper-native", "floor")


class Running:
    """A cluster that somebody else started."""

    pids = (7, 8)
    target = "127.0.0.1:1,127.0.0.1:2"

    def stop(self) -> None:
        raise AssertionError("it is not ours")


def test_names_are_unique_and_workloads_are_the_harness_s() -> None:
    assert len(BY_NAME) == len(SUBJECTS)
    for subject in SUBJECTS:
        assert subject.workloads <= set(WORKLOADS), subject.name
        assert "write" in subject.workloads, subject.name


def test_every_note_says_whether_writes_are_synced() -> None:
    for subject in SUBJECTS:
        assert ("does not sync" in subject.note) == (subject.name not in SYNCING), subject.name
        assert "sync" in subject.note, subject.name


@pytest.mark.parametrize("subject", SUBJECTS, ids=BY_NAME)
def test_the_load_is_asked_for_all_of_its_shape(subject: Subject) -> None:
    shape = Shape(workload="write", callers=17, value_bytes=999, keys=55, rate=123.0)
    command = subject.load(Running(), shape, 2.5, 0.5)
    said = dict(pairwise(command))
    assert said["--target"] == Running.target
    assert said["--workload"] == "write"
    assert [said["--callers"], said["--value-bytes"], said["--keys"]] == ["17", "999", "55"]
    assert [float(said[name]) for name in ("--rate", "--seconds", "--warm-up")] == [123.0, 2.5, 0.5]


def test_a_workload_that_a_peer_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="floor cannot do read: it does write"):
        BY_NAME["floor"].load(Running(), Shape(workload="read", callers=1), 1.0, 0.0)


def test_native_programs_know_the_workloads_that_are_promised_of_them() -> None:
    go = (NATIVE / "etcd" / "workloads.go").read_text()
    assert set(re.findall(r'^\t"([a-z-]+)":', go, re.MULTILINE)) == ETCD_NATIVE_WORKLOADS
    java = (NATIVE / "zookeeper" / "ZookeeperLoad.java").read_text()
    (found,) = re.findall(r"WORKLOADS =\s+List\.of\(([^)]*)\)", java)
    assert set(re.findall(r'"([a-z-]+)"', found)) == ZOOKEEPER_NATIVE_WORKLOADS


def test_a_closed_loop_is_no_rate_to_native_programs() -> None:
    asked = LoaderArguments(target="t", shape=Shape(workload="write", callers=1), seconds=1.0, warm_up=0.0)
    assert "--rate" not in options(asked)


@pytest.mark.cluster
@pytest.mark.parametrize("nodes", [3, 1])
@pytest.mark.parametrize("subject", SUBJECTS, ids=BY_NAME)
def test_a_second_of_writes_on_the_real_servers(subject: Subject, nodes: int, tmp_path: Path) -> None:
    if (reason := subject.missing()) is not None:
        pytest.skip(reason)
    assert re.search(r"\d+\.\d+", subject.version()), subject.version()
    cluster = subject.start(tmp_path / "cluster", nodes, 1)
    try:
        assert len(cluster.pids) == nodes
        shape = Shape(workload="write", callers=4, nodes=nodes, keys=100)
        done = subprocess.run(
            subject.load(cluster, shape, 1.0, 0.2), capture_output=True, text=True, env=environment(),
            timeout=90, check=False,
        )  # fmt: skip
    finally:
        cluster.stop()
    assert done.returncode == 0, done.stderr
    *_, begun, last = done.stdout.splitlines()
    assert begun == BEGUN
    load = msgspec.json.decode(last, type=Load)
    assert load.operations > 0
    assert load.errors == 0
    assert 0.9 < load.seconds < 60
    assert 0 < load.p50_ms <= load.p99_ms <= load.longest_ms * 1.001


@pytest.mark.parametrize(
    "module", ["etcd_load", "zookeeper_load", "nats_load", "pysyncobj_load", "pipeline_load"]
)
def test_a_load_on_nothing_ends_with_one_line(module: str) -> None:
    peer = next(
        one for one in SUBJECTS
        if f"bench.peers.{module}" in one.load(Running(), Shape(workload="write", callers=1), 1.0, 0.0)
    )  # fmt: skip
    if (reason := peer.missing()) is not None:
        pytest.skip(reason)
    command = [sys.executable, "-P", "-m", f"bench.peers.{module}", "--target", "127.0.0.1:9"]
    done = subprocess.run(
        [*command, "--workload", "write", "--callers", "1", "--seconds", "1"], capture_output=True, text=True,
        env=environment(), timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
