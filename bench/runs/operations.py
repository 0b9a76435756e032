"""What callers repeat on Quorate, by the public client, where a workload is made of calls."""

from __future__ import annotations

import random
from typing import Final

from bench.runs.loops import Operation
from bench.runs.recording import key_name, key_names
from bench.runs.results import Shape
from primitives.handle import LINEARIZABLE, SEQUENTIAL, ReadLevel
from primitives.limits import PARTITIONS_DEFAULT, PARTITIONS_MAX
from primitives.map import Map
from router.client import Client, connect
from router.openers import Openers

ENTRIES: Final = "bench-entries"
PARTITIONS_A_GROUP: Final = 4
"""Partitions lie in groups by chance: with so many, one group of fifty has none."""
WRITES_OF_TEN: Final = 1
"""Of ``mixed``."""
_CHUNK_BYTES: Final = 1 << 18
_CHUNK_KEYS: Final = 100


def value(shape: Shape) -> bytes:
    """What is put."""
    return b"x" * shape.value_bytes


async def prepare(client: Client, shape: Shape) -> None:
    """Creates what the workload needs, outside the measurement."""
    if shape.workload in ("write", "read", "read-sequential", "mixed", "sessions"):
        await fill(entries(client, shape), shape)
    elif shape.workload == "counter":
        await client.counter("bench-count").set(0)
    elif shape.workload == "queue":
        await client.queue("bench-queue").clear()


def entries(client: Openers, shape: Shape, read: ReadLevel = LINEARIZABLE) -> Map:
    """The map of all entries: as users make it, but with partitions enough that nearly every group has some,
    where there are more groups than a map has partitions."""
    if shape.groups <= PARTITIONS_DEFAULT:
        return client.map(ENTRIES, read=read)
    partitions = min(PARTITIONS_MAX, PARTITIONS_A_GROUP * shape.groups)
    return client.map(f"{ENTRIES}-{partitions}", partitions=partitions, read=read)


async def fill(target: Map, shape: Shape) -> None:
    """Puts every entry once."""
    chunk = max(1, min(_CHUNK_KEYS, _CHUNK_BYTES // shape.value_bytes))
    for low in range(0, shape.keys, chunk):
        numbers = range(low, min(low + chunk, shape.keys))
        await target.put_many({key_name(number): value(shape) for number in numbers})


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
    draw, put, written = random.Random(caller).random, entries(client, shape).put, value(shape)
    keys, count = key_names(shape.keys), shape.keys
    return lambda: put(keys[int(draw() * count)], written)


def _read(client: Openers, shape: Shape, caller: int) -> Operation:
    level = SEQUENTIAL if shape.workload == "read-sequential" else LINEARIZABLE
    draw, get = random.Random(caller).random, entries(client, shape, level).get
    keys, count = key_names(shape.keys), shape.keys
    return lambda: get(keys[int(draw() * count)])


def _mixed(client: Openers, shape: Shape, caller: int) -> Operation:
    draw = random.Random(~caller).random
    write, read = _write(client, shape, caller), _read(client, shape, caller)
    return lambda: write() if draw() * 10 < WRITES_OF_TEN else read()


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
            await entries(client, shape).get(key_name(draw(shape.keys)))

    return once
