"""The session core's side of its connections: which to open and close, and what is to be sent on each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from primitives.errors import QuorateError
from primitives.ids import GroupId, NodeId
from primitives.limits import CLIENT_FRAME_BYTES_MAX
from router.connection import encode_hello
from router.frames import REQUEST_OVERHEAD_BYTES, FrameKind, encode_control, join_requests, request_head
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

    def give(self, now_ms: int, outgoing: Outgoing) -> bool:
        """Adds the calls that are to be sent now, each with its record, for as long as there is room; whether
        that was so to the end."""


class Outgoing:
    """Requests that leave on one link at the next poll."""

    __slots__ = ("_link", "_network", "_parts", "_size")

    def __init__(self, network: Network, link: Link) -> None:
        self._network: Final = network
        self._link: Final = link
        self._parts: list[bytes] = []
        """Of the frame that is being filled: head and record of each request, of whichever groups."""
        self._size = 0

    def add(self, group: GroupId, call: Call, record: bytes) -> bool:
        """Sends a call's request; whether there is room for another one."""
        return self.add_burst(group, [call], record)

    def add_burst(self, group: GroupId, calls: list[Call], record: bytes) -> bool:
        """Sends the request of several calls; each has an id of its own, and the first one's is sent."""
        network, link = self._network, self._link
        settings = network.settings
        taken = len(record) + REQUEST_OVERHEAD_BYTES
        if self._size + taken > CLIENT_FRAME_BYTES_MAX or self._size > settings.frame_bytes:
            self.cut()
        first = request = network.next_request
        for call in calls:
            link.track(call, request)
            request += 1
        network.next_request = request
        calls[0].burst = len(calls)
        parts = self._parts
        parts.append(request_head(first, group, record))
        parts.append(record)
        self._size += taken
        return link.inflight_bytes < settings.link_bytes_max

    def cut(self) -> None:
        """Makes a frame of what was added since the last."""
        if self._parts:
            self._network.send(self._link, join_requests(self._parts))
            self._parts = []
            self._size = 0


class Network:
    """Links, routes, and everything that is to leave at the next poll."""

    __slots__ = ("_close", "_dial", "_map_asked", "_name", "_out", "_outgoing", "next_request", "routes",
                 "settings", "wake_ms")  # fmt: skip

    def __init__(
        self, addresses: Sequence[str], random: Random, name: str, settings: SessionSettings
    ) -> None:
        self.routes: Final = Routes(addresses, random, settings)
        self.wake_ms = 0
        """When time is to be looked at again."""
        self.settings: Final = settings
        self._name: Final = name
        self._out: dict[int, list[bytes]] = {}
        self._outgoing: dict[int, Outgoing] = {}
        self._close: list[int] = []
        self._dial: list[tuple[int, str]] = []
        self.next_request = 1
        self._map_asked = False

    def wake(self, at_ms: int) -> None:
        """Has time looked at no later than this."""
        if at_ms < self.wake_ms:
            self.wake_ms = at_ms

    def take(self) -> tuple[list[tuple[int, bytes]], list[int], list[tuple[int, str]]]:
        """What is to be sent, closed and dialed now."""
        if self._outgoing:
            for outgoing in self._outgoing.values():
                outgoing.cut()
            self._outgoing.clear()
        out = self._out
        frames = [
            (connection, parts[0] if len(parts) == 1 else b"".join(parts))
            for connection, parts in out.items()
        ]
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
        if link.inflight_bytes >= self.settings.link_bytes_max:
            return False
        link.awaits(now_ms)
        outgoing = self._outgoing.get(link.connection)
        if outgoing is None:
            outgoing = self._outgoing[link.connection] = Outgoing(self, link)
        return group.give(now_ms, outgoing)

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
        self._outgoing.pop(link.connection, None)
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
        quiet_ms = self.settings.quiet_ms
        if now_ms - link.heard_ms >= quiet_ms:
            self.probe(now_ms, link)
            self.wake(now_ms + 2 * self.settings.silence_ms)
        else:
            self.wake(link.heard_ms + quiet_ms)

    def patient(self, now_ms: int) -> None:
        """The process stood still: nobody was silent."""
        for link in self.routes.links.values():
            link.heard_ms = now_ms

    def tick(self, now_ms: int) -> list[Link]:
        """Probes and dials as time asks for it; links that have been silent for too long, to be closed."""
        settings = self.settings
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
