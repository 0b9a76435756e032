"""What nodes and clients need of a network: connections out, connections in, and the bytes of each.

:data:`SYSTEM` is the operating system's. Another one is handed to a node (``shards.machine``) and to a
client's dial at their making, and everything above stays the same: so whole clusters run over a simulated
network. The calls that move bytes go by descriptor, as the system's own do: the port costs no call of ours.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import trio

from router.readiness import Readiness


class Socket(Protocol):
    """A connected socket."""

    def fileno(self) -> int:
        """Its descriptor; -1 once it is closed."""

    def shutdown(self, how: int, /) -> None:
        """Ends the directions that ``how`` names. Raises ``OSError``."""

    def close(self) -> None:
        """Closes it; whoever waits for it gets ``trio.ClosedResourceError``."""

    def getpeername(self) -> Any:
        """The other end's address, its host first. Raises ``OSError``."""


class Stream(Protocol):
    """A connected stream."""

    @property
    def socket(self) -> Socket:
        """The socket under it."""

    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        """Sets an option of the socket. Raises ``OSError``."""


class Transfer(Protocol):
    """The calls that move bytes of connected streams, by descriptor."""

    def writev(self, descriptor: int, parts: Sequence[memoryview], /) -> int:
        """Hands over bytes, and returns how many were taken. Raises ``OSError``, of which
        ``BlockingIOError`` means that none are taken now."""

    def read(self, descriptor: int, size: int, /) -> bytes:
        """What arrived, up to ``size`` bytes; empty at the end. Raises ``OSError``, of which
        ``BlockingIOError`` means that there is nothing yet."""

    async def wait_readable(self, descriptor: int, /) -> None:
        """Waits until there may be something to read. Raises ``trio.ClosedResourceError``, ``OSError``."""

    async def wait_writable(self, descriptor: int, /) -> None:
        """Waits until something may be taken. Raises ``trio.ClosedResourceError``, ``OSError``."""


class Lookout(Protocol):
    """What one loop reads from, looked at all at once; see :class:`router.readiness.Readiness`."""

    def watch(self, fd: int, arrived: Callable[[], None], /) -> None:
        """Has ``arrived`` called whenever ``fd`` is readable; it must not block, nor raise."""

    def forget(self, fd: int, /) -> None:
        """The opposite of :meth:`watch`, before ``fd`` is closed."""

    async def wait(self) -> None:
        """Waits until there is something to take."""

    async def wait_at_door(self) -> None:
        """Waits until somebody knocked, whatever else there is to take."""

    def take(self) -> None:
        """Calls whoever has something to take now, each once. Never blocks."""

    def knock(self) -> None:
        """Brings about a :meth:`take`. From any thread."""

    def run_sync_soon(self, call: Callable[..., object], *args: Any) -> None:
        """Has ``call`` run by the next :meth:`take`, which it brings about. From any thread."""

    def close(self) -> None:
        """Releases everything."""


class Network(Transfer, Protocol):
    """Where nodes and clients find one another."""

    def readiness(self) -> Lookout:
        """A place from which to look at streams of this network."""

    async def dial(self, host: str, port: int) -> Stream:
        """Connects. Raises ``OSError``; may be cancelled."""

    async def listen(self, host: str, port: int) -> Sequence[trio.abc.Listener[Any]]:
        """Listeners at an address, whose streams are each a :class:`Stream`. Raises ``OSError``."""


class SystemNetwork:
    """TCP, as the operating system has it."""

    __slots__ = ()

    writev = staticmethod(os.writev)
    read = staticmethod(os.read)
    wait_readable = staticmethod(trio.lowlevel.wait_readable)
    wait_writable = staticmethod(trio.lowlevel.wait_writable)

    def readiness(self) -> Lookout:
        """See :class:`Network`."""
        return Readiness()

    async def dial(self, host: str, port: int) -> Stream:
        """See :class:`Network`."""
        return await trio.open_tcp_stream(host, port)

    async def listen(self, host: str, port: int) -> Sequence[trio.abc.Listener[Any]]:
        """See :class:`Network`."""
        return await trio.open_tcp_listeners(port, host=host)


SYSTEM: Final = SystemNetwork()
"""The operating system's network."""
