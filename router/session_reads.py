"""Queries that any replica may answer: sequential, causal and stale ones.

A query goes to a replica's node, the same one for all of a client's queries as long as it serves, another one
for another client. It carries the revision that the answer must hold: the highest that the client has seen of
the group, or of the position that it was given. Whatever that node cannot answer in time goes to the leader
as a linearizable query, which is as new as any level asks for.
"""

from __future__ import annotations

from typing import Final

from xxhash import xxh3_64_intdigest

from primitives.errors import Code
from primitives.ids import GroupId, NodeId
from primitives.records import U32, Answer, Read
from router.session_calls import Call, error_of
from router.session_groups import GroupSession
from router.session_links import Link, forget_request
from router.session_network import Network, Outgoing
from router.session_queue import CallQueue
from router.session_shared import Shared
from router.shardmap import ShardMap

PATIENCE_MS: Final = 1000
"""A replica that has not answered for so long is passed over. Nodes refuse sooner what they cannot serve."""
DIAL_MS: Final = 300
"""So long a query waits for a connection to some replica."""
REFUSALS: Final = frozenset((Code.NOT_LEADER, Code.WRONG_SLOT, Code.LOST, Code.UNAVAILABLE))


class GroupReads:
    """Such queries of one group."""

    __slots__ = ("_epoch", "asked", "group", "session", "waiting")

    def __init__(self, session: GroupSession, shared: Shared) -> None:
        self.session: Final = session
        self.group: Final = session.group
        self.waiting: Final = CallQueue()
        self.asked: dict[Call, int] = {}
        """Sent and not answered, with the time, in order."""
        self._epoch: Final = shared.epoch

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not self.asked and not len(self.waiting)

    def give(self, now_ms: int, outgoing: Outgoing) -> bool:
        """See ``session_network.Source``."""
        seen = self.session.seen
        while (call := self.waiting.pop()) is not None:
            call.sends += 1
            call.floor = max(seen, call.bound) if call.read == Read.CAUSAL else seen
            bound = call.bound if call.read == Read.STALE else call.floor
            self.asked[call] = now_ms
            if not outgoing.add(self.group, call, call.query_record(self._epoch(call.slot), bound)):
                return False
        return True

    def requeue(self, link: Link) -> None:
        """The link is gone: what was sent on it is sent another way."""
        for call in [call for call in reversed(self.asked) if call.link is link]:
            forget_request(call)
            del self.asked[call]
            self.waiting.push_front(call)


class ReplicaReads:
    """All such queries of a session. Methods that return calls give up on replicas for them: they are to be
    placed as linearizable queries now."""

    __slots__ = ("_avoided", "_groups", "_network", "_shared")

    def __init__(self, shared: Shared, network: Network) -> None:
        self._shared: Final = shared
        self._network: Final = network
        self._groups: Final[dict[GroupId, GroupReads]] = {}
        self._avoided: dict[tuple[GroupId, NodeId], int] = {}
        """Nodes that could not serve a group, and until when others go first."""

    def add(self, now_ms: int, session: GroupSession, call: Call) -> None:
        """Takes a query whose group is known."""
        reads = self._groups.get(session.group)
        if reads is None:
            reads = self._groups[session.group] = GroupReads(session, self._shared)
        call.group = session.group
        call.begun_ms = now_ms
        reads.waiting.push(call)

    def call_off(self, call: Call) -> None:
        """Nobody wants the answer of a query that was sent."""
        forget_request(call)
        reads = self._groups.get(GroupId(call.group))
        if reads is not None:
            reads.asked.pop(call, None)

    def send(self, now_ms: int) -> list[Call]:
        """Sends what waits, as far as there is a way and room."""
        given_up: list[Call] = []
        for group_id, reads in list(self._groups.items()):
            if reads.is_idle:
                del self._groups[group_id]
            elif len(reads.waiting):
                link = self._pick(now_ms, group_id)
                if link is not None:
                    if not self._network.fill(now_ms, reads, link):
                        self._network.wake(now_ms + 1)
                elif not self._may_come(now_ms, group_id, reads):
                    given_up += reads.waiting.drain()
            if reads.asked:
                self._network.wake(next(iter(reads.asked.values())) + PATIENCE_MS)
        return _linearizable(given_up)

    def _pick(self, now_ms: int, group: GroupId) -> Link | None:
        """The link to the replica that this client prefers, of those in reach; dials a better one."""
        shard_map, routes = self._shared.shard_map, self._network.routes
        info = None if shard_map is None else shard_map.groups.get(group)
        if info is None:
            return None
        nodes = sorted((node for _, node in info.replicas), key=self._rank)
        for node in nodes:
            if self._avoided.get((group, node), 0) > now_ms:
                continue
            link = routes.nodes.get(node)
            if link is not None and not link.leaving:
                return link
            self._network.dial_node(now_ms, node)
        return None

    def _rank(self, node: NodeId) -> int:
        # A checksum will not do: those of near numbers differ by constants, which favours one node.
        return xxh3_64_intdigest(self._shared.session_id + U32.pack(node))

    def _may_come(self, now_ms: int, group: GroupId, reads: GroupReads) -> bool:
        """Whether to wait for a connection to a replica that is not avoided."""
        first = reads.waiting.first()
        if first is None or not self._network.routes.nodes:
            return True
        until_ms = first.begun_ms + DIAL_MS
        self._network.wake(until_ms)
        return now_ms < until_ms and not self._is_avoided_everywhere(now_ms, group)

    def _is_avoided_everywhere(self, now_ms: int, group: GroupId) -> bool:
        shard_map = self._shared.shard_map
        info = None if shard_map is None else shard_map.groups.get(group)
        replicas = () if info is None else info.replicas
        return all(self._avoided.get((group, node), 0) > now_ms for _, node in replicas)

    def _avoid(self, now_ms: int, group: GroupId, node: NodeId | None) -> None:
        if node is not None:
            self._avoided[group, node] = now_ms + self._shared.settings.avoid_ms
            if len(self._avoided) > 1000:
                self._avoided = {key: until for key, until in self._avoided.items() if until > now_ms}

    # --- What happens -------------------------------------------------------------------------------

    def answered(self, now_ms: int, link: Link, call: Call, answer: Answer) -> list[Call]:
        """A replica's answer to a query's last request."""
        reads, code = self._groups.get(GroupId(call.group)), answer.code
        if reads is not None:
            reads.asked.pop(call, None)
        if code in REFUSALS:
            self._avoid(now_ms, GroupId(call.group), link.node_id)
            if code == Code.NOT_LEADER and len(answer.result) == 4:
                self._network.routes.leaders[GroupId(call.group)] = NodeId(U32.unpack(answer.result)[0])
            elif code == Code.WRONG_SLOT:
                self._network.ask_map(link)
        elif code <= Code.CONDITION:
            if answer.revision >= call.floor:
                self._shared.finish(call, answer)
                return []
        elif code != Code.UNKNOWN_PRIMITIVE and not (code == Code.OVERLOADED and not answer.revision):
            self._shared.finish(call, answer, error_of(answer))
            return []
        # Too old, not here yet, or refused for whatever reason: the leader knows.
        return _linearizable([call])

    def dropped(self, link: Link) -> None:
        """A link is gone."""
        for reads in self._groups.values():
            reads.requeue(link)

    def moved(self, shard_map: ShardMap) -> list[Call]:
        """Slots went to other groups: queries to be placed anew, at their own level."""
        moved: list[Call] = []
        for group_id, reads in self._groups.items():
            for call in reads.waiting.drain():
                if shard_map.group(call.slot) == group_id:
                    reads.waiting.push(call)
                else:
                    moved.append(call)
            for call in [call for call in reads.asked if shard_map.group(call.slot) != group_id]:
                self.call_off(call)
                moved.append(call)
        return moved

    def patient(self, now_ms: int) -> None:
        """The process stood still: nobody was slow."""
        for reads in self._groups.values():
            reads.asked = dict.fromkeys(reads.asked, now_ms)

    def tick(self, now_ms: int) -> list[Call]:
        """Gives up on replicas that do not answer."""
        given_up: list[Call] = []
        for group_id, reads in self._groups.items():
            for call, sent_ms in list(reads.asked.items()):
                if now_ms < sent_ms + PATIENCE_MS:
                    break
                if call.link is not None:  # Else it is answered, and its answer waits for events.
                    self._avoid(now_ms, group_id, call.link.node_id)
                    self.call_off(call)
                    given_up.append(call)
        return _linearizable(given_up)


def _linearizable(calls: list[Call]) -> list[Call]:
    for call in calls:
        call.read = Read.LINEARIZABLE
    return calls
