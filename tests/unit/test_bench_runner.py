"""How a plan is run, on systems that are a process which does nothing, and loads that only pretend."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.runs import runner as module
from bench.runs.plan import Plan, shapes
from bench.runs.results import Failed, Load, Machine, Measurement, Run, Shape, read
from bench.runs.runner import Runner
from bench.runs.subjects import Cluster

LOAD = Load(operations=10, seconds=2.0, p50_ms=1.0, p90_ms=2.0, p99_ms=3.0, longest_ms=4.0)
PRINT = f"print({msgspec.json.encode(LOAD).decode()!r})"
SERVER = """
import os, signal, time
def work(number, frame):
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    print("worked", flush=True)
signal.signal(signal.SIGUSR1, work)
print("serves", flush=True)
while True:
    signal.pause()
"""
WORK = "import os, signal, sys; os.kill({pid}, signal.SIGUSR1); open({said!r}, 'rb').readline()"

END = """
import os
os.kill({pid}, 9)
while ") Z" not in open("/proc/{pid}/stat").read():
    pass
"""


class Idle:
    """A cluster of one process."""

    def __init__(self, target: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"serves\n"
        self.target = target
        self.is_stopped = False

    @property
    def pids(self) -> list[int]:
        return [self.process.pid]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.is_stopped = True


class Counting(Idle):
    """A cluster that counts its syncs, of which there are five whenever it is asked."""

    count = 0

    def syncs(self) -> int:
        self.count += 5
        return self.count


class Pretended:
    """A system whose load is a program of one line."""

    title = note = ""
    workloads = frozenset({"write", "read"})

    def __init__(
        self, name: str, program: str | Callable[[Any, Shape], str] = PRINT, *, broken: str | None = None,
        cluster: type[Idle] = Idle,
    ) -> None:  # fmt: skip
        self.name = self.server = name
        self._program, self._broken, self._cluster = program, broken, cluster
        self.clusters: list[Idle] = []
        self.starts = 0

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return "1"

    def start(self, directory: Path, nodes: int, groups: int) -> Cluster:
        self.starts += 1
        if self._broken:
            raise RuntimeError(self._broken)
        assert list(directory.iterdir()) == []
        self.clusters.append(self._cluster(self.name))
        return self.clusters[-1]

    def load(self, cluster: Any, shape: Shape, seconds: float, warm_up: float) -> list[str]:
        program = self._program if isinstance(self._program, str) else self._program(cluster, shape)
        return [sys.executable, "-c", program]


class Silent:
    """Follows, and looks at the file whenever something ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.kept: list[int] = []

    def begins(self, what: str, left_s: float) -> None:
        assert what
        assert left_s >= 0

    def ended(self, result: Measurement | Failed) -> None:
        found = read(self._path)
        self.kept.append(len(found.measurements) + len(found.failed))


def execute(path: Path, *subjects: Pretended, repeats: int = 1, **asked: Any) -> Run:
    """Runs them, and reads the file back."""
    asked = {"workloads": ["write"], "callers": [1], **asked}
    plan = Plan(subjects=subjects, shapes=shapes(**asked), repeats=repeats, seconds=0.1, warm_up=0.1)
    known = Run(
        began="", command="", subjects=[], measurements=[],
        machine=Machine(cpu="", cores=1, memory_gb=1, system="", python="", disk=""),
    )  # fmt: skip
    follower = Silent(path)
    runner = Runner(plan, known, path, path.parent, follower)
    runner.execute()
    assert follower.kept == list(range(1, plan.count + 1)), "each is in the file before the next begins"
    assert all(cluster.is_stopped for subject in subjects for cluster in subject.clusters)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name], "nothing else is left"
    return read(path)


def test_what_a_load_told_is_kept_with_what_it_was(tmp_path: Path) -> None:
    a, b = Pretended("a"), Pretended("b")
    found = execute(tmp_path / "r.json", a, b, repeats=2, workloads=["write", "read"])
    assert found.failed == []
    assert all(one.load == LOAD for one in found.measurements)
    order = [(one.subject, one.shape.workload, one.repeat) for one in found.measurements]
    assert order == [
        ("a", "write", 0), ("a", "read", 0), ("b", "write", 0), ("b", "read", 0),
        ("b", "write", 1), ("b", "read", 1), ("a", "write", 1), ("a", "read", 1),
    ]  # fmt: skip
    assert {one.shape.nodes for one in found.measurements} == {1}, "as many as there are"
    assert (a.starts, b.starts) == (2, 2)


def test_a_system_that_does_not_start_is_noted_and_not_tried_again_and_the_others_are_measured(
    tmp_path: Path,
) -> None:
    a, b = Pretended("a", broken="the disk\nis full"), Pretended("b")
    found = execute(tmp_path / "r.json", a, b, repeats=2)
    assert [one.subject for one in found.measurements] == ["b", "b"]
    assert [(one.subject, one.repeat, one.reason) for one in found.failed] == [
        ("a", 0, "it did not start: the disk is full"), ("a", 1, "it did not start: the disk is full"),
    ]  # fmt: skip
    assert a.starts == 1


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import sys; print('out'); sys.exit('one\\nno node is in reach')", "no node is in reach"),
        ("import sys; sys.exit(7)", "the load ended with code 7"),
        ("print('{}')", "the load told no figures"),
        ("print('nothing of the kind')", "the load told no figures"),
        ("pass", "the load told no figures"),
    ],
)
def test_a_load_that_fails_is_noted_with_its_last_words_and_the_rest_done_on_a_fresh_cluster(
    tmp_path: Path, program: str, reason: str
) -> None:
    def of(cluster: Any, shape: Shape) -> str:
        return program if shape.workload == "write" else PRINT

    a = Pretended("a", of)
    found = execute(tmp_path / "r.json", a, workloads=["write", "read"])
    assert a.starts == 2
    assert [(one.shape.workload, one.reason) for one in found.failed] == [("write", reason)]
    assert [one.shape.workload for one in found.measurements] == ["read"]


def test_a_load_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OVERTIME_SECONDS", -0.7)
    found = execute(tmp_path / "r.json", Pretended("a", "import time; print('measuring'); time.sleep(600)"))
    assert [one.reason for one in found.failed] == ["the load was not done after 0 s"]


def test_what_the_servers_spend_counts_from_where_the_measurement_begins(tmp_path: Path) -> None:
    def of(work: str) -> Callable[[Any, Shape], str]:
        def program(cluster: Idle, shape: Shape) -> str:
            assert cluster.process.stdout is not None
            said = f"/proc/{cluster.process.pid}/fd/1"
            text = WORK.format(pid=cluster.process.pid, said=said)
            begin = "print('measuring', flush=True)"
            return f"{text}; {begin}; {PRINT}" if work == "before" else f"{begin}; {text}; {PRINT}"

        return program

    before = execute(tmp_path / "before.json", Pretended("a", of("before")))
    (tmp_path / "before.json").unlink()
    within = execute(tmp_path / "within.json", Pretended("a", of("within")))
    costs = [run.measurements[0].cost for run in (before, within)]
    assert costs[0] is not None
    assert costs[1] is not None
    assert costs[0].cpu_seconds <= 0.1
    assert 0.25 <= costs[1].cpu_seconds <= 0.5
    assert costs[1].syncs is None


def test_syncs_are_told_of_whoever_counts_them(tmp_path: Path) -> None:
    found = execute(tmp_path / "r.json", Pretended("a", cluster=Counting))
    cost = found.measurements[0].cost
    assert cost is not None
    assert cost.syncs == 5


def test_there_is_no_figure_if_a_server_ended_meanwhile(tmp_path: Path) -> None:
    def of(cluster: Idle, shape: Shape) -> str:
        return f"{END.format(pid=cluster.process.pid)}\n{PRINT}"

    found = execute(tmp_path / "r.json", Pretended("a", of))
    assert found.measurements == []
    assert [one.reason for one in found.failed] == ["a server ended meanwhile"]


def test_an_interrupt_stops_what_was_started_and_keeps_what_was_found(tmp_path: Path) -> None:
    def of(cluster: Idle, shape: Shape) -> str:
        if shape.workload == "read":
            raise KeyboardInterrupt
        return PRINT

    a, path = Pretended("a", of), tmp_path / "r.json"
    with pytest.raises(KeyboardInterrupt):
        execute(path, a, workloads=["write", "read"])
    assert a.clusters[0].is_stopped
    assert [one.shape.workload for one in read(path).measurements] == ["write"]
