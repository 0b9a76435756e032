"""Linearizable reads of one group: who asked, in which ReadIndex round, and what may be served.

One round serves all reads that wait when it begins (the thesis, section 6.4). Keepalives are reads too:
a lease is confirmed from applied state, at the index of a round begun after the keepalive's arrival.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from primitives.ids import NodeId
from primitives.records import Query
from raftgroup.replica import Replica
from raftgroup.types import Index
from shards.ports import Origin


class Confirm(NamedTuple):
    """A keepalive's question about one session."""

    node: NodeId
    connection: int
    keepalive: int
    session_id: bytes
    number: int


class Proof(NamedTuple):
    """A replica's question how far the group has come: see ``localreads``."""

    node: NodeId
    number: int
    """Of its round; comes back with the answer."""


Asked = tuple[Origin, Query] | Confirm
_NO_PROOFS: Final[list[Proof]] = []


class Reads:
    """The reads of a leading replica, from arrival to service."""

    __slots__ = ("_asking", "_proofs", "_rounds", "_serving", "proving")

    def __init__(self) -> None:
        self._asking: list[Asked] = []
        self.proving: list[Proof] = []
        """Replicas' questions that wait for the next round."""
        self._proofs: dict[int, list[Proof]] = {}
        """By the context of their round."""
        self._rounds: dict[int, list[Asked]] = {}
        self._serving: deque[tuple[Index, list[Asked]]] = deque()

    def add(self, asked: Asked) -> None:
        """Takes a read; it joins the next round."""
        self._asking.append(asked)

    def prove(self, proof: Proof) -> None:
        """Takes a replica's question; it joins the next round."""
        self.proving.append(proof)

    @property
    def has_waiting(self) -> bool:
        """Whether any read or question waits for anything."""
        return bool(self._asking or self.proving or self._rounds or self._proofs or self._serving)

    def begin(self, replica: Replica) -> None:
        """Puts everything that waits into a round of ``replica``, which leads."""
        if self._asking:
            context = replica.read()
            if context is not None:
                self._rounds.setdefault(context, []).extend(self._asking)
                self._asking = []
        if self.proving:
            context = replica.read()
            if context is not None:
                self._proofs.setdefault(context, []).extend(self.proving)
                self.proving = []

    def confirmed(self, context: int, index: Index) -> list[Proof]:
        """A quorum confirmed the round, and with it each earlier one. Returns the replicas' questions that
        this answers: with ``index``, whatever is applied here."""
        for earlier in [known for known in self._rounds if known <= context]:
            self._serving.append((index, self._rounds.pop(earlier)))
        if not self._proofs:
            return _NO_PROOFS
        return [
            proof for earlier in [known for known in self._proofs if known <= context]
            for proof in self._proofs.pop(earlier)
        ]  # fmt: skip

    def lost(self, context: int) -> list[Asked]:
        """The round will not be confirmed: whoever waited for it. Replicas ask again by themselves."""
        self._proofs.pop(context, None)
        return self._rounds.pop(context, [])

    @property
    def is_serving(self) -> bool:
        """Whether a confirmed read waits for what it is to see."""
        return bool(self._serving)

    def due(self, applied: Index) -> list[Asked]:
        """Reads that may be served now that everything up to ``applied`` is applied."""
        serving = self._serving
        found: list[Asked] = []
        while serving and serving[0][0] <= applied:
            found.extend(serving.popleft()[1])
        return found

    def clear(self) -> list[Asked]:
        """Leadership went: whoever waited, anywhere."""
        found = [*self._asking]
        for reads in self._rounds.values():
            found.extend(reads)
        for _, reads in self._serving:
            found.extend(reads)
        self._asking = []
        self.proving = []
        self._proofs.clear()
        self._rounds.clear()
        self._serving.clear()
        return found
