"""All sockets of a simulated node, looked at as one; see :class:`router.readiness.Readiness`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final

import trio

from bench.streams.sockets import SimSocket
from primitives.errors import InvariantViolation


class SimLookout:
    """See :class:`router.network.Lookout`. Who is called first by one look, chance decides."""

    def __init__(self, sockets: Mapping[int, SimSocket], random: Random) -> None:
        self._sockets: Final = sockets
        self._random: Final = random
        self._watched: Final[dict[int, tuple[SimSocket, Callable[[], None]]]] = {}
        self._calls: Final[deque[tuple[Callable[..., object], tuple[Any, ...]]]] = deque()
        self._knocked = False
        self._waiter: trio.lowlevel.Task | None = None
        self._at_door = False
        """Whether the one who waits does so for a knock alone."""

    def watch(self, fd: int, arrived: Callable[[], None], /) -> None:
        """See :class:`router.network.Lookout`."""
        if fd in self._watched:
            raise InvariantViolation(f"descriptor {fd} is watched twice: its former socket was not forgotten")
        socket = self._sockets[fd]
        self._watched[fd] = socket, arrived
        socket.watcher = self._stir
        if socket.is_readable:
            self._stir()

    def forget(self, fd: int, /) -> None:
        """See :class:`router.network.Lookout`."""
        self._watched.pop(fd)[0].watcher = None

    async def wait(self) -> None:
        """See :class:`router.network.Lookout`."""
        if self._knocked or any(socket.is_readable for socket, _ in self._watched.values()):
            await trio.lowlevel.checkpoint()
        else:
            await self._park(at_door=False)

    async def wait_at_door(self) -> None:
        """See :class:`router.network.Lookout`."""
        if self._knocked:
            await trio.lowlevel.checkpoint()
        else:
            await self._park(at_door=True)

    def take(self) -> None:
        """See :class:`router.network.Lookout`."""
        ready = [arrived for socket, arrived in self._watched.values() if socket.is_readable]
        if self._knocked:
            self._knocked = False
            ready.append(self._answer)
        self._random.shuffle(ready)
        for arrived in ready:
            arrived()

    def knock(self) -> None:
        """See :class:`router.network.Lookout`."""
        self._knocked = True
        self._wake()

    def run_sync_soon(self, call: Callable[..., object], *args: Any) -> None:
        """See :class:`router.network.Lookout`."""
        self._calls.append((call, args))
        self.knock()

    def close(self) -> None:
        """See :class:`router.network.Lookout`."""
        left = [socket.name for socket, _ in self._watched.values() if socket.descriptor >= 0]
        if left:
            raise InvariantViolation(f"still watched at the end: {', '.join(left)}")

    def _answer(self) -> None:
        while self._calls:
            call, args = self._calls.popleft()
            call(*args)

    def _stir(self) -> None:
        if not self._at_door:
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None:
            task, self._waiter = self._waiter, None
            trio.lowlevel.reschedule(task)

    async def _park(self, *, at_door: bool) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            self._waiter = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._waiter, self._at_door = trio.lowlevel.current_task(), at_door
        try:
            await trio.lowlevel.wait_task_rescheduled(abort)
        finally:
            self._at_door = False
