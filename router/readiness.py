"""What one loop reads from, looked at all at once: sockets, and a door for other threads.

A task that waits for its own socket costs a wake, a registration and a turn of the event loop a packet.
Here the sockets stand in one selector; whoever owns it waits for that, as for a single socket, and then has
all that arrived handed over, one call for each socket, in one step.
"""

from __future__ import annotations

import os
import select
import selectors
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

import trio

_KNOCKS: Final = 4096
"""Bytes read of the door's pipe at a time; each knock is one."""


class Poller(Protocol):
    """What tells which descriptors are readable. ``select.epoll`` is one."""

    def fileno(self) -> int:
        """What is readable while any of them is."""

    def register(self, fd: int, events: int, /) -> None:
        """Looks at a descriptor from now on."""

    def unregister(self, fd: int, /) -> None:
        """Looks at it no more."""

    def poll(self, timeout: int, maxevents: int, /) -> Sequence[tuple[int, int]]:
        """Those that are readable now."""

    def close(self) -> None:
        """Releases it."""


class Selecting:
    """The same where there is no epoll: by whatever the system has, and slower."""

    __slots__ = ("_selector",)

    def __init__(self) -> None:
        self._selector: Final = selectors.DefaultSelector()

    def fileno(self) -> int:
        """See :class:`Poller`. Raises ``AttributeError`` where a system has nothing to wait for as one."""
        return int(self._selector.fileno())

    def register(self, fd: int, events: int, /) -> None:
        """See :class:`Poller`."""
        self._selector.register(fd, events)

    def unregister(self, fd: int, /) -> None:
        """See :class:`Poller`."""
        self._selector.unregister(fd)

    def poll(self, timeout: int, maxevents: int, /) -> Sequence[tuple[int, int]]:
        """See :class:`Poller`."""
        return [(key.fd, events) for key, events in self._selector.select(timeout)]

    def close(self) -> None:
        """See :class:`Poller`."""
        self._selector.close()


_POLLER: Final[Callable[[], Poller]] = getattr(select, "epoll", Selecting)


class Readiness:
    """Sockets and who takes what arrives there. On one thread, but for what says that it is for any."""

    __slots__ = ("_calls", "_knocker", "_poller", "_watching", "door")

    def __init__(self, poller: Callable[[], Poller] = _POLLER) -> None:
        self._poller: Final = poller()
        self._watching: Final[dict[int, Callable[[], None]]] = {}
        """Whom to call for each descriptor."""
        self._calls: Final[deque[tuple[Callable[..., object], tuple[Any, ...]]]] = deque()
        self.door, self._knocker = os.pipe()
        """The door's descriptor: readable after a knock."""
        os.set_blocking(self.door, False)
        os.set_blocking(self._knocker, False)
        self.watch(self.door, self._answer)

    def fileno(self) -> int:
        """What is readable while anything here is."""
        return self._poller.fileno()

    def watch(self, fd: int, arrived: Callable[[], None]) -> None:
        """Has ``arrived`` called whenever ``fd`` is readable; it must not block, nor raise."""
        self._poller.register(fd, selectors.EVENT_READ)  # The same number for both.
        self._watching[fd] = arrived

    def forget(self, fd: int) -> None:
        """The opposite of :meth:`watch`, before ``fd`` is closed: nothing is called for it any more."""
        self._poller.unregister(fd)
        del self._watching[fd]

    async def wait(self) -> None:
        """Waits until there is something to take."""
        await trio.lowlevel.wait_readable(self._poller.fileno())

    async def wait_at_door(self) -> None:
        """Waits until somebody knocked, whatever else there is to take."""
        await trio.lowlevel.wait_readable(self.door)

    def take(self) -> None:
        """Calls whoever has something to take now, each once. Never blocks."""
        watching = self._watching
        for fd, _ in self._poller.poll(0, len(watching)):
            arrived = watching.get(fd)
            if arrived is not None:  # Another one's turn just now ended it.
                arrived()

    def run_sync_soon(self, call: Callable[..., object], *args: Any) -> None:
        """Has ``call`` run by the next :meth:`take`, which it brings about. From any thread."""
        self._calls.append((call, args))
        self.knock()

    def knock(self) -> None:
        """Brings about a :meth:`take`. From any thread."""
        with suppress(BlockingIOError):  # It is full of knocks that are still to be heard.
            os.write(self._knocker, b"k")

    def _answer(self) -> None:
        os.read(self.door, _KNOCKS)
        while self._calls:
            call, args = self._calls.popleft()
            call(*args)

    def close(self) -> None:
        """Releases everything; no other thread may use it any more."""
        self._poller.close()
        os.close(self.door)
        os.close(self._knocker)
