"""Founding by real processes that are killed at any moment, start late, stand still, or get garbage."""

from __future__ import annotations

import json
import random
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.devprocess import quorate
from tests.nodeprocess import NAMES, Cluster, a_cluster

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def formed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that serves; each test leaves it so."""
    with a_cluster(tmp_path_factory.mktemp("formed"), groups=3) as cluster:
        yield cluster


@pytest.mark.parametrize("seed", range(2))
def test_nodes_killed_at_any_moment_of_founding_found_one_cluster(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    with a_cluster(tmp_path, groups=3, serving=False) as cluster:
        for name in dice.sample(NAMES, 3):
            cluster.start(name)
            time.sleep(dice.random() * 0.2)
        for _ in range(4):
            # A process takes some 0.3 s to its first words and 0.05 s to found.
            time.sleep(0.2 + dice.random() * 0.4)
            name = dice.choice(NAMES)
            cluster.kill(name)
            cluster.start(name)
        cluster.wait_until_ready(*NAMES)
        assert len({cluster.status(name=name)["cluster"] for name in NAMES}) == 1


def test_a_node_that_starts_late_completes_the_founding(tmp_path: Path) -> None:
    with a_cluster(tmp_path, groups=3, serving=False) as cluster:
        cluster.start("n3")
        cluster.start("n1")
        time.sleep(1.0)
        refused = quorate("status", "--timeout", "1s", url=cluster.url("n1"))
        assert refused.returncode == 5
        cluster.start("n2")
        cluster.wait_until_ready(*NAMES)


def test_a_founder_that_was_down_while_the_cluster_went_on_takes_part_again(formed: Cluster) -> None:
    formed.kill("n2")
    assert quorate("counter", "add", "down", "5", url=formed.url("n1", "n3")).stdout == "5\n"
    formed.start("n2")
    formed.wait_until_ready("n2")
    assert quorate("counter", "get", "down", url=formed.url("n2")).stdout == "5\n"


def test_a_node_that_stands_still_is_given_up_and_taken_back(formed: Cluster) -> None:
    formed.nodes["n3"].process.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 20
    while connected(formed, "n1") != {"n1", "n2"}:
        assert time.monotonic() < deadline
    assert quorate("counter", "add", "still", url=formed.url("n1")).stdout == "1\n"
    formed.nodes["n3"].process.send_signal(signal.SIGCONT)
    while connected(formed, "n1") != set(NAMES):
        assert time.monotonic() < deadline


def connected(cluster: Cluster, name: str) -> set[str]:
    """The nodes that this one sees. Those that are gone may have led groups which have no leader yet."""
    done = quorate("status", "-w", "json", url=cluster.url(name))
    assert done.returncode in (0, 5), done.stderr
    return {node["name"] for node in json.loads(done.stdout)["nodes"] if node["connected"]}


def test_garbage_on_the_ports_of_a_working_cluster_disturbs_nobody(formed: Cluster) -> None:
    dice = random.Random(5)
    # A node that came back is handed the group that it leads by preference some seconds later.
    deadline = time.monotonic() + 30
    while len({group["leader"] for group in groups_of(formed) if group["group"]}) < len(NAMES):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    before = terms(groups_of(formed))
    for name in NAMES:
        host, port = formed.client(name).split(":")
        for address in (formed.peer(name), (host, int(port))):
            for _ in range(50):
                with socket.create_connection(address) as one:
                    one.sendall(dice.randbytes(dice.randrange(1, 200)))
            idle = [socket.create_connection(address) for _ in range(50)]
            for one in idle:
                one.close()
    assert quorate("counter", "add", "garbage", url=formed.url("n2")).stdout == "1\n"
    assert terms(groups_of(formed)) == before


def groups_of(cluster: Cluster) -> list[dict[str, Any]]:
    """What a node says of its groups."""
    groups = cluster.status(name="n1")["groups"]
    assert isinstance(groups, list)
    return groups


def terms(groups: list[dict[str, Any]]) -> list[int]:
    """The term of each group: another one would mean that a leader was given up."""
    return [group["term"] for group in groups]
