"""Servers of a peer: processes on loopback that are started, waited for, and stopped for certain."""

from __future__ import annotations

import atexit
import shlex
import shutil
import signal
import subprocess
import threading
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

    def __init__(
        self, directory: Path, leads: Callable[[str], bool] = lambda address: False,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:  # fmt: skip
        """``leads``: whether the server at an address leads, or OSError; left out where none is preferred."""
        self._stop_seconds: Final = stop_seconds
        self.directory: Final = directory
        self.addresses: Sequence[str] = ()
        """Where clients connect to, of each node, or of that alone which they may connect to."""
        self._leads: Final = leads
        self._processes: Final[dict[str, subprocess.Popen[bytes]]] = {}
        self._commands: Final[dict[str, tuple[Sequence[str], Mapping[str, str] | None]]] = {}
        self._lock: Final = threading.Lock()
        self._is_stopped = False
        """No server is started any more."""
        atexit.register(self.stop)

    @property
    def pids(self) -> list[int]:
        """Of the processes, in the order in which they were started."""
        return [process.pid for process in self._processes.values()]

    @property
    def target(self) -> str:
        """The addresses by commas, that of whoever leads now first."""
        return ",".join(address for address, _ in self.placed())

    def placed(self) -> list[tuple[str, int | None]]:
        """Addresses with the processes there, if there is one for each, that of whoever leads now first."""
        pids = self.pids if len(self.addresses) == len(self._processes) else [None] * len(self.addresses)
        return sorted(zip(self.addresses, pids, strict=True), key=self._follows)

    def _follows(self, placed: tuple[str, int | None]) -> bool:
        try:
            return not self._leads(placed[0])
        except OSError:
            return True

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Starts a server; does not wait for it. Raises RuntimeError, all being stopped, if it cannot."""
        self._commands[name] = command, environment
        self._log(name).write_text(f"$ {shlex.join(command)}\n")
        try:
            self._spawn(name)
        except OSError as error:
            self.stop()
            raise RuntimeError(f"{name} cannot be started: {error}") from error

    def _spawn(self, name: str) -> None:
        command, environment = self._commands[name]
        with self._log(name).open("ab") as log:
            # In a group of its own, an interrupt at the terminal leaves it to be stopped in order. A session
            # of its own would do so too, but the kernel shares the processors among sessions, not processes.
            self._processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                cwd=self.directory, process_group=0,
            )  # fmt: skip

    def keep(self) -> None:
        """From here on, a server that is killed by KILL is started again; one that ends otherwise is not."""
        for name in self._processes:
            threading.Thread(target=self._keep, args=(name,), daemon=True).start()

    def _keep(self, name: str) -> None:
        while self._processes[name].wait() == -signal.SIGKILL:
            with self._lock:
                if self._is_stopped:
                    return
                self._spawn(name)

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
        with self._lock:
            self._is_stopped = True
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + self._stop_seconds
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


class CountingServers(Servers):
    """Servers that count the system calls by which they make files durable."""

    def __init__(
        self, directory: Path, leads: Callable[[str], bool], counts: Callable[[str], int]
    ) -> None:
        """``counts``: those of the server at an address since it began; raises OSError."""
        super().__init__(directory, leads)
        self._counts: Final = counts

    def syncs(self) -> int:
        """Of all servers since they began. Raises RuntimeError if one does not tell."""
        try:
            return sum(map(self._counts, self.addresses))
        except OSError as error:
            raise RuntimeError(f"a server does not tell its syncs: {error}") from None


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
    return msgspec.json.decode(ask_text(url, None if body is None else msgspec.json.encode(body)))


def ask_text(url: str, body: bytes | None = None) -> str:
    """An answer to a GET, or to a POST of ``body``; raises OSError."""
    with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=5) as answer:
        text: str = answer.read().decode()
    return text
