"""One serial writer, while the node that leads what it writes is killed by KILL and started again."""

from __future__ import annotations

import os
import signal
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import trio

from bench.runs.loops import Seen
from bench.runs.recording import LoadFailed
from bench.runs.results import Load, Shape
from bench.runs.sampling import age_s, command_line, processes_of
from primitives.errors import QuorateError
from router.client import Client, connect
from router.slots import slot_of_name
from router.url import parse_url

NAME: Final = "bench-recovery"
RESTART_SECONDS: Final = 60.0
"""Within so long whoever keeps the nodes starts the one that died."""
SERVE_SECONDS: Final = 120.0
"""Within so long it serves then."""
CALM_SECONDS: Final = 1.0
"""Writes before the kill, and after the node is back."""
_LOOK_SECONDS: Final = 0.01
_PROBE_SECONDS: Final = 1.0


@dataclass(slots=True)
class Death:
    """Of a node. Times are of ``time.perf_counter``."""

    killed: float
    restarted: float
    serves: float


async def measure(
    url: str, pids: Sequence[int], shape: Shape, warm_up: float, seconds: float, begun: Callable[[], None]
) -> Load:
    """The writes, the gap and how long until the node served. Raises LoadFailed if the nodes' processes are
    not known or the node does not come back, or QuorateError."""
    addresses = parse_url(url).addresses
    if len(pids) != len(addresses):
        raise LoadFailed(f"{len(addresses)} nodes have {len(pids)} processes: --pids is needed")
    async with connect(url) as client:
        writer = Writer(client, shape)
        await writer.run_for(warm_up)
        writer = Writer(client, shape)
        begun()
        cpu, began = time.process_time(), time.perf_counter()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            await trio.sleep(CALM_SECONDS)
            at = await _leader(client, addresses)
            death = await _kill_and_wait(addresses[at], pids[at])
            await trio.sleep(max(began + seconds - time.perf_counter(), CALM_SECONDS))
            writer.stop()
        seen = writer.seen
        seen.seconds, seen.cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    load = seen.load()
    load.extra.update(gap_s=writer.longest_gap(death.killed), serving_s=death.serves - death.restarted)
    return load


class Writer:
    """Puts one entry of a map after the other."""

    def __init__(self, client: Client, shape: Shape) -> None:
        self._entries: Final = client.map(NAME, pinned=True)
        self._value: Final = b"x" * shape.value_bytes
        self._keys: Final = shape.keys
        self._stopped = False
        self._acknowledged: Final = array("d")
        self.seen: Final = Seen()

    def stop(self) -> None:
        """Ends it after the write that is under way."""
        self._stopped = True

    async def run_for(self, seconds: float) -> None:
        """Writes for so long, at least once."""
        with trio.move_on_after(seconds):
            await self.run()
        await self._entries.put(0, self._value)

    async def run(self) -> None:
        """Until it is stopped."""
        number = 0
        while not self._stopped:
            number += 1
            began = time.perf_counter()
            try:
                await self._entries.put(number % self._keys, self._value)
            except QuorateError as error:
                self.seen.fail(error)
                continue
            self._acknowledged.append(time.perf_counter())
            self.seen.latencies.record(self._acknowledged[-1] - began)

    def longest_gap(self, since: float) -> float:
        """The longest time without an acknowledged write, of those that ended after ``since``."""
        return max(after - before for before, after in pairwise(self._acknowledged) if after > since)


async def _leader(client: Client, addresses: Sequence[str]) -> int:
    """The number of the node that leads the group of the map, in the order of the addresses."""
    shard_map = await client.shard_map()
    group = shard_map.group(slot_of_name(shard_map.salt, "", NAME))
    while True:
        told = await client.status()
        leader = next((one["leader"] for one in told["groups"] if one["group"] == group), None)
        for node in told["nodes"]:
            if leader is not None and node["node"] == leader:
                return addresses.index(node["client"])
        await trio.sleep(_LOOK_SECONDS)


async def _kill_and_wait(address: str, pid: int) -> Death:
    command = command_line(pid)
    killed = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    restarted = await _until_restarted(command, pid)
    try:
        with trio.fail_after(SERVE_SECONDS):
            await _until_serving(address)
    except trio.TooSlowError:
        raise LoadFailed(f"{address} does not serve {SERVE_SECONDS:g} s after its start") from None
    return Death(killed, restarted, time.perf_counter())


async def _until_restarted(command: bytes, pid: int) -> float:
    """When the process that takes the place of the one that died was started."""
    deadline = time.perf_counter() + RESTART_SECONDS
    while time.perf_counter() < deadline:
        for other in processes_of(command):
            try:
                if other != pid:
                    return time.perf_counter() - age_s(other)
            except FileNotFoundError:
                continue  # It was gone before we looked.
        await trio.sleep(_LOOK_SECONDS)
    raise LoadFailed(f"nobody started the node again within {RESTART_SECONDS:g} s")


async def _until_serving(address: str) -> None:
    while True:
        if await _serves(address):
            return
        await trio.sleep(_LOOK_SECONDS)


async def _serves(address: str) -> bool:
    """Whether a node lets clients in and knows the leader of every group. Each look is a client of its own,
    so that none waits longer than need be to connect again."""
    host, _, port = address.rpartition(":")
    try:
        async with await trio.open_tcp_stream(host.strip("[]"), int(port)):
            pass
    except OSError:
        return False
    with trio.move_on_after(_PROBE_SECONDS):
        try:
            async with connect(f"quorate://{address}") as client:
                return bool((await client.status())["ready"])
        except QuorateError:
            return False
    return False
