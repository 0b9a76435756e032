"""A client's process: the real client on its own host, and the ground on which its callers stand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import Final, TypeVar

import trio

from bench.histories import TimeLimit
from bench.streams.internet import Internet
from bench.streams.machines import CLIENT_PORT, WHO
from bench.streams.schedule import TrioHeap
from bench.world.clock import PPM, Clock, Seed, Trace
from bench.world.faults import CLOCK_DRIFT_PPM_MAX
from primitives.errors import InvariantViolation
from router.client import Client, attach
from router.link import ByteLink, Link
from router.url import split_address

T = TypeVar("T")
SPINS_MAX: Final = 100_000
"""Looks at a clock within one millisecond: then a client spins."""
IMPATIENCE: Final = 8
"""One in so many calls with a limit is given up much earlier."""


class StreamGround:
    """The ground of a caller, see :class:`bench.histories.Ground`. Now and then a call is cancelled early:
    while it is still being sent, or the moment before its answer comes."""

    def __init__(self, heap: TrioHeap, random: Random) -> None:
        self._heap: Final = heap
        self.random: Final = random

    def now_ms(self) -> int:
        """See :class:`bench.histories.Ground`."""
        return self._heap.now_ms

    async def sleep_ms(self, delay_ms: int) -> None:
        """See :class:`bench.histories.Ground`."""
        await trio.sleep(delay_ms / 1000)

    async def within(self, limit_ms: int, call: Callable[[], Awaitable[T]]) -> T:
        """See :class:`bench.histories.Ground`."""
        if not self.random.randrange(IMPATIENCE):
            limit_ms = min(limit_ms, self.random.choice((0, 1, 3, 6, 10, 20)))
        with trio.move_on_after(limit_ms / 1000):
            return await call()
        raise TimeLimit


class ClientProcess:
    """A client with an identity and a session of its own."""

    def __init__(
        self, number: int, heap: TrioHeap, trace: Trace, seed: Seed, internet: Internet, *, nodes: int,
        timeout_ms: int,
    ) -> None:  # fmt: skip
        self.number: Final = number
        self.name: Final = f"c{number}"
        self.client: Client | None = None
        self.is_dying = False
        self.has_ended = False
        self.host: Final = internet.host(self.name)
        self._heap: Final = heap
        self._trace: Final = trace
        self._internet: Final = internet
        self._timeout_ms: Final = timeout_ms
        self._scope: Final = trio.CancelScope()
        self._session: Final = seed.stream(f"session/{number}")
        random = seed.stream(f"client/{number}")
        rate = PPM + random.randint(-CLOCK_DRIFT_PPM_MAX, CLOCK_DRIFT_PPM_MAX)
        self._clock: Final = Clock(heap, start_ms=random.randint(0, 1 << 30), rate_ppm=rate)
        known = [f"n{node}:{CLIENT_PORT}" for node in range(1, nodes + 1)]
        self._addresses: Final = random.sample(known, random.randint(1, len(known)))
        self._looked_ms = -1
        self._looks = 0

    async def run(self, body: Callable[[Client], Awaitable[None]]) -> None:
        """Connects, has ``body`` use the client, and leaves; or dies in the midst of it."""
        WHO.set(self.name)
        self._trace(self.name, f"is given {', '.join(self._addresses)}")
        with self._scope:
            async with attach(
                self._addresses, self._dial, session_timeout=self._timeout_ms / 1000, name=self.name,
                clock=self._now_ms, random=self._session,
            ) as client:  # fmt: skip
                self.client = client
                await body(client)
        self.has_ended = True
        if self.host.sockets:
            left = ", ".join(socket.name for socket in self.host.sockets.values())
            raise InvariantViolation(f"{self.name} has ended and left open {left}")
        self._trace(self.name, "is gone")

    def die(self, *, silently: bool) -> None:
        """The process is gone; ``silently``: with its machine."""
        self.is_dying = True
        self._internet.kill(self.host, silently=silently)
        self._scope.cancel()

    async def _dial(self, address: str) -> ByteLink:
        return Link(await self.host.dial(*split_address(address)), self.host)

    def _now_ms(self) -> int:
        now_ms = self._heap.now_ms
        self._looks = self._looks + 1 if now_ms == self._looked_ms else 0
        self._looked_ms = now_ms
        if self._looks > SPINS_MAX:
            raise InvariantViolation(f"{self.name} spins")
        return self._clock.monotonic_ms()
