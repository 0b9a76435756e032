"""etcd's servers, as Debian packages them: defaults, so every write is synced before it is acknowledged."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from bench.peers.serving import (
    CountingServers,
    Servers,
    ask,
    ask_text,
    find_program,
    free_ports,
    make_directory,
    node_names,
    said,
)

GO_MODULE: Final = Path(__file__).parent / "native" / "etcd" / "go.mod"
SYNCS: Final = re.compile(
    r"^etcd_disk_(?:wal_fsync|backend_commit)_duration_seconds_count (\S+)$", re.MULTILINE
)
QUOTA_BYTES: Final = 8 << 30
"""Of the database; the default of 2 GB would end long loads of large values."""


def start_etcd(directory: Path, nodes: int) -> Servers:
    """Starts a cluster; its target is the client addresses by commas, the leader's first. Servers that are
    killed are started again."""
    names = node_names(nodes)
    ports = free_ports(2 * nodes)
    clients, peers = ports[:nodes], ports[nodes:]
    servers = CountingServers(directory, etcd_leads, etcd_syncs)
    for number, name in enumerate(names):
        servers.start(name, command(names, clients, peers, number, make_directory(directory, name)))
    servers.addresses = [f"127.0.0.1:{port}" for port in clients]
    servers.wait(lambda: all(map(etcd_serves, servers.addresses)))
    servers.keep()
    return servers


def command(names: list[str], clients: list[int], peers: list[int], number: int, data: Path) -> list[str]:
    """The command line of one server."""
    cluster = ",".join(f"{name}=http://127.0.0.1:{port}" for name, port in zip(names, peers, strict=True))
    client, peer = f"http://127.0.0.1:{clients[number]}", f"http://127.0.0.1:{peers[number]}"
    return [
        find_program("etcd") or "etcd", "--name", names[number], "--data-dir", str(data),
        "--listen-client-urls", client, "--advertise-client-urls", client,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
        "--initial-cluster", cluster, "--initial-cluster-state", "new",
        "--quota-backend-bytes", str(QUOTA_BYTES), "--logger", "zap", "--log-level", "warn",
    ]  # fmt: skip


def etcd_serves(address: str) -> bool:
    """Whether a server answers a linearizable read; raises OSError."""
    return bool(ask(f"http://{address}/health").get("health") == "true")


def etcd_leads(address: str) -> bool:
    """Whether a server leads; raises OSError."""
    status = ask(f"http://{address}/v3/maintenance/status", {})
    return bool(status["leader"] == status["header"]["member_id"])


def etcd_syncs(address: str) -> int:
    """Syncs of a server's log and commits of its database since it began; raises OSError."""
    found = SYNCS.findall(ask_text(f"http://{address}/metrics"))
    return sum(int(float(count)) for count in found)


def etcd_version() -> str:
    """``etcd 3.4.23``, or without the number where it is not installed."""
    found = re.search(r"etcd Version: (\S+)", said([find_program("etcd") or "etcd", "--version"]))
    return f"etcd {found[1]}" if found else "etcd"


def etcd_go_version() -> str:
    """The same, with the client that is in the module's requirements."""
    found = re.search(r"^\s*go\.etcd\.io/etcd/client/v3 v(\S+)", GO_MODULE.read_text(), re.MULTILINE)
    return f"{etcd_version()}, client/v3{f' {found[1]}' if found else ''} (Go)"
