"""Answers that wait for events: nobody is told of a revision before his watches have what led to it.

An answer of revision r from a group waits until every stream of that group that has once caught up has all
its events up to r. A stream whose replica lags is moved to the leader's node, or to the one that answered.
One whose buffer is full while an answer waits ends its watch: whoever is to take from it may be the one who
waits for the answer.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from primitives.errors import QuorateError, Unavailable, WatchOverflow
from primitives.ids import GroupId
from primitives.records import Answer
from router.session_calls import Call
from router.session_links import Link
from router.session_network import Network
from router.session_streams import Stream, Streams

LEADER_MS: Final = 20
"""A stream that keeps an answer waiting for so long moves to the leader's node, if it is connected: there,
events come before the answers that they led to."""
LAG_MS: Final = 200
"""A stream that keeps an answer waiting for so long moves to a node that must know more."""
FULL_MS: Final = 1000
"""A watch that keeps an answer waiting for so long because its buffer is full ends."""
WAIT_MS: Final = 10_000
"""A watch that keeps an answer waiting for so long for whatever reason ends."""
MOVE_MS: Final = 1000
"""A stream is moved no more often than this."""


class Held(NamedTuple):
    """An answer that waits."""

    call: Call
    request: int
    """The call's request that it answers."""
    answer: Answer
    link: Link
    since_ms: int


class Owner(Protocol):
    """Whoever has the streams."""

    @property
    def streams(self) -> Streams:
        """All of them, by group."""

    def ask(self, now_ms: int, stream: Stream, link: Link) -> None:
        """Moves a stream to another node."""

    def fail(self, now_ms: int, stream: Stream, error: QuorateError) -> None:
        """Ends the stream's watch."""


class Holds:
    """The answers of a session that wait."""

    __slots__ = ("_held", "_network", "_owner", "released")

    def __init__(self, owner: Owner, network: Network) -> None:
        self._owner: Final = owner
        self._network: Final = network
        self._held: dict[GroupId, list[Held]] = {}
        self.released: list[Held] = []
        """Answers that wait no more, to be dealt with."""

    def hold(self, now_ms: int, link: Link, call: Call, answer: Answer) -> bool:
        """Whether the answer has to wait; it is kept then. To be asked only of groups with streams."""
        group = GroupId(call.group)
        if call.entry is not None or answer.revision <= self._complete(group):
            return False
        self._held.setdefault(group, []).append(Held(call, call.request, answer, link, now_ms))
        self._network.wake(now_ms + LEADER_MS)
        return True

    def _complete(self, group: GroupId) -> int:
        """Events up to this revision are in all buffers that have caught up."""
        complete = 1 << 64
        for stream in self._owner.streams.get(group, ()):
            if stream.holds and stream.complete < complete:
                complete = stream.complete
        return complete

    def release(self, now_ms: int, group: GroupId) -> None:
        """Streams of the group came further, or ended."""
        held = self._held.get(group)
        if held is None:
            return
        complete = self._complete(group)
        waiting = [one for one in held if one.answer.revision > complete]
        if len(waiting) < len(held):
            self.released += (one for one in held if one.answer.revision <= complete)
            if waiting:
                self._held[group] = waiting
            else:
                del self._held[group]

    def take(self) -> list[Held]:
        """Answers that wait no more and are still wanted: their calls were not sent again meanwhile."""
        if not self.released:
            return []
        released, self.released = self.released, []
        return [
            one for one in released
            if one.call.request == one.request and one.call.link is None and one.call.queue is None
        ]  # fmt: skip

    def tick(self, now_ms: int) -> None:
        """Deals with streams that keep answers waiting."""
        for group in list(self._held):
            self.release(now_ms, group)  # An event says that all before it came, without a mark.
            held = self._held.get(group)
            if held is None:
                continue
            first = held[0]
            waited_ms = now_ms - first.since_ms
            self._network.wake(max(first.since_ms, now_ms) + LEADER_MS)
            if waited_ms < LEADER_MS:
                continue
            for stream in list(self._owner.streams.get(group, ())):
                if stream.holds and stream.complete < first.answer.revision:
                    self._late(now_ms, stream, first, waited_ms)

    def _late(self, now_ms: int, stream: Stream, first: Held, waited_ms: int) -> None:
        if stream.is_standing and stream.is_full:
            if waited_ms >= FULL_MS:
                self._owner.fail(now_ms, stream, WatchOverflow(
                    "the watch's buffer was full while an answer waited for its events: take them faster, or"
                    " give it a larger buffer; go on from its position"
                ))  # fmt: skip
        elif waited_ms >= WAIT_MS:
            text = "no replica in reach told the watch what other calls were told: go on from its position"
            self._owner.fail(now_ms, stream, Unavailable(text))
        elif stream.is_standing and now_ms >= stream.moved_ms + MOVE_MS:
            link = self._ahead(stream, first, waited_ms)
            if link is not None:
                stream.moved_ms = now_ms
                self._owner.ask(now_ms, stream, link)

    def _ahead(self, stream: Stream, first: Held, waited_ms: int) -> Link | None:
        """The link to a node that has applied what was answered: the leader's, or the one that answered,
        which may have passed the call on, though."""
        routes = self._network.routes
        leader = routes.leaders.get(GroupId(first.call.group))
        link = None if leader is None else routes.nodes.get(leader)
        if link is not None and link.is_up and link is not stream.link:
            return link
        if waited_ms >= LAG_MS and first.link.is_up and first.link is not stream.link:
            return first.link
        return None
