"""Nodes of the bare pipeline: followers first, then the leader, which connects to them."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from bench.peers.serving import Servers, free_ports, make_directory, node_names
from bench.processes.nodes import environment


def start_pipeline(directory: Path, nodes: int) -> Servers:
    """Starts a cluster; its target is the leader's address. The leader is the last of its processes."""
    names = node_names(nodes)
    ports = free_ports(nodes)
    servers = Servers(directory)
    for name, port in zip(names[:-1], ports[:-1], strict=True):
        servers.start(name, command(make_directory(directory, name), port), environment())
    servers.wait(lambda: all(_listens(port) for port in ports[:-1]))
    leader = command(make_directory(directory, names[-1]), ports[-1], ports[:-1])
    servers.start(names[-1], leader, environment())
    servers.wait(lambda: _listens(ports[-1]))
    servers.addresses = [f"127.0.0.1:{ports[-1]}"]
    return servers


def command(data: Path, port: int, followers: list[int] | None = None) -> list[str]:
    """The command line of a follower, or of the leader of ``followers``."""
    module = "bench.peers.pipeline"
    found = [sys.executable, "-P", "-m", module, "--directory", str(data), "--port", f"{port}"]
    return found if followers is None else [*found, "--followers", ",".join(map(str, followers))]


def _listens(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
