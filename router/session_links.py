"""Connections of a client to nodes, and which of them leads to which group.

Any single address works: the map is learned from whatever node answers, groups' leaders are dialed when they
are first needed, and until they answer any connected node passes operations on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from primitives.errors import QuorateError
from primitives.ids import GroupId, NodeId
from router.connection import Connection, Role
from router.session_backoff import Backoff, Random
from router.session_calls import Call
from router.session_settings import SessionSettings
from router.shardmap import ShardMap


class Link:
    """One connection, from the wish to dial it until its end."""

    __slots__ = (
        "address", "connection", "heard_ms", "inflight_bytes", "is_up", "leaving", "node_id",
        "probed", "prompt", "protocol", "requests", "streams",
    )  # fmt: skip

    def __init__(self, connection: int, address: str, now_ms: int) -> None:
        self.connection: Final = connection
        self.address: Final = address
        self.protocol: Final = Connection(Role.CLIENT)
        self.node_id: NodeId | None = None
        self.is_up = False
        """Whether the node has welcomed us."""
        self.leaving = False
        """Whether the node said that it is stopping."""
        self.heard_ms = now_ms
        """When the node was last heard, or from when on there was something for it to say."""
        self.probed = False
        """Whether something that is answered at once was sent since the node was last heard."""
        self.requests: dict[int, Call] = {}
        """What is sent and not answered, by request id."""
        self.inflight_bytes = 0
        self.prompt = 0
        """Of ``requests``, those that are answered at once."""
        self.streams = 0
        """Streams of watches that the node is asked for."""

    def awaits(self, now_ms: int) -> None:
        """Something that is answered at once is about to be sent: until now silence meant nothing, if nothing
        was to be answered."""
        if not self.prompt and not self.probed:
            self.heard_ms = now_ms

    def track(self, call: Call, request: int) -> None:
        """The call goes out over this link."""
        call.link = self
        call.request = request
        self.requests[request] = call
        self.inflight_bytes += call.size
        self.prompt += not call.late

    def answered(self, request: int) -> Call | None:
        """The call that waits for that request's answer; None if it no longer does."""
        call = self.requests.get(request)
        if call is not None:
            del self.requests[request]
            self.inflight_bytes -= call.size
            self.prompt -= not call.late
            call.link = None
        return call


def forget_request(call: Call) -> None:
    """Answers to what was sent of this call so far are of no more interest."""
    if call.link is not None:
        call.link.answered(call.request)


class _Place:
    """An address, and when to dial it next."""

    __slots__ = ("address", "backoff", "error", "link", "retry_ms")

    def __init__(self, address: str, backoff: Backoff) -> None:
        self.address: Final = address
        self.backoff: Final = backoff
        self.retry_ms = 0
        self.link: Link | None = None
        self.error: QuorateError | None = None
        """The last try ended in what no other try can mend."""


class Routes:
    """All links, and what is known about where groups are led."""

    __slots__ = ("_avoided", "_dialed_ms", "_next", "_places", "_random", "_seeds", "_settings", "leaders",
                 "links", "nodes", "shard_map", "was_up")  # fmt: skip

    def __init__(self, seeds: Sequence[str], random: Random, settings: SessionSettings) -> None:
        self._settings: Final = settings
        self._random: Final = random
        self._places: dict[str, _Place] = {}
        self._next = 1
        self._dialed_ms: int | None = None
        self._avoided: dict[tuple[GroupId, int], int] = {}
        self.links: dict[int, Link] = {}
        """Every connection that exists or is being dialed, by its number."""
        self.nodes: dict[NodeId, Link] = {}
        """Links in use, by node."""
        self.leaders: dict[GroupId, NodeId] = {}
        self.shard_map: ShardMap | None = None
        self.was_up = False
        """Whether any node ever welcomed us."""
        self._seeds: Final = list(dict.fromkeys(seeds))
        for address in self._seeds:
            self._place(address)

    def _place(self, address: str) -> _Place:
        place = self._places.get(address)
        if place is None:
            settings = self._settings
            backoff = Backoff(self._random, settings.dial_backoff_first_ms, settings.dial_backoff_max_ms)
            place = self._places[address] = _Place(address, backoff)
        return place

    @property
    def hopeless(self) -> QuorateError | None:
        """Why no address can ever serve: each one that was given speaks something else, or refused."""
        if self.was_up:
            return None
        errors = [self._places[address].error for address in self._seeds]
        return errors[0] if all(errors) else None

    # --- Links --------------------------------------------------------------------------------------

    def dial(self, now_ms: int) -> Iterator[Link]:
        """New links to be opened now, because nothing is connected: one address after the other."""
        if self.nodes:
            return
        if self._dialed_ms is not None and now_ms < self._dialed_ms + self._settings.dial_stagger_ms:
            return
        due = [p for p in self._places.values() if p.link is None and p.retry_ms <= now_ms]
        if due:
            fewest = min(place.backoff.tries for place in due)
            best = [place for place in due if place.backoff.tries == fewest]
            yield self._open(best[self._random.randrange(0, len(best))], now_ms)

    def dial_node(self, now_ms: int, node: NodeId) -> Link | None:
        """A new link to be opened to ``node``, unless there is one, or its address is not due yet."""
        shard_map = self.shard_map
        if shard_map is None or node in self.nodes or node not in shard_map.nodes:
            return None
        place = self._place(shard_map.nodes[node].client_address)
        if place.link is not None or place.retry_ms > now_ms:
            return None
        return self._open(place, now_ms)

    def _open(self, place: _Place, now_ms: int) -> Link:
        self._dialed_ms = now_ms
        link = place.link = self.links[self._next] = Link(self._next, place.address, now_ms)
        self._next += 1
        return link

    def welcomed(self, link: Link, node: NodeId) -> bool:
        """The node answered; False if there is another link to it already, so that this one can go."""
        place = self._places[link.address]
        place.error = None
        place.backoff.reset()
        if node in self.nodes:
            # Known by another address, as "localhost" is: not to be dialed again for a while.
            return False
        link.node_id = node
        link.is_up = self.was_up = True
        self.nodes[node] = link
        return True

    def closed(self, now_ms: int, link: Link, error: QuorateError | None = None) -> None:
        """The link is gone, or never came to be. ``error``: no other try can mend it."""
        self.links.pop(link.connection, None)
        if link.node_id is not None and self.nodes.get(link.node_id) is link:
            del self.nodes[link.node_id]
        link.is_up = False
        place = self._places[link.address]
        if place.link is link:
            place.link = None
            place.error = error
            place.retry_ms = now_ms + place.backoff.next_ms()

    def retry_ms(self, now_ms: int) -> int | None:
        """When :meth:`dial` may have something to open; None while something is connected."""
        if self.nodes:
            return None
        next_ms = min((p.retry_ms for p in self._places.values() if p.link is None), default=None)
        if next_ms is None:
            return None
        staggered = 0 if self._dialed_ms is None else self._dialed_ms + self._settings.dial_stagger_ms
        return max(next_ms, staggered, now_ms)

    # --- Routes -------------------------------------------------------------------------------------

    def learn(self, shard_map: ShardMap) -> None:
        """A map arrived; an older one tells only who leads. From now on any of its nodes may be dialed: those
        that the client was told of may go away for good."""
        if self.shard_map is None or shard_map.version >= self.shard_map.version:
            self.shard_map = shard_map
            for node in shard_map.nodes.values():
                self._place(node.client_address)
        self.leaders.update(shard_map.leaders)

    def avoid(self, now_ms: int, group: GroupId, link: Link) -> None:
        """That node could not serve the group: others first, for a while."""
        self._avoided[group, link.connection] = now_ms + self._settings.avoid_ms
        if len(self._avoided) > 1000:
            self._avoided = {key: until for key, until in self._avoided.items() if until > now_ms}
        if link.node_id is not None and self.leaders.get(group) == link.node_id:
            del self.leaders[group]

    def _is_avoided(self, now_ms: int, group: GroupId, link: Link) -> bool:
        return bool(self._avoided) and self._avoided.get((group, link.connection), 0) > now_ms

    def pick(self, now_ms: int, group: GroupId, present: Link | None) -> Link | None:
        """The link by which to reach the group: its leader's, else the ``present`` one, else one to a node
        with a replica, else any; None if nothing is connected. With ``present`` as the former choice it stays
        the same until something new is known: all that is unanswered is sent again by another one."""
        leader = self.leaders.get(group)
        if leader is not None:
            link = self.nodes.get(leader)
            if link is not None and not link.leaving and not self._is_avoided(now_ms, group, link):
                return link
        usable = present is not None and present.is_up and not present.leaving
        if present is not None and usable and not self._is_avoided(now_ms, group, present):
            return present
        return self._any(now_ms, group, present)

    def _any(self, now_ms: int, group: GroupId, present: Link | None) -> Link | None:
        """Of nodes that are all to be avoided, what was last said to lead is tried first (it was said after
        that node failed), then the one that failed the longest ago."""
        shard_map, leader = self.shard_map, self.leaders.get(group)
        info = None if shard_map is None else shard_map.groups.get(group)
        members = {node for _, node in info.replicas} if info is not None else set()
        best: list[Link] = []
        best_rank = (True, True, True, 1 << 64)
        for node, link in self.nodes.items():
            until_ms = self._avoided.get((group, link.connection), 0)
            if until_ms <= now_ms:
                until_ms = 0
            rank = (link.leaving or until_ms > 0, node not in members, node != leader, until_ms)
            if rank < best_rank:
                best, best_rank = [link], rank
            elif rank == best_rank:
                best.append(link)
        if present is not None and present in best:
            return present
        return best[self._random.randrange(0, len(best))] if best else None

    def wanted(self, group: GroupId) -> NodeId | None:
        """A node that it would be well to be connected to for the group's sake."""
        leader = self.leaders.get(group)
        if leader is not None:
            return None if leader in self.nodes else leader
        shard_map = self.shard_map
        info = None if shard_map is None else shard_map.groups.get(group)
        if info is None or any(node in self.nodes for _, node in info.replicas):
            return None
        return info.replicas[self._random.randrange(0, len(info.replicas))][1]
