"""Questions and orders of administrators: sessions, groups, transfers of leadership.

An ADMIN frame names an operation and its arguments. What concerns one group is done by the node that leads
it, to which any node passes it on; nobody waits there for longer than ``WAIT_MS``.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from primitives.codec import encode_value, pack, unpack
from primitives.errors import Code, ProtocolError, TooLarge
from primitives.ids import GroupId, NodeId
from primitives.records import Close, encode_close
from router.frames import FrameKind, encode_control
from shards.core import Core
from shards.group import GroupDriver
from shards.outbox import OPENED
from shards.peerwire import SectionKind, section
from shards.ports import Origin, Priority
from shards.status import ROLES

ADMIN: Final = OPENED - 3
"""Connection number by which records of administrators are answered; the request is a number of this
node's."""
WAIT_MS: Final = 5000
UNDER_WAY_MAX: Final = 256
"""Requests that a node has passed on, or logged, and not answered."""
REQUESTS_A_TICK_MAX: Final = 200
"""Requests that a node takes between two ticks; what comes beyond is refused."""
NAME_CHARS_SHOWN: Final = 40
TEXT_CHARS_MAX: Final = 1000
"""Of a reply that another node gave."""
PAGE_SESSIONS: Final = 50
NAMES_COUNTED_MAX: Final = 1000
HOLDINGS_COUNTED_MAX: Final = 1000
REFUSED: Final = "this node does not lead the group"

Value = dict[str, Any] | list[Any] | bool


class _Refused(Exception):
    """The request cannot be done: a code and a text for whoever asked."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code: Final = code
        self.text: Final = text


class _Waiting:
    """A request that was passed on, or whose record is being logged."""

    __slots__ = ("connection", "deadline_ms", "node", "request")

    def __init__(self, node: NodeId, connection: int, request: int, deadline_ms: int) -> None:
        self.node: Final = node
        """Whom the reply goes to."""
        self.connection: Final = connection
        self.request: Final = request
        self.deadline_ms: Final = deadline_ms


class Administration:
    """The administrators' requests of one node."""

    __slots__ = ("_engine", "_next", "_now_ms", "_operations", "_taken", "_waiting")

    def __init__(self, engine: Core) -> None:
        self._engine = engine
        self._waiting: dict[int, _Waiting] = {}
        # A reply to what a former boot passed on is none to what this one does.
        self._next = int.from_bytes(engine.boot_id[:4], "big") << 24
        self._now_ms = 0
        self._taken = 0
        """Requests since the last tick."""
        self._operations: Final[dict[str, Callable[[GroupDriver, list[Any]], Value]]] = {
            "group": self._group, "group-transfer": self._transfer, "sessions": self._sessions,
            "session": self._session,
        }  # fmt: skip

    # --- What arrives -------------------------------------------------------------------------------

    def frame(self, now_ms: int, connection: int, envelope: list[Any]) -> None:
        """A client's request. Raises ProtocolError."""
        if [type(item) for item in envelope[:2]] != [int, str] or not 0 <= envelope[0] < 1 << 64:
            raise ProtocolError("an ADMIN of another form")
        self._now_ms = now_ms
        request, operation, *arguments = envelope
        try:
            self._count()
            if operation == "replicas":
                value = [self._describe(driver) for _, driver in sorted(self._engine.groups.items())]
                self._reply(self._engine.node, connection, request, Code.OK, "", value)
            else:
                self._for_group(connection, request, operation, arguments)
        except _Refused as refused:
            self._reply(self._engine.node, connection, request, refused.code, refused.text)

    def _for_group(self, connection: int, request: int, operation: str, arguments: list[Any]) -> None:
        if operation not in self._operations and operation != "session-end":
            raise _unknown(operation)
        if not arguments or type(arguments[0]) is not int:
            raise _Refused(Code.BAD_REQUEST, f"{operation} is for a group")
        engine = self._engine
        group = GroupId(arguments[0])
        driver = engine.groups.get(group)
        if driver is not None and driver.leads:
            self._run(engine.node, connection, request, driver, operation, arguments[1:])
            return
        shard_map = engine.shard_map
        if driver is None and (shard_map is None or group not in shard_map.groups):
            raise _Refused(Code.BAD_REQUEST, f"there is no group {group}")
        way = self._way(group, driver)
        if way is None or way not in engine.forwarding.up:
            raise _Refused(Code.UNAVAILABLE, "the group has no leader within this node's reach")
        number = self._wait(engine.node, connection, request)
        try:
            asked = pack([number, operation, *arguments])
        except TooLarge as error:
            del self._waiting[number]
            raise _Refused(Code.BAD_REQUEST, str(error)) from None
        engine.out.peer(way, Priority.LOG, section(SectionKind.ADMIN, asked))

    def _way(self, group: GroupId, driver: GroupDriver | None) -> NodeId | None:
        if driver is not None:
            return driver.leader_node
        engine = self._engine
        shard_map = engine.shard_map
        replicas = () if shard_map is None else shard_map.groups[group].replicas
        return engine.forwarding.way(group, (node for _, node in replicas))

    def _run(
        self, node: NodeId, connection: int, request: int, driver: GroupDriver, operation: str,
        arguments: list[Any],
    ) -> None:  # fmt: skip
        """Does it for a group that is led here. Raises :class:`_Refused`."""
        if operation == "session-end":
            self._end_session(node, connection, request, driver, arguments)
        else:
            value = self._operations[operation](driver, arguments)
            self._reply(node, connection, request, Code.OK, "", value)

    def section(self, now_ms: int, node: NodeId, payload: bytes) -> None:
        """Another node passes a request on. Raises ProtocolError."""
        self._now_ms = now_ms
        asked = _unpacked(payload)
        if [type(item) for item in asked[:3]] != [int, str, int]:
            raise ProtocolError("an ADMIN passed on of another form")
        request, operation, group, *arguments = asked
        driver = self._engine.groups.get(GroupId(group))
        try:
            self._count()
            if driver is None or not driver.leads:
                raise _Refused(Code.UNAVAILABLE, REFUSED)
            if operation not in self._operations and operation != "session-end":
                raise _unknown(operation)
            self._run(node, 0, request, driver, operation, arguments)
        except _Refused as refused:
            self._reply(node, 0, request, refused.code, refused.text)

    def replied(self, payload: bytes) -> None:
        """The reply to a request that was passed on. Raises ProtocolError."""
        told = _unpacked(payload)
        if [type(item) for item in told] != [int, int, str, bytes]:
            raise ProtocolError("an ADMIN_REPLY passed back of another form")
        number, code, text, value = told
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            self._send(waiting, code, text[:TEXT_CHARS_MAX], value)

    def answered(self, number: int, answer: bytes) -> None:
        """A record that was logged for somebody has its answer."""
        waiting = self._waiting.pop(number, None)
        if waiting is None:
            return
        if answer[0] == Code.OK:
            self._send(waiting, Code.OK, "", encode_value(True))
        elif answer[0] == Code.SESSION_LOST:
            self._send(waiting, Code.OK, "", encode_value(False))
        else:
            self._send(waiting, Code.UNAVAILABLE, "whether it was logged is unknown: ask again", b"")

    def tick(self, now_ms: int) -> None:
        """Gives up what nobody answers."""
        self._now_ms = now_ms
        self._taken = 0
        for number in [number for number, one in self._waiting.items() if now_ms >= one.deadline_ms]:
            self._send(self._waiting.pop(number), Code.UNAVAILABLE, "the group's leader does not answer", b"")

    # --- Replies ------------------------------------------------------------------------------------

    def _count(self) -> None:
        self._taken += 1
        if self._taken > REQUESTS_A_TICK_MAX:
            raise _Refused(Code.OVERLOADED, "too many requests of administrators at once")

    def _wait(self, node: NodeId, connection: int, request: int) -> int:
        if len(self._waiting) >= UNDER_WAY_MAX:
            raise _Refused(Code.OVERLOADED, "too many requests of administrators are under way")
        self._next += 1
        self._waiting[self._next] = _Waiting(node, connection, request, self._now_ms + WAIT_MS)
        return self._next

    def _reply(
        self, node: NodeId, connection: int, request: int, code: int, text: str, value: Value | None = None
    ) -> None:
        data = b"" if value is None else encode_value(value)
        self._send(_Waiting(node, connection, request, 0), code, text, data)

    def _send(self, to: _Waiting, code: int, text: str, value: bytes) -> None:
        out = self._engine.out
        if to.node == self._engine.node:
            out.client(to.connection, encode_control(FrameKind.ADMIN_REPLY, [to.request, code, text], value))
        else:
            told = pack([to.request, code, text, value])
            out.peer(to.node, Priority.LOG, section(SectionKind.ADMIN_REPLY, told))

    # --- Operations ---------------------------------------------------------------------------------

    def _describe(self, driver: GroupDriver) -> dict[str, Any]:
        """A replica, as it is here: what its leader alone knows is None elsewhere."""
        status, applier = driver.replica.status(), driver.applier
        inspection = applier.inspection
        names, more = inspection.count_names(NAMES_COUNTED_MAX)
        replicas = [
            {"replica": replica, "node": node, "match": status.match.get(replica)}
            for replica, node in sorted(driver.nodes.items())
        ]
        return {
            "group": driver.group, "role": ROLES[status.role], "leader": driver.leader_node,
            "term": status.term, "commit": status.commit, "applied": status.applied,
            "first": driver.log.first_index(), "last": status.last, "revision": applier.revision,
            "log_time_ms": applier.log_time_ms, "replicas": replicas,
            "needs_snapshot": list(status.snapshot_needed), "sessions": inspection.session_count,
            "primitives": names, "more_primitives": more, "overlay_bytes": applier.overlay_bytes,
            "cache_bytes": inspection.cache_bytes,
        }  # fmt: skip

    def _group(self, driver: GroupDriver, arguments: list[Any]) -> Value:
        """``[]``: the group as its leader sees it."""
        return self._describe(driver)

    def _transfer(self, driver: GroupDriver, arguments: list[Any]) -> Value:
        """``[node]``: begins to hand the leadership to the replica there. True if there is anything to do."""
        if [type(item) for item in arguments] != [int]:
            raise _Refused(Code.BAD_REQUEST, "a group's leadership goes to a node")
        to = [replica for replica, node in driver.nodes.items() if node == arguments[0]]
        membership = driver.replica.membership
        if not to or to[0] not in membership.incoming:
            text = f"node {arguments[0]} has no voter of group {driver.group}"
            raise _Refused(Code.BAD_REQUEST, text)
        if to[0] == driver.replica.id:
            return False
        if not driver.transfer(NodeId(arguments[0])):
            text = (
                f"node {arguments[0]} lacks too much of group {driver.group}'s log to lead it now:"
                " ask again when it has caught up"
            )
            raise _Refused(Code.UNAVAILABLE, text)
        self._engine.touch(driver)
        return True

    def _sessions(self, driver: GroupDriver, arguments: list[Any]) -> Value:
        """``[behind]``: a page of the group's sessions with higher numbers than that, and where to go on."""
        if [type(item) for item in arguments] != [int]:
            raise _Refused(Code.BAD_REQUEST, "sessions are listed behind a number")
        page = list(islice(driver.applier.inspection.sessions_behind(arguments[0]), PAGE_SESSIONS + 1))
        following = page[PAGE_SESSIONS - 1] if len(page) > PAGE_SESSIONS else None
        return {
            "sessions": [self._about(driver, number) for number in page[:PAGE_SESSIONS]],
            "behind": following,
        }

    def _session(self, driver: GroupDriver, arguments: list[Any]) -> Value:
        """``[session id]``: the session's registrations in the group; none if it has none."""
        return [self._about(driver, number) for number in self._of(driver, arguments)]

    def _of(self, driver: GroupDriver, arguments: list[Any]) -> list[int]:
        if len(arguments) != 1 or type(arguments[0]) is not bytes:
            raise _Refused(Code.BAD_REQUEST, "a session has an id of bytes")
        number = driver.applier.inspection.session_of(arguments[0])
        return [] if number is None else [number]

    def _about(self, driver: GroupDriver, number: int) -> dict[str, Any]:
        session = driver.applier.session(number)
        if session is None:
            raise _Refused(Code.UNAVAILABLE, "the session ended meanwhile")
        return {
            "group": driver.group, "id": session.session_id.hex(), "number": number,
            "timeout_ms": session.timeout_ms,
            "heard_ms_ago": max(0, self._now_ms - driver.leases.heard_ms(number)),
            "ending": driver.leases.is_expiring(number),
            "holdings": driver.applier.inspection.holdings(number, HOLDINGS_COUNTED_MAX),
        }  # fmt: skip

    def _end_session(
        self, node: NodeId, connection: int, request: int, driver: GroupDriver, arguments: list[Any]
    ) -> None:
        """``[session id]``: logs that no leader renews its lease any more. False if there is no session."""
        numbers = self._of(driver, arguments)
        if not numbers:
            self._reply(node, connection, request, Code.OK, "", False)
            return
        record = Close(arguments[0], numbers[0])
        origin = Origin(self._engine.node, ADMIN, self._wait(node, connection, request))
        driver.propose(encode_close(record), record, origin, self._engine.out)
        self._engine.touch(driver)


def _unknown(operation: str) -> _Refused:
    return _Refused(Code.BAD_REQUEST, f"there is no operation {operation[:NAME_CHARS_SHOWN]!r}")


def _unpacked(payload: bytes) -> list[Any]:
    try:
        return unpack(payload)
    except ValueError as error:
        raise ProtocolError(f"a section that cannot be read: {error}") from error
