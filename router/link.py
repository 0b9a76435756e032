"""A connected byte stream whose sending never waits: for clients, node servers and the multiplexer alike.

:class:`ByteLink` is what clients and node servers need of one; :class:`Link` is the one over a socket, and
:mod:`router.memorylink` has the one between two ends in the same process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from router.network import SYSTEM, Lookout, Stream, Transfer

QUEUE_BYTES_MAX: Final = 64 << 20
RECEIVE_BYTES: Final = 64 * 1024
_PARTS_MAX: Final = 64
"""Pieces handed to one system call."""


class LinkLost(Exception):
    """The connection is gone; the text says how."""


@dataclass(frozen=True, slots=True)
class LinkStatistics:
    """Counts of a link since it was made."""

    sent_bytes: int
    """Handed to the operating system."""
    received_bytes: int
    queued_bytes: int
    """Waiting to be sent."""
    sends: int
    sends_queued: int
    """Of ``sends``, those that the socket did not take whole at once."""


class ByteLink(Protocol):
    """One end of a connection. Whoever owns it runs :meth:`run` in a task for as long as it uses the link."""

    @property
    def is_lost(self) -> bool:
        """Whether the connection is known to be gone; then nothing is sent any more."""

    @property
    def queued_bytes(self) -> int:
        """Bytes that were sent and have not left."""

    def send(self, data: bytes) -> bool:
        """Sends or queues; never blocks. False: the link is lost, and the data with it."""

    async def receive(self) -> bytes:
        """What arrived, at least one byte; waits for it. Raises :class:`LinkLost`."""

    async def pour(self, take: Callable[[bytes], bool]) -> None:
        """Hands ``take`` all that arrives, until it says that it wants no more for now. Raises
        :class:`LinkLost`, and what ``take`` raises."""

    async def run(self) -> None:
        """Does what is to be done for the link until it is lost."""

    async def drained(self) -> None:
        """Waits until nothing is queued or the link is lost. One task at a time may wait."""

    def finish(self) -> None:
        """Takes no more to send, and ends the connection once what is queued has left. Never blocks."""

    def close(self) -> None:
        """Closes the connection, and wakes whoever waits here. Harmless if it is closed. Never blocks."""


class Link:
    """A connected TCP stream.

    :meth:`send` hands bytes to the socket at once while nothing is queued; the rest is sent by :meth:`run`,
    which the owner runs in a task of its own nursery for as long as it uses the link. A peer that does not
    read fills the queue, and then the link is lost: nobody else waits for it.
    """

    __slots__ = (
        "_drainer", "_fd", "_finishing", "_lost", "_pourer", "_queue", "_queued", "_read", "_readiness",
        "_received", "_refusal", "_sender", "_sends", "_sends_queued", "_sent", "_stream", "_take",
        "_wait_readable", "_wait_writable", "_writev", "queue_bytes_max",
    )  # fmt: skip

    def __init__(
        self, stream: Stream, transfer: Transfer = SYSTEM, *, queue_bytes_max: int = QUEUE_BYTES_MAX,
        readiness: Lookout | None = None,
    ) -> None:  # fmt: skip
        """``transfer`` is the network that the stream is of; ``readiness``: where :meth:`pour` looks for what
        arrives, instead of in a task of its own."""
        self._stream: Final = stream
        self._writev: Final = transfer.writev
        self._read: Final = transfer.read
        self._wait_readable: Final = transfer.wait_readable
        self._wait_writable: Final = transfer.wait_writable
        self._readiness: Final = readiness
        self.queue_bytes_max: Final = queue_bytes_max
        self._fd = stream.socket.fileno()
        self._queue: deque[memoryview] = deque()
        self._queued = 0
        self._finishing = False
        self._sender: trio.lowlevel.Task | None = None
        self._drainer: trio.lowlevel.Task | None = None
        self._pourer: trio.lowlevel.Task | None = None
        self._take: Callable[[bytes], bool] | None = None
        """Of the pouring task, while its socket is watched."""
        self._refusal: BaseException | None = None
        """What ``take`` raised, on its way to the pouring task."""
        self._lost: str | None = None
        self._sent = 0
        self._received = 0
        self._sends = 0
        self._sends_queued = 0

    @property
    def is_lost(self) -> bool:
        """Whether the connection is known to be gone; then nothing is sent any more."""
        return self._lost is not None

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait to be sent."""
        return self._queued

    def send(self, data: bytes) -> bool:
        """Sends, or queues what the socket does not take now; never blocks. False: the link is lost, and the
        data with it; :meth:`receive` says why."""
        if self._lost is not None or self._finishing:
            return False
        self._sends += 1
        rest = memoryview(data)
        if not self._queue:
            taken = self._write([rest])
            if taken == len(data) or self._lost is not None:
                return self._lost is None
            rest = rest[taken:]
        self._sends_queued += 1
        self._queue.append(rest)
        self._queued += len(rest)
        if self._queued > self.queue_bytes_max:
            self._lose(f"the other end does not read: {self._queued} bytes wait to be sent")
            return False
        self._wake()
        return True

    def _wake(self) -> None:
        if self._sender is not None:
            sender, self._sender = self._sender, None
            trio.lowlevel.reschedule(sender)

    def _write(self, parts: list[memoryview]) -> int:
        """Bytes that the socket took of ``parts``; 0 if it is full, or the link is lost by this."""
        try:
            taken = self._writev(self._fd, parts)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._lose(f"sending failed: {error.strerror}")
            return 0
        self._sent += taken
        return taken

    async def drained(self) -> None:
        """Waits until nothing is queued or the link is lost. One task at a time may wait."""
        def abort(_: object) -> trio.lowlevel.Abort:
            self._drainer = None
            return trio.lowlevel.Abort.SUCCEEDED

        while self._queue:
            self._drainer = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(abort)

    def _wake_drainer(self) -> None:
        if self._drainer is not None:
            drainer, self._drainer = self._drainer, None
            trio.lowlevel.reschedule(drainer)

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Sends what is queued, until the link is lost. Run it in one task at a time."""
        while self._lost is None:
            if not self._queue:
                if self._finishing:
                    self._lose("closed")
                    return
                await self._park()
                continue
            try:
                await self._wait_writable(self._fd)
            except (trio.ClosedResourceError, OSError) as error:
                self._lose(f"closed: {error}")
                return
            # Others may have run meanwhile: the queue is looked at anew.
            taken = self._write([self._queue[at] for at in range(min(len(self._queue), _PARTS_MAX))])
            self._queued -= taken
            while taken:
                first = self._queue[0]
                if taken < len(first):
                    self._queue[0] = first[taken:]
                    break
                taken -= len(first)
                self._queue.popleft()
            if not self._queue:
                self._wake_drainer()

    async def _park(self) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            self._sender = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._sender = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    async def receive(self) -> bytes:
        """What arrived, at least one byte; waits for it. Raises :class:`LinkLost` at the stream's end too."""
        while True:
            if self._lost is not None:
                raise LinkLost(self._lost)
            try:
                # Waits first: nearly always there is nothing yet, and trying would cost a call and an error.
                await self._wait_readable(self._fd)
                if self._lost is not None:  # Closed meanwhile: the descriptor may be another's by now.
                    continue
                data = self._read(self._fd, RECEIVE_BYTES)
                break
            except BlockingIOError:
                continue
            except (trio.ClosedResourceError, OSError) as error:
                self._lose(f"receiving failed: {getattr(error, 'strerror', None) or error}")
                raise LinkLost(self._lost) from error
        if not data:
            self._lose("the other end closed the connection")
            raise LinkLost(self._lost)
        self._received += len(data)
        return data

    async def pour(self, take: Callable[[bytes], bool]) -> None:
        """Hands ``take`` all that arrives, until it says that it wants no more for now. Raises
        :class:`LinkLost`, and what ``take`` raises."""
        if self._readiness is None:
            while take(await self.receive()):
                pass
            return

        def abort(_: object) -> trio.lowlevel.Abort:
            self._pourer = None
            self._unwatch()
            return trio.lowlevel.Abort.SUCCEEDED

        if self._lost is None:
            self._take = take
            self._readiness.watch(self._fd, self._arrived)
            self._pourer = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(abort)
        if self._refusal is not None:
            refusal, self._refusal = self._refusal, None
            raise refusal
        if self._lost is not None:
            raise LinkLost(self._lost)

    def _arrived(self) -> None:
        """The socket is readable. What goes wrong is the pouring task's, not that of whoever looks."""
        if self._take is None:  # Another one's turn just now ended this.
            return
        try:
            data = self._read(self._fd, RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(f"receiving failed: {error.strerror}")
            return
        if not data:
            self._lose("the other end closed the connection")
            return
        self._received += len(data)
        try:
            if self._take(data):
                return
        except BaseException as error:
            self._refusal = error
        self._stop_pouring()

    def _stop_pouring(self) -> None:
        self._unwatch()
        if self._pourer is not None:
            pourer, self._pourer = self._pourer, None
            trio.lowlevel.reschedule(pourer)

    def _unwatch(self) -> None:
        if self._take is not None and self._readiness is not None:
            self._take = None
            self._readiness.forget(self._fd)

    def finish(self) -> None:
        """Takes no more to send, and ends the connection once what is queued is sent; :meth:`run` does the
        rest, for as long as the owner lets it. Never blocks."""
        self._finishing = True
        if not self._queue:
            self._lose("closed")

    def close(self) -> None:
        """Closes the connection; what is queued is dropped, and whoever waits here is told. Never blocks."""
        self._lose("closed")
        self._stream.socket.close()

    def _lose(self, reason: str) -> None:
        if self._lost is not None:
            return
        self._lost = reason
        self._queue.clear()
        self._queued = 0
        with suppress(OSError):  # The other end may have gone first.
            self._stream.socket.shutdown(trio.socket.SHUT_RDWR)
        self._wake()
        self._wake_drainer()
        self._stop_pouring()

    def statistics(self) -> LinkStatistics:
        """A copy of the link's counts."""
        return LinkStatistics(self._sent, self._received, self._queued, self._sends, self._sends_queued)
