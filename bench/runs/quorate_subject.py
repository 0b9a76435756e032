"""Quorate as one of the systems that are measured: ``quorate dev``, as anybody would start it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import trio

from bench.processes.nodes import environment
from bench.runs import loader
from bench.runs.ports import free_port
from bench.runs.recording import LoaderArguments
from bench.runs.results import Shape
from bench.runs.subjects import Cluster
from primitives.errors import QuorateError
from router.client import connect
from router.url import parse_url

READY_SECONDS: Final = 120.0
"""For a cluster to serve."""
STOP_SECONDS: Final = 30.0
ANSWER_SECONDS: Final = 30.0
"""For all nodes to tell their status."""
_PEER_PORTS: Final = 100
"""From a node's client port to its peer port."""
_NODE: Final = re.compile(r"node: (\S+) pid=(\d+) ")
_READY: Final = re.compile(r"ready: (\S+)")


class DevCluster:
    """A ``quorate dev`` that runs. A thread follows what it says, since nodes that die are started again."""

    def __init__(self, directory: Path, nodes: int, groups: int) -> None:
        port = free_port([*range(nodes), *range(_PEER_PORTS, _PEER_PORTS + nodes)])
        self._errors: Final = directory / "dev.log"
        with self._errors.open("wb") as errors:
            self._process: Final = subprocess.Popen(
                [sys.executable, "-P", "-m", "ops.main", "dev", "--nodes", f"{nodes}", "--port", f"{port}",
                 "--groups", f"{groups}", "--data", directory / "data"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True,
                env=environment(), process_group=0,
            )  # fmt: skip
        self._lock: Final = threading.Lock()
        self._pids: Final[dict[str, int]] = {}
        self._url = ""
        self._is_told: Final = threading.Event()
        """It serves, or has ended."""
        self._reader: Final = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()

    def _follow(self) -> None:
        for line in self._process.stdout or ():
            node, ready = _NODE.match(line), _READY.match(line)
            with self._lock:
                if node:
                    self._pids[node[1]] = int(node[2])
                elif ready:
                    self._url = ready[1]
                    self._is_told.set()
        self._is_told.set()

    @property
    def pids(self) -> list[int]:
        """Those of the nodes, as they are now."""
        with self._lock:
            return [pid for _, pid in sorted(self._pids.items(), key=lambda node: (len(node[0]), node[0]))]

    @property
    def target(self) -> str:
        """The URL of all nodes."""
        return self._url

    def syncs(self) -> int:
        """Of the logs of all nodes since they began. Raises RuntimeError if a node does not tell."""
        try:
            return trio.run(_syncs, parse_url(self._url).addresses)
        except (QuorateError, OSError, trio.TooSlowError) as error:
            raise RuntimeError(f"a node does not tell its syncs: {error}") from None

    def wait(self) -> None:
        """Until all of it serves. Raises RuntimeError if it does not."""
        if not self._is_told.wait(READY_SECONDS):
            raise RuntimeError(f"quorate dev did not serve within {READY_SECONDS:g} s: {self._last_words()}")
        if not self._url:
            raise RuntimeError(f"quorate dev ended instead of serving: {self._last_words()}")

    def _last_words(self) -> str:
        lines = self._errors.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def stop(self) -> None:
        """Ends the nodes and waits for that; safe to repeat."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()  # The nodes end when it is gone.
                self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()


async def _syncs(addresses: Sequence[str]) -> int:
    """Each node is asked by itself."""
    total = 0
    with trio.fail_after(ANSWER_SECONDS):
        for address in addresses:
            async with connect(f"quorate://{address}") as client:
                total += (await client.status())["syncs"]
    return total


def product() -> str:
    """The version of this program, and whether its core is compiled."""
    core = find_spec("raftgroup.replica")
    compiled = core is not None and core.origin is not None and not core.origin.endswith(".py")
    return version("quorate") + (", core compiled" if compiled else ", interpreted")


class QuorateSubject:
    """A cluster of ``quorate dev``, loaded by the Python client."""

    workloads: Final = frozenset(loader.WORKLOADS)

    def __init__(self, name: str, title: str, nodes: int | None = None) -> None:
        """``nodes``: always so many, whatever is asked for."""
        self.name: Final = name
        self.title: Final = title
        self.server: Final = name
        self.note: Final = ""
        self._nodes: Final = nodes

    def missing(self) -> str | None:
        """Never: it is this program."""
        return None

    def version(self) -> str:
        """Of both."""
        return product()

    def start(self, directory: Path, nodes: int, groups: int) -> DevCluster:
        """Starts it; see :class:`~bench.runs.subjects.Subject`."""
        directory.mkdir(parents=True, exist_ok=True)
        cluster = DevCluster(directory, self._nodes or nodes, groups)
        try:
            cluster.wait()
        except BaseException:
            cluster.stop()
            raise
        return cluster

    def load(self, cluster: Cluster, shape: Shape, seconds: float, warm_up: float) -> list[str]:
        """The command of the loader."""
        return LoaderArguments(
            target=cluster.target, shape=shape, seconds=seconds, warm_up=warm_up, pids=tuple(cluster.pids)
        ).command(loader.MODULE)


QUORATE: Final = QuorateSubject("quorate", "Quorate")
QUORATE_ONE: Final = QuorateSubject("quorate-one", "Quorate, one node", nodes=1)
