"""The multiplexer: one connection for each pair of nodes, carrying every group.

The node whose name sorts lower dials, again and again with growing pauses. Two nodes that meet say who they
are (``handshake``) and what they were started with (``founding``); only when both agree is the connection
*up*, and replaces an older one of the same peer. Everything that waits for a peer belongs to its connection
and ends with it.

Each end sends a PING when it had nothing else to send; a connection on which nothing arrives for some beats
is closed, so a stopped or cut-off peer does not look alive. Beats are counted, not timed, so that a pause of
this process does not look like silence of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from primitives.errors import ProtocolError
from primitives.limits import PEER_FRAME_BYTES_MAX
from router.link import Link, LinkLost
from router.network import SYSTEM, Lookout, Network, Stream
from shards.config import Address, address_text
from shards.founding import Statement, decode_statement
from shards.handshake import (
    FOUNDING_BYTES_MAX,
    MEETING_S,
    Hello,
    Parted,
    Purpose,
    Refusal,
    RefusalCode,
    decode_hello,
    decode_refused,
    encode_hello,
    encode_refused,
    objection,
)
from shards.logs import log
from shards.peerlink import Frames, PeerLink
from shards.peerqueue import QueueStatistics
from shards.peerwire import PeerFrameKind

if TYPE_CHECKING:
    from random import Random

MEETINGS_MAX: Final = 64
"""Connections that came in and have not yet agreed, at a time."""
_NOTED_MAX: Final = 256
_NOTSENT_BYTES: Final = 256 * 1024
"""What the kernel holds unsent; the rest waits in our own order of priorities."""
_TCP_NOTSENT_LOWAT: Final = 25


@dataclass(frozen=True, slots=True)
class MuxTiming:
    """Pauses and bounds of connections, in seconds."""

    connect_s: float = 2.0
    meeting_s: float = MEETING_S
    """From a connection's first byte to agreement."""
    pause_s_min: float = 0.02
    pause_s_max: float = 1.0
    """Between attempts to connect; each is shortened at random by up to half."""
    probe_s: float = 2.0
    """Between looks at nodes that should have dialled this one, before it has formed."""
    beat_s: float = 0.5
    silent_beats_max: int = 5


class Owner(Protocol):
    """The node, as its connections see it. Nothing here blocks for longer than a sync at founding.

    Where a connection cannot go on, :class:`Parted` is raised; whatever ends the node passes through.
    """

    @property
    def formed(self) -> bool:
        """Whether this node's cluster has formed."""

    def hello(self, purpose: int, expected: str) -> Hello:
        """Who this node is."""

    def statement(self) -> bytes:
        """The FOUNDING frame of what it was started with."""

    def judge(self, theirs: Statement) -> None:
        """Raises :class:`Parted` unless the two go on together."""

    def refused(self, refusal: Refusal) -> Parted:
        """Another node refused this one."""

    def peer_up(self, name: str, boot_id: bytes, theirs: Statement) -> None:
        """The connection is up. Raises :class:`Parted`."""

    def peer_statement(self, name: str, theirs: Statement) -> None:
        """A peer's statement changed. Raises :class:`Parted`."""

    def peer_sections(self, name: str, payload: bytes) -> None:
        """A frame of sections arrived."""

    def peer_down(self, name: str) -> None:
        """The connection that was up is gone."""


class Mux:
    """This node's connections to its peers."""

    def __init__(
        self, name: str, cluster: Mapping[str, Address], owner: Owner, random: Random, timing: MuxTiming,
        network: Network = SYSTEM, readiness: Lookout | None = None,
    ) -> None:  # fmt: skip
        """``readiness``: where connections that are up are looked at."""
        self._name: Final = name
        self._cluster: Final = dict(cluster)
        self._owner: Final = owner
        self._random: Final = random
        self._timing: Final = timing
        self._network: Final = network
        self._readiness: Final = readiness
        self._up: dict[str, PeerLink] = {}
        self._meetings = 0
        self._told: set[Link] = set()
        """Connections that were sent this node's statement and are not up yet."""
        self._noted: dict[str, str] = {}

    # --- For the engine's driver: never blocks ------------------------------------------------------

    def send(self, name: str, sections: Sequence[tuple[int, bytes]]) -> None:
        """Sends one round's sections, with their priorities; dropped unless the peer is up."""
        peer = self._up.get(name)
        if peer is not None:
            peer.put(sections)

    def tell_all(self, statement: bytes) -> None:
        """Sends this node's changed statement to every peer that is up, or is about to be and has the former
        one: it would else keep that for as long as the connection lasts."""
        for peer in self._up.values():
            peer.link.send(statement)
        for link in self._told:
            link.send(statement)

    def drop(self, name: str, reason: str) -> None:
        """Closes the connection of a peer that sent what the protocol does not allow."""
        peer = self._up.get(name)
        if peer is not None:
            peer.link.send(encode_refused(Refusal(RefusalCode.PART, reason)))
            peer.end(reason)

    def statistics(self) -> dict[str, QueueStatistics]:
        """For each peer that is up, what waits for it and what was dropped."""
        return {name: peer.queue.statistics() for name, peer in self._up.items()}

    # --- Tasks --------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def run(self, listeners: Sequence[trio.abc.Listener[Any]]) -> None:
        """Listens, dials and keeps connections until cancelled. Closes ``listeners``."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._accept, list(listeners))
            for name in self._cluster:
                if name > self._name:
                    nursery.start_soon(self._keep_dialling, name)
            nursery.start_soon(self._keep_probing)
            while True:
                await trio.sleep(self._timing.beat_s)
                for peer in list(self._up.values()):
                    peer.beat(self._timing.silent_beats_max)

    @trio.lowlevel.enable_ki_protection
    async def _accept(self, stream: Any) -> None:
        if self._meetings >= MEETINGS_MAX:
            self._note("", f"more than {MEETINGS_MAX} connections that have not said who they are")
            stream.socket.close()
            return
        await self._connection(stream, "", Purpose.CARRY)

    @trio.lowlevel.enable_ki_protection
    async def _keep_dialling(self, name: str) -> None:
        timing = self._timing
        pause_s = timing.pause_s_min
        while True:
            was_up = await self._dial(name, Purpose.CARRY)
            pause_s = timing.pause_s_min if was_up else min(2 * pause_s, timing.pause_s_max)
            await trio.sleep(pause_s * self._random.uniform(0.5, 1.0))

    @trio.lowlevel.enable_ki_protection
    async def _keep_probing(self) -> None:
        """Asks nodes that should dial this one, and do not, what they were started with: a node that stands
        in nobody's list would else wait for good without a word."""
        while not self._owner.formed:
            await trio.sleep(self._timing.probe_s)
            for name in self._cluster:
                if name < self._name and name not in self._up and not self._owner.formed:
                    await self._dial(name, Purpose.PROBE)

    async def _dial(self, name: str, purpose: int) -> bool:
        """Connects once and stays while the connection does; whether it was up."""
        address = self._cluster[name]
        reason = f"no connection within {self._timing.connect_s:g} s"
        stream = None
        with trio.move_on_after(self._timing.connect_s):
            try:
                stream = await self._network.dial(*address)
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
        if stream is None:
            self._note(name, f"cannot reach {name} at {address_text(address)}: {reason}")
            return False
        return await self._connection(stream, name, purpose)

    async def _connection(self, stream: Stream, dialled: str, purpose: int) -> bool:
        """One connection, from its first byte to its end; whether it was up. ``dialled``: the name of the
        node that should be there, empty when it came to us."""
        link = Link(stream, self._network, readiness=self._readiness)
        was_up = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.run)
                host = dialled or _host(stream)
                with suppress(OSError):  # It only bounds what the kernel holds; not every system has it.
                    stream.setsockopt(trio.socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _NOTSENT_BYTES)
                with self._reported(link, host):
                    frames = Frames(link)
                    met = await self._meet(frames, link, dialled, purpose)
                    if met is not None:
                        was_up = True
                        await self._carry(link, frames, nursery, *met)
                nursery.cancel_scope.cancel()
        finally:
            self._told.discard(link)
            link.close()
        return was_up

    @contextmanager
    def _reported(self, link: Link, host: str) -> Iterator[None]:
        """What ends a connection ends in its own task: told to the other end and in one line of the log."""
        try:
            yield
        except LinkLost as lost:
            self._note(host, f"{host} went away before it said who it is: {lost}")
        except ProtocolError as error:
            link.send(encode_refused(Refusal(RefusalCode.PART, str(error))))
            log.warning("peer connection refused", host=host, reason=str(error))
        except Parted as parted:
            if not parted.told:
                link.send(encode_refused(parted.refusal))
            self._note(host, str(parted))

    async def _meet(
        self, frames: Frames, link: Link, dialled: str, purpose: int
    ) -> tuple[Hello, Statement] | None:
        """Finds out who is there and whether the two go on. None: a probe, that has served its purpose.
        Raises ``LinkLost``, ``ProtocolError`` and ``Parted``."""
        self._meetings += not dialled
        try:
            with trio.move_on_after(self._timing.meeting_s):
                theirs = await self._greet(frames, link, dialled, purpose)
                frames.allow(FOUNDING_BYTES_MAX)
                link.send(self._owner.statement())
                if Purpose.PROBE not in (purpose, theirs.purpose):
                    self._told.add(link)
                statement = decode_statement(await self._expect(frames, PeerFrameKind.FOUNDING))
                if (statement.name, statement.store_id) != (theirs.name, theirs.store_id):
                    raise ProtocolError("a founding statement of another node than the greeting")
                self._owner.judge(statement)
                frames.allow(PEER_FRAME_BYTES_MAX)
                if purpose == Purpose.PROBE:
                    with suppress(LinkLost):  # The other end agrees, and closes.
                        await self._expect(frames, PeerFrameKind.REFUSED)
                return None if Purpose.PROBE in (purpose, theirs.purpose) else (theirs, statement)
        finally:
            self._meetings -= not dialled
        raise ProtocolError(f"it did not say who it is within {self._timing.meeting_s:g} s")

    async def _greet(self, frames: Frames, link: Link, dialled: str, purpose: int) -> Hello:
        if dialled:
            mine = self._owner.hello(purpose, dialled)
            link.send(encode_hello(PeerFrameKind.HELLO, mine))
            theirs = decode_hello(await self._expect(frames, PeerFrameKind.WELCOME))
            refusal = objection(mine, theirs, dialled=True)
        else:
            theirs = decode_hello(await self._expect(frames, PeerFrameKind.HELLO))
            mine = self._owner.hello(theirs.purpose, theirs.name)
            refusal = objection(mine, theirs, dialled=False)
            if refusal is None:
                link.send(encode_hello(PeerFrameKind.WELCOME, mine))
        if refusal is not None:
            raise Parted(refusal)
        return theirs

    async def _expect(self, frames: Frames, kind: int) -> bytes:
        """The payload of the next frame, which must be of that kind, or a refusal."""
        found, payload = await frames.next()
        if found == PeerFrameKind.REFUSED:
            raise self._owner.refused(decode_refused(payload))
        if found != kind:
            raise ProtocolError(f"a frame of kind {found} where one of kind {kind} is due")
        return payload

    async def _carry(
        self, link: Link, frames: Frames, nursery: trio.Nursery, hello: Hello, statement: Statement
    ) -> None:
        """What a connection does while it is up."""
        name = hello.name
        peer = PeerLink(name, link)
        older = self._up.get(name)
        if older is not None:
            older.end("a newer connection took its place")
            self._gone(older)
        self._told.discard(link)
        self._up[name] = peer
        self._noted.pop(name, None)
        nursery.start_soon(peer.send_backlog)
        log.info("peer up", peer=name)
        try:
            self._owner.peer_up(name, hello.boot_id, statement)
            await frames.pour(partial(self._take, name))
        except LinkLost as lost:
            peer.ended = peer.ended or str(lost)
        finally:
            self._gone(peer)

    def _take(self, name: str, kind: int, payload: bytes) -> None:
        """A frame of a peer that is up."""
        if kind == PeerFrameKind.SECTIONS:
            self._owner.peer_sections(name, payload)
        elif kind == PeerFrameKind.FOUNDING:
            self._owner.peer_statement(name, decode_statement(payload))
        elif kind == PeerFrameKind.REFUSED:
            raise self._owner.refused(decode_refused(payload))
        elif kind != PeerFrameKind.PING:
            raise ProtocolError(f"a frame of unknown kind {kind}")

    def _gone(self, peer: PeerLink) -> None:
        if self._up.get(peer.name) is peer:
            del self._up[peer.name]
            self._owner.peer_down(peer.name)
            log.info("peer down", peer=peer.name, reason=peer.ended or "closed here")

    def _note(self, host: str, text: str) -> None:
        """Logs what is wrong with a peer once, not at each attempt."""
        if self._noted.get(host) != text:
            if len(self._noted) >= _NOTED_MAX:
                self._noted.clear()
            self._noted[host] = text
            log.warning("peer not connected", reason=text)


def _host(stream: Stream) -> str:
    """The other end's host, for messages."""
    try:
        return str(stream.socket.getpeername()[0])
    except OSError:  # It went away already; reading will say so.
        return "unknown"
