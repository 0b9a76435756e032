"""Servers of a peer: processes on loopback that are started, waited for, and stopped for certain."""

from __future__ import annotations

import atexit
import shlex
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.runs.ports import free_port

START_SECONDS: Final = 60.0
"""For all servers of a cluster to serve."""
STOP_SECONDS: Final = 20.0
"""For a server to end when it is asked to; then it is killed."""
WORDS_LINES: Final = 6
"""Of what a server said last, in the error that says that it did not start."""


class Servers:
    """The processes of one cluster, in the order of its nodes; see :class:`bench.runs.subjects.Cluster`.

    Each says what it has to say to ``NAME.log`` in the directory, where its data are too.
    """

    def __init__(self, directory: Path) -> None:
        self.directory: Final = directory
        self.target = ""
        self._processes: Final[dict[str, subprocess.Popen[bytes]]] = {}
        atexit.register(self.stop)

    @property
    def pids(self) -> list[int]:
        """Of the processes, in the order in which they were started."""
        return [process.pid for process in self._processes.values()]

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Starts a server; does not wait for it. Raises RuntimeError if there is no such program."""
        with self._log(name).open("wb") as log:
            log.write(f"$ {shlex.join(command)}\n".encode())
            log.flush()
            try:
                # In a session of its own, an interrupt at the terminal leaves it to be stopped in order.
                self._processes[name] = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                    cwd=self.directory, start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise RuntimeError(f"{name} cannot be started: {error}") from error

    def wait(self, is_ready: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        """Asks until the answer is yes. An OSError counts as no. Raises RuntimeError, all servers being
        stopped, if a server ends or the time does."""
        deadline = time.monotonic() + seconds
        why = f"not all of {', '.join(self._processes)} served within {seconds:.0f} s"
        while time.monotonic() < deadline:
            ended = [name for name, process in self._processes.items() if process.poll() is not None]
            if ended:
                code = self._processes[ended[0]].returncode
                why = f"{ended[0]} ended with code {code} instead of serving"
                break
            try:
                if is_ready():
                    return
            except OSError:
                pass  # It does not listen yet.
            time.sleep(0.05)
        said = "\n".join(f"{name} said:\n{self._last_words(name)}" for name in self._processes)
        self.stop()
        raise RuntimeError(f"{why}\n{said}")

    def stop(self) -> None:
        """Ends the servers, and waits until they have ended. Safe to repeat."""
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._processes.values():
            try:
                process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        atexit.unregister(self.stop)

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def _last_words(self, name: str) -> str:
        lines = self._log(name).read_text(errors="replace").strip().splitlines()
        return "\n".join(f"  {line}" for line in lines[-WORDS_LINES:])


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nothing listens on, in a row. Raises OSError if there are none."""
    low = free_port(range(count))
    return list(range(low, low + count))


def node_names(nodes: int) -> list[str]:
    """``n1``, ``n2``, ``n3``."""
    return [f"n{number + 1}" for number in range(nodes)]


def make_directory(parent: Path, name: str) -> Path:
    """A fresh directory for one node; raises RuntimeError if there is one with something in it."""
    path = parent / name
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        raise RuntimeError(f"{path} is not empty: a cluster is started in a fresh directory")
    return path.resolve()


def find_program(name: str) -> str | None:
    """Where a program is: on the path, or where Debian keeps servers, which is on root's path alone."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin")


def said(command: Sequence[str]) -> str:
    """What a program prints, on either output; empty if it cannot be run."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=30, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def ask(url: str, body: object = None) -> Any:
    """A JSON answer to a GET, or to a POST of ``body``; raises OSError."""
    data = None if body is None else msgspec.json.encode(body)
    with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=5) as answer:
        return msgspec.json.decode(answer.read())
