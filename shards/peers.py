"""The node's peers: who they are, whether they founded the same cluster, and what the engine is told of them.

A peer is up for the engine once its connection is and both nodes know that the cluster has formed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from primitives.errors import ProtocolError
from primitives.ids import NodeId
from router.shardmap import ShardMap
from shards.config import NodeFailed, StartError
from shards.founding import Founder, Statement, Verdict, encode_statement
from shards.handshake import PEER_VERSION, Hello, Parted, Refusal, RefusalCode
from shards.logs import log
from shards.placement import Founding
from shards.ports import Clock


class EnginePort(Protocol):
    """What peers need of the engine."""

    @property
    def formed(self) -> bool:
        """Whether group 0's replica is here."""

    @property
    def shard_map(self) -> ShardMap | None:
        """The shard map as far as this node knows it."""

    def form(self, founding: Founding) -> None:
        """Makes group 0's replica; does no harm if it exists."""

    def peer_up(self, node: NodeId, boot_id: bytes) -> None:
        """A peer is connected."""

    def peer_down(self, node: NodeId) -> None:
        """A peer's connection is gone."""

    def peer_sections(self, node: NodeId, payload: bytes) -> None:
        """A frame of sections arrived."""


class Connections(Protocol):
    """What peers need of the multiplexer."""

    def tell_all(self, statement: bytes) -> None:
        """Sends this node's changed statement to every peer that is up."""


class _Known:
    """A peer whose connection is up."""

    __slots__ = ("boot_id", "formed", "told")

    def __init__(self, boot_id: bytes) -> None:
        self.boot_id: Final = boot_id
        self.formed = False
        self.told = False
        """Whether the engine knows that it is up."""


class Peers:
    """The multiplexer's owner: it judges who is met, founds the cluster, and tells the engine."""

    def __init__(
        self, founder: Founder, engine: EnginePort, *, name: str, store_id: bytes, boot_id: bytes,
        node_ids: dict[str, NodeId], clock: Clock, wake: Callable[[], None],
    ) -> None:  # fmt: skip
        """``wake`` tells the engine's driver that something came into the inbox."""
        self._founder: Final = founder
        self._engine: Final = engine
        self._name: Final = name
        self._store_id: Final = store_id
        self._boot_id: Final = boot_id
        self._node_ids: Final = node_ids
        self._clock: Final = clock
        self._wake: Final = wake
        self._started_ms = clock.monotonic_ms()
        self._known: dict[str, _Known] = {}
        self._changes_told = founder.changes
        self.connections: Connections | None = None
        """The multiplexer, once there is one."""

    @property
    def formed(self) -> bool:
        """Whether this node's cluster has formed."""
        return self._founder.formed

    def hello(self, purpose: int, expected: str) -> Hello:
        """Who this node is."""
        shard_map = self._engine.shard_map
        cluster_id = b"" if shard_map is None else shard_map.cluster_id
        return Hello(PEER_VERSION, purpose, self._name, expected, self._store_id, self._boot_id, cluster_id)

    def statement(self) -> bytes:
        """The FOUNDING frame of what this node was started with."""
        return encode_statement(self._founder.statement(self._age_ms))

    def judge(self, theirs: Statement) -> None:
        """Raises :class:`Parted` unless the two go on together, :class:`StartError` if this node must go."""
        self._follow(self._founder.judge(theirs, self._age_ms))

    def refused(self, refusal: Refusal) -> Parted:
        """Another node refused this one. Raises :class:`StartError` if that ends it: nobody sends a node away
        that has formed."""
        if refusal.code == RefusalCode.GO and not self._founder.formed:
            raise StartError(refusal.text)
        return Parted(refusal, told=True)

    def peer_up(self, name: str, boot_id: bytes, theirs: Statement) -> None:
        """A connection is up. Raises :class:`Parted` and :class:`StartError`."""
        self._known[name] = _Known(boot_id)
        self._hear(name, theirs)

    def peer_statement(self, name: str, theirs: Statement) -> None:
        """A peer's statement changed. Raises :class:`Parted` and :class:`StartError`."""
        if theirs.name != name:
            raise ProtocolError(f"{name} makes a founding statement for {theirs.name}")
        self._hear(name, theirs)

    def peer_sections(self, name: str, payload: bytes) -> None:
        """A frame of sections arrived."""
        known = self._known[name]
        if known.told:
            self._engine.peer_sections(self._node_ids[name], payload)
            self._wake()

    def peer_down(self, name: str) -> None:
        """A connection is gone."""
        self._founder.lost(name)
        known = self._known.pop(name)
        if known.told:
            self._engine.peer_down(self._node_ids[name])
            self._wake()

    def begin(self) -> None:
        """Forms what this node can form by itself: a cluster of one, or one that had formed before."""
        if self._founder.formed:
            self._form()
        self._advance()

    @property
    def _age_ms(self) -> int:
        return self._clock.monotonic_ms() - self._started_ms

    def _hear(self, name: str, theirs: Statement) -> None:
        try:
            verdict = self._founder.hear(theirs, self._age_ms)
        except OSError as error:
            raise NodeFailed(f"the founding record cannot be written: {error.strerror}") from error
        self._follow(verdict)
        self._known[name].formed = theirs.formed
        self._advance()

    def _follow(self, verdict: Verdict) -> None:
        if verdict.i_go:
            raise StartError(verdict.text)
        if not verdict.accepted:
            raise Parted(Refusal(RefusalCode.GO if verdict.they_go else RefusalCode.PART, verdict.text))

    def _advance(self) -> None:
        founder = self._founder
        if founder.formed and self._engine.shard_map is None:
            # Again while the cluster's first entry is not applied: addresses may have become known.
            self._form()
        if founder.changes != self._changes_told:
            self._changes_told = founder.changes
            if self.connections is not None:
                self.connections.tell_all(self.statement())
        if founder.formed:
            for name, known in self._known.items():
                if known.formed and not known.told:
                    known.told = True
                    self._engine.peer_up(self._node_ids[name], known.boot_id)
                    self._wake()

    def _form(self) -> None:
        if not self._engine.formed:
            log.info("cluster formed", nodes=[node for node, _ in self._founder.told])
        self._engine.form(self._founder.founding())
        self._wake()
