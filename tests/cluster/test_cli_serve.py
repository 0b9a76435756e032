"""``quorate serve`` and its bad starts: each gives one line on standard error and the right exit code."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.devprocess import COMMAND, environment, free_port, quorate

pytestmark = pytest.mark.cluster


class Node:
    """A ``quorate serve`` process."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "serve", *arguments, "--log-level", "error"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip

    def ready(self) -> str:
        """Its first line."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def refused(self) -> str:
        """What it says when it ends by itself with code 1."""
        try:
            out, err = self.process.communicate(timeout=20)
        finally:
            self.end(signal.SIGKILL)
        assert (self.process.returncode, out) == (1, ""), err
        assert err.startswith("quorate: ")
        assert err.count("\n") == 1, err
        return err

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(timeout=30)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        return self.process.returncode


@contextmanager
def running(*arguments: str) -> Iterator[Node]:
    node = Node(*arguments)
    try:
        yield node
    finally:
        node.end()


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
def test_it_says_ready_and_ends_by_a_signal(tmp_path: Path, number: signal.Signals, code: int) -> None:
    port = free_port(1)
    node = Node(*alone(tmp_path, port))
    assert node.ready() == f"ready: 127.0.0.1:{port}\n"
    assert node.end(number) == code


def test_it_ends_with_its_standard_input_if_asked(tmp_path: Path) -> None:
    with running(*alone(tmp_path, free_port(1)), "--until-eof") as node:
        node.ready()
        assert node.process.stdin is not None
        node.process.stdin.close()
        assert node.process.wait(timeout=30) == 0


def test_a_file_of_settings_does(tmp_path: Path) -> None:
    port = free_port(1)
    config = tmp_path / "n1.toml"
    config.write_text(
        f'name = "n1"\ndata = "{tmp_path / "data"}"\nlisten = "127.0.0.1:{port}"\ngroups = 2\n'
        f'[cluster]\nn1 = "127.0.0.1:{port + 100}"\n'
    )
    with running("--config", str(config)) as node:
        assert node.ready() == f"ready: 127.0.0.1:{port}\n"


def test_an_unknown_key_is_named_with_the_nearest(tmp_path: Path) -> None:
    config = tmp_path / "n1.toml"
    config.write_text('nmae = "n1"\n')
    words = f"quorate: {config}: unknown key 'nmae'; the nearest valid one is 'name'\n"
    assert Node("--config", str(config)).refused() == words


@pytest.mark.parametrize("which", ["client", "peer"])
def test_a_port_that_is_taken_is_named(tmp_path: Path, which: str) -> None:
    port = free_port(1)
    taken = port if which == "client" else port + 100
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", taken))
        listener.listen()
        assert f"127.0.0.1:{taken}" in Node(*alone(tmp_path, port)).refused()


def test_a_directory_in_use_is_refused_and_its_node_goes_on(tmp_path: Path) -> None:
    port = free_port(1)
    with running(*alone(tmp_path, port)) as node:
        node.ready()
        assert str(tmp_path) in Node(*alone(tmp_path, free_port(1))).refused()
        url = f"quorate://127.0.0.1:{port}"
        assert quorate("counter", "add", "c", url=url).stdout == "1\n"


def test_a_directory_of_another_node_is_refused(tmp_path: Path) -> None:
    port = free_port(1)
    with running(*alone(tmp_path, port)) as node:
        node.ready()
    words = Node(*alone(tmp_path, port, name="n2")).refused()
    assert "n1" in words
    assert "n2" in words


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert str(tmp_path) in Node(*alone(tmp_path / "data", free_port(1))).refused()


def test_a_file_where_the_directory_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert str(tmp_path / "data") in Node(*alone(tmp_path / "data", free_port(1))).refused()


def refused_of(first: Node, second: Node, seconds: float = 20.0) -> str:
    """What the one of two that gives way says; which one it is depends on who started first."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for node in (first, second):
            if node.process.poll() is not None:
                return node.refused()
        time.sleep(0.02)
    raise AssertionError("both go on")


def test_lists_that_differ_found_no_cluster(tmp_path: Path) -> None:
    port = free_port(5)
    with (
        running(*member(1, tmp_path, port)) as first,
        running(*member(2, tmp_path, port, names=(1, 2, 4))) as second,
    ):
        assert "--cluster" in refused_of(first, second)


def test_numbers_of_groups_that_differ_found_no_cluster(tmp_path: Path) -> None:
    port = free_port(5)
    with (
        running(*member(1, tmp_path, port)) as first,
        running(*member(2, tmp_path, port, groups=3)) as second,
    ):
        assert "--groups" in refused_of(first, second)


def test_a_wiped_node_is_refused_and_the_others_go_on(tmp_path: Path) -> None:
    port = free_port(5)
    with ExitStack() as stack:
        nodes = [stack.enter_context(running(*member(number, tmp_path, port))) for number in (1, 2, 3)]
        for node in nodes:
            assert node.ready().startswith("ready: ")
        url = f"quorate://127.0.0.1:{port + 1}"
        assert quorate("counter", "add", "c", url=url).stdout == "1\n"
        assert nodes[2].end(signal.SIGKILL) == -signal.SIGKILL
        shutil.rmtree(tmp_path / "n3")
        words = Node(*member(3, tmp_path, port)).refused()
        assert "n3" in words
        assert quorate("counter", "add", "c", url=url).stdout == "2\n"
