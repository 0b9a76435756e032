"""``quorate dev`` as a user runs it: its lines, its children, and what is left when it goes."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.devprocess import Dev, free_port, quorate

pytestmark = pytest.mark.cluster


def gone(pid: int, seconds: float = 15.0) -> bool:
    """Whether the process ends within ``seconds``; one that nobody waited for counts as ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_three_nodes_serve_and_an_interrupt_leaves_nothing() -> None:
    with Dev(nodes=3, groups=16) as dev:
        node = dev.wait_for(r"node: n1 pid=\d+ client=127.0.0.1:(\d+) peer=127.0.0.1:(\d+) data=(\S+)")
        assert (int(node[1]), int(node[2])) == (dev.port, dev.port + 100)
        assert dev.wait_for("ready: (.*)")[1] == dev.url
        assert sorted(dev.pids) == ["n1", "n2", "n3"]
        directory = Path(node[3]).parent
        assert directory.is_dir()
        assert dev.stop(signal.SIGINT) == 130
    assert dev.errors == []
    assert all(gone(pid, 0.1) for pid in dev.pids.values())
    assert not directory.exists()


@pytest.mark.parametrize(("words", "leading"), [((), 1), (("--leaders", "spread"), 3)])
def test_one_node_leads_all_groups_or_each_its_share(words: tuple[str, ...], leading: int) -> None:
    with Dev(*words, nodes=3, groups=6) as dev:
        dev.wait_until_ready()
        told = json.loads(quorate("group", "ls", "-w", "json", url=dev.url).stdout)
        assert len({one["leader"] for one in told if one["group"]}) == leading
        assert dev.stop(signal.SIGTERM) == 0
    assert dev.errors == []


def test_a_node_that_is_killed_is_reported_and_started_again() -> None:
    with Dev(nodes=3) as dev:
        dev.wait_until_ready()
        first = dev.pids["n2"]
        dev.kill("n2")
        killed_at = time.monotonic()
        dev.wait_for("node: n2 ")
        assert time.monotonic() - killed_at >= 1.9
        assert dev.pids["n2"] != first
        assert quorate("counter", "add", "c", url=dev.url).stdout == "1\n"
        assert dev.stop(signal.SIGTERM) == 0
    assert dev.errors == [f"quorate: n2 (pid {first}) was killed by SIGKILL; starting it again in 2 s"]


def test_data_stays_where_it_is_wanted_and_serves_again(tmp_path: Path) -> None:
    with Dev("--data", str(tmp_path / "data"), nodes=3) as dev:
        dev.wait_until_ready()
        assert quorate("map", "put", "m", "k", "v", url=dev.url).returncode == 0
    with Dev("--data", str(tmp_path / "data"), nodes=3, port=dev.port) as dev:
        dev.wait_until_ready()
        assert quorate("map", "get", "m", "k", url=dev.url).stdout == "v\n"


def test_nodes_end_with_dev_even_if_it_is_killed() -> None:
    with Dev(nodes=3) as dev:
        directory = Path(dev.wait_for(r"node: n1 .* data=(\S+)")[1]).parent
        dev.wait_until_ready()
        dev.process.kill()
        assert all(gone(pid) for pid in dev.pids.values())
    assert directory.name.startswith("quorate-")
    shutil.rmtree(directory)


def test_a_port_that_is_taken_is_one_line_and_code_1() -> None:
    port = free_port(1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        dev = Dev(port=port)
        assert dev.process.wait(timeout=30) == 1
        dev.stop()
    assert len(dev.errors) == 1
    assert re.fullmatch(rf"quorate: .*127\.0\.0\.1:{port}.*", dev.errors[0])
