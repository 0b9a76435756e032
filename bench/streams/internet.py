"""The simulated network: hosts with listeners, roads between hosts, and what goes wrong on them.

A host is one boot of a node or one client. It dies as a process does, whose sockets the system closes, or as
a machine does, of which nobody is told anything. Its name stays: whoever boots next under it is found there.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from random import Random
from typing import Any, Final

import trio

from bench.streams.lookout import SimLookout
from bench.streams.schedule import TrioHeap
from bench.streams.sockets import Shape, SimSocket, SimStream
from bench.world.clock import Trace
from bench.world.network import Weather

RESEND_MS: Final = 200
"""What a lost packet costs, and what follows a cut at the most."""
SYN_AGAIN_MS: Final = 250
"""Between attempts to reach a host that does not answer."""
_PER_MILLE: Final = 1000


class SimRoad:
    """See :class:`bench.streams.sockets.Road`."""

    def __init__(self, internet: Internet, source: str, target: str) -> None:
        self._internet: Final = internet
        self.source: Final = source
        self.target: Final = target
        self._cuts = 0

    @property
    def is_cut(self) -> bool:
        """See :class:`bench.streams.sockets.Road`."""
        return self._cuts > 0

    @property
    def is_silent(self) -> bool:
        """See :class:`bench.streams.sockets.Road`."""
        return self._internet.is_silent(self.source)

    def cut(self, by: int) -> None:
        """One cut more (1) or less (-1)."""
        self._cuts += by

    def delay_ms(self) -> int:
        """See :class:`bench.streams.sockets.Road`."""
        return self._internet.delay_ms()

    def at(self, delay_ms: int, action: Callable[[], None]) -> None:
        """See :class:`bench.streams.sockets.Road`."""
        self._internet.heap.after(delay_ms, action)

    def now_ms(self) -> int:
        """See :class:`bench.streams.sockets.Road`."""
        return self._internet.heap.now_ms

    def note(self, what: str) -> None:
        """See :class:`bench.streams.sockets.Road`."""
        self._internet.trace("net", what)


class SimListener(trio.abc.Listener[SimStream]):
    """What listens at an address of a host."""

    def __init__(self, host: Host, port: int) -> None:
        self._host: Final = host
        self._port: Final = port
        self._send, self._receive = trio.open_memory_channel[SimStream](math.inf)

    def offer(self, stream: SimStream) -> None:
        """A connection came in."""
        self._send.send_nowait(stream)

    async def accept(self) -> SimStream:
        """The next connection that came in. Raises ``trio.ClosedResourceError``."""
        return await self._receive.receive()

    async def aclose(self) -> None:
        """Nothing comes in any more; what did and was not accepted is closed."""
        if self._host.listeners.get(self._port) is self:
            self.drop()
            self._receive.close()
        await trio.lowlevel.checkpoint()

    def drop(self) -> None:
        """Nothing comes in any more, as when the process dies."""
        del self._host.listeners[self._port]
        while self._receive.statistics().current_buffer_used:
            self._receive.receive_nowait().socket.close()


class Host:
    """A boot's end of the network; it is a :class:`router.network.Network`."""

    def __init__(self, internet: Internet, name: str) -> None:
        self.name: Final = name
        self._internet: Final = internet
        self.sockets: Final[dict[int, SimSocket]] = {}
        """Those that are open, by descriptor. Descriptors are used again at once, as the system does."""
        self.listeners: Final[dict[int, SimListener]] = {}
        self.is_dead = False

    def readiness(self) -> SimLookout:
        """See :class:`router.network.Network`."""
        return SimLookout(self.sockets, self._internet.random)

    def writev(self, descriptor: int, parts: Sequence[memoryview], /) -> int:
        """See :class:`router.network.Transfer`."""
        return self._socket(descriptor).write(parts)

    def read(self, descriptor: int, size: int, /) -> bytes:
        """See :class:`router.network.Transfer`."""
        return self._socket(descriptor).read(size)

    async def wait_readable(self, descriptor: int, /) -> None:
        """See :class:`router.network.Transfer`."""
        await self._socket(descriptor).wait_readable()

    async def wait_writable(self, descriptor: int, /) -> None:
        """See :class:`router.network.Transfer`."""
        await self._socket(descriptor).wait_writable()

    async def dial(self, host: str, port: int) -> SimStream:
        """See :class:`router.network.Network`."""
        return await self._internet.dial(self, host, port)

    async def listen(self, host: str, port: int) -> Sequence[trio.abc.Listener[Any]]:
        """See :class:`router.network.Network`."""
        await trio.lowlevel.checkpoint()
        if port in self.listeners:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self.listeners[port] = SimListener(self, port)
        return [self.listeners[port]]

    def adopt(self, socket: SimSocket) -> None:
        """Gives a socket the lowest free descriptor."""
        numbers = range(len(self.sockets) + 1)
        socket.descriptor = next(number for number in numbers if number not in self.sockets)
        self.sockets[socket.descriptor] = socket

    def release(self, descriptor: int) -> None:
        """A socket was closed."""
        del self.sockets[descriptor]

    def die(self, *, silently: bool) -> None:
        """The process is gone; ``silently``: with its machine, and nobody is told."""
        self.is_dead = True
        for socket in list(self.sockets.values()):
            if silently:
                socket.vanish()
            else:
                socket.close()
        for listener in list(self.listeners.values()):
            listener.drop()

    def _socket(self, descriptor: int) -> SimSocket:
        socket = self.sockets.get(descriptor)
        if socket is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return socket


class Internet:
    """All hosts and roads."""

    def __init__(self, heap: TrioHeap, random: Random, trace: Trace) -> None:
        self.heap: Final = heap
        self.trace: Final = trace
        self.weather = Weather()
        self.random: Final = random
        self._roads: Final[dict[tuple[str, str], SimRoad]] = {}
        self._hosts: Final[dict[str, Host]] = {}
        self._silent: Final[set[str]] = set()
        """Names at which nothing answers, not even that nothing is there."""
        self._refusing: Final[dict[str, int]] = {}
        self._pairs: Final[list[tuple[SimSocket, SimSocket]]] = []
        self._made = 0

    def host(self, name: str) -> Host:
        """A new boot under a name."""
        self._silent.discard(name)
        self._hosts[name] = Host(self, name)
        return self._hosts[name]

    def kill(self, host: Host, *, silently: bool) -> None:
        """A boot ends."""
        host.die(silently=silently)
        if silently:
            self._silent.add(host.name)

    def is_silent(self, name: str) -> bool:
        """Whether the machine of that name is gone."""
        return name in self._silent

    def delay_ms(self) -> int:
        """How long something is under way now; what is lost is sent again."""
        weather = self.weather
        delay = self.random.randint(*weather.delay_ms)
        while self.random.randrange(_PER_MILLE) < weather.drop:
            delay += RESEND_MS
        return delay

    # --- What goes wrong ------------------------------------------------------------------------------

    def cut(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Nothing gets from the first to the second of each pair, until as many :meth:`open`."""
        for source, target in pairs:
            self.road(source, target).cut(1)

    def open(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Takes back a :meth:`cut`; what was held back arrives after a while."""
        for source, target in pairs:
            road = self.road(source, target)
            road.cut(-1)
            for pair in self._open_pairs():
                for socket in pair:
                    if socket.road is road:
                        self.heap.after(self.random.randint(0, RESEND_MS), socket.advance)

    def refuse(self, name: str, by: int) -> None:
        """A host takes no more connections (1), or does again (-1)."""
        self._refusing[name] = self._refusing.get(name, 0) + by

    def reset(self, pick: int, name: str | None = None) -> None:
        """The ``pick``-th connection, counted round, breaks at both ends; of those of ``name``, if given."""
        pair = self._some_pair(pick, name)
        if pair is not None:
            self.trace("fault", f"resets {pair[0].name}")
            self._break(pair)

    def disconnect(self, name: str) -> None:
        """All connections of ``name`` break."""
        for pair in list(self._open_pairs()):
            if name in (pair[0].road.source, pair[0].road.target):
                self._break(pair)

    def lose(self, pick: int) -> Callable[[], None] | None:
        """The ``pick``-th connection, counted round, carries nothing any more, without a word. Returns what
        tells both ends of it."""
        pair = self._some_pair(pick)
        if pair is None:
            return None
        self.trace("fault", f"silences {pair[0].name}")
        for socket in pair:
            socket.lose()
        return partial(self._break, pair)

    def _some_pair(self, pick: int, name: str | None = None) -> tuple[SimSocket, SimSocket] | None:
        pairs = [
            pair for pair in self._open_pairs()
            if name is None or name in (pair[0].road.source, pair[0].road.target)
        ]  # fmt: skip
        return pairs[pick % len(pairs)] if pairs else None

    def _break(self, pair: tuple[SimSocket, SimSocket]) -> None:
        for socket in pair:
            socket.reset()

    def _open_pairs(self) -> list[tuple[SimSocket, SimSocket]]:
        self._pairs[:] = [pair for pair in self._pairs if any(end.is_alive for end in pair)]
        return self._pairs

    def road(self, source: str, target: str) -> SimRoad:
        """The way from one name to another."""
        found = self._roads.get((source, target))
        if found is None:
            found = self._roads[source, target] = SimRoad(self, source, target)
        return found

    # --- Connections ----------------------------------------------------------------------------------

    async def dial(self, source: Host, name: str, port: int) -> SimStream:
        """Connects from a host to a port at a name. Raises ``OSError``."""
        out, back = self.road(source.name, name), self.road(name, source.name)
        await self._cross(out, name)
        if source.is_dead:
            raise OSError(errno.ENETDOWN, os.strerror(errno.ENETDOWN))
        target = self._hosts.get(name)
        listener = target.listeners.get(port) if target is not None else None
        if target is None or listener is None or self._refusing.get(name, 0) > 0:
            self.trace("net", f"{source.name} is refused by {name}:{port}")
            await self._cross(back, source.name)
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        self._made += 1
        near, far = self._pair(source, target, port, f"{source.name}>{name}#{self._made}")
        listener.offer(SimStream(far))
        try:
            await self._cross(back, source.name)
        except BaseException:
            near.close()
            raise
        return SimStream(near)

    def _pair(self, source: Host, target: Host, port: int, name: str) -> tuple[SimSocket, SimSocket]:
        shape = Shape.draw(self.random)
        self.trace("net", f"{name} is made, {shape}")
        near = SimSocket(
            target.name, port, self.road(source.name, target.name), shape, self.random, name, source.release
        )
        far = SimSocket(
            source.name, 40_000 + self._made, self.road(target.name, source.name), shape, self.random,
            f"{target.name}<{source.name}#{self._made}", target.release,
        )  # fmt: skip
        near.other, far.other = far, near
        source.adopt(near)
        target.adopt(far)
        self._pairs.append((near, far))
        return near, far

    async def _cross(self, road: SimRoad, name: str) -> None:
        """The time that a packet takes to a name, sent again while nothing answers."""
        wait_ms = road.delay_ms()
        while True:
            await trio.sleep(wait_ms / 1000)
            if not road.is_cut and name not in self._silent:
                return
            wait_ms = SYN_AGAIN_MS
