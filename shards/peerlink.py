"""One connection to a peer: frames that arrive, sections that wait to leave, and signs of life."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NoReturn

import trio

from router.frames import Splitter
from router.link import Link
from shards.handshake import HELLO_BYTES_MAX
from shards.peerqueue import PeerQueue
from shards.peerwire import PeerFrameKind, frame

_PING: Final = frame(PeerFrameKind.PING, b"")


class PeerLink:
    """A connection that is up."""

    __slots__ = ("backlog", "ended", "link", "name", "queue", "received_bytes", "sends", "silent_beats")

    def __init__(self, name: str, link: Link) -> None:
        self.name: Final = name
        self.link: Final = link
        self.queue: Final = PeerQueue(link)
        self.backlog = trio.Event()
        """Set when something waits in the queue."""
        self.ended = ""
        """Why this node closes it."""
        self.received_bytes = 0
        self.sends = 0
        self.silent_beats = 0

    def put(self, sections: Sequence[tuple[int, bytes]]) -> None:
        """Sends one round's sections, or queues what the connection does not take."""
        self.queue.put(sections)
        if not self.queue.is_empty:
            self.backlog.set()
            if self.queue.is_overflowing:
                self.end("it does not read what is sent to it")

    def end(self, reason: str) -> None:
        """Closes the connection; its task does the rest."""
        self.ended = self.ended or reason
        self.link.close()

    @trio.lowlevel.enable_ki_protection
    async def send_backlog(self) -> None:
        """Sends what waits, whenever the connection takes more."""
        while not self.link.is_lost:
            await self.backlog.wait()
            while not self.queue.is_empty and not self.link.is_lost:
                await self.link.drained()
                self.queue.pump()
            self.backlog = trio.Event()

    def beat(self, silent_beats_max: int) -> None:
        """Looks whether anything came since the last beat, and says something if nothing left since."""
        counts = self.link.statistics()
        if counts.received_bytes != self.received_bytes:
            self.received_bytes = counts.received_bytes
            self.silent_beats = 0
        else:
            self.silent_beats += 1
            if self.silent_beats >= silent_beats_max:
                self.end("nothing was heard from it")
                return
        if counts.sends == self.sends and not self.link.queued_bytes:
            self.link.send(_PING)
            counts = self.link.statistics()
        self.sends = counts.sends


class Frames:
    """Frames of one connection, as they arrive."""

    __slots__ = ("_link", "_splitter")

    def __init__(self, link: Link) -> None:
        self._link = link
        self._splitter = Splitter(HELLO_BYTES_MAX)

    def allow(self, frame_bytes_max: int) -> None:
        """Takes frames of up to so many bytes from now on."""
        self._splitter.frame_bytes_max = frame_bytes_max

    async def next(self) -> tuple[int, bytes]:
        """The next frame. Raises ``LinkLost`` and ``ProtocolError``."""
        while (found := self._splitter.pop()) is None:
            self._splitter.push(await self._link.receive())
        return found

    async def pour(self, take: Callable[[int, bytes], None]) -> NoReturn:
        """Hands ``take`` each further frame. Raises ``LinkLost`` and ``ProtocolError``, and what ``take``
        raises."""
        splitter = self._splitter

        def cut() -> None:
            while (found := splitter.pop()) is not None:
                take(*found)

        def arrived(data: bytes) -> bool:
            splitter.push(data)
            cut()
            return True

        cut()
        while True:
            await self._link.pour(arrived)
