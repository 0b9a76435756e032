"""What a large state costs a node: ``python -m bench.large --megabytes 1024``.

Writes so much into a map on one node, then tells the node's memory and disk, kills and restarts it, and tells
how long it takes to serve again; the same after a planned stop.
"""

from __future__ import annotations

import argparse
import signal
import time
from pathlib import Path

import trio

from bench.catchup import Nodes, nodes, write
from router.client import connect


def directory_mb(path: Path) -> float:
    """Size of all files below."""
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file()) / 1e6


async def _fill(cluster: Nodes, arguments: argparse.Namespace) -> None:
    entries = arguments.megabytes * 1_000_000 // arguments.value_bytes
    async with connect(cluster.url("n1")) as client:
        took = await write(client, entries, arguments.value_bytes, entries)
        print(f"{entries} entries of {arguments.value_bytes} bytes written in {took:.0f} s", flush=True)


async def _read(cluster: Nodes, arguments: argparse.Namespace) -> None:
    entries = arguments.megabytes * 1_000_000 // arguments.value_bytes
    async with connect(cluster.url("n1")) as client:
        words = client.map("words")
        for number in range(0, entries, max(entries // 2000, 1)):
            if await words.get(f"key-{number:07}") is None:
                raise SystemExit(f"entry {number} is gone")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--value-bytes", type=int, default=4000)
    parser.add_argument("--groups", type=int, default=16)
    parser.add_argument("--port", type=int, default=30120)
    arguments = parser.parse_args()
    with nodes(arguments.port, arguments.groups, ("n1",)) as cluster:
        trio.run(_fill, cluster, arguments)
        size_mb = directory_mb(cluster.data)
        print(f"memory {cluster.memory_mb('n1'):.0f} MB, disk {size_mb:.0f} MB", flush=True)
        for number in (signal.SIGKILL, signal.SIGTERM):
            cluster.stop("n1", number)
            began = time.monotonic()
            cluster.start("n1")
            cluster.wait("n1")
            print(f"serves {time.monotonic() - began:.1f} s after {number.name}", flush=True)
            trio.run(_read, cluster, arguments)
            print(f"memory {cluster.memory_mb('n1'):.0f} MB after reads all over it", flush=True)


if __name__ == "__main__":
    main()
