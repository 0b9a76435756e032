"""A client's process: the real client on its own host, and the ground on which its callers stand."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Sequence
from random import Random
from typing import Any, Final, TypeVar, cast

import trio

from bench.checker.record import Recorder
from bench.ground import together
from bench.histories import TimeLimit
from bench.recording import Scribe
from bench.streams.internet import Internet
from bench.streams.machines import CLIENT_PORT, WHO, PatientClock
from bench.streams.schedule import TrioHeap
from bench.world.clock import PPM, Clock, Seed, Trace
from bench.world.target import CLOCK_DRIFT_PPM_MAX
from primitives.errors import InvariantViolation
from primitives.handle import Handle, LeaseState
from primitives.holding import Held
from router.client import Client, attach
from router.link import ByteLink, Link
from router.openers import Openers
from router.url import split_address

T = TypeVar("T")
EARLY_MS: Final = 2
IMPATIENCE: Final = 8
"""One in so many calls with a limit is given up much earlier."""
PATIENT_MS: Final = 100
"""With a limit below this a caller means it."""


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
        if limit_ms >= PATIENT_MS and not self.random.randrange(IMPATIENCE):
            limit_ms = self.random.choice((0, 1, 3, 6, 10, 20))
        with trio.move_on_after(limit_ms / 1000):
            return await call()
        raise TimeLimit

    async def together(self, calls: Sequence[Callable[[], Awaitable[None]]]) -> None:
        """See :class:`bench.histories.Ground`."""
        await together(calls)


class Recorded(Openers):
    """A client whose calls are written down."""

    def __init__(self, client: Client, scribe: Scribe) -> None:
        super().__init__(client.namespace, client)
        self._scribe: Final = scribe

    def open(self, type_name: str, name: str, *, namespace: str | None = None, **options: Any) -> Handle:
        """See :class:`Openers`."""
        opened = super().open(type_name, name, namespace=namespace, **options)
        return cast(Handle, self._scribe.handle(opened))


class ClientProcess:
    """A client with an identity and a session of its own."""

    def __init__(
        self, number: int, heap: TrioHeap, trace: Trace, seed: Seed, internet: Internet, *, nodes: int,
        timeout_ms: int, history: tuple[Recorder, Collection[str]] | None = None,
    ) -> None:  # fmt: skip
        """``history``: where calls are written down, and the names of the objects whose calls are."""
        self.number: Final = number
        self.name: Final = f"c{number}"
        self.openers: Openers | None = None
        """What callers use, once there is something."""
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
        self._scribe: Final = history and Scribe(history[0], self.name, history[1], self._watch_grant)
        self._patient: Final = PatientClock(heap, self._clock, self.name)

    async def run(self, body: Callable[[Client, Openers], Awaitable[None]]) -> None:
        """Connects, has ``body`` use the client, and leaves; or dies in the midst of it."""
        WHO.set(self.name)
        self._trace(self.name, f"is given {', '.join(self._addresses)}")
        with self._scope:
            async with attach(
                self._addresses, self._dial, session_timeout=self._timeout_ms / 1000, name=self.name,
                clock=self._patient.monotonic_ms, random=self._session,
            ) as client:  # fmt: skip
                self.openers = client if self._scribe is None else Recorded(client, self._scribe)
                await body(client, self.openers)
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

    def _watch_grant(self, grant: Held, name: str) -> None:
        """Writes down when the grant's lease is lost, by this client's clock, dead as it may be: just before,
        so that nobody is told of it earlier. A release that is under way does not keep it from being lost."""
        if self._scribe is None:
            return
        lease = grant._lease
        left_ms = math.floor(lease.remaining() * 1000)
        if lease.state == LeaseState.LOST or left_ms <= EARLY_MS:
            self._scribe.recorder.expire("lock", name, grant.token)
            return
        delay_ms = self._clock.true_delay_ms(left_ms - EARLY_MS)
        self._heap.after(delay_ms, lambda: self._watch_grant(grant, name))

    async def _dial(self, address: str) -> ByteLink:
        return Link(await self.host.dial(*split_address(address)), self.host)
