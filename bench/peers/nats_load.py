"""A load on NATS from Python: nats-py, on a key-value bucket of JetStream with a replica on each node.

``python -m bench.peers.nats_load --target 127.0.0.1:4222 --workload write``
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import nats
from nats.errors import Error
from nats.js.api import RetentionPolicy, StreamConfig

from bench.peers.fanout import Board, measure_fanout, watchers
from bench.peers.loading import AsyncCall, Keys, conclude, measure_async, value_of
from bench.runs.recording import LoaderArguments, key_name, settle_process
from bench.runs.results import Load, Shape

BUCKET: Final = "bench"
QUEUE: Final = "bench-queue"
TIMEOUT_SECONDS: Final = 30.0


async def connect(target: str, number: int = 0) -> Any:
    """A client of one of the addresses."""
    addresses = target.split(",")
    address = addresses[number % len(addresses)]
    return await nats.connect(f"nats://{address}", allow_reconnect=False, max_reconnect_attempts=1)


async def prepare(context: Any, shape: Shape) -> Any:
    """The bucket, with every key written once."""
    bucket = await context.create_key_value(bucket=BUCKET, replicas=shape.nodes, history=1)
    value = value_of(shape)
    for low in range(0, shape.keys, 100):
        numbers = range(low, min(low + 100, shape.keys))
        await asyncio.gather(*(bucket.put(key_name(number), value) for number in numbers))
    return bucket


def write(bucket: Any, shape: Shape, caller: int) -> AsyncCall:
    """Puts a key."""
    keys, value = Keys(shape, caller), value_of(shape)
    return lambda: bucket.put(keys.name(), value)


def read(bucket: Any, shape: Shape, caller: int) -> AsyncCall:
    """Gets a key from the leader of the bucket's stream, which asks no quorum."""
    keys = Keys(shape, caller)
    return lambda: bucket.get(keys.name())


def mixed(bucket: Any, shape: Shape, caller: int) -> AsyncCall:
    """Nine reads to a write."""
    keys, reading, writing = Keys(shape, caller), read(bucket, shape, caller), write(bucket, shape, caller)
    return lambda: writing() if keys.writes() else reading()


WORKLOADS: Final[dict[str, Callable[[Any, Shape, int], AsyncCall]]] = {
    "write": write, "read": read, "mixed": mixed,
}  # fmt: skip
NAMES: Final = frozenset({*WORKLOADS, "queue", "sessions", "fanout"})


async def queues(context: Any, shape: Shape) -> list[AsyncCall]:
    """Callers who share a work queue: they publish a message, take one, and acknowledge that. Each takes by a
    subscription of its own to one durable consumer: what one asked for is never another's."""
    await context.add_stream(
        StreamConfig(
            name=QUEUE, subjects=[QUEUE], retention=RetentionPolicy.WORK_QUEUE, num_replicas=shape.nodes
        )
    )
    value = value_of(shape)

    def pairs(subscription: Any) -> AsyncCall:
        async def pair() -> None:
            await context.publish(QUEUE, value)
            (message,) = await subscription.fetch(1, timeout=TIMEOUT_SECONDS)
            await message.ack_sync()

        return pair

    return [pairs(await context.pull_subscribe(QUEUE, durable="bench")) for _ in range(shape.callers)]


def session(target: str, shape: Shape, caller: int) -> AsyncCall:
    """A client of its own for one read."""
    keys = Keys(shape, caller)

    async def one() -> None:
        own = await connect(target, caller)
        try:
            bucket = await own.jetstream(timeout=TIMEOUT_SECONDS).key_value(BUCKET)
            await bucket.get(keys.name())
        finally:
            await own.close()

    return one


async def fan_out(bucket: Any, arguments: LoaderArguments) -> Load:
    """Watchers, each on a connection of its own to one of the servers, and one who puts."""
    numbers, name, value = watchers(), key_name(0), value_of(arguments.shape)
    board = Board(len(numbers))
    clients = [await connect(arguments.target, number) for number in numbers]

    def hears(number: int) -> Callable[[Any], Awaitable[None]]:
        async def told(message: Any) -> None:
            board.told(number)

        return told

    for number, own in enumerate(clients):
        await own.subscribe(f"$KV.{BUCKET}.{name}", cb=hears(number))
        await own.flush()
    load = await measure_fanout(arguments, board, lambda: bucket.put(name, value))
    for own in clients:
        await own.close()
    return load


async def run(arguments: LoaderArguments) -> Load:
    """Makes the load."""
    shape = arguments.shape
    client = await connect(arguments.target)
    try:
        context = client.jetstream(timeout=TIMEOUT_SECONDS)
        bucket = await prepare(context, shape)
        if shape.workload == "fanout":
            return await fan_out(bucket, arguments)
        if shape.workload == "queue":
            calls = await queues(context, shape)
        elif shape.workload == "sessions":
            calls = [session(arguments.target, shape, caller) for caller in range(shape.callers)]
        else:
            calls = [WORKLOADS[shape.workload](bucket, shape, caller) for caller in range(shape.callers)]
        return await measure_async(arguments, calls, (Error,))
    finally:
        await client.close()


def main() -> None:
    """The command line."""
    arguments = LoaderArguments.parse("bench.peers.nats_load", "Load on NATS by nats-py.", sorted(NAMES))
    # What cannot be done is raised as well; the client would log it with where in its code that was.
    logging.getLogger("nats").setLevel(logging.CRITICAL)
    settle_process()
    conclude("nats", lambda: asyncio.run(run(arguments)), (Error,))


if __name__ == "__main__":
    main()
