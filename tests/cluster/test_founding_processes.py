"""Founding by real processes that are killed at any moment, start late, stand still, or get garbage."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.devprocess import COMMAND, environment, free_port, quorate

pytestmark = pytest.mark.cluster
NAMES = ("n1", "n2", "n3")


class Cluster:
    """Three ``quorate serve`` on fixed ports and directories."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.port = free_port(len(NAMES))
        self.processes: dict[str, subprocess.Popen[str]] = {}

    def client(self, name: str) -> str:
        return f"127.0.0.1:{self.port + NAMES.index(name)}"

    def peer(self, name: str) -> tuple[str, int]:
        return "127.0.0.1", self.port + 100 + NAMES.index(name)

    def start(self, name: str) -> None:
        cluster = ",".join(f"{one}=127.0.0.1:{self.peer(one)[1]}" for one in NAMES)
        self.processes[name] = subprocess.Popen(
            [*COMMAND, "serve", "--name", name, "--data", str(self.data / name), "--listen",
             self.client(name), "--cluster", cluster, "--groups", "3", "--log-level", "error", "--until-eof"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        self._reap(process)

    def _reap(self, process: subprocess.Popen[str]) -> None:
        process.wait(timeout=30)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()

    def wait_until_ready(self, name: str) -> None:
        stdout = self.processes[name].stdout
        assert stdout is not None
        assert stdout.readline().startswith("ready: ")

    def stop(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self.processes.values():
            self._reap(process)

    def status(self, name: str) -> dict[str, object]:
        done = quorate("status", "-w", "json", url=f"quorate://{self.client(name)}")
        assert done.returncode == 0, done.stderr
        status: dict[str, object] = json.loads(done.stdout)
        return status


@contextmanager
def a_cluster(data: Path) -> Iterator[Cluster]:
    cluster = Cluster(data)
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def formed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that serves; each test leaves it so."""
    with a_cluster(tmp_path_factory.mktemp("formed")) as cluster:
        for name in NAMES:
            cluster.start(name)
        for name in NAMES:
            cluster.wait_until_ready(name)
        yield cluster


@pytest.mark.parametrize("seed", range(2))
def test_nodes_killed_at_any_moment_of_founding_found_one_cluster(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    with a_cluster(tmp_path) as cluster:
        for name in dice.sample(NAMES, 3):
            cluster.start(name)
            time.sleep(dice.random() * 0.2)
        for _ in range(4):
            # A process takes some 0.3 s to its first words and 0.05 s to found.
            time.sleep(0.2 + dice.random() * 0.4)
            name = dice.choice(NAMES)
            cluster.kill(name)
            cluster.start(name)
        for name in NAMES:
            cluster.wait_until_ready(name)
        assert len({cluster.status(name)["cluster"] for name in NAMES}) == 1


def test_a_node_that_starts_late_completes_the_founding(tmp_path: Path) -> None:
    with a_cluster(tmp_path) as cluster:
        cluster.start("n3")
        cluster.start("n1")
        time.sleep(1.0)
        refused = quorate("status", "--timeout", "1s", url=f"quorate://{cluster.client('n1')}")
        assert refused.returncode == 5
        cluster.start("n2")
        for name in NAMES:
            cluster.wait_until_ready(name)


def test_a_founder_that_was_down_while_the_cluster_went_on_takes_part_again(formed: Cluster) -> None:
    formed.kill("n2")
    url = f"quorate://{formed.client('n1')},{formed.client('n3')}"
    assert quorate("counter", "add", "down", "5", url=url).stdout == "5\n"
    formed.start("n2")
    formed.wait_until_ready("n2")
    assert quorate("counter", "get", "down", url=f"quorate://{formed.client('n2')}").stdout == "5\n"


def test_a_node_that_stands_still_is_given_up_and_taken_back(formed: Cluster) -> None:
    formed.processes["n3"].send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 20
    while connected(formed, "n1") != {"n1", "n2"}:
        assert time.monotonic() < deadline
    assert quorate("counter", "add", "still", url=f"quorate://{formed.client('n1')}").stdout == "1\n"
    formed.processes["n3"].send_signal(signal.SIGCONT)
    while connected(formed, "n1") != set(NAMES):
        assert time.monotonic() < deadline


def connected(cluster: Cluster, name: str) -> set[str]:
    """The nodes that this one sees."""
    nodes = cluster.status(name)["nodes"]
    assert isinstance(nodes, list)
    return {node["name"] for node in nodes if node["connected"]}


def test_garbage_on_the_ports_of_a_working_cluster_disturbs_nobody(formed: Cluster) -> None:
    dice = random.Random(5)
    before = terms(formed.status("n1")["groups"])
    for name in NAMES:
        host, port = formed.client(name).split(":")
        for address in (formed.peer(name), (host, int(port))):
            for _ in range(50):
                with socket.create_connection(address) as one:
                    one.sendall(dice.randbytes(dice.randrange(1, 200)))
            idle = [socket.create_connection(address) for _ in range(50)]
            for one in idle:
                one.close()
    assert quorate("counter", "add", "garbage", url=f"quorate://{formed.client('n2')}").stdout == "1\n"
    assert terms(formed.status("n1")["groups"]) == before


def terms(groups: object) -> list[int]:
    """The term of each group: another one would mean that a leader was given up."""
    assert isinstance(groups, list)
    return [group["term"] for group in groups]
