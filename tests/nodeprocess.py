"""A cluster of ``quorate serve`` processes for tests: killed and started again by name, ended for certain."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.devprocess import COMMAND, environment, free_port, quorate

NAMES = ("n1", "n2", "n3")
START_SECONDS = 60.0
"""For a node to serve, on a machine that has much else to do."""


class NodeProcess:
    """One start of a node. Its standard error goes to a file of this start's own."""

    def __init__(self, arguments: list[str], errors: Path, *, until_eof: bool = True) -> None:
        self.errors = errors
        more = ["--until-eof"] if until_eof else []
        with errors.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*COMMAND, "serve", *arguments, "--log-level", "error", *more],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=environment(),
            )  # fmt: skip
        self._output = b""

    def wait_until_ready(self, seconds: float = START_SECONDS) -> str:
        """Until it says that it serves, and how. Raises AssertionError, with what it said, if it does not."""
        line = self._read_line(seconds)
        assert line.startswith(b"ready: "), self.said()
        return line.decode()

    def _read_line(self, seconds: float) -> bytes:
        stdout = self.process.stdout
        assert stdout is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self._output:
            left = deadline - time.monotonic()
            assert left > 0, f"nothing in {seconds} s: {self.said()}"
            if select.select([stdout], [], [], left)[0]:
                data = os.read(stdout.fileno(), 4096)
                assert data, f"it ended: {self.said()}"
                self._output += data
        return self._output

    def said(self) -> str:
        """Its standard error so far."""
        return self.errors.read_text()

    def refused(self, seconds: float = START_SECONDS) -> str:
        """The one line with which it ends by itself, with code 1, before it served."""
        code = self.process.wait(timeout=seconds)
        assert self.process.stdout is not None
        output = self._output + self.process.stdout.read()
        self.end(signal.SIGKILL)
        said = self.said()
        assert (code, output) == (1, b""), said
        assert said.startswith("quorate: "), said
        assert said.count("\n") == 1, said
        return said

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ends it, whatever it does, and waits for that; its exit code. Harmless if it has ended."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            for pipe in (self.process.stdin, self.process.stdout):
                assert pipe is not None
                pipe.close()
        return self.process.returncode


class Cluster:
    """Nodes on fixed ports and directories. Node ids are 1, 2 and 3, in the order of the names."""

    def __init__(self, data: Path, *, groups: int) -> None:
        self.data = data
        self.groups = groups
        self.port = free_port(len(NAMES))
        self.nodes: dict[str, NodeProcess] = {}
        """Those that were started and not killed."""
        self._starts = 0

    def client(self, name: str) -> str:
        """The client address of a node."""
        return f"127.0.0.1:{self.port + NAMES.index(name)}"

    def peer(self, name: str) -> tuple[str, int]:
        """The peer address of a node."""
        return "127.0.0.1", self.port + 100 + NAMES.index(name)

    def url(self, *names: str) -> str:
        """Of some nodes; of all if none is named."""
        return f"quorate://{','.join(self.client(name) for name in names or NAMES)}"

    def directory(self, name: str) -> Path:
        """A node's data."""
        return self.data / name

    def start(self, *names: str) -> None:
        """Starts nodes by one and the same command each time."""
        cluster = ",".join(f"{one}=127.0.0.1:{self.peer(one)[1]}" for one in NAMES)
        for name in names:
            assert name not in self.nodes
            self._starts += 1
            self.nodes[name] = NodeProcess(
                ["--name", name, "--data", str(self.directory(name)), "--listen", self.client(name),
                 "--cluster", cluster, "--groups", str(self.groups)],
                self.data / f"{self._starts}-{name}.err",
            )  # fmt: skip

    def wait_until_ready(self, *names: str) -> None:
        """Until these nodes serve."""
        for name in names:
            self.nodes[name].wait_until_ready()

    def kill(self, *names: str) -> None:
        """Kills nodes with -9, all of them before it waits for any. Each must have been running."""
        killed = [self.nodes.pop(name) for name in names]
        codes = [node.process.poll() for node in killed]
        for node in killed:
            node.process.kill()
        for node in killed:
            node.end(signal.SIGKILL)
        assert codes == [None] * len(killed), [node.said() for node in killed]

    def refused(self, name: str) -> str:
        """What a node that was just started says as it refuses to serve."""
        return self.nodes.pop(name).refused()

    def status(self, *arguments: str, name: str) -> dict[str, Any]:
        """What a node says of itself and of the cluster."""
        done = quorate("status", "-w", "json", *arguments, url=self.url(name))
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def stop(self) -> None:
        """Ends every node; those that stand still, too. Each must have been running."""
        codes = {name: node.process.poll() for name, node in self.nodes.items()}
        for node in self.nodes.values():
            node.process.send_signal(signal.SIGCONT)
            node.process.terminate()
        with contextlib.ExitStack() as ends:
            for node in self.nodes.values():
                ends.callback(node.end)
        for name, code in codes.items():
            assert code is None, f"{name} ended with code {code}: {self.nodes[name].said()}"


@contextlib.contextmanager
def a_cluster(data: Path, *, groups: int = 4, serving: bool = True) -> Iterator[Cluster]:
    """Three nodes; ``serving`` starts them and waits until they serve."""
    cluster = Cluster(data, groups=groups)
    try:
        if serving:
            cluster.start(*NAMES)
            cluster.wait_until_ready(*NAMES)
        yield cluster
    finally:
        cluster.stop()
