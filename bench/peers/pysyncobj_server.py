"""Nodes of PySyncObj, with its default configuration or with shorter periods; see ``pysyncobj_node``."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from bench.peers.serving import Servers, free_ports, make_directory, node_names
from bench.processes.nodes import environment


class Periods(NamedTuple):
    """How often a node does what it does."""

    tick_seconds: float
    """It looks at its queues."""
    append_seconds: float
    """It sends what is new to its followers."""


DEFAULT: Final = Periods(0.05, 0.1)
"""Of the library."""
SHORT: Final = Periods(0.002, 0.002)


def start_pysyncobj(directory: Path, nodes: int, periods: Periods = DEFAULT) -> Servers:
    """Starts a cluster; its target is the control addresses by commas."""
    names = node_names(nodes)
    ports = free_ports(2 * nodes)
    members, controls = ports[:nodes], ports[nodes:]
    servers = Servers(directory)
    for number, name in enumerate(names):
        data = make_directory(directory, name)
        servers.start(name, command(data, members, controls[number], number, periods), environment())
    servers.wait(lambda: _serve(controls))
    servers.addresses = [f"127.0.0.1:{port}" for port in controls]
    return servers


def command(data: Path, members: list[int], control: int, number: int, periods: Periods) -> list[str]:
    """The command line of one node."""
    addresses = [f"127.0.0.1:{port}" for port in members]
    own = addresses.pop(number)
    return [
        sys.executable, "-P", "-m", "bench.peers.pysyncobj_node",
        "--own", own, "--others", ",".join(addresses), "--control", f"{control}",
        "--directory", str(data), "--tick-seconds", f"{periods.tick_seconds:g}",
        "--append-seconds", f"{periods.append_seconds:g}",
    ]  # fmt: skip


def _serve(controls: list[int]) -> bool:
    said = [status(("127.0.0.1", port)) for port in controls]
    return all(one["ready"] for one in said) and sum(one["leads"] for one in said) == 1


def status(address: tuple[str, int]) -> dict[str, bool]:
    """Whether a node is ready, and whether it leads; raises OSError."""
    with socket.create_connection(address, timeout=10) as connection, connection.makefile("rb") as answers:
        connection.sendall(b'{"ask": "status"}\n')
        found = msgspec.json.decode(answers.readline() or b"{}")
    return {name: bool(found.get(name)) for name in ("ready", "leads")}
