"""ZooKeeper's servers, as Debian packages them: forceSync is their default, the log's directory its own."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Final

from bench.peers.serving import (
    CountingServers,
    Servers,
    find_program,
    free_ports,
    make_directory,
    node_names,
    said,
)

JARS: Final = Path(os.environ.get("ZOOKEEPER_JARS", "/usr/share/java"))
"""Where the packages put their jars, ``zookeeper.jar`` among them, which names those that it needs."""
CLASSPATH: Final = f"{JARS}/zookeeper.jar:{JARS}/slf4j-simple.jar"
HEAP: Final = "-Xmx1000m"
"""What ZooKeeper's own scripts set."""
MAIN: Final = "org.apache.zookeeper.server.quorum.QuorumPeerMain"


def start_zookeeper(directory: Path, nodes: int) -> Servers:
    """Starts a cluster; its target is the client addresses by commas, the leader's first. Servers that are
    killed are started again."""
    names = node_names(nodes)
    ports = free_ports(3 * nodes)
    clients = ports[:nodes]
    servers = CountingServers(directory, zookeeper_leads, zookeeper_syncs)
    for number, name in enumerate(names):
        data = make_directory(directory, name)
        (data / "snapshots").mkdir()
        (data / "snapshots" / "myid").write_text(f"{number + 1}\n")
        file = data / "zoo.cfg"
        file.write_text(configuration(data, clients[number], ports[nodes : 2 * nodes], ports[2 * nodes :]))
        servers.start(name, command(file))
    servers.addresses = [f"127.0.0.1:{port}" for port in clients]
    servers.wait(lambda: all(map(zookeeper_serves, servers.addresses)))
    servers.keep()
    return servers


def configuration(data: Path, client: int, quorum: list[int], election: list[int]) -> str:
    """The file of one server. A single one runs alone, without the quorum's ports."""
    lines = [
        f"dataDir={data}/snapshots", f"dataLogDir={data}/log", f"clientPort={client}",
        "clientPortAddress=127.0.0.1", "tickTime=2000", "initLimit=10", "syncLimit=5", "maxClientCnxns=0",
        "admin.enableServer=false", "4lw.commands.whitelist=srvr,mntr",
    ]  # fmt: skip
    if len(quorum) > 1:
        lines += [
            f"server.{number + 1}=127.0.0.1:{ports[0]}:{ports[1]}"
            for number, ports in enumerate(zip(quorum, election, strict=True))
        ]
    return "\n".join(lines) + "\n"


def command(file: Path) -> list[str]:
    """The command line of one server."""
    return [
        find_program("java") or "java", HEAP, "-cp", CLASSPATH,
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dzookeeper.jmx.log4j.disable=true",
        MAIN, str(file),
    ]  # fmt: skip


def zookeeper_serves(address: str) -> bool:
    """Whether a server is part of the cluster; raises OSError."""
    return _mode(address) is not None


def zookeeper_leads(address: str) -> bool:
    """Whether a server leads; raises OSError."""
    return _mode(address) in ("leader", "standalone")


def _mode(address: str) -> str | None:
    """``leader``, ``follower`` or ``standalone``; None of a server that does not serve. Raises OSError."""
    found = re.search(r"^Mode: (\w+)$", _say(address, "srvr"), re.MULTILINE)
    return found[1] if found else None


def zookeeper_syncs(address: str) -> int:
    """Syncs of a server's log since it began; raises OSError."""
    found = re.search(r"^zk_cnt_fsynctime\s+(\d+)$", _say(address, "mntr"), re.MULTILINE)
    return int(found[1]) if found else 0


def _say(address: str, word: str) -> str:
    """The answer to a command of four letters; raises OSError."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(word.encode())
        return b"".join(iter(lambda: connection.recv(4096), b"")).decode()


def zookeeper_version() -> str:
    """``ZooKeeper 3.8.0, java 17.0.15``, or without the numbers where they are not installed."""
    names = " ".join(path.name for path in JARS.glob("zookeeper-[0-9]*.jar"))
    found = re.search(r"zookeeper-(\d[\d.]*\d)\.jar", names)
    java = re.search(r'version "([^"]+)"', said([find_program("java") or "java", "-version"]))
    return f"ZooKeeper{f' {found[1]}' if found else ''}, java{f' {java[1]}' if java else ''}"
