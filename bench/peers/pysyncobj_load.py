"""Asks the leader of PySyncObj's nodes to load itself, and says what it says.

``python -m bench.peers.pysyncobj_load --target 127.0.0.1:7000,127.0.0.1:7001 --workload write``
"""

from __future__ import annotations

import socket
from typing import Final

import msgspec

from bench.peers.loading import GRACE_SECONDS, conclude
from bench.peers.pysyncobj_server import status
from bench.runs.recording import BEGUN, LoaderArguments, LoadFailed, print_begun
from bench.runs.results import Load

NAMES: Final = frozenset({"write", "counter", "queue"})
"""Reads ask the process's own memory, which no other system's do."""


def leader(target: str) -> tuple[str, int]:
    """Where the node listens that leads; raises LoadFailed, OSError."""
    for one in target.split(","):
        host, _, port = one.rpartition(":")
        if status((host, int(port)))["leads"]:
            return host, int(port)
    raise LoadFailed(f"none of {target} leads")


def run(arguments: LoaderArguments) -> Load:
    """Has the load made."""
    asked = {
        "ask": "load", "shape": arguments.shape, "seconds": arguments.seconds, "warm_up": arguments.warm_up,
    }  # fmt: skip
    address = leader(arguments.target)
    with socket.create_connection(address) as connection, connection.makefile("rb") as answers:
        connection.settimeout(arguments.seconds + arguments.warm_up + 3 * GRACE_SECONDS)
        connection.sendall(msgspec.json.encode(asked) + b"\n")
        for line in answers:
            if line.strip() == BEGUN.encode():
                print_begun()
                continue
            answer = msgspec.json.decode(line)
            if "load" in answer:
                return msgspec.convert(answer["load"], Load)
            raise LoadFailed(answer.get("failed", "the node answered nothing"))
    raise LoadFailed("the node that leads ended")


def main() -> None:
    """The command line."""
    arguments = LoaderArguments.parse("bench.peers.pysyncobj_load", "Load on PySyncObj.", sorted(NAMES))
    conclude("pysyncobj", lambda: run(arguments), ())


if __name__ == "__main__":
    main()
