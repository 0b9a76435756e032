"""Events of one map to many watchers, each on a connection of its own: how many are delivered a second.

``python -m bench.fanout --url quorate://127.0.0.1:7400 --watchers 1000``

The watchers say no more than the protocol asks of them and only count what comes, so that the nodes are
measured and not the watchers; they are spread over the nodes that the URL names. Every event counts when it
arrived, and the measurement ends when every watcher has every one.
"""

from __future__ import annotations

import argparse
import struct
import sys
import time
from collections.abc import Sequence
from typing import Final

import trio

from primitives.ids import PrimitiveId, Revision
from primitives.map import Map
from router.client import Client, connect
from router.connection import Connection, Role, encode_hello
from router.frames import FrameKind
from router.slots import slot_of_name
from router.url import parse_url
from router.watchframes import FROM_NOW, PART_OVERHEAD_BYTES, WatchRequest, encode_watch

NAME: Final = "bench-fanout"
CREDIT_BYTES: Final = 1 << 40
SETTLE_SECONDS: Final = 60.0
_REST: Final = struct.Struct(">I")
_RECEIVE_BYTES: Final = 1 << 18


def events_in(payload: bytes) -> int:
    """How many events an EVENTS has, by their lengths."""
    count = at = 0
    while at < len(payload):
        end = at + _REST.size + int(_REST.unpack_from(payload, at)[0])
        at += PART_OVERHEAD_BYTES
        while at < end:
            at += _REST.size + int(_REST.unpack_from(payload, at)[0])
            count += 1
    return count


class Watcher:
    """One connection with one watch."""

    def __init__(self, address: str) -> None:
        self._address: Final = address
        self.events = 0
        self._wanted = sys.maxsize
        self._has_wanted = trio.Event()

    async def until(self, count: int) -> None:
        """Waits until so many events have come."""
        self._wanted = count
        if self.events < count:
            await self._has_wanted.wait()

    async def run(
        self, request: WatchRequest, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Has started when the watch stands, and goes on until it is cancelled. Raises QuorateError or
        OSError if the connection does not hold."""
        host, _, port = self._address.rpartition(":")
        async with await trio.open_tcp_stream(host.strip("[]"), int(port)) as stream:
            protocol = Connection(Role.CLIENT)
            await stream.send_all(protocol.sending(encode_hello("bench.fanout")))
            while data := await stream.receive_some(_RECEIVE_BYTES):
                for kind, payload in protocol.receive(data):
                    if kind == FrameKind.EVENTS:
                        self.events += events_in(payload)
                        if self.events >= self._wanted:
                            self._has_wanted.set()
                    elif kind == FrameKind.WELCOME:
                        await stream.send_all(protocol.sending(encode_watch(request)))
                    elif kind == FrameKind.WATCHING:
                        task_status.started()
                    elif kind in (FrameKind.REFUSED, FrameKind.WATCH_ENDED):
                        raise OSError(f"{self._address} does not let us watch: {payload!r}")
        raise OSError(f"{self._address} closed a connection")


async def _request(client: Client) -> WatchRequest:
    """What every watcher asks for: all changes from now on."""
    await client.map(NAME, pinned=True).put("made", True)
    [created] = [one.created async for one in client.primitives(NAME) if one.name == NAME]
    shard_map = await client.shard_map()
    slot = slot_of_name(shard_map.salt, "", NAME)
    primitive = PrimitiveId(slot, Revision(created))
    return WatchRequest(
        1, shard_map.group(slot), slot, shard_map.epoch(slot), *primitive, 0, Map.TYPE, FROM_NOW, 0, b"",
        CREDIT_BYTES,
    )  # fmt: skip


async def measure(url: str, watchers: int, writers: int, seconds: float, value_bytes: int) -> str:
    """What was delivered, for people. Raises QuorateError or OSError."""
    addresses = parse_url(url).addresses
    crowd = [Watcher(addresses[at % len(addresses)]) for at in range(watchers)]
    async with connect(url) as client, trio.open_nursery() as nursery:
        request = await _request(client)
        with trio.fail_after(SETTLE_SECONDS):
            for watcher in crowd:
                await nursery.start(watcher.run, request)
        entries, value = client.map(NAME, pinned=True), b"x" * value_bytes
        puts = 0
        began = time.perf_counter()

        async def write(caller: int) -> None:
            nonlocal puts
            while time.perf_counter() < began + seconds:
                await entries.put(caller, value)
                puts += 1

        async with trio.open_nursery() as writing:
            for caller in range(writers):
                writing.start_soon(write, caller)
        with trio.fail_after(SETTLE_SECONDS):
            for watcher in crowd:
                await watcher.until(puts)
        elapsed = time.perf_counter() - began
        nursery.cancel_scope.cancel()
    delivered = sum(watcher.events for watcher in crowd)
    if delivered != puts * watchers:
        raise SystemExit(f"{delivered} events came of {puts} writes to {watchers} watchers")
    return (
        f"{delivered:,} events, each of {puts:,} writes to each of {watchers:,} watchers, in {elapsed:.1f} s:"
        f" {delivered / elapsed:,.0f} a second"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.fanout", description=__doc__)
    parser.add_argument("--url", required=True, help="the cluster; watchers go to the nodes that it names")
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--writers", type=int, default=16, help="callers that write, of one client")
    parser.add_argument("--seconds", type=float, default=5.0, help="for which they write (default 5)")
    parser.add_argument("--value-bytes", type=int, default=100)
    options = parser.parse_args(arguments)
    print(trio.run(
        measure, options.url, options.watchers, options.writers, options.seconds, options.value_bytes
    ))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
