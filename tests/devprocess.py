"""A ``quorate dev`` of its own for tests: real processes, on free ports, stopped for certain."""

from __future__ import annotations

import os
import queue
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-P", "-m", "ops.main"]
Run = Callable[..., tuple[int, str, str]]
"""A command line to its exit code, standard output and standard error."""


def environment(**more: str) -> dict[str, str]:
    """An environment in which the packages of this checkout are found, and no cluster of the user's is."""
    inherited = {name: value for name, value in os.environ.items() if name != "QUORATE_URL"}
    return {**inherited, "PYTHONPATH": str(ROOT), **more}


def free_port(nodes: int) -> int:
    """A port from which on client and peer ports of that many nodes are free, below the ephemeral ones."""
    while True:
        port = random.randrange(20000, 32000, 10)
        sockets = []
        try:
            for offset in (*range(nodes), *range(100, 100 + nodes)):
                one = socket.socket()
                sockets.append(one)
                one.bind(("127.0.0.1", port + offset))
        except OSError:
            continue
        else:
            return port
        finally:
            for one in sockets:
                one.close()


class Dev:
    """A running ``quorate dev``. Lines of its standard output are read as they come."""

    def __init__(self, *arguments: str, nodes: int = 1, groups: int = 4, port: int | None = None) -> None:
        self.port = free_port(nodes) if port is None else port
        self.nodes = nodes
        self.process = subprocess.Popen(
            [*COMMAND, "dev", "--nodes", str(nodes), "--groups", str(groups), "--port", str(self.port),
             *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
            start_new_session=True,
        )  # fmt: skip
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.errors: list[str] = []
        self.seen: list[str] = []
        self.pids: dict[str, int] = {}
        """The latest pid of each node, by name."""
        self._readers = [threading.Thread(target=read) for read in (self._read_output, self._read_errors)]
        for reader in self._readers:
            reader.start()

    def _read_output(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors.extend(line.rstrip("\n") for line in self.process.stderr)

    @property
    def address(self) -> str:
        """Of the first node's client port."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Of the whole cluster."""
        addresses = (f"127.0.0.1:{self.port + number}" for number in range(self.nodes))
        return f"quorate://{','.join(addresses)}"

    def wait_for(self, pattern: str, seconds: float = 60.0) -> re.Match[str]:
        """The next line of standard output that begins with ``pattern``."""
        deadline = time.monotonic() + seconds
        while True:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            if line is None:
                self.process.wait()
                raise AssertionError(f"dev ended without {pattern!r}: {self.seen} {self.errors}")
            self.seen.append(line)
            if node := re.match(r"node: (\S+) pid=(\d+) ", line):
                self.pids[node[1]] = int(node[2])
            if match := re.match(pattern, line):
                return match

    def wait_until_ready(self) -> None:
        """Until all of it serves."""
        self.wait_for("ready: ")

    def kill(self, name: str) -> None:
        """Kills a node's process with -9."""
        os.kill(self.pids[name], signal.SIGKILL)

    def stop(self, number: int = signal.SIGINT) -> int:
        """Interrupts it; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        for reader in self._readers:
            reader.join()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        return code

    def __enter__(self) -> Dev:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def quorate(
    *arguments: str, url: str | None = None, timeout: float = 60.0, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the command line as a user would, and gives what it printed and its exit code."""
    where = {} if url is None else {"QUORATE_URL": url}
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=timeout, check=False, input=stdin,
        env=environment(**where),
    )  # fmt: skip
