"""Events of one map to many watchers, each on a connection of its own: how many are delivered a second.

The watchers say no more than the protocol asks of them and only count what comes, so that the nodes are
measured and not the watchers; they are spread over the nodes that the URL names. Every event counts when it
arrived, and the measurement ends when every watcher has every one.
"""

from __future__ import annotations

import resource
import struct
import time
from array import array
from collections import Counter
from collections.abc import Callable
from typing import Final

import trio

from bench.runs.recording import Latencies, LoadFailed, Pace
from bench.runs.results import Load, Shape
from primitives.ids import PrimitiveId, Revision
from primitives.map import Map
from router.client import Client, connect
from router.connection import Connection, Role, encode_hello
from router.frames import FrameKind
from router.slots import slot_of_name
from router.url import parse_url
from router.watchframes import FROM_NOW, PART_OVERHEAD_BYTES, WatchRequest, encode_watch

NAME: Final = "bench-fanout"
WATCHERS: Final = 1000
CREDIT_BYTES: Final = 1 << 40
SETTLE_SECONDS: Final = 60.0
_REST: Final = struct.Struct(">I")
_RECEIVE_BYTES: Final = 1 << 18
_FILES_MORE: Final = 100
"""Open files of a process, besides its connections."""


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


class Board:
    """When each event had reached all of the watchers, who get them all in one order."""

    def __init__(self, watchers: int) -> None:
        self._at: Final[Counter[int]] = Counter({0: watchers})
        """How many watchers have had so many events."""
        self.arrived: Final = array("d")
        """Of each event that all have had, when the last one got it."""
        self._wanted = 0
        self._has_wanted = trio.Event()

    def move(self, before: int, after: int) -> None:
        """A watcher has had ``after`` events."""
        self._at[after] += 1
        self._at[before] -= 1
        if self._at[before]:
            return
        del self._at[before]
        if before > len(self.arrived):
            return
        now = time.perf_counter()
        while len(self.arrived) not in self._at:
            self.arrived.append(now)
        if len(self.arrived) >= self._wanted:
            self._has_wanted.set()

    async def until(self, count: int) -> None:
        """Waits until all watchers have had so many events."""
        self._wanted, self._has_wanted = count, trio.Event()
        if len(self.arrived) < count:
            await self._has_wanted.wait()


class Watcher:
    """One connection with one watch."""

    def __init__(self, address: str, board: Board) -> None:
        self._address: Final = address
        self._board: Final = board
        self.events = 0

    async def run(
        self, request: WatchRequest, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Has started when the watch stands, and goes on until it is cancelled. Raises QuorateError or
        OSError if the connection does not hold."""
        host, _, port = self._address.rpartition(":")
        async with await trio.open_tcp_stream(host.strip("[]"), int(port)) as stream:
            protocol = Connection(Role.CLIENT)
            await stream.send_all(protocol.sending(encode_hello("bench.runs.fanout")))
            while data := await stream.receive_some(_RECEIVE_BYTES):
                for kind, payload in protocol.receive(data):
                    if kind == FrameKind.EVENTS:
                        before, self.events = self.events, self.events + events_in(payload)
                        self._board.move(before, self.events)
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


class Fanout:
    """Writers, and watchers that were told of all that they wrote so far."""

    def __init__(self, client: Client, board: Board, crowd: list[Watcher], shape: Shape) -> None:
        self._client: Final = client
        self._board: Final = board
        self._crowd: Final = crowd
        self._shape: Final = shape
        self._written = 0
        """Events so far."""

    async def run(self, seconds: float) -> tuple[Latencies, float]:
        """Writes for so long, and waits until all of it arrived everywhere; how long each write took until
        then, and the seconds that all of it took. Raises QuorateError, or LoadFailed for events too many."""
        began = time.perf_counter()
        pace, puts = Pace(None, began, seconds), list[tuple[int, float]]()
        async with trio.open_nursery() as writing:
            for caller in range(self._shape.callers):
                writing.start_soon(self._write, caller, pace, puts)
        first, self._written = self._written, self._written + len(puts)
        with trio.fail_after(SETTLE_SECONDS):
            await self._board.until(self._written)
        elapsed = time.perf_counter() - began
        if any(watcher.events != self._written for watcher in self._crowd):
            raise LoadFailed(f"of {self._written} writes watchers were told more than once")
        latencies = Latencies()
        for number, (_, begun) in enumerate(sorted(puts), start=first):
            latencies.record(self._board.arrived[number] - begun)
        return latencies, elapsed

    async def _write(self, caller: int, pace: Pace, puts: list[tuple[int, float]]) -> None:
        entries, value = self._client.map(NAME, pinned=True), b"x" * self._shape.value_bytes
        while (begun := pace.next(time.perf_counter())) is not None:
            puts.append((await entries.put(caller, value), begun))


async def measure(
    url: str, shape: Shape, warm_up: float, seconds: float, begun: Callable[[], None],
    watchers: int = WATCHERS,
) -> Load:  # fmt: skip
    """What was delivered; ``begun`` is called after the warm-up. Raises QuorateError, OSError or
    LoadFailed."""
    allow_files(watchers + _FILES_MORE)
    addresses, board = parse_url(url).addresses, Board(watchers)
    crowd = [Watcher(addresses[at % len(addresses)], board) for at in range(watchers)]
    async with connect(url) as client, trio.open_nursery() as nursery:
        request = await _request(client)
        with trio.fail_after(SETTLE_SECONDS):
            for watcher in crowd:
                await nursery.start(watcher.run, request)
        fanout = Fanout(client, board, crowd, shape)
        if warm_up:
            await fanout.run(warm_up)
        begun()
        cpu = time.process_time()
        latencies, elapsed = await fanout.run(seconds)
        cpu = time.process_time() - cpu
        nursery.cancel_scope.cancel()
    extra = {"writes_per_s": len(latencies) / elapsed}
    return latencies.load(len(latencies) * watchers, elapsed, cpu_seconds=cpu, extra=extra)


def allow_files(count: int) -> None:
    """Lets the process open so many files. Raises LoadFailed if it may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(hard, count)))
        except (ValueError, OSError):
            text = f"{count} files are to be open at once, and {hard} may be: raise ulimit -n"
            raise LoadFailed(text) from None
