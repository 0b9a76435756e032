"""``quorate dev``: a cluster on this machine, each node a process of its own."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from ops.config import Leaders
from ops.exits import DONE, FAILED, INTERRUPTED, USAGE, Failure, leaf
from ops.supervisor import PAUSE_S, Ended, Event, Program, Ready, Started, how_it_ended, supervise
from primitives.errors import QuorateError
from router.client import connect

HOST: Final = "127.0.0.1"
PEER_PORTS: Final = 100
"""From a node's client port to its peer port."""
_PROBE_S: Final = 5.0
_PAUSE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class DevNode:
    """One node of the cluster."""

    name: str
    client_port: int
    directory: Path

    @property
    def peer_port(self) -> int:
        """Where the other nodes reach it."""
        return self.client_port + PEER_PORTS


@dataclass(frozen=True, slots=True)
class DevOptions:
    """What ``quorate dev`` was asked for."""

    nodes: int
    port: int
    data: Path | None
    groups: int
    replicas: int | None
    leaders: Leaders
    restart: bool
    log_level: str


def layout(options: DevOptions, directory: Path) -> list[DevNode]:
    """The nodes: n1, n2, … on consecutive ports, each with its own directory under ``directory``."""
    return [
        DevNode(f"n{number + 1}", options.port + number, directory / f"n{number + 1}")
        for number in range(options.nodes)
    ]


def command(node: DevNode, nodes: Sequence[DevNode], options: DevOptions) -> list[str]:
    """The command that runs ``node``."""
    cluster = ",".join(f"{one.name}={HOST}:{one.peer_port}" for one in nodes)
    replicas = [] if options.replicas is None else ["--replicas", str(options.replicas)]
    return [
        sys.executable, "-P", "-m", "ops.main", "serve", "--name", node.name, "--data", str(node.directory),
        "--listen", f"{HOST}:{node.client_port}", "--peer", f"{HOST}:{node.peer_port}", "--cluster", cluster,
        "--groups", str(options.groups), *replicas, "--leaders", options.leaders,
        "--log-level", options.log_level, "--until-eof",
    ]  # fmt: skip


@contextmanager
def data_directory(data: Path | None) -> Iterator[Path]:
    """``data``, which stays, or a temporary directory, which is removed in the end."""
    if data is not None:
        yield data.absolute()
        return
    directory = Path(tempfile.mkdtemp(prefix="quorate-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def serves(address: str) -> bool:
    """Whether the node at ``address`` serves clients and knows a leader of every group."""
    with trio.move_on_after(_PROBE_S):
        try:
            async with connect(f"quorate://{address}") as client:
                return bool((await client.status())["ready"])
        except (QuorateError, OSError, BaseExceptionGroup) as error:
            if not isinstance(leaf(error), QuorateError | OSError):
                raise
    return False


async def _until_served(address: str) -> None:
    while True:
        if await serves(address):
            return
        await trio.sleep(_PAUSE_S)


class Cluster:
    """The running cluster: follows what its processes do, and says so."""

    def __init__(self, nodes: Sequence[DevNode]) -> None:
        self._nodes: Final = {node.name: node for node in nodes}
        self._waiting: Final = set(self._nodes)
        """Nodes that have not been ready yet."""

    async def follow(self, events: trio.MemoryReceiveChannel[Event]) -> None:
        """Prints what happens until there is nothing left that could. Raises Failure if a node ends before
        it has ever been ready."""
        async with trio.open_nursery() as nursery:
            async for event in events:
                node = self._nodes[event.name]
                if isinstance(event, Started):
                    addresses = f"client={HOST}:{node.client_port} peer={HOST}:{node.peer_port}"
                    _say(f"node: {node.name} pid={event.pid} {addresses} data={node.directory}")
                elif isinstance(event, Ended):
                    self._ended(event)
                elif isinstance(event, Ready) and event.name in self._waiting:
                    self._waiting.discard(event.name)
                    if not self._waiting:
                        nursery.start_soon(self._announce)
        raise Failure("no node is left")

    def _ended(self, event: Ended) -> None:
        how = how_it_ended(event.code)
        if event.name in self._waiting:
            # A node that refuses to start has said why, on the standard error that it shares with us.
            said = event.code in (FAILED, USAGE)
            raise Failure("" if said else f"{event.name} {how} before it was ready")
        after = "" if event.pause_s is None else f"; starting it again in {event.pause_s:g} s"
        sys.stderr.write(f"quorate: {event.name} (pid {event.pid}) {how}{after}\n")

    async def _announce(self) -> None:
        """Says ``ready:`` once every node serves clients."""
        addresses = [f"{HOST}:{node.client_port}" for node in self._nodes.values()]
        for address in addresses:
            await _until_served(address)
        _say(f"ready: quorate://{','.join(addresses)}")


async def run(options: DevOptions, *, pause_s: float = PAUSE_S) -> int:
    """Runs the cluster until interrupted, or until a node cannot start; the exit code."""
    if options.port + PEER_PORTS + options.nodes > 65536 or options.port < 1:
        raise Failure(f"--port {options.port}: the nodes' ports would leave 1 to 65535", USAGE)
    with data_directory(options.data) as directory:
        nodes = layout(options, directory)
        directory.mkdir(parents=True, exist_ok=True)
        sending, receiving = trio.open_memory_channel[Event](len(nodes))
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(Cluster(nodes).follow, receiving)
                async with sending:
                    for node in nodes:
                        program = Program(node.name, command(node, nodes, options))
                        nursery.start_soon(_supervise, program, sending.clone(), options.restart, pause_s)
                number = await anext(signals)
                nursery.cancel_scope.cancel()
    return INTERRUPTED if number == signal.SIGINT else DONE


async def _supervise(
    program: Program, events: trio.MemorySendChannel[Event], restart: bool, pause_s: float
) -> None:
    async with events:
        await supervise(program, events, restart=restart, pause_s=pause_s)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
