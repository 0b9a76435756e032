"""A process with one watcher, for a test that makes it stand still.

    python -m tests.cluster.watcher URL NAME KEYS JOURNAL

It says ``watching`` once it does, and ends when it has seen the value ``end`` under so many keys. Then the
journal has a line of JSON for each event: partition, revision, kind, key and value.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import trio

import quorate

Told = tuple[int, int, str, str, object]
"""Partition, revision, kind, key and value of an event."""


async def watch(client: quorate.Client, name: str, keys: int, started: trio.Event) -> list[Told]:
    """Everything from now on until each of so many keys had the value ``end``. A watch whose buffer was full
    is taken up again where it was."""
    told: list[Told] = []
    ended: set[str] = set()
    position = None
    while True:
        try:
            async with client.map(name).watch(position=position) as events:
                position = position or events.position
                started.set()
                async for event in events:
                    position = events.position
                    told.append((event.partition, event.revision, event.kind, event.key, event.value))
                    if event.value == "end":
                        ended.add(event.key)
                        if len(ended) == keys:
                            return told
        except quorate.WatchOverflow:
            continue


async def tell_all(url: str, name: str, keys: int) -> list[Told]:
    """Watches through a client of its own, and says so."""

    async def tell(started: trio.Event) -> None:
        await started.wait()
        print("watching", flush=True)

    started = trio.Event()
    async with quorate.connect(url, session_timeout=60) as client, trio.open_nursery() as nursery:
        nursery.start_soon(tell, started)
        return await watch(client, name, keys, started)


if __name__ == "__main__":
    events = trio.run(tell_all, sys.argv[1], sys.argv[2], int(sys.argv[3]))
    Path(sys.argv[4]).write_text("".join(json.dumps(one) + "\n" for one in events))
