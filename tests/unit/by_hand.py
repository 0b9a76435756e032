"""What tests of real connections share: frames by hand, and waiting for what somebody remembers."""

from __future__ import annotations

from collections.abc import Callable

import trio

from primitives.limits import CLIENT_FRAME_BYTES_MAX
from router.frames import Splitter


class FrameStream:
    """One end of a connection, frame by frame."""

    def __init__(self, stream: trio.SocketStream, frame_bytes_max: int = CLIENT_FRAME_BYTES_MAX) -> None:
        self.stream = stream
        self._splitter = Splitter(frame_bytes_max)

    async def next(self) -> tuple[int, bytes] | None:
        """The next frame; None at the end of the stream."""
        with trio.fail_after(5):
            while (found := self._splitter.pop()) is None:
                try:
                    data = await self.stream.receive_some(65536)
                except trio.BrokenResourceError:
                    return None
                if not data:
                    return None
                self._splitter.push(data)
        return found


class Witness:
    """Something that changes now and then, which tests wait for. Whoever changes it calls :meth:`wake`."""

    def __init__(self) -> None:
        self._changed = trio.Event()

    def wake(self) -> None:
        """Something changed."""
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits until something is so."""
        with trio.fail_after(5):
            while not holds():
                await self._changed.wait()
