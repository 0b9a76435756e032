"""``quorate serve`` and its bad starts: each gives one line on standard error and the right exit code."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.devprocess import free_port, quorate
from tests.nodeprocess import NodeProcess

pytestmark = pytest.mark.cluster


Start = Callable[..., NodeProcess]


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts a node by the arguments of ``quorate serve``; all of them are ended after the test."""
    started: list[NodeProcess] = []
    errors = tmp_path_factory.mktemp("errors")

    def one(arguments: list[str], *, until_eof: bool = True) -> NodeProcess:
        started.append(NodeProcess(arguments, errors / f"{len(started)}.err", until_eof=until_eof))
        return started[-1]

    with ExitStack() as ends:
        yield one
        for node in started:
            ends.callback(node.end)


def alone(data: Path, port: int, name: str = "n1") -> list[str]:
    return [
        "--name", name, "--data", str(data), "--listen", f"127.0.0.1:{port}", "--peer",
        f"127.0.0.1:{port + 100}", "--groups", "2",
    ]  # fmt: skip


def member(
    number: int, data: Path, port: int, *, names: tuple[int, ...] = (1, 2, 3), groups: int = 2
) -> list[str]:
    cluster = ",".join(f"n{one}=127.0.0.1:{port + 100 + one}" for one in names)
    return [
        "--name", f"n{number}", "--data", str(data / f"n{number}"), "--listen", f"127.0.0.1:{port + number}",
        "--cluster", cluster, "--groups", str(groups),
    ]  # fmt: skip


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_says_ready_and_ends_by_a_signal(
    start: Start, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    port = free_port(1)
    node = start(alone(tmp_path, port), until_eof=False)
    assert node.wait_until_ready() == f"ready: 127.0.0.1:{port}\n"
    assert node.end(number) == code


def test_it_ends_with_its_standard_input_if_asked(start: Start, tmp_path: Path) -> None:
    node = start(alone(tmp_path, free_port(1)))
    node.wait_until_ready()
    assert node.process.stdin is not None
    node.process.stdin.close()
    assert node.process.wait(timeout=30) == 0


def test_a_file_of_settings_does(start: Start, tmp_path: Path) -> None:
    port = free_port(1)
    config = tmp_path / "n1.toml"
    config.write_text(
        f'name = "n1"\ndata = "{tmp_path / "data"}"\nlisten = "127.0.0.1:{port}"\ngroups = 2\n'
        f'[cluster]\nn1 = "127.0.0.1:{port + 100}"\n'
    )
    assert start(["--config", str(config)]).wait_until_ready() == f"ready: 127.0.0.1:{port}\n"


def test_an_unknown_key_is_named_with_the_nearest(start: Start, tmp_path: Path) -> None:
    config = tmp_path / "n1.toml"
    config.write_text('nmae = "n1"\n')
    words = f"quorate: {config}: unknown key 'nmae'; the nearest valid one is 'name'\n"
    assert start(["--config", str(config)]).refused() == words


@pytest.mark.parametrize("which", ["client", "peer"])
def test_a_port_that_is_taken_is_named(start: Start, tmp_path: Path, which: str) -> None:
    port = free_port(1)
    taken = port if which == "client" else port + 100
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", taken))
        listener.listen()
        assert f"127.0.0.1:{taken}" in start(alone(tmp_path, port)).refused()


def test_a_directory_in_use_is_refused_and_its_node_goes_on(start: Start, tmp_path: Path) -> None:
    port = free_port(1)
    start(alone(tmp_path, port)).wait_until_ready()
    assert str(tmp_path) in start(alone(tmp_path, free_port(1))).refused()
    url = f"quorate://127.0.0.1:{port}"
    assert quorate("counter", "add", "c", url=url).stdout == "1\n"


def test_a_directory_of_another_node_is_refused(start: Start, tmp_path: Path) -> None:
    port = free_port(1)
    node = start(alone(tmp_path, port))
    node.wait_until_ready()
    node.end()
    words = start(alone(tmp_path, port, name="n2")).refused()
    assert "n1" in words
    assert "n2" in words


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_made_is_named(start: Start, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert str(tmp_path) in start(alone(tmp_path / "data", free_port(1))).refused()


def test_a_file_where_the_directory_should_be_is_named(start: Start, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert str(tmp_path / "data") in start(alone(tmp_path / "data", free_port(1))).refused()


def refused_of(first: NodeProcess, second: NodeProcess, seconds: float = 20.0) -> str:
    """What the one of two that gives way says; which one it is depends on who started first."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for node in (first, second):
            if node.process.poll() is not None:
                return node.refused()
        time.sleep(0.02)
    raise AssertionError("both go on")


def test_lists_that_differ_found_no_cluster(start: Start, tmp_path: Path) -> None:
    port = free_port(5)
    first = start(member(1, tmp_path, port))
    second = start(member(2, tmp_path, port, names=(1, 2, 4)))
    assert "--cluster" in refused_of(first, second)


def test_numbers_of_groups_that_differ_found_no_cluster(start: Start, tmp_path: Path) -> None:
    port = free_port(5)
    first = start(member(1, tmp_path, port))
    second = start(member(2, tmp_path, port, groups=3))
    assert "--groups" in refused_of(first, second)


def test_a_wiped_node_is_refused_and_the_others_go_on(start: Start, tmp_path: Path) -> None:
    port = free_port(5)
    nodes = [start(member(number, tmp_path, port)) for number in (1, 2, 3)]
    for node in nodes:
        node.wait_until_ready()
    url = f"quorate://127.0.0.1:{port + 1}"
    assert quorate("counter", "add", "c", url=url).stdout == "1\n"
    assert nodes[2].end(signal.SIGKILL) == -signal.SIGKILL
    shutil.rmtree(tmp_path / "n3")
    words = start(member(3, tmp_path, port)).refused()
    assert "n3" in words
    assert quorate("counter", "add", "c", url=url).stdout == "2\n"
