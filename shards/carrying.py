"""What a round wants, carried out: apart from the driver's task, so that it is compiled with the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from primitives.ids import NodeId
from shards.logs import log
from shards.ports import Effects, Syncer


class PeerSender(Protocol):
    """The multiplexer."""

    def send(self, name: str, sections: Sequence[tuple[int, bytes]]) -> None:
        """Sends sections to a peer."""

    def drop(self, name: str, reason: str) -> None:
        """Closes a peer's connection."""


class ClientSender(Protocol):
    """The client port."""

    def send(self, connection: int, frames: Sequence[bytes]) -> None:
        """Sends whole frames to a client."""

    def finish(self, connection: int) -> None:
        """Closes a client's connection once its frames are out."""


class Carrier:
    """Hands to each port what a round has for it, in the order that :class:`Effects` has."""

    __slots__ = ("_clients", "_names", "_peers", "asked")

    def __init__(self, peers: PeerSender, clients: ClientSender, names: Mapping[NodeId, str]) -> None:
        self._peers: Final = peers
        self._clients: Final = clients
        self._names: Final = dict(names)
        self.asked = 0
        """The last round that a sync was asked for."""

    def send(self, syncer: Syncer, effects: Effects) -> None:
        """What does not wait for the end of the round."""
        if effects.peers:
            for node, sections in effects.peers.items():
                self._peers.send(self._names[node], sections)
        sync_round = effects.sync_round
        if sync_round is not None:
            self.asked = sync_round
            syncer.request(sync_round)
            if effects.goes_on:
                syncer.begin()
        if effects.clients:
            for connection, frames in effects.clients.items():
                self._clients.send(connection, frames)

    def carry_out(self, syncer: Syncer, effects: Effects) -> None:
        """The rest, at its end."""
        self.send(syncer, effects)
        for connection in effects.close:
            self._clients.finish(connection)
        for node, reason in effects.bad_peers:
            self._peers.drop(self._names[node], reason)
        for note in effects.notes:
            log.warning(note)
