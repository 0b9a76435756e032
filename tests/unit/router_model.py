"""A cluster inside the test, as a client sees it: nodes that speak the client protocol over whatever
transport, groups that are real appliers without log or disk, and faults on demand. It is synchronous; time is
given."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from local_group import MemoryRows
from router_streams import ModelStreams

from primitives.applier import Applier
from primitives.catalog import decode_found, lookup_id_query
from primitives.codec import encode_value
from primitives.errors import Code, ProtocolError
from primitives.ids import SLOTS, GroupId, NodeId, PrimitiveId, Revision, SlotId
from primitives.records import (
    U32,
    BadRecord,
    Command,
    Expire,
    Fire,
    Kind,
    Open,
    Query,
    Read,
    Type,
    decode_answer,
    decode_burst,
    decode_query,
    decode_record,
    encode_answer,
    encode_entry,
    encode_expire,
    encode_fire,
    encode_open,
)
from primitives.registry import machines
from router.connection import Connection, Role, Welcome, decode_hello, encode_refused, encode_welcome
from router.frames import FrameKind, decode_control, decode_requests, encode_answers, encode_control
from router.ring import rebalance
from router.shardmap import GroupInfo, NodeInfo, ShardMap

CLUSTER_ID: Final = b"cluster-of-tests"
SALT: Final = b"salt"


class ModelConnection:
    """A client's connection to a node. ``send`` and ``close`` are the transport's."""

    def __init__(
        self, cluster: ModelCluster, node: int, send: Callable[[bytes], None], close: Callable[[], None]
    ) -> None:
        self.cluster = cluster
        self.node = node
        self.protocol = Connection(Role.NODE)
        self.is_open = True
        self._send = send
        self._close = close
        cluster.connections.append(self)

    def send(self, frame: bytes) -> None:
        if self.is_open and self.protocol.is_open:
            self._send(self.protocol.sending(frame))

    def answer(self, request: int, answer: bytes) -> None:
        self.send(encode_answers([(request, answer)]))

    def receive(self, data: bytes) -> None:
        try:
            for kind, payload in self.protocol.receive(data):
                self.cluster.frames += 1
                self._frame(kind, payload)
        except ProtocolError as error:
            self._send(encode_refused("protocol", str(error)))
            self.close()

    def close(self) -> None:
        self.lost()
        self._close()

    def lost(self) -> None:
        self.is_open = False
        if self in self.cluster.connections:
            self.cluster.connections.remove(self)
            self.cluster.streams.lost(self)

    def _frame(self, kind: int, payload: bytes) -> None:
        cluster = self.cluster
        if kind == FrameKind.HELLO:
            decode_hello(payload)
            welcome = Welcome(1, CLUSTER_ID, self.node, b"b" * 16, cluster.map.version)
            self._send(self.protocol.sending(encode_welcome(welcome)))
        elif kind == FrameKind.OPS:
            for request, group, record in decode_requests(payload):
                cluster.operation(self, request, GroupId(group), record)
        elif kind == FrameKind.MAP_REQUEST:
            leaders = {group.id: NodeId(group.leader) for group in cluster.groups.values() if group.leader}
            self.send(encode_control(FrameKind.MAP, [], cluster.map.with_leaders(leaders).encode()))
        elif kind == FrameKind.KEEPALIVE:
            number, session_id, asked = decode_control(payload)[0]
            confirmed, gone = cluster.keepalive(self.node, session_id, asked)
            if confirmed or gone:
                self.send(encode_control(FrameKind.KEEPALIVE_REPLY, [number, confirmed, gone]))
        elif kind == FrameKind.STATUS_REQUEST:
            request, hashes = decode_control(payload)[0]
            status = encode_value({"node": self.node, "hashes": hashes})
            self.send(encode_control(FrameKind.STATUS, [request], status))
        elif kind in (FrameKind.WATCH, FrameKind.CREDIT, FrameKind.UNWATCH):
            cluster.streams.frame(self, kind, payload)


class ModelGroup:
    """A group: its state, who leads it, who waits for late answers, whom it heard when. Followers apply what
    was logged when they are asked for something, unless they lag."""

    def __init__(self, group: GroupId, slots: list[int], nodes: list[int]) -> None:
        self.id = group
        self.slots = slots
        self.nodes = nodes
        self.log: list[bytes] = []
        self.lagging: set[int] = set()
        """Nodes whose followers apply nothing."""
        self._followers: dict[int, tuple[Applier, int]] = {}
        self.applier = Applier(group, MemoryRows(), machines())
        self.applier.initialize([SlotId(slot) for slot in slots], 1)
        self.leader = 0
        """0: nobody."""
        self.late: dict[tuple[int, int, int], tuple[ModelConnection, int]] = {}
        self.heard: dict[int, int] = {}
        self.applied = 0

    def replica(self, node: int) -> Applier | None:
        """The state of the replica on a node, as far as it has applied; None if there is none."""
        if node not in self.nodes:
            return None
        if node == self.leader:
            return self.applier
        applier, applied = self._followers.get(node, (None, 0))
        if applier is None:
            applier = Applier(self.id, MemoryRows(), machines())
            applier.initialize([SlotId(slot) for slot in self.slots], 1)
        if node not in self.lagging:
            for entry in self.log[applied:]:
                applier.apply(entry)
            applied = len(self.log)
        self._followers[node] = applier, applied
        return applier


class ModelCluster:
    """Nodes ``1`` to ``nodes``, groups ``1`` to ``groups``. ``fault`` is asked before each operation what
    goes wrong with it: None, or one of ``refused``, ``lost_before``, ``lost_after``, ``silent``."""

    def __init__(self, nodes: int = 3, groups: int = 4, *, replicas: int | None = None) -> None:
        self.now_ms = 0
        self.frames = 0
        self.operations = 0
        self.connections: list[ModelConnection] = []
        self.streams = ModelStreams(self)
        self.served: Counter[int] = Counter()
        """Queries that followers answered, by node."""
        self.fault: Callable[[], str | None] = lambda: None
        self.forwards = True
        """Whether nodes pass operations on; else they say who leads."""
        owners = rebalance([None] * SLOTS, [GroupId(group) for group in range(1, groups + 1)])
        copies = nodes if replicas is None else replicas
        infos = {
            GroupId(g): GroupInfo(
                GroupId(g), tuple((10 * g + at, NodeId((g - 1 + at) % nodes + 1)) for at in range(copies))
            )
            for g in range(1, groups + 1)
        }
        self.map = ShardMap(
            1, CLUSTER_ID, SALT,
            {NodeId(n): NodeInfo(NodeId(n), f"n{n}", f"node{n}:1", f"node{n}:2", b"s" * 16)
             for n in range(1, nodes + 1)},
            infos, owners, [1] * SLOTS,
        )  # fmt: skip
        self.groups = {
            group: ModelGroup(group, self.map.slots_of(group), [node for _, node in info.replicas])
            for group, info in infos.items()
        }
        for group, info in infos.items():
            self.groups[group].leader = info.replicas[0][1]

    def with_addresses(self, addresses: dict[int, str]) -> None:
        """Tells clients where the nodes really are."""
        nodes = {
            node: info._replace(client_address=addresses[node]) for node, info in self.map.nodes.items()
        }
        old = self.map
        self.map = ShardMap(
            old.version, old.cluster_id, old.salt, nodes, old.groups, old.owners, old.epochs
        )

    # --- Operations -----------------------------------------------------------------------------------

    def operation(self, connection: ModelConnection, request: int, group_id: GroupId, record: bytes) -> None:
        try:
            self.operations += len(decode_burst(record).bodies) if record[0] == Kind.BURST else 1
            if record[0] == Kind.COMMAND:
                decode_record(record)
        except BadRecord as error:
            connection.answer(request, encode_answer(Code.BAD_REQUEST, 0, str(error).encode()))
            return
        group = self.groups[group_id]
        node = connection.node
        if record[0] == Kind.QUERY and self._read(connection, request, group, decode_query(record)):
            return
        if all(node != member for _, member in self.map.groups[group_id].replicas):
            connection.answer(request, encode_answer(Code.WRONG_SLOT, 0))
            return
        if not group.leader:
            connection.answer(request, encode_answer(Code.UNAVAILABLE, 0))
            return
        if group.leader != node and not self.forwards:
            connection.answer(request, encode_answer(Code.NOT_LEADER, 0, U32.pack(group.leader)))
            return
        if group.leader != node:
            connection.send(encode_control(FrameKind.LEADERS, [[group_id, group.leader]]))
        fault = self.fault()
        if fault == "silent":
            return
        if fault == "refused":
            connection.answer(request, encode_answer(Code.NOT_LEADER, 0))
        elif fault == "lost_before":
            connection.answer(request, encode_answer(Code.LOST, 0))
        elif record[0] == Kind.QUERY:
            self._query(connection, request, group, record)
        else:
            if record[0] in (Kind.COMMAND, Kind.BURST):
                self._open(group, decode_record(record))
            answer = self._apply(group, record, (connection, request))
            if fault == "lost_after":
                connection.answer(request, encode_answer(Code.LOST, 0))
            elif answer is not None:
                connection.answer(request, answer)

    def _read(self, connection: ModelConnection, request: int, group: ModelGroup, query: Query) -> bool:
        """Whether the query is one that any replica answers; it is answered then, if with a refusal."""
        node = connection.node
        if query.read == Read.LINEARIZABLE or node not in group.nodes or node == group.leader:
            return False
        applier = group.replica(node)
        bound = 0 if query.read == Read.STALE else query.bound
        refused = Code.UNAVAILABLE if query.read == Read.STALE and node in group.lagging else None
        if applier is None or applier.revision < bound or not applier.knows(
            query.slot, query.primitive, query.partition
        ):
            refused = Code.NOT_LEADER
        if refused is not None or applier is None:
            connection.answer(request, encode_answer(refused or 0, 0))
        else:
            self.served[node] += 1
            connection.answer(request, applier.query(query))
        return True

    def exists(self, primitive: PrimitiveId) -> bool:
        """Whether the catalog has the primitive."""
        home = self.groups[self.map.group(primitive.slot)]
        query = lookup_id_query(primitive.slot, 1, primitive.revision)
        return decode_answer(home.applier.query(query)).code == Code.OK

    def _query(self, connection: ModelConnection, request: int, group: ModelGroup, record: bytes) -> None:
        query = decode_query(record)
        self._open(group, query)
        connection.answer(request, group.applier.query(query))

    def _open(self, group: ModelGroup, asked: Any) -> None:
        applier = group.applier
        if asked.type <= Type.SYSTEM or applier.knows(asked.slot, asked.primitive, asked.partition):
            return
        home = self.groups[self.map.group(asked.primitive.slot)]
        query = lookup_id_query(asked.primitive.slot, 1, asked.primitive.revision)
        answer = decode_answer(home.applier.query(query))
        if answer.code == Code.OK:
            found = decode_found(answer.result)
            opening = Open(
                asked.slot, PrimitiveId(*asked.primitive), asked.partition, found.type,
                Revision(applier.revision), found.config,
            )  # fmt: skip
            self._apply(group, encode_open(opening), None)

    def _apply(
        self, group: ModelGroup, record: bytes, origin: tuple[ModelConnection, int] | None
    ) -> bytes | None:
        group.applied += 1
        entry = encode_entry(self.now_ms, [record])
        group.log.append(entry)
        applied = group.applier.apply(entry)
        self.streams.pump(group)
        decoded = decode_record(record)
        answer = applied.answers[0]
        if isinstance(decoded, Command) and answer is None and origin is not None:
            group.late[decoded.number, decoded.slot, decoded.sequence] = origin
        for session in group.applier.sessions:
            group.heard.setdefault(session.number, self.now_ms)
        if record[0] == Kind.REGISTER and answer is not None:
            group.heard[decode_answer(answer).revision] = self.now_ms
        for number, slot, sequence, late in applied.late:
            waiter = group.late.pop((number, slot, sequence), None)
            if waiter is not None:
                waiter[0].answer(waiter[1], late)
        for number in applied.ended:
            for key in [key for key in group.late if key[0] == number]:
                waiter = group.late.pop(key)
                waiter[0].answer(waiter[1], encode_answer(Code.SESSION_LOST, 0))
        return answer

    def keepalive(self, node: int, session_id: bytes, asked: list[list[int]]) -> tuple[Any, Any]:
        confirmed, gone = [], []
        for group_id, number in asked:
            group = self.groups[GroupId(group_id)]
            if not group.leader or (node != group.leader and not self.forwards):
                continue
            session = group.applier.session(number)
            if session is None or session.session_id != session_id:
                gone.append([group_id, number])
            else:
                group.heard[number] = self.now_ms
                confirmed.append([group_id, number, group.applier.ownership_version])
        return confirmed, gone

    def lag(self, group_id: int, node: int, lags: bool = True) -> None:
        """A follower stops applying, or goes on."""
        group = self.groups[GroupId(group_id)]
        if lags:
            group.replica(node)
            group.lagging.add(node)
        else:
            group.lagging.discard(node)
            self.streams.pump(group)

    # --- What happens by itself -----------------------------------------------------------------------

    def tick(self) -> None:
        """Expires sessions that were not heard, fires timers that are due."""
        for group in self.groups.values():
            if not group.leader:
                continue
            for session in list(group.applier.sessions):
                heard_ms = group.heard.get(session.number, self.now_ms)
                if self.now_ms >= heard_ms + session.timeout_ms:
                    self._apply(group, encode_expire(Expire(session.session_id, session.number)), None)
            while (due := group.applier.next_deadline_ms) is not None and due <= self.now_ms:
                self._apply(group, encode_fire(Fire(100)), None)

    def lead(self, group_id: int, node: int) -> None:
        """Another node leads the group (0: nobody); whoever waited for the former learns that it is lost."""
        group = self.groups[GroupId(group_id)]
        if group.leader == node:
            return
        group.leader = node
        group.heard = {session.number: self.now_ms for session in group.applier.sessions}
        late, group.late = group.late, {}
        for connection, request in late.values():
            connection.answer(request, encode_answer(Code.LOST, 0))


class RandomFaults:
    """A fault for each operation with some probability, while ``on``."""

    def __init__(self, seed: int, probability: float, kinds: tuple[str, ...]) -> None:
        self.random = random.Random(seed)
        self.probability = probability
        self.kinds = kinds
        self.on = True

    def __call__(self) -> str | None:
        if not self.on or self.random.random() >= self.probability:
            return None
        return self.random.choice(self.kinds)
