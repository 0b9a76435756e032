"""A cluster of ``quorate serve`` processes, each in its namespace, ended for certain."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from bench.processes.network import Network

CLIENT_PORT: Final = 7400
PEER_PORT: Final = 7500
START_SECONDS: Final = 60.0
"""For a node to serve."""
TERM_SECONDS: Final = 30.0
"""For a node to stop when it is asked to."""
STORE_FAILED: Final = "quorate: the store failed"
"""How a node says that its disk did."""
COMMAND: Final = (sys.executable, "-P", "-m", "ops.main")


def environment() -> dict[str, str]:
    """An environment in which this checkout's packages are found, and no cluster of the user's is."""
    kept = {name: value for name, value in os.environ.items() if name != "QUORATE_URL"}
    return {**kept, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}


class Broken(Exception):
    """The cluster did what it must not: a node that does not serve, ends by itself, or forgets."""


@dataclass
class Node:
    """One node: its directory for good, and its process of the moment."""

    name: str
    data: Path
    log: Path
    """Standard error of all its starts."""
    process: trio.Process | None = None
    is_stopped: bool = False
    """By SIGSTOP."""
    prefix: Sequence[str] = ()
    """A command that its command line is given to."""
    may_end: bool = False
    """A fault was at work that a node rightly ends itself of."""

    @property
    def is_up(self) -> bool:
        """Whether its process is there and runs."""
        return self.process is not None and self.process.returncode is None and not self.is_stopped


class Cluster:
    """Nodes on fixed addresses and directories."""

    def __init__(self, network: Network, names: Sequence[str], directory: Path, *, groups: int) -> None:
        self.network: Final = network
        self.directory: Final = directory
        self.groups: Final = groups
        self.nodes: Final[Mapping[str, Node]] = {
            name: Node(name, directory / "data" / name, directory / f"{name}.log") for name in names
        }

        self.lost: Final[set[str]] = set()
        """Nodes that will not come back in this cluster's life."""

    @property
    def names(self) -> list[str]:
        """Of all nodes."""
        return list(self.nodes)

    @property
    def up(self) -> list[str]:
        """The nodes that run."""
        return [node.name for node in self.nodes.values() if node.is_up]

    @property
    def url(self) -> str:
        """Of all nodes."""
        addresses = (f"{self.network.address(name)}:{CLIENT_PORT}" for name in self.nodes)
        return f"quorate://{','.join(addresses)}"

    async def start(self, name: str) -> None:
        """Starts a node that does not run; does not wait for it."""
        node = self.nodes[name]
        cluster = ",".join(f"{one}={self.network.address(one)}:{PEER_PORT}" for one in self.nodes)
        node.is_stopped = False
        with node.log.open("ab") as log:
            node.process = await trio.lowlevel.open_process(
                self.network.command(
                    name, *node.prefix, *COMMAND, "serve", "--name", name, "--data", str(node.data),
                    "--listen", f"{self.network.address(name)}:{CLIENT_PORT}", "--cluster", cluster,
                    "--groups", str(self.groups), "--allow-plaintext", "--until-eof",
                ),
                stdin=-1, stdout=-1, stderr=log, env=environment(),
            )  # fmt: skip

    async def wait_until_ready(self, name: str, seconds: float = START_SECONDS) -> None:
        """Until a node that was just started serves. Raises :class:`Broken` if it does not."""
        process = self.nodes[name].process
        if process is None or process.stdout is None:
            raise Broken(f"{name} is not running")
        said = b""
        with trio.move_on_after(seconds):
            while not said.startswith(b"ready: "):
                data = await process.stdout.receive_some()
                if not data:
                    raise Broken(f"{name} ended instead of serving: {self.last_words(name)}")
                said += data
        if not said.startswith(b"ready: "):
            raise Broken(f"{name} did not serve within {seconds:.0f} s")

    async def start_all(self, names: Sequence[str]) -> None:
        """Starts nodes and waits until all of them serve."""
        for name in names:
            await self.start(name)
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(self.wait_until_ready, name)

    def last_words(self, name: str) -> str:
        """The last line that a node logged."""
        lines = self.nodes[name].log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def signal(self, name: str, number: signal.Signals) -> None:
        """Sends a signal to a node that was started."""
        node = self.nodes[name]
        if node.process is not None and node.process.returncode is None:
            node.process.send_signal(number)
            if number in (signal.SIGSTOP, signal.SIGCONT):
                node.is_stopped = number == signal.SIGSTOP

    def check(self) -> None:
        """Raises :class:`Broken` if a node ended by itself that had no reason to."""
        for name, node in self.nodes.items():
            if node.process is not None and node.process.poll() is not None and not node.may_end:
                code = node.process.returncode
                raise Broken(f"{name} ended by itself with code {code}: {self.last_words(name)}")

    async def kill(self, names: Sequence[str]) -> None:
        """Kills nodes with -9, all of them before it waits for any. Raises what :meth:`check` does."""
        self.check()
        await self._kill(names)

    async def _kill(self, names: Sequence[str]) -> None:
        for name in names:
            self.signal(name, signal.SIGKILL)
        for name in names:
            await self._ended(name)

    async def terminate(self, name: str) -> None:
        """Asks a node to stop; raises :class:`Broken` if it does not, or says that something was wrong."""
        self.signal(name, signal.SIGTERM)
        code = None
        with trio.move_on_after(TERM_SECONDS):
            code = await self._ended(name)
        if code is None:
            raise Broken(f"{name} did not stop within {TERM_SECONDS:.0f} s of TERM")
        if code:
            raise Broken(f"{name} ended with code {code} after TERM: {self.last_words(name)}")

    async def _ended(self, name: str) -> int | None:
        node = self.nodes[name]
        process = node.process
        if process is None:
            return None
        await process.wait()
        node.process = None
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                await pipe.aclose()
        return process.returncode

    async def clear_away(self, name: str) -> str | None:
        """What a node that ended by itself said, or None if it has not; then it can be started again."""
        node = self.nodes[name]
        if node.process is None or node.process.poll() is None:
            return None
        code = await self._ended(name)
        return f"{name} ended by itself with code {code}: {self.last_words(name)}"

    def tracebacks(self) -> list[str]:
        """Nodes that showed one, which nobody is to see."""
        return [name for name, node in self.nodes.items()
                if node.log.exists() and "Traceback" in node.log.read_text(errors="replace")]  # fmt: skip

    async def end(self) -> None:
        """Kills whatever runs."""
        with trio.CancelScope(shield=True):
            await self._kill(self.names)


@asynccontextmanager
async def a_cluster(
    network: Network, names: Sequence[str], directory: Path, *, groups: int
) -> AsyncIterator[Cluster]:
    """A cluster whose nodes are started by whoever asks for it, and killed in the end."""
    cluster = Cluster(network, names, directory, groups=groups)
    await trio.to_thread.run_sync(partial((directory / "data").mkdir, parents=True, exist_ok=True))
    try:
        yield cluster
    finally:
        await cluster.end()


def remove(directory: Path) -> None:
    """Removes an episode's directory."""
    shutil.rmtree(directory)
