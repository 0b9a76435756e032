"""What clients and peers send, apart from consensus itself: operations, keepalives, the map, status."""

from __future__ import annotations

from typing import Any, Final

from primitives.codec import pack, unpack
from primitives.errors import Code, ProtocolError
from primitives.ids import GroupId, NodeId
from primitives.limits import KEEPALIVE_LEASES_MAX
from primitives.records import Kind, encode_answer, is_near
from router.connection import encode_refused
from router.frames import (
    HEADER,
    HEADER_BYTES,
    FrameKind,
    decode_control,
    decode_requests,
    encode_control,
)
from shards.admin import Administration
from shards.core import Core
from shards.group import GroupDriver
from shards.markers import Markers
from shards.peerwire import (
    SectionKind,
    decode_answer_section,
    decode_forward_section,
    decode_read_ask,
    decode_read_reply,
    section,
)
from shards.ports import Origin, Priority
from shards.reads import Confirm
from shards.status import describe, encode_status
from shards.watching import Watching

_FROM_CLIENTS: Final = frozenset((Kind.COMMAND, Kind.BURST, Kind.REGISTER, Kind.END_SESSION, Kind.QUERY))
_OF_WATCHES: Final = frozenset((FrameKind.WATCH, FrameKind.CREDIT, FrameKind.UNWATCH))
_NOT_LEADER: Final = encode_answer(Code.NOT_LEADER, 0)
_UNAVAILABLE: Final = encode_answer(Code.UNAVAILABLE, 0, b"the group has no leader within this node's reach")


class Dispatch:
    """Takes frames and sections to where they belong. A client's mistake closes its connection only."""

    __slots__ = ("_asked_status", "_engine", "_map_blob", "_map_told", "admin", "markers", "watching")

    def __init__(self, engine: Core) -> None:
        self._engine = engine
        self._map_told: tuple[int, dict[GroupId, NodeId]] = (-1, {})
        self._map_blob = b""
        """The map's bytes as they were last told, for whoever asks next."""
        self.markers: Final = Markers(engine)
        self.admin: Final = Administration(engine)
        self._asked_status: list[tuple[int, int]] = []
        """Requests for status that came in this round: all get one answer at its end."""
        self.watching: Final = Watching(engine)

    # --- Clients ------------------------------------------------------------------------------------

    def frame(self, now_ms: int, connection: int, kind: int, payload: bytes) -> None:
        """A client's frame."""
        try:
            if kind == FrameKind.OPS:
                self._operations(connection, payload)
                return
            if kind in _OF_WATCHES:
                self.watching.frame(connection, kind, payload)
                return
            envelope, _ = decode_control(payload)
            if kind == FrameKind.KEEPALIVE:
                self._keepalive(now_ms, connection, envelope)
            elif kind == FrameKind.MAP_REQUEST:
                self._map(connection)
            elif kind == FrameKind.STATUS_REQUEST:
                self._status(now_ms, connection, envelope)
            elif kind == FrameKind.ADMIN:
                self.admin.frame(now_ms, connection, envelope)
            else:
                raise ProtocolError(f"a frame of kind {kind} is not for a node")
        except ProtocolError as error:
            out = self._engine.out
            out.client(connection, encode_refused("protocol", str(error)))
            out.close(connection)

    def _operations(self, connection: int, payload: bytes) -> None:
        engine = self._engine
        node, groups, out = engine.node, engine.groups, engine.out
        touched: GroupDriver | None = None
        for request, group, record in decode_requests(payload):
            if not record or record[0] not in _FROM_CLIENTS:
                raise ProtocolError("a record of a kind that clients do not send")
            origin: Origin = tuple.__new__(Origin, (node, connection, request))
            driver = groups.get(GroupId(group))
            if driver is None or not driver.leads:
                self.route(origin, GroupId(group), record)
                continue
            if driver is not touched:
                engine.touch(driver)
                touched = driver
            driver.submit(origin, record, out)

    def route(self, origin: Origin, group: GroupId, record: bytes) -> None:
        """Takes an operation to its group's leader, here or on another node, or refuses it."""
        engine = self._engine
        driver = engine.groups.get(group)
        if driver is not None and (driver.leads or is_near(record)):
            driver.submit(origin, record, engine.out)
            engine.touch(driver)
        elif origin.node != engine.node:  # Passed on once already: whoever sent it here finds another way.
            engine.out.answer(origin, _NOT_LEADER if driver is None else driver.not_leader())
        elif driver is None and not self._exists(group):
            engine.out.answer(origin, encode_answer(Code.WRONG_SLOT, 0))
        else:
            way = self._way(group)
            if way is None or not engine.forwarding.forward(origin, group, record, way, engine.out):
                engine.out.answer(origin, _UNAVAILABLE)

    def _exists(self, group: GroupId) -> bool:
        shard_map = self._engine.shard_map
        return shard_map is not None and group in shard_map.groups

    def _way(self, group: GroupId) -> NodeId | None:
        """The node to ask about a group that is not led here."""
        engine = self._engine
        driver = engine.groups.get(group)
        if driver is not None:
            return driver.leader_node
        shard_map = engine.shard_map
        if shard_map is None or group not in shard_map.groups:
            return None
        return engine.forwarding.way(group, (node for _, node in shard_map.groups[group].replicas))

    def _keepalive(self, now_ms: int, connection: int, envelope: list[Any]) -> None:
        number, session_id, asked = _keepalive_of(envelope)
        passed: dict[NodeId, list[list[int]]] = {}
        engine = self._engine
        for group, session in asked:
            question = Confirm(engine.node, connection, number, session_id, session)
            if not self._confirm(now_ms, group, question):
                way = self._way(group)
                if way in engine.forwarding.up:
                    passed.setdefault(way, []).append([group, session])
        for node, sessions in passed.items():
            payload = pack([engine.forwarding.outside(connection), number, session_id, sessions])
            engine.out.peer(node, Priority.CONTROL, section(SectionKind.KEEPALIVE, payload))

    def _confirm(self, now_ms: int, group: GroupId, asked: Confirm) -> bool:
        """Has a keepalive's question answered by a group that is led here. False if it is not."""
        driver = self._engine.groups.get(group)
        if driver is None or not driver.leads:
            return False
        driver.confirm(asked, now_ms)
        self._engine.touch(driver)
        return True

    def _map(self, connection: int) -> None:
        shard_map = self._engine.shard_map
        if shard_map is None:
            raise ProtocolError("the cluster has not formed yet")
        leaders = dict(self._engine.forwarding.leaders)
        for group, driver in self._engine.groups.items():
            if driver.leader_node is not None:
                leaders[group] = driver.leader_node
        told = (shard_map.version, leaders)
        if told != self._map_told:
            self._map_told = told
            self._map_blob = shard_map.with_leaders(leaders).encode()
        self._engine.out.client(connection, encode_control(FrameKind.MAP, [], self._map_blob))

    def _status(self, now_ms: int, connection: int, envelope: list[Any]) -> None:
        if [type(item) for item in envelope] != [int, bool] or not _is_number(envelope[0]):
            raise ProtocolError("a STATUS_REQUEST of another form")
        request, with_hashes = envelope
        if with_hashes:
            self.markers.ask(now_ms, connection, request)
        else:
            self._asked_status.append((connection, request))

    def tell_status(self) -> None:
        """Answers the requests for status of a round: described and encoded once, however many they are."""
        if self._asked_status:
            value = encode_status(describe(self._engine))
            for connection, request in self._asked_status:
                self._engine.out.client(connection, encode_control(FrameKind.STATUS, [request], value))
            self._asked_status.clear()

    def answer_status(
        self, connection: int, request: int, hashes: list[dict[str, Any]] | None, missing: list[list[int]]
    ) -> None:
        """Answers a STATUS_REQUEST for the hashes of replicas."""
        status = describe(self._engine)
        if hashes is not None:
            status["hashes"] = hashes
            status["hashes_missing"] = missing
        frame = encode_control(FrameKind.STATUS, [request], encode_status(status))
        self._engine.out.client(connection, frame)

    # --- Peers --------------------------------------------------------------------------------------

    def section(self, now_ms: int, node: NodeId, kind: int, payload: bytes) -> None:
        """A peer's section, other than consensus."""
        engine = self._engine
        if kind == SectionKind.FORWARD:
            connection, request, group, record = decode_forward_section(payload)
            self.route(Origin(node, connection, request), group, record)
        elif kind == SectionKind.ANSWER:
            connection, request, answer = decode_answer_section(payload)
            origin = engine.forwarding.answered(node, connection, request, answer)
            if origin is not None:
                engine.out.answer(origin, answer)
        elif kind == SectionKind.KEEPALIVE:
            connection, *envelope = unpack(payload)
            if type(connection) is not int or not -(1 << 63) <= connection < 1 << 63:
                raise ProtocolError("a KEEPALIVE passed on of another form")
            number, session_id, sessions = _keepalive_of(envelope)
            for group, session in sessions:
                self._confirm(now_ms, group, Confirm(node, connection, number, session_id, session))
        elif kind == SectionKind.KEEPALIVE_REPLY:
            connection, frame = _keepalive_reply_of(payload)
            own = engine.forwarding.inside(connection)
            if own is not None:
                engine.out.client(own, frame)
        elif kind == SectionKind.READ_ASK:
            self._read_ask(node, payload)
        elif kind == SectionKind.READ_REPLY:
            group, number, index = decode_read_reply(payload)
            if group in engine.groups:
                engine.groups[group].local.proven(number, index)
                engine.touch(engine.groups[group])
        elif kind == SectionKind.ADMIN:
            self.admin.section(now_ms, node, payload)
        elif kind == SectionKind.ADMIN_REPLY:
            self.admin.replied(payload)
        elif kind == SectionKind.HASH:
            self.markers.on_section(payload)
        else:
            raise ProtocolError(f"a section of unknown kind {kind} from node {node}")

    def _read_ask(self, node: NodeId, payload: bytes) -> None:
        group, number = decode_read_ask(payload)
        driver = self._engine.groups.get(group)
        if driver is not None:
            driver.prove(node, number)
            self._engine.touch(driver)

    def lost(self, origins: list[Origin]) -> None:
        """A peer is gone with the operations that were passed on to it: their fate is unknown."""
        answer = encode_answer(Code.LOST, 0)
        for origin in origins:
            self._engine.out.answer(origin, answer)


def _is_number(item: Any) -> bool:
    return type(item) is int and 0 <= item < 1 << 64


def _keepalive_of(envelope: list[Any]) -> tuple[int, bytes, list[tuple[GroupId, int]]]:
    """Number, session id and [group, session number] pairs of a client's keepalive. All of it is checked
    here: what reaches the engine is not a client's mistake any more. Raises ProtocolError."""
    if len(envelope) == 3:
        number, session_id, asked = envelope
        if type(asked) is list and len(asked) > KEEPALIVE_LEASES_MAX:
            raise ProtocolError(f"a KEEPALIVE for more than {KEEPALIVE_LEASES_MAX} sessions")
        if _is_number(number) and type(session_id) is bytes and type(asked) is list and all(
            type(pair) is list and len(pair) == 2 and _is_number(pair[0]) and _is_number(pair[1])
            for pair in asked
        ):
            return number, session_id, [(GroupId(group), session) for group, session in asked]
    raise ProtocolError("a KEEPALIVE of another form")


def _keepalive_reply_of(payload: bytes) -> tuple[int, bytes]:
    """The connection of a KEEPALIVE_REPLY section, and the whole frame for it. Raises ProtocolError."""
    frame = payload[8:]
    if len(frame) < HEADER_BYTES or HEADER.unpack_from(frame) != (
        len(frame) - HEADER_BYTES, FrameKind.KEEPALIVE_REPLY, 0, 0,
    ):  # fmt: skip
        raise ProtocolError("a KEEPALIVE_REPLY passed back of another form")
    return int.from_bytes(payload[:8], "big", signed=True), frame
