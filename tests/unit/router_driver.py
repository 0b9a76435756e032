"""Drives a session core against a model cluster in simulated time, with delays, cut frames and lost
connections, all from one seed."""

from __future__ import annotations

import heapq
import random
import struct
from collections.abc import Callable
from typing import Any

from router_model import ModelCluster, ModelConnection

from primitives.counter import GET
from primitives.handle import Reference
from primitives.ids import GroupId
from primitives.records import Answer
from router.session import SessionCore
from router.session_calls import Call
from router.session_leases import LeaseClock
from router.session_settings import SessionSettings

COUNTER = 17
LOCK = 18
MAP = 16
_NUMBER = struct.Struct(">q")


class Driver:
    """A core, a cluster, and the time they share."""

    def __init__(
        self, cluster: ModelCluster, *, seed: int = 0, settings: SessionSettings | None = None,
        addresses: tuple[str, ...] = ("node1:1",), delay_ms: tuple[int, int] = (1, 3),
    ) -> None:  # fmt: skip
        self.random = random.Random(seed)
        self.cluster = cluster
        self.now_ms = 1000
        self.core = SessionCore(
            self.random.randbytes(16), list(addresses), self.random, settings=settings or SessionSettings()
        )
        self.delay_ms = delay_ms
        self.unreachable: set[int] = set()
        """Nodes that cannot be dialed."""
        self.deaf: set[int] = set()
        """Nodes that take nothing and say nothing, though they are connected."""
        self.silent: set[int] = set()
        """Connections that carry nothing, either way."""
        self.connections: dict[int, ModelConnection] = {}
        self.outcomes: list[Call] = []
        self.lost: list[LeaseClock] = []
        self.waiters: dict[Call, Callable[[Call], None]] = {}
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._arrivals: dict[tuple[int, str], int] = {}

    def at(self, delay_ms: int, event: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now_ms + delay_ms, self._count, event))

    def _later(self, connection: int, way: str, event: Callable[[], None]) -> None:
        """In order on each way of each connection."""
        arrival = self.now_ms + self.random.randint(*self.delay_ms)
        arrival = max(arrival, self._arrivals.get((connection, way), 0))
        self._arrivals[connection, way] = arrival
        self.at(arrival - self.now_ms, event)

    def run(self, until: Callable[[], bool], limit_ms: int = 60_000) -> None:
        """Runs until ``until``; fails the test after ``limit_ms``."""
        end_ms = self.now_ms + limit_ms
        self.poll()
        while not until():
            assert self.now_ms < end_ms, "nothing came of it in time"
            self.step()

    def pass_ms(self, ms: int) -> None:
        """Runs for that long."""
        end_ms = self.now_ms + ms
        reached: list[bool] = []
        self.at(ms, lambda: reached.append(True))
        self.run(lambda: bool(reached) or self.now_ms > end_ms, ms + 1000)

    def stand_still(self, ms: int) -> None:
        """The client's process is stopped for that long; what comes meanwhile is read afterwards."""
        self.now_ms += ms
        self.cluster.now_ms = self.now_ms
        self._events = [(max(at, self.now_ms), count, event) for at, count, event in self._events]
        heapq.heapify(self._events)

    def step(self) -> None:
        wake_ms = self._wake_ms
        if self._events and self._events[0][0] <= wake_ms:
            self.now_ms, _, event = heapq.heappop(self._events)
            self.cluster.now_ms = self.now_ms
            event()
        else:
            self.now_ms = max(self.now_ms + 1, wake_ms)
        self.cluster.now_ms = self.now_ms
        self.cluster.tick()
        self.poll()

    def poll(self) -> None:
        while True:
            out = self.core.poll(self.now_ms)
            self._wake_ms = out.wake_ms
            for connection, data in out.frames:
                self._send(connection, data)
            for connection in out.close:
                self._closed(connection)
            for connection, address in out.dial:
                self._dial(connection, address)
            self.lost += out.lost
            for call in out.finished:
                self.outcomes.append(call)
                waiter = self.waiters.pop(call, None)
                if waiter is not None:
                    waiter(call)
            if not (out.finished or out.frames or out.close or out.dial):
                return

    def _dial(self, connection: int, address: str) -> None:
        node = int(address.removeprefix("node").partition(":")[0])

        def done() -> None:
            if node in self.unreachable:
                self.core.disconnected(self.now_ms, connection)
                return
            self.connections[connection] = ModelConnection(
                self.cluster, node, lambda data: self._reply(connection, data),
                lambda: self._ended(connection),
            )  # fmt: skip
            self.core.connected(self.now_ms, connection)

        self._later(connection, "up", done)

    def _send(self, connection: int, data: bytes) -> None:
        def arrive(part: bytes) -> None:
            model = self.connections.get(connection)
            if model is not None and model.node not in self.deaf and connection not in self.silent:
                model.receive(part)

        for part in self._cut(data):
            self._later(connection, "up", lambda part=part: arrive(part))

    def _reply(self, connection: int, data: bytes) -> None:
        def arrive(part: bytes) -> None:
            if connection in self.connections and connection not in self.silent:
                self.core.received(self.now_ms, connection, part)

        for part in self._cut(data):
            self._later(connection, "down", lambda part=part: arrive(part))

    def _cut(self, data: bytes) -> list[bytes]:
        if len(data) < 2 or self.random.random() < 0.8:
            return [data]
        at = self.random.randrange(1, len(data))
        return [data[:at], data[at:]]

    def _closed(self, connection: int) -> None:
        model = self.connections.pop(connection, None)
        if model is not None:
            model.lost()

    def _ended(self, connection: int) -> None:
        """The node closed it."""
        def done() -> None:
            if self.connections.pop(connection, None) is not None:
                self.core.disconnected(self.now_ms, connection)

        self._later(connection, "down", done)

    def cut(self, node: int | None = None) -> None:
        """Connections (of a node) break now; everything on its way is lost."""
        for connection, model in list(self.connections.items()):
            if node is None or model.node == node:
                del self.connections[connection]
                model.lost()
                self.core.disconnected(self.now_ms, connection)

    # --- Calls ----------------------------------------------------------------------------------------

    def command(self, ref: Reference, op: int, args: list[Any], body: bytes = b"", **options: Any) -> Call:
        return self.core.command(self.now_ms, ref, op, args, body, **options)

    def query(self, ref: Reference, op: int, args: list[Any], **options: Any) -> Call:
        return self.core.query(self.now_ms, ref, op, args, **options)

    def wait(self, *calls: Call, limit_ms: int = 60_000) -> list[Answer | None]:
        """Answers of the calls; raises the first one's error."""
        self.run(lambda: all(call.done for call in calls), limit_ms)
        for call in calls:
            if call.error is not None:
                raise call.error
        return [call.answer for call in calls]


def counter(name: str) -> Reference:
    return Reference("", name, COUNTER, 0, None)


def lock(name: str) -> Reference:
    return Reference("", name, LOCK, 0, None)


def spread_map(name: str) -> Reference:
    return Reference("", name, MAP, None, None)


def number(driver: Driver, ref: Reference) -> int:
    """What a counter says."""
    (answer,) = driver.wait(driver.query(ref, GET, []))
    assert answer is not None
    return int(_NUMBER.unpack(answer.result)[0])


def home(driver: Driver, ref: Reference) -> GroupId:
    """The group of a pinned primitive that was resolved."""
    assert ref.primitive is not None
    return driver.cluster.map.group(ref.primitive.slot)
