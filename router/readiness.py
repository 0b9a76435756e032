"""What one loop reads from, looked at all at once: sockets, and a door for other threads.

A task that waits for its own socket costs a wake, a registration and a turn of the event loop a packet.
Here the sockets stand in one selector; whoever owns it waits for that, as for a single socket, and then has
all that arrived handed over, one call for each socket, in one step.
"""

from __future__ import annotations

import os
import selectors
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import trio

_KNOCKS: Final = 4096
"""Bytes read of the door's pipe at a time; each knock is one."""


class Readiness:
    """Sockets and who takes what arrives there. On one thread, but for what says that it is for any."""

    __slots__ = ("_calls", "_knocker", "_selector", "door")

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._calls: Final[deque[tuple[Callable[..., object], tuple[Any, ...]]]] = deque()
        self.door, self._knocker = os.pipe()
        """The door's descriptor: readable after a knock."""
        os.set_blocking(self.door, False)
        os.set_blocking(self._knocker, False)
        self.watch(self.door, self._answer)

    def fileno(self) -> int:
        """What is readable while anything here is."""
        return self._selector.fileno()

    def watch(self, fd: int, arrived: Callable[[], None]) -> None:
        """Has ``arrived`` called whenever ``fd`` is readable; it must not block, nor raise."""
        self._selector.register(fd, selectors.EVENT_READ, arrived)

    def forget(self, fd: int) -> None:
        """The opposite of :meth:`watch`, before ``fd`` is closed; within a :meth:`take` it may be called once
        more."""
        self._selector.unregister(fd)

    async def wait(self) -> None:
        """Waits until there is something to take."""
        await trio.lowlevel.wait_readable(self._selector.fileno())

    async def wait_at_door(self) -> None:
        """Waits until somebody knocked, whatever else there is to take."""
        await trio.lowlevel.wait_readable(self.door)

    def take(self) -> None:
        """Calls whoever has something to take now, each once. Never blocks."""
        for key, _ in self._selector.select(0):
            key.data()

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
        self._selector.close()
        os.close(self.door)
        os.close(self._knocker)
