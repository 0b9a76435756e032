"""Simulated sockets: two ends of a connection, what is under way between them, and how each can break.

As with TCP, what one end hands over is under way until the other has read it, bounded by the connection's
room; an end takes and gives as little at a time as its *grain* says. What a cut holds back arrives later. A
connection ends by a FIN behind the last byte, by a reset which overtakes nothing, or not at all: then an end
knows of it only by the silence.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from random import Random
from socket import (
    IPPROTO_TCP,
    SO_KEEPALIVE,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
)
from typing import Final, NamedTuple, Protocol

import trio
from xxhash import xxh3_64_intdigest

SPURIOUS: Final = 50
"""One in so many waits for a socket ends although there is nothing."""
_KEEPALIVES: Final = (TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT)
_OPTIONS: Final = {(SOL_SOCKET, SO_KEEPALIVE), *((IPPROTO_TCP, one) for one in _KEEPALIVES)}


class Kind(Enum):
    """What is under way."""

    DATA = 0
    FIN = 1
    RESET = 2


class Shape(NamedTuple):
    """How much a connection takes at a time."""

    room_bytes: int
    """Handed over and not read by the other end, in each direction."""
    grain_bytes: int
    """Taken or given by one call, at the most."""

    @classmethod
    def draw(cls, random: Random) -> Shape:
        """Half of all connections are roomy, some take a few bytes at a time."""
        room = random.choice((1 << 18, 1 << 18, 1 << 18, 16_384, 4_096, 900))
        grain = random.choice((65_536, 65_536, 1_400, 1_400, 200, 30))
        return cls(room, grain)


class Road(Protocol):
    """The way from one host to another."""

    @property
    def source(self) -> str:
        """The name at which it begins."""

    @property
    def target(self) -> str:
        """The name to which it leads."""

    @property
    def is_cut(self) -> bool:
        """Whether nothing gets through at present."""

    @property
    def is_silent(self) -> bool:
        """Whether there is no machine at its beginning at present."""

    def delay_ms(self) -> int:
        """How long the next thing is under way."""

    def at(self, delay_ms: int, action: Callable[[], None]) -> None:
        """Does something after ``delay_ms``."""

    def now_ms(self) -> int:
        """What time it is."""

    def note(self, what: str) -> None:
        """A line for the trace."""


class SimSocket:
    """One end of a connection; see :class:`router.network.Socket`. Made by :func:`connected`."""

    def __init__(
        self, host: str, port: int, road: Road, shape: Shape, random: Random, name: str,
        release: Callable[[int], None],
    ) -> None:  # fmt: skip
        """``road`` leads to the other end; ``release`` is told the descriptor when it is free again."""
        self.name: Final = name
        self.descriptor = -1
        self._peer_address: Final = (host, port)
        self.road: Final = road
        self._shape: Final = shape
        self._random: Final = random
        self._release: Final = release
        self.other: SimSocket = self
        self._under_way: deque[tuple[int, Kind, bytes]] = deque()
        self._unread = 0
        """Bytes that this end handed over and the other has not read."""
        self._arrived = bytearray()
        self._ended = False
        """The other end sends no more."""
        self._error: int | None = None
        self._shut = False
        self._lost = False
        """Nothing gets to the other end any more, and nobody says so."""
        self._vanished = False
        """Its machine went, without a word."""
        self._options: dict[tuple[int, int], int] = {}
        self.watcher: Callable[[], None] | None = None
        """Told when there may be something to read."""
        self._reader: trio.lowlevel.Task | None = None
        self._writer: trio.lowlevel.Task | None = None

    # --- For the link: as the operating system's ------------------------------------------------------

    def fileno(self) -> int:
        """See :class:`router.network.Socket`."""
        return self.descriptor

    def getpeername(self) -> tuple[str, int]:
        """See :class:`router.network.Socket`."""
        if self._error is not None or self.descriptor < 0:
            raise _oserror(errno.ENOTCONN)
        return self._peer_address

    def shutdown(self, how: int, /) -> None:
        """See :class:`router.network.Socket`; both directions always."""
        if self._error is not None or self._shut or self.descriptor < 0:
            raise _oserror(errno.ENOTCONN)
        self._shut = True
        self._send(Kind.FIN)
        self._wake()

    def close(self) -> None:
        """See :class:`router.network.Socket`. What was not read makes it a reset."""
        if self.descriptor < 0:
            return
        descriptor, self.descriptor = self.descriptor, -1
        if self._arrived or self._peer_sends:
            self._send(Kind.RESET)
        elif not self._shut:
            self._send(Kind.FIN)
        self._arrived.clear()
        self._wake()
        self._release(descriptor)

    def write(self, parts: Sequence[memoryview]) -> int:
        """See :class:`router.network.Transfer`."""
        if self._error is not None or self._shut:
            raise _oserror(self._error if self._error is not None else errno.EPIPE)
        room = self._shape.room_bytes - self._unread
        if room <= 0:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        data = b"".join(parts)[: min(room, self._random.randint(1, self._shape.grain_bytes))]
        self._unread += len(data)
        self._send(Kind.DATA, data)
        return len(data)

    def read(self, size: int) -> bytes:
        """See :class:`router.network.Transfer`."""
        if self._arrived:
            taken = bytes(self._arrived[: min(size, self._shape.grain_bytes)])
            del self._arrived[: len(taken)]
            self.other._unread -= len(taken)
            self.other._wake_writer()
            return taken
        if self._error is not None:
            raise _oserror(self._error)
        if self._ended or self._shut:
            return b""
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    async def wait_readable(self) -> None:
        """See :class:`router.network.Transfer`."""
        if self._reader is not None:
            raise trio.BusyResourceError("two tasks wait to read one socket")
        if self._may_read or not self._random.randrange(SPURIOUS):
            await trio.lowlevel.checkpoint()
        else:
            self._reader = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort_reader)
        self._check_open()

    async def wait_writable(self) -> None:
        """See :class:`router.network.Transfer`."""
        if self._writer is not None:
            raise trio.BusyResourceError("two tasks wait to write one socket")
        if self._may_write or not self._random.randrange(SPURIOUS):
            await trio.lowlevel.checkpoint()
        else:
            self._writer = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort_writer)
        self._check_open()

    def _check_open(self) -> None:
        if self.descriptor < 0:
            raise trio.ClosedResourceError("another task closed this socket")

    @property
    def _may_read(self) -> bool:
        return bool(self._arrived or self._ended or self._shut or self._error is not None)

    @property
    def _may_write(self) -> bool:
        return self._unread < self._shape.room_bytes or self._shut or self._error is not None

    @property
    def _peer_sends(self) -> bool:
        """Whether the other end has data under way here, which nobody will read."""
        return any(kind is Kind.DATA for _, kind, _ in self.other._under_way)

    def _wake(self) -> None:
        self._wake_writer()
        if self.watcher is not None:
            self.watcher()
        if self._reader is not None:
            task, self._reader = self._reader, None
            trio.lowlevel.reschedule(task)

    def _wake_writer(self) -> None:
        if self._writer is not None:
            task, self._writer = self._writer, None
            trio.lowlevel.reschedule(task)

    def _abort_reader(self, _: object) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _abort_writer(self, _: object) -> trio.lowlevel.Abort:
        self._writer = None
        return trio.lowlevel.Abort.SUCCEEDED

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """See :class:`router.network.Stream`: keepalives can be had."""
        if (level, option) not in _OPTIONS:
            raise _oserror(errno.ENOPROTOOPT)
        self._options[level, option] = value
        self._probe()

    # --- For the network ------------------------------------------------------------------------------

    @property
    def is_readable(self) -> bool:
        """Whether a reader would be given something, or told of the end; never once it is closed."""
        return self.descriptor >= 0 and self._may_read

    @property
    def is_alive(self) -> bool:
        """Whether anything can come of it: it is open, or what it sent is under way."""
        return bool(self.descriptor >= 0 or self._under_way)

    def vanish(self) -> None:
        """Its machine goes. Whoever sends something later is told by the machine's next boot."""
        self._vanished = True
        self._under_way.clear()
        self._arrived.clear()
        descriptor, self.descriptor = self.descriptor, -1
        self._wake()
        self._release(descriptor)
        self.other._probe()

    def lose(self) -> None:
        """From now on nothing gets to the other end, and nobody says so."""
        self._lost = True
        self._under_way.clear()
        self.other._probe()

    def _probe(self) -> None:
        """Keepalives find out that the other end does not answer, if they were asked for."""
        if (self.other._lost or self.other._vanished) and self._options.get((SOL_SOCKET, SO_KEEPALIVE)):
            idle_s, interval_s, count = (self._options.get((IPPROTO_TCP, one), 7200) for one in _KEEPALIVES)
            self.road.at((idle_s + interval_s * count) * 1000, partial(self.reset, errno.ETIMEDOUT))

    def reset(self, error: int = errno.ECONNRESET) -> None:
        """The connection breaks at this end."""
        if self._error is None and self.descriptor >= 0:
            self._error = error
            if self._random.randrange(2):
                self._arrived.clear()
            self._wake()

    def advance(self) -> None:
        """Lets arrive what is due, unless the road is cut."""
        while self._under_way and not self.road.is_cut and self._under_way[0][0] <= self.road.now_ms():
            _, kind, data = self._under_way.popleft()
            self.other._arrive(kind, data)

    def _send(self, kind: Kind, data: bytes = b"") -> None:
        if self._lost:
            return
        road = self.road
        due = road.now_ms() + road.delay_ms()
        if self._under_way:
            due = max(due, self._under_way[-1][0])
        self._under_way.append((due, kind, data))
        road.at(due - road.now_ms(), self.advance)

    def _arrive(self, kind: Kind, data: bytes) -> None:
        if self.descriptor < 0 or self._error is not None:
            if kind is Kind.DATA and not self.road.is_silent:
                self._send(Kind.RESET)
        elif kind is Kind.RESET:
            self.road.note(f"{self.name} is reset")
            self.reset()
        elif kind is Kind.FIN:
            self._ended = True
            self._wake()
        elif self._shut:
            self._send(Kind.RESET)
        else:
            self.road.note(f"{self.name} gets {len(data)} bytes, {xxh3_64_intdigest(data):016x}")
            self._arrived += data
            self._wake()


class SimStream(trio.abc.AsyncResource):
    """See :class:`router.network.Stream`."""

    def __init__(self, socket: SimSocket) -> None:
        self.socket: Final = socket

    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        """See :class:`router.network.Stream`."""
        self.socket.setsockopt(level, option, value)

    async def aclose(self) -> None:
        """Closes the socket."""
        self.socket.close()
        await trio.lowlevel.checkpoint()


def _oserror(number: int) -> OSError:
    return OSError(number, os.strerror(number))
