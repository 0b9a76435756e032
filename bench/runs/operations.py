"""What callers repeat on Quorate, by the public client, where a workload is made of calls."""

from __future__ import annotations

import random
from typing import Final

from bench.runs.loops import Operation
from bench.runs.results import Shape
from primitives.handle import LINEARIZABLE, SEQUENTIAL
from primitives.map import Map
from router.client import Client, connect
from router.openers import Openers

ENTRIES: Final = "bench-entries"
WRITES_OF_TEN: Final = 1
"""Of ``mixed``."""
_CHUNK_BYTES: Final = 1 << 18
_CHUNK_KEYS: Final = 100


def key(number: int) -> str:
    """The key of an entry."""
    return f"key{number:06}"


def value(shape: Shape) -> bytes:
    """What is put."""
    return b"x" * shape.value_bytes


async def prepare(client: Client, shape: Shape) -> None:
    """Creates what the workload needs, outside the measurement."""
    if shape.workload in ("write", "read", "read-sequential", "mixed", "sessions"):
        await fill(client.map(ENTRIES), shape)
    elif shape.workload == "counter":
        await client.counter("bench-count").set(0)
    elif shape.workload == "queue":
        await client.queue("bench-queue").clear()


async def fill(entries: Map, shape: Shape) -> None:
    """Puts every entry once."""
    chunk = max(1, min(_CHUNK_KEYS, _CHUNK_BYTES // shape.value_bytes))
    for low in range(0, shape.keys, chunk):
        numbers = range(low, min(low + chunk, shape.keys))
        await entries.put_many({key(number): value(shape) for number in numbers})


def operation(client: Openers, url: str, shape: Shape, caller: int) -> Operation:
    """What the given caller repeats. Raises KeyError for a workload that is made otherwise."""
    make = {
        "write": _write, "read": _read, "read-sequential": _read, "mixed": _mixed, "counter": _count,
        "lock": _lock, "lock-contended": _lock, "queue": _queue,
    }  # fmt: skip
    if shape.workload == "sessions":
        return _session(url, shape, caller)
    return make[shape.workload](client, shape, caller)


def _write(client: Openers, shape: Shape, caller: int) -> Operation:
    draw, put, written = random.Random(caller).randrange, client.map(ENTRIES).put, value(shape)
    return lambda: put(key(draw(shape.keys)), written)


def _read(client: Openers, shape: Shape, caller: int) -> Operation:
    level = SEQUENTIAL if shape.workload == "read-sequential" else LINEARIZABLE
    draw, get = random.Random(caller).randrange, client.map(ENTRIES, read=level).get
    return lambda: get(key(draw(shape.keys)))


def _mixed(client: Openers, shape: Shape, caller: int) -> Operation:
    draw = random.Random(~caller).randrange
    write, read = _write(client, shape, caller), _read(client, shape, caller)
    return lambda: write() if draw(10) < WRITES_OF_TEN else read()


def _count(client: Openers, shape: Shape, caller: int) -> Operation:
    return client.counter("bench-count").increment


def _lock(client: Openers, shape: Shape, caller: int) -> Operation:
    lock = client.lock("bench-lock" if shape.workload == "lock-contended" else f"bench-lock-{caller}")

    async def pair() -> None:
        grant = await lock.acquire()
        await grant.release()

    return pair


def _queue(client: Openers, shape: Shape, caller: int) -> Operation:
    queue, offered = client.queue("bench-queue"), value(shape)

    async def pair() -> None:
        await queue.offer(offered)
        await queue.take()

    return pair


def _session(url: str, shape: Shape, caller: int) -> Operation:
    draw = random.Random(caller).randrange

    async def once() -> None:
        async with connect(url) as client:
            await client.map(ENTRIES).get(key(draw(shape.keys)))

    return once
