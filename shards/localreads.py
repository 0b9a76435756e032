"""Queries that need not be linearizable, as the replica that was asked serves them, leading or not.

Sequential and causal ones carry a revision, and are served once that is applied here. Stale ones carry the
age that the answer may have. How old a replica's state is it can only prove: it begins a round, for which it
asks the group's leader, which confirms by a ReadIndex round of its own that it still leads, and tells its
commit index. Once that is applied here, the state is no older than the *beginning* of the round, whenever the
answer came. One round serves all queries that wait for one; it is begun on demand alone.

Nobody waits long, and no query has a timer: the rounds of the engine look at what waits. What cannot be
served in time is refused, so that the client goes to the leader, or elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Final, NamedTuple

from primitives.errors import Code
from primitives.records import Query, Read, encode_answer
from raftgroup.types import Index
from shards.ports import Origin

WAIT_MS: Final = 300
"""The longest that a query waits here."""
ROUND_MS: Final = 100
"""When a round is not answered for so long, another one is begun."""
ROUNDS_MAX: Final = 4
"""Rounds that may still be answered."""
WAITING_MAX: Final = 8192
UNPROVEN: Final = encode_answer(
    Code.UNAVAILABLE, 0, b"the replica could not prove in time that its state is as fresh as asked for"
)
AHEAD: Final = encode_answer(
    Code.BAD_REQUEST, 0, b"the position is ahead of the group: it is of another cluster, or of a restored one"
)
DRIFT_PART: Final = 50
"""Ages are counted longer by a 50th, for clocks that run slow."""


class Verdict(Enum):
    """What becomes of a query."""

    SERVE = "serve"
    BEHIND = "behind"
    """The revision that it wants is not applied here."""
    UNPROVEN = "unproven"
    """Nothing proves that the state here is as fresh as it wants."""


class Waiting(NamedTuple):
    """A query, and when it arrived."""

    origin: Origin
    query: Query
    arrived_ms: int


class _Proof(NamedTuple):
    began_ms: int
    index: Index  # type: ignore[assignment]  # hides tuple.index, which nobody wants of a proof
    """What must be applied."""


class LocalReads:
    """The queries that wait at one replica, and how fresh its state is known to be."""

    __slots__ = ("_new", "_number", "_proofs", "_proven_ms", "_rounds", "_waiting",
                 "has_waiting")  # fmt: skip

    def __init__(self) -> None:
        self._new: list[tuple[Origin, Query]] = []
        self._waiting: list[Waiting] = []
        self.has_waiting = False
        """Whether any query waits."""
        self._number = 0
        self._rounds: dict[int, int] = {}
        """When rounds that are not answered began, by number."""
        self._proofs: list[_Proof] = []
        """Answered rounds whose index is not applied."""
        self._proven_ms: int | None = None
        """When the round began which proved the state as applied now."""

    def number_from(self, number: int) -> None:
        """Rounds are numbered from here on: differently in each boot, so that an answer to a former boot's
        round is not taken for one to this boot's."""
        self._number = number

    def add(self, origin: Origin, query: Query) -> bool:
        """Takes a query, which arrived in this round of the engine. False: too many wait."""
        if len(self._new) + len(self._waiting) >= WAITING_MAX:
            return False
        self._new.append((origin, query))
        self.has_waiting = True
        return True

    def due(
        self, now_ms: int, applied: Index, revision: int, *, leads: bool
    ) -> Iterator[tuple[Waiting, Verdict]]:
        """What is settled now: queries that may be served from the state as applied, and those that waited
        long enough. A leader refuses one that is ahead of it at once: it has another way to serve it."""
        self._take_proofs(applied)
        waiting = [*self._waiting, *(Waiting(origin, query, now_ms) for origin, query in self._new)]
        self._new.clear()
        self._waiting = []
        for one in waiting:
            query = one.query
            if query.read == Read.STALE:
                good, otherwise = self._is_fresh(one), Verdict.UNPROVEN
            else:
                good, otherwise = revision >= query.bound, Verdict.BEHIND
            if good:
                yield one, Verdict.SERVE
            elif now_ms >= one.arrived_ms + WAIT_MS or (leads and otherwise is Verdict.BEHIND):
                yield one, otherwise
            else:
                self._waiting.append(one)
        self.has_waiting = bool(self._waiting)

    def _is_fresh(self, one: Waiting) -> bool:
        if self._proven_ms is None:
            return False
        age_ms = one.arrived_ms - self._proven_ms
        return age_ms + max(age_ms, 0) // DRIFT_PART <= one.query.bound

    # --- Rounds -------------------------------------------------------------------------------------

    def begin(self, now_ms: int) -> int | None:
        """The number of a round that is to be begun now, if one is wanted."""
        rounds = self._rounds
        if rounds and now_ms < rounds[self._number] + ROUND_MS:
            return None
        if not any(one.query.read == Read.STALE for one in self._waiting):
            return None
        self._number = (self._number + 1) & 0xFFFF_FFFF_FFFF_FFFF
        rounds[self._number] = now_ms
        if len(rounds) > ROUNDS_MAX:
            del rounds[next(iter(rounds))]
        return self._number

    def proven(self, number: int, index: Index) -> None:
        """The leader confirmed a round: it led when asked, and nothing beyond ``index`` was committed."""
        began_ms = self._rounds.get(number)
        if began_ms is not None:
            for earlier in [known for known in self._rounds if self._rounds[known] <= began_ms]:
                del self._rounds[earlier]
            self._proofs = [*self._proofs[-ROUNDS_MAX:], _Proof(began_ms, index)]

    def _take_proofs(self, applied: Index) -> None:
        for proof in self._proofs:
            if applied >= proof.index and (self._proven_ms is None or proof.began_ms > self._proven_ms):
                self._proven_ms = proof.began_ms
        self._proofs = [proof for proof in self._proofs if applied < proof.index]
