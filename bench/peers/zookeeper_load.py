"""A load on ZooKeeper from Python: kazoo, with a thread for each caller, as its calls block.

``python -m bench.peers.zookeeper_load --target 127.0.0.1:2181 --workload write``
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.handlers.threading import KazooTimeoutError

from bench.peers.loading import Call, Found, Keys, batches, conclude, measure_threads, value_of
from bench.peers.recovery import Side, measure_recovery
from bench.peers.zookeeper_server import zookeeper_leads, zookeeper_serves
from bench.runs.recording import LoaderArguments, Pace, key_name, print_begun, settle_process
from bench.runs.results import Load, Shape

PREFIX: Final = "/bench/entries"
BATCH_BYTES_MAX: Final = 500_000
"""ZooKeeper refuses a request of more than 1 MiB."""
CONNECT_SECONDS: Final = 10
FAILURES: Final = (KazooException, KazooTimeoutError)


def connect(target: str, everywhere: bool = False) -> Any:
    """A client of the first address, the leader's, or of all."""
    client = KazooClient(hosts=target if everywhere else target.partition(",")[0])
    client.start(timeout=CONNECT_SECONDS)
    return client


def path(name: str) -> str:
    """Where an entry is."""
    return f"{PREFIX}/{name}"


def prepare(client: Any, shape: Shape) -> None:
    """Writes every key once."""
    client.ensure_path(PREFIX)
    value, there = value_of(shape), set(client.get_children(PREFIX))
    for names in batches(shape, BATCH_BYTES_MAX):
        transaction = client.transaction()
        for name in names:
            (transaction.set_data if name in there else transaction.create)(path(name), value)
        for result in transaction.commit():
            if isinstance(result, Exception):
                raise result


def write(client: Any, shape: Shape, caller: int) -> Call:
    """Sets a node's data."""
    keys, value = Keys(shape, caller), value_of(shape)
    return lambda: client.set(path(keys.name()), value)


def read_sequential(client: Any, shape: Shape, caller: int) -> Call:
    """Gets a node's data as the server that is asked has it; one session never sees them go back."""
    keys = Keys(shape, caller)
    return lambda: client.get(path(keys.name()))


def read(client: Any, shape: Shape, caller: int) -> Call:
    """Gets a node's data after a sync of its path, both sent at once: ZooKeeper keeps their order."""
    keys = Keys(shape, caller)

    def get() -> None:
        name = path(keys.name())
        syncing, getting = client.sync_async(name), client.get_async(name)
        syncing.get()
        getting.get()

    return get


def mixed(client: Any, shape: Shape, caller: int) -> Call:
    """Nine reads to a write."""
    keys, reading, writing = Keys(shape, caller), read(client, shape, caller), write(client, shape, caller)
    return lambda: writing() if keys.writes() else reading()


def counter(client: Any, shape: Shape, caller: int) -> Call:
    """Adds one by kazoo's recipe, which tries again when another was quicker."""
    count = client.Counter("/bench/count")
    return lambda: count + 1


def lock(client: Any, shape: Shape, caller: int) -> Call:
    """A lock of the caller's own, by kazoo's recipe."""
    return _pairs(client, caller)


def lock_contended(client: Any, shape: Shape, caller: int) -> Call:
    """One lock for all."""
    return _pairs(client, 0)


def _pairs(client: Any, number: int) -> Call:
    held = client.Lock(f"/bench/lock-{number}")

    def pair() -> None:
        held.acquire()
        held.release()

    return pair


def queue(client: Any, shape: Shape, caller: int) -> Call:
    """Puts and gets by kazoo's recipe."""
    shared, value = client.Queue("/bench/queue"), value_of(shape)

    def pair() -> None:
        shared.put(value)
        while shared.get() is None:
            pass  # Another took what this caller had seen.

    return pair


WORKLOADS: Final[dict[str, Callable[[Any, Shape, int], Call]]] = {
    "write": write, "read": read, "read-sequential": read_sequential, "mixed": mixed, "counter": counter,
    "lock": lock, "lock-contended": lock_contended, "queue": queue,
}  # fmt: skip


def sessions(target: str, shape: Shape, caller: int) -> Call:
    """A client of its own for one read."""
    keys = Keys(shape, caller)

    def session() -> None:
        own = connect(target)
        try:
            name = path(keys.name())
            own.sync(name)
            own.get(name)
        finally:
            own.stop()
            own.close()

    return session


class HandOvers:
    """Two who campaign by kazoo's recipe, each a client: who leads resigns as soon as the other waits."""

    def __init__(self, seconds: float) -> None:
        self.found: Final = Found(Pace(None, perf_counter(), seconds))
        self._resigned: float | None = None

    def campaign(self, election: Any) -> None:
        """Until the time is over. Only who leads touches what is shared."""
        while perf_counter() < self.found.pace.end:
            election.run(self._lead, election)

    def _lead(self, election: Any) -> None:
        if self._resigned is not None:
            self.found.latencies.record(perf_counter() - self._resigned)
        self._resigned = None
        while perf_counter() < self.found.pace.end:
            if len(election.contenders()) > 1:
                self._resigned = perf_counter()
                return


def hand_over(clients: list[Any], seconds: float) -> Load:
    """Leadership from one to the other and back, for so long."""
    spent, began = time.process_time(), perf_counter()
    held = HandOvers(seconds)
    elections = [client.Election("/bench/election", f"c{number}") for number, client in enumerate(clients)]
    threads = [threading.Thread(target=held.campaign, args=(one,), daemon=True) for one in elections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 60)
    return held.found.load(perf_counter() - began, time.process_time() - spent)


def recover(client: Any, arguments: LoaderArguments) -> Load:
    """One writer, whose client goes on with another server where it loses one."""
    value = value_of(arguments.shape)
    side = Side(
        lambda number: asyncio.to_thread(client.set, path(key_name(number)), value), zookeeper_leads,
        zookeeper_serves, FAILURES,
    )  # fmt: skip
    return asyncio.run(measure_recovery(arguments, side))


NAMES: Final = frozenset({*WORKLOADS, "sessions", "election", "recovery"})


def run(arguments: LoaderArguments) -> Load:
    """Makes the load."""
    shape = arguments.shape
    client = connect(arguments.target, everywhere=shape.workload == "recovery")
    others: list[Any] = []
    try:
        prepare(client, shape)
        if shape.workload == "recovery":
            return recover(client, arguments)
        if shape.workload == "election":
            others.append(connect(arguments.target))
            if arguments.warm_up:
                hand_over([client, *others], arguments.warm_up)
            print_begun()
            return hand_over([client, *others], arguments.seconds)
        if shape.workload == "sessions":
            calls = [sessions(arguments.target, shape, caller) for caller in range(shape.callers)]
        else:
            calls = [WORKLOADS[shape.workload](client, shape, caller) for caller in range(shape.callers)]
        return measure_threads(arguments, calls, FAILURES)
    finally:
        for one in (client, *others):
            one.stop()
            one.close()


def main() -> None:
    """The command line."""
    arguments = LoaderArguments.parse(
        "bench.peers.zookeeper_load", "Load on ZooKeeper by kazoo.", sorted(NAMES)
    )
    logging.getLogger("kazoo").setLevel(logging.ERROR)
    settle_process()
    conclude("zookeeper", lambda: run(arguments), FAILURES)


if __name__ == "__main__":
    main()
