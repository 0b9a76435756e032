"""A load on etcd from Python: aetcd, which is grpcio's asyncio client under a plain face, on one connection.

``python -m bench.peers.etcd_load --target 127.0.0.1:2379 --workload write``
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aetcd
from aetcd.exceptions import ClientError

from bench.peers.etcd_server import etcd_leads, etcd_serves
from bench.peers.fanout import Board, measure_fanout, watchers
from bench.peers.loading import AsyncCall, Keys, batches, conclude, measure_async, value_of
from bench.peers.recovery import Side, measure_recovery
from bench.runs.recording import LoaderArguments, key_name, settle_process
from bench.runs.results import Load, Shape

PREFIX: Final = "bench/entries/"
COUNTER: Final = b"bench/count"
LOCK_TTL_SECONDS: Final = 60
RECOVERY_TIMEOUT_SECONDS: Final = 1
"""Of a write, while servers die: etcd drops one that comes to a follower without a leader."""
BATCH_BYTES_MAX: Final = 1_000_000
"""etcd refuses a request of more than 1.5 MiB."""


def connect(target: str, number: int = 0, **options: Any) -> Any:
    """A client of one of the addresses; of the first, the leader's, unless said otherwise."""
    addresses = target.split(",")
    host, _, port = addresses[number % len(addresses)].rpartition(":")
    return aetcd.Client(host=host, port=int(port), options=options)


def connect_apart(target: str, number: int = 0) -> Any:
    """A client with a connection of its own; gRPC shares them otherwise."""
    return connect(target, number, **{"grpc.use_local_subchannel_pool": 1})


def key(name: str) -> bytes:
    """Where an entry is."""
    return f"{PREFIX}{name}".encode()


async def prepare(client: Any, shape: Shape) -> None:
    """Writes every key once."""
    value, put = value_of(shape), client.transactions.put
    for names in batches(shape, BATCH_BYTES_MAX):
        await client.transaction(compare=[], success=[put(key(name), value) for name in names], failure=[])
    await client.put(COUNTER, b"0")


def write(client: Any, shape: Shape, caller: int) -> AsyncCall:
    """Puts a key."""
    keys, value = Keys(shape, caller), value_of(shape)
    return lambda: client.put(key(keys.name()), value)


def read(client: Any, shape: Shape, caller: int) -> AsyncCall:
    """Gets a key; linearizable is etcd's default."""
    keys = Keys(shape, caller)
    return lambda: client.get(key(keys.name()))


def read_sequential(client: Any, shape: Shape, caller: int) -> AsyncCall:
    """Gets a key as the server that is asked has it. On one connection to one server it never goes back."""
    keys = Keys(shape, caller)
    return lambda: client.get(key(keys.name()), serializable=True)


def mixed(client: Any, shape: Shape, caller: int) -> AsyncCall:
    """Nine reads to a write."""
    keys, reading, writing = Keys(shape, caller), read(client, shape, caller), write(client, shape, caller)
    return lambda: writing() if keys.writes() else reading()


def counter(client: Any, shape: Shape, caller: int) -> AsyncCall:
    """Adds one to a counter by compare and swap, as etcd has no such command."""

    async def increment() -> None:
        while True:
            found = await client.get(COUNTER)
            if await client.replace(COUNTER, found.value, b"%d" % (int(found.value) + 1)):
                return

    return increment


def lock(client: Any, shape: Shape, caller: int) -> AsyncCall:
    """A lock of the caller's own, by the client's recipe."""
    return _pairs(client, caller)


def lock_contended(client: Any, shape: Shape, caller: int) -> AsyncCall:
    """One lock for all."""
    return _pairs(client, 0)


def _pairs(client: Any, number: int) -> AsyncCall:
    name = b"bench/lock-%d" % number

    async def pair() -> None:
        held = client.lock(name, ttl=LOCK_TTL_SECONDS)
        if not await held.acquire(timeout=None) or not await held.release():
            raise ClientError("the lock was not held")

    return pair


def sessions(target: str, shape: Shape, caller: int) -> AsyncCall:
    """A client of its own for one read."""
    keys = Keys(shape, caller)

    async def session() -> None:
        async with connect_apart(target) as own:
            await own.get(key(keys.name()))

    return session


WORKLOADS: Final[dict[str, Callable[[Any, Shape, int], AsyncCall]]] = {
    "write": write, "read": read, "read-sequential": read_sequential, "mixed": mixed, "counter": counter,
    "lock": lock, "lock-contended": lock_contended,
}  # fmt: skip
NAMES: Final = frozenset({*WORKLOADS, "sessions", "fanout", "recovery"})


async def fan_out(client: Any, arguments: LoaderArguments) -> Load:
    """Watchers, each on a connection of its own to one of the servers, and one who puts."""
    numbers, name, value = watchers(), key(key_name(0)), value_of(arguments.shape)
    board, ready = Board(len(numbers)), asyncio.Semaphore(0)
    clients = [connect_apart(arguments.target, number) for number in numbers]

    async def watch(number: int) -> None:
        await clients[number].connect()
        changes = await clients[number].watch(name)
        ready.release()
        async for _ in changes:
            board.told(number)

    async with asyncio.TaskGroup() as group:
        watching = [group.create_task(watch(number)) for number in numbers]
        for _ in numbers:
            await ready.acquire()
        load = await measure_fanout(arguments, board, lambda: client.put(name, value))
        for task in watching:
            task.cancel()
    for own in clients:
        await own.close()
    return load


async def recover(arguments: LoaderArguments) -> Load:
    """One writer who knows all servers, and goes on with another one where gRPC cannot reach the first."""
    *most, last = arguments.target.split(",")
    host, _, port = last.rpartition(":")
    # The client takes one host and port, gRPC any number of addresses.
    everywhere = ":".join(["ipv4", ",".join([*most, host])])
    value = value_of(arguments.shape)
    options = {"grpc.initial_reconnect_backoff_ms": 100, "grpc.max_reconnect_backoff_ms": 1000}
    client = aetcd.Client(everywhere, int(port), timeout=RECOVERY_TIMEOUT_SECONDS, options=options)
    async with client:

        def put(number: int) -> Awaitable[object]:
            written: Awaitable[object] = client.put(key(key_name(number)), value)
            return written

        side = Side(put, etcd_leads, etcd_serves, (ClientError,))
        return await measure_recovery(arguments, side)


async def run(arguments: LoaderArguments) -> Load:
    """Makes the load."""
    if arguments.shape.workload == "recovery":
        return await recover(arguments)
    shape = arguments.shape
    async with connect(arguments.target) as client:
        await prepare(client, shape)
        if shape.workload == "fanout":
            return await fan_out(client, arguments)
        if shape.workload == "sessions":
            calls = [sessions(arguments.target, shape, caller) for caller in range(shape.callers)]
        else:
            calls = [WORKLOADS[shape.workload](client, shape, caller) for caller in range(shape.callers)]
        return await measure_async(arguments, calls, (ClientError,))


def main() -> None:
    """The command line."""
    arguments = LoaderArguments.parse("bench.peers.etcd_load", "Load on etcd by aetcd.", sorted(NAMES))
    settle_process()
    conclude("etcd", lambda: asyncio.run(run(arguments)), (ClientError,))


if __name__ == "__main__":
    main()
