"""The session core's side of its connections: which to open and close, and what is to be sent on each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from primitives.errors import QuorateError
from primitives.ids import GroupId, NodeId
from primitives.limits import CLIENT_FRAME_BYTES_MAX
from router.connection import encode_hello
from router.frames import REQUEST_OVERHEAD_BYTES, FrameKind, encode_control, encode_requests
from router.session_backoff import Random
from router.session_calls import Call
from router.session_links import Link, Routes
from router.session_settings import SessionSettings

FAR_MS: Final = 60_000
"""Time is looked at this often even if nothing asks for it."""


class Source(Protocol):
    """Whoever has requests of a group to send."""

    @property
    def group(self) -> GroupId:
        """The group that they are for."""

    def take(self, now_ms: int) -> Iterator[tuple[Call, bytes]]:
        """Calls to be sent now, each with its record; they are sent as they are taken."""


class Network:
    """Links, routes, and everything that is to leave at the next poll."""

    __slots__ = ("_batches", "_close", "_dial", "_map_asked", "_name", "_next_request", "_out", "_settings",
                 "_sizes", "routes", "wake_ms")  # fmt: skip

    def __init__(
        self, addresses: Sequence[str], random: Random, name: str, settings: SessionSettings
    ) -> None:
        self.routes: Final = Routes(addresses, random, settings)
        self.wake_ms = 0
        """When time is to be looked at again."""
        self._settings: Final = settings
        self._name: Final = name
        self._out: dict[int, list[bytes]] = {}
        self._batches: dict[int, list[tuple[int, int, bytes]]] = {}
        self._sizes: dict[int, int] = {}
        """Bytes of each batch, of whichever groups."""
        self._close: list[int] = []
        self._dial: list[tuple[int, str]] = []
        self._next_request = 1
        self._map_asked = False

    def wake(self, at_ms: int) -> None:
        """Has time looked at no later than this."""
        self.wake_ms = min(self.wake_ms, at_ms)

    def take(self) -> tuple[list[tuple[int, bytes]], list[int], list[tuple[int, str]]]:
        """What is to be sent, closed and dialed now."""
        for connection in list(self._batches):
            self._cut(connection)
        out = self._out
        frames = [(connection, b"".join(parts)) for connection, parts in out.items()]
        out.clear()
        close, self._close = self._close, []
        dial, self._dial = self._dial, []
        return frames, close, dial

    # --- Sending ------------------------------------------------------------------------------------

    def send(self, link: Link, frame: bytes) -> None:
        """Sends a whole frame."""
        self._out.setdefault(link.connection, []).append(link.protocol.sending(frame))

    def fill(self, now_ms: int, group: Source, link: Link) -> bool:
        """Sends what the group has, over ``link``; False if there is no room for all of it now."""
        settings = self._settings
        connection = link.connection
        if link.inflight_bytes >= settings.link_bytes_max:
            return False
        link.awaits(now_ms)
        batch = self._batches.get(connection)
        size = 0 if batch is None else self._sizes[connection]
        for call, record in group.take(now_ms):
            taken = len(record) + REQUEST_OVERHEAD_BYTES
            if batch is None or size + taken > CLIENT_FRAME_BYTES_MAX or size > settings.frame_bytes:
                if batch is not None:
                    self._cut(connection)
                batch = self._batches[connection] = []
                size = 0
            request = self._next_request
            self._next_request = request + 1
            link.track(call, request)
            batch.append((request, group.group, record))
            size += taken
            self._sizes[connection] = size
            if link.inflight_bytes >= settings.link_bytes_max:
                return False
        return True

    def _cut(self, connection: int) -> None:
        """Makes a frame of what is gathered for a connection."""
        batch = self._batches.pop(connection)
        link = self.routes.links.get(connection)
        if batch and link is not None:
            self.send(link, encode_requests(batch))

    def ask_map(self, link: Link) -> None:
        """Asks a node for the map, unless one is on its way."""
        if link.is_up and not self._map_asked:
            self._map_asked = True
            self.send(link, encode_control(FrameKind.MAP_REQUEST, []))

    def map_came(self) -> None:
        """A map arrived."""
        self._map_asked = False

    # --- Links --------------------------------------------------------------------------------------

    def opened(self, now_ms: int, link: Link) -> None:
        """A connection that was to be opened is."""
        link.heard_ms = now_ms
        self.send(link, encode_hello(self._name))

    def close(self, now_ms: int, link: Link, error: QuorateError | None = None) -> None:
        """Has a connection closed, and forgets it."""
        self._close.append(link.connection)
        self.drop(now_ms, link, error)

    def drop(self, now_ms: int, link: Link, error: QuorateError | None = None) -> None:
        """A connection is gone."""
        self.routes.closed(now_ms, link, error)
        self._out.pop(link.connection, None)
        self._batches.pop(link.connection, None)
        self._map_asked = False
        self.wake(now_ms)

    def want(self, now_ms: int, group: GroupId) -> None:
        """Dials the node that the group is best reached by, if there is need and it is time."""
        node = self.routes.wanted(group)
        if node is not None:
            self.dial_node(now_ms, node)

    def dial_node(self, now_ms: int, node: NodeId) -> None:
        """Dials a node, unless it is connected, being dialed, or not due yet."""
        link = self.routes.dial_node(now_ms, node)
        if link is not None:
            self._dial.append((link.connection, link.address))

    def probe(self, now_ms: int, link: Link) -> None:
        """Sends something that is answered at once, to see whether the node is there."""
        if not link.probed:
            link.awaits(now_ms)
            link.probed = True
            self.send(link, encode_control(FrameKind.MAP_REQUEST, []))

    def _listen(self, now_ms: int, link: Link) -> None:
        """Nothing is due on the link, but events may come: looks from time to time whether the node is there.
        """
        quiet_ms = self._settings.quiet_ms
        if now_ms - link.heard_ms >= quiet_ms:
            self.probe(now_ms, link)
            self.wake(now_ms + 2 * self._settings.silence_ms)
        else:
            self.wake(link.heard_ms + quiet_ms)

    def patient(self, now_ms: int) -> None:
        """The process stood still: nobody was silent."""
        for link in self.routes.links.values():
            link.heard_ms = now_ms

    def tick(self, now_ms: int) -> list[Link]:
        """Probes and dials as time asks for it; links that have been silent for too long, to be closed."""
        settings = self._settings
        dead: list[Link] = []
        for link in self.routes.links.values():
            if not (link.prompt or link.probed or not link.is_up):
                if link.streams:
                    self._listen(now_ms, link)
                continue
            patience_ms = settings.silence_ms if link.is_up else settings.hello_timeout_ms
            silent_ms = now_ms - link.heard_ms
            if silent_ms >= (2 * patience_ms if link.is_up else patience_ms):
                dead.append(link)
                continue
            if link.is_up and silent_ms >= patience_ms:
                self.probe(now_ms, link)
            self.wake(link.heard_ms + (2 * patience_ms if link.is_up and link.probed else patience_ms))
        for link in self.routes.dial(now_ms):
            self._dial.append((link.connection, link.address))
        retry_ms = self.routes.retry_ms(now_ms)
        if retry_ms is not None:
            self.wake(max(retry_ms, now_ms + 1))
        return dead
