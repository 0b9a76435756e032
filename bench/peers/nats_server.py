"""NATS servers with JetStream, as Debian packages them. They sync every two minutes, not each write."""

from __future__ import annotations

import re
from pathlib import Path

from bench.peers.serving import Servers, ask, find_program, free_ports, make_directory, node_names, said


def start_nats(directory: Path, nodes: int) -> Servers:
    """Starts a cluster; its target is the client addresses by commas."""
    names = node_names(nodes)
    ports = free_ports(3 * nodes)
    clients, routes, monitors = ports[:nodes], ports[nodes : 2 * nodes], ports[2 * nodes :]
    servers = Servers(directory)
    for number, name in enumerate(names):
        data = make_directory(directory, name)
        file = data / "nats.conf"
        file.write_text(configuration(name, data, clients[number], monitors[number], routes[number], routes))
        servers.start(name, [find_program("nats-server") or "nats-server", "--config", str(file)])
    servers.wait(lambda: all(_serves(port, nodes) for port in monitors))
    servers.addresses = [f"127.0.0.1:{port}" for port in clients]
    return servers


def configuration(name: str, data: Path, client: int, monitor: int, route: int, routes: list[int]) -> str:
    """The file of one server. A single one has no cluster."""
    lines = [
        f"server_name: {name}", f'listen: "127.0.0.1:{client}"', f'http: "127.0.0.1:{monitor}"',
        f'jetstream {{ store_dir: "{data}", max_file_store: 50GB }}',
    ]  # fmt: skip
    if len(routes) > 1:
        urls = ", ".join(f'"nats-route://127.0.0.1:{port}"' for port in routes)
        lines.append(f'cluster {{ name: bench, listen: "127.0.0.1:{route}", routes: [{urls}] }}')
    return "\n".join(lines) + "\n"


def _serves(port: int, nodes: int) -> bool:
    """Whether JetStream answers, and in a cluster, whether its servers have chosen their leader."""
    if ask(f"http://127.0.0.1:{port}/healthz").get("status") != "ok":
        return False
    cluster = ask(f"http://127.0.0.1:{port}/jsz").get("meta_cluster", {})
    return nodes == 1 or (bool(cluster.get("leader")) and cluster.get("cluster_size") == nodes)


def nats_version() -> str:
    """``nats-server 2.9.10``, or without the number where it is not installed."""
    found = re.search(r"v(\d\S*)", said([find_program("nats-server") or "nats-server", "--version"]))
    return f"nats-server {found[1]}" if found else "nats-server"
