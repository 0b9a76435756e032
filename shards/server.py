"""The client port: connections, their handshake, and frames to and from the engine.

A client that sends what the protocol does not allow is refused and closed; nothing that one connection does
ends another, or the node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

import trio

from primitives.errors import ProtocolError
from primitives.ids import NodeId
from router.connection import Connection, Role, Welcome, decode_hello, encode_refused, encode_welcome
from router.frames import VERSION, FrameKind, encode_control
from router.link import ByteLink, Link, LinkLost
from router.memorylink import memory_pair
from router.network import SYSTEM, Lookout, Transfer
from router.shardmap import ShardMap
from shards.logs import log

HANDSHAKE_S: Final = 5.0
CLIENT_QUEUE_BYTES_MAX: Final = 32 << 20
"""Answers that a client may leave unread; beyond it the connection is closed."""
UNREAD_BYTES_MAX: Final = 1 << 20
"""With more answers unread, nothing more is taken from the client until it has read them."""
_KEEPALIVE: Final = (
    (trio.socket.SOL_SOCKET, trio.socket.SO_KEEPALIVE, 1),
    (trio.socket.IPPROTO_TCP, trio.socket.TCP_KEEPIDLE, 20),
    (trio.socket.IPPROTO_TCP, trio.socket.TCP_KEEPINTVL, 5),
    (trio.socket.IPPROTO_TCP, trio.socket.TCP_KEEPCNT, 4),
)
"""A client whose machine or network vanished says nothing, and one that is idle neither: the system asks, and
gives the connection up after 40 s without an answer."""
_GOODBYE: Final = encode_control(FrameKind.GOODBYE, ["the node is stopping"])


class Inbox(Protocol):
    """The engine, as its clients see it."""

    @property
    def shard_map(self) -> ShardMap | None:
        """The shard map, None before the cluster has formed."""

    def client_frame(self, connection: int, kind: int, payload: bytes) -> None:
        """A frame of a client arrived."""

    def client_closed(self, connection: int) -> None:
        """A client's connection is gone."""


class _Client:
    """A connection that has shaken hands."""

    __slots__ = ("link", "protocol")

    def __init__(self, link: ByteLink, protocol: Connection) -> None:
        self.link: Final[ByteLink] = link
        self.protocol: Final = protocol


class ClientServer:
    """All client connections of a node."""

    def __init__(
        self, engine: Inbox, *, node: NodeId, boot_id: bytes, clients_max: int, wake: Callable[[], None],
        handshake_s: float = HANDSHAKE_S, transfer: Transfer = SYSTEM, readiness: Lookout | None = None,
    ) -> None:  # fmt: skip
        """``wake`` tells the engine's driver that something came into the inbox; ``transfer`` is the network
        that listeners are of; ``readiness``: where connections that have shaken hands are looked at."""
        self._engine: Final = engine
        self._node: Final = node
        self._boot_id: Final = boot_id
        self._clients_max: Final = clients_max
        self._wake: Final = wake
        self._handshake_s: Final = handshake_s
        self._transfer: Final = transfer
        self._readiness: Final = readiness
        self._clients: dict[int, _Client] = {}
        self._connections = 0
        self._next = 0
        self._is_full = False
        self._nursery: trio.Nursery | None = None

    @property
    def connections(self) -> int:
        """Connections that stand, those included that have not shaken hands."""
        return self._connections

    # --- For the engine's driver: never blocks ------------------------------------------------------

    def send(self, connection: int, frames: Sequence[bytes]) -> None:
        """Sends whole frames; dropped if the connection is gone, and so is all that follows a refusal: what
        the client asked before its mistake may be answered after it."""
        client = self._clients.get(connection)
        if client is not None:
            sent = client.protocol.sending_all(frames)
            if sent:
                client.link.send(sent)

    def finish(self, connection: int) -> None:
        """Closes a connection; frames sent before still leave unless the client was not reading."""
        client = self._clients.pop(connection, None)
        if client is not None:
            if client.link.queued_bytes:
                client.link.close()
            else:
                client.link.finish()

    # --- Tasks --------------------------------------------------------------------------------------

    async def run(
        self, listeners: Sequence[trio.abc.Listener[Any]], *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:  # fmt: skip
        """Serves until cancelled; then says goodbye to every client. Closes ``listeners``, of which there may
        be none: :meth:`connect` is another way in, open from ``task_status`` on."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                if listeners:
                    nursery.start_soon(trio.serve_listeners, self._accept, list(listeners))
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def connect(self) -> ByteLink:
        """A client's end of a new connection from within this process, which takes no network. Raises
        ConnectionRefusedError unless the server runs."""
        if self._nursery is None:
            raise ConnectionRefusedError("the node does not run")
        near, far = memory_pair(far_bytes_max=CLIENT_QUEUE_BYTES_MAX)
        self._nursery.start_soon(self._serve, far)
        return near

    async def _accept(self, stream: Any) -> None:
        with suppress(OSError):  # Not every system has all of them.
            for level, option, value in _KEEPALIVE:
                stream.setsockopt(level, option, value)
        await self._serve(Link(
            stream, self._transfer, queue_bytes_max=CLIENT_QUEUE_BYTES_MAX, readiness=self._readiness
        ))  # fmt: skip

    @trio.lowlevel.enable_ki_protection
    async def _serve(self, link: ByteLink) -> None:
        if self._connections >= self._clients_max:
            self._refuse_full(link)
            return
        self._connections += 1
        self._is_full = False
        connection, self._next = self._next, self._next + 1
        protocol = Connection(Role.NODE)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.run)
                await self._converse(connection, link, protocol)
                nursery.cancel_scope.cancel()
        finally:
            self._connections -= 1
            if self._clients.pop(connection, None) is not None and protocol.is_open and not link.is_lost:
                link.send(protocol.sending(_GOODBYE))
            self._engine.client_closed(connection)
            self._wake()
            link.close()

    async def _converse(self, connection: int, link: ByteLink, protocol: Connection) -> None:
        """Takes frames until either end is done. What is wrong with this client ends here."""
        try:
            with trio.move_on_after(self._handshake_s):
                while not protocol.is_open:
                    self._take(connection, link, protocol, await link.receive())
            if not protocol.is_open:
                raise ProtocolError(f"no greeting within {self._handshake_s:g} s")
            def take(data: bytes) -> bool:
                self._take(connection, link, protocol, data)
                return link.queued_bytes <= UNREAD_BYTES_MAX

            while True:
                await link.pour(take)
                await link.drained()
        except LinkLost:
            return
        except ProtocolError as error:
            log.warning("client connection refused", connection=connection, reason=str(error))
            link.send(encode_refused("protocol", str(error)))
        except _NotServing as refusal:
            link.send(protocol.sending(encode_refused("unavailable", str(refusal))))

    def _take(self, connection: int, link: ByteLink, protocol: Connection, data: bytes) -> None:
        for kind, payload in protocol.receive(data):
            if kind == FrameKind.HELLO:
                self._welcome(connection, link, protocol, payload)
            else:
                self._engine.client_frame(connection, kind, payload)
        self._wake()

    def _welcome(self, connection: int, link: ByteLink, protocol: Connection, payload: bytes) -> None:
        decode_hello(payload)
        shard_map = self._engine.shard_map
        if shard_map is None:
            raise _NotServing("the cluster has not formed yet")
        welcome = Welcome(VERSION, shard_map.cluster_id, self._node, self._boot_id, shard_map.version)
        link.send(protocol.sending(encode_welcome(welcome)))
        self._clients[connection] = _Client(link, protocol)

    def _refuse_full(self, link: ByteLink) -> None:
        if not self._is_full:
            self._is_full = True
            log.warning("client connections are at their limit", clients_max=self._clients_max)
        link.send(encode_refused("overloaded", f"the node serves {self._clients_max} connections already"))
        link.close()


class _NotServing(Exception):
    """The node does not serve clients yet."""
