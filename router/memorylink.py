"""A link between two ends in one process: the same frames as over a socket, and no network.

What one end sends lies in the other's inbox until a task there takes it. Each end belongs to tasks of the
same event loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from router.link import QUEUE_BYTES_MAX, RECEIVE_BYTES, LinkLost


class MemoryLink:
    """One end, made by :func:`memory_pair`; a :class:`~router.link.ByteLink`.

    An end that was closed is no longer written to, but what it sent before is still there for the other.
    """

    __slots__ = (
        "_drainer", "_finishing", "_inbox", "_inbox_bytes", "_lost", "_other", "_receiver", "_runner",
        "queue_bytes_max",
    )  # fmt: skip

    def __init__(self, queue_bytes_max: int) -> None:
        self.queue_bytes_max: Final = queue_bytes_max
        """What this end may have sent that the other has not taken."""
        self._other: MemoryLink = self
        self._inbox: deque[bytes] = deque()
        self._inbox_bytes = 0
        self._finishing = False
        self._lost: str | None = None
        self._receiver: trio.lowlevel.Task | None = None
        self._drainer: trio.lowlevel.Task | None = None
        self._runner: trio.lowlevel.Task | None = None

    @property
    def is_lost(self) -> bool:
        """Whether the connection is known to be gone; then nothing is sent any more."""
        return self._lost is not None

    @property
    def queued_bytes(self) -> int:
        """Bytes that the other end has not taken."""
        return self._other._inbox_bytes

    def send(self, data: bytes) -> bool:
        """Hands ``data`` to the other end; never blocks. False: the link is lost, and the data with it."""
        other = self._other
        if self._lost is not None or self._finishing or other._lost is not None:
            return False
        other._inbox.append(data)
        other._inbox_bytes += len(data)
        if other._inbox_bytes > self.queue_bytes_max:
            other._forget()
            self._lose(f"the other end does not read: more than {self.queue_bytes_max} bytes wait to be sent")
            return False
        other._wake_receiver()
        return True

    async def receive(self) -> bytes:
        """What arrived, at least one byte; waits for it. Raises ``LinkLost`` at the stream's end too."""
        if self._inbox:
            await trio.lowlevel.checkpoint()
        while not self._inbox or self._lost is not None:
            if self._lost is not None:
                raise LinkLost(self._lost)
            if self._other._lost is not None or self._other._finishing:
                self._lose("the other end closed the connection")
                continue
            self._receiver = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort_receiver)
        return self._take()

    async def pour(self, take: Callable[[bytes], bool]) -> None:
        """Hands ``take`` all that arrives, until it says that it wants no more for now. Raises ``LinkLost``,
        and what ``take`` raises."""
        while take(await self.receive()):
            pass

    def _take(self) -> bytes:
        """The first pieces of the inbox: no more at a time than over a socket, so that others get a turn."""
        inbox = self._inbox
        data = inbox.popleft()
        if inbox:
            parts, size = [data], len(data)
            while inbox and size + len(inbox[0]) <= RECEIVE_BYTES:
                size += len(inbox[0])
                parts.append(inbox.popleft())
            data = b"".join(parts)
        self._inbox_bytes -= len(data)
        if not inbox:
            other = self._other
            other._wake_drainer()
            other._wake_runner()
        return data

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Waits until the link is lost; there is nothing to be done for it."""
        while self._lost is None:
            if self._finishing and not self.queued_bytes:
                self._lose("closed")
                return
            self._runner = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort_runner)

    async def drained(self) -> None:
        """Waits until the other end took everything or the link is lost. One task at a time may wait."""
        while self._lost is None and self._other._lost is None and self.queued_bytes:
            self._drainer = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort_drainer)

    def finish(self) -> None:
        """Takes no more to send, and ends the connection once the other end took what it was sent;
        :meth:`run` does the rest. Never blocks."""
        self._finishing = True
        self._other._wake_receiver()
        self._wake_runner()

    def close(self) -> None:
        """Closes the connection, and wakes whoever waits at either end. Never blocks."""
        self._lose("closed")

    def _lose(self, reason: str) -> None:
        if self._lost is None:
            self._lost = reason
            self._forget()
            for end in (self, self._other):
                end._wake_receiver()
                end._wake_drainer()
            self._wake_runner()

    def _forget(self) -> None:
        self._inbox.clear()
        self._inbox_bytes = 0

    # --- Whoever waits --------------------------------------------------------------------------------

    def _wake_receiver(self) -> None:
        if self._receiver is not None:
            task, self._receiver = self._receiver, None
            trio.lowlevel.reschedule(task)

    def _wake_drainer(self) -> None:
        if self._drainer is not None:
            task, self._drainer = self._drainer, None
            trio.lowlevel.reschedule(task)

    def _wake_runner(self) -> None:
        if self._runner is not None:
            task, self._runner = self._runner, None
            trio.lowlevel.reschedule(task)

    def _abort_receiver(self, _: object) -> trio.lowlevel.Abort:
        self._receiver = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _abort_drainer(self, _: object) -> trio.lowlevel.Abort:
        self._drainer = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _abort_runner(self, _: object) -> trio.lowlevel.Abort:
        self._runner = None
        return trio.lowlevel.Abort.SUCCEEDED


def memory_pair(
    near_bytes_max: int = QUEUE_BYTES_MAX, far_bytes_max: int = QUEUE_BYTES_MAX
) -> tuple[MemoryLink, MemoryLink]:
    """Two connected ends, each with what it may have sent and the other not taken."""
    near, far = MemoryLink(near_bytes_max), MemoryLink(far_bytes_max)
    near._other, far._other = far, near
    return near, far
