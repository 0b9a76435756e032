"""Clients that write to every group without pause, and say when each write was acknowledged and who leads.

One JSON array a line on standard output: ``["ack", group, time]``, ``["leaders", {group: node}, time]``. Ends
when it is killed.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Final

import trio

from primitives.errors import QuorateError
from router.client import Client, connect

WRITERS: Final = 3
"""For each group, each with a client of its own."""
PAUSE: Final = 0.004
LOOK_SECONDS: Final = 0.02


async def names_by_group(client: Client) -> dict[int, str]:
    """For each data group, the name of a counter that it keeps."""
    found: dict[int, str] = {}
    shard_map = await client.shard_map()
    groups = {group["group"] for group in (await client.status())["groups"]} - {0}
    number = 0
    while found.keys() < groups:
        number += 1
        name = f"probe {number}"
        await client.counter(name).add(1)
        told = await client.admin("primitive-info", name)
        slot = told["partitions"][0]["slot"]
        found.setdefault(shard_map.group(slot), name)
    return found


async def _write(client: Client, group: int, name: str) -> None:
    counter = client.counter(name)
    while True:
        await counter.add(1)
        _say(["ack", group, time.monotonic()])
        await trio.sleep(PAUSE)


async def _look(client: Client) -> None:
    """Each round asks a node; one that was just killed does not answer, which the client finds out itself."""
    while True:
        with trio.move_on_after(0.5):
            try:
                told = await client.status()
                leaders = {str(group["group"]): group["leader"] for group in told["groups"]}
                _say(["leaders", leaders, time.monotonic()])
            except QuorateError:
                pass  # No node is in reach for the moment, which the next look may be told more of.
        await trio.sleep(LOOK_SECONDS)


def _say(line: list[object]) -> None:
    print(json.dumps(line), flush=True)


async def serve(urls: list[str]) -> None:
    """Writes and looks until it is killed. ``urls``: of the whole cluster, then of each node."""
    async with trio.open_nursery() as nursery:
        async with connect(urls[0]) as first:
            names = await names_by_group(first)
        for _ in range(WRITERS):
            nursery.start_soon(_client, urls[0], names)
        for url in urls[1:]:
            nursery.start_soon(_observer, url)


async def _client(url: str, names: dict[int, str]) -> None:
    async with connect(url) as client, trio.open_nursery() as nursery:
        for group, name in names.items():
            nursery.start_soon(_write, client, group, name)


async def _observer(url: str) -> None:
    async with connect(url) as client:
        await _look(client)


if __name__ == "__main__":
    trio.run(serve, sys.argv[1:])
