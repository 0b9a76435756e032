"""Watches of this node's clients, over all groups: who may watch, and when a watch ends.

Subscriptions are not replicated. A watch is served from whatever replica is here, and ends with its
connection, with the replica, or when the slot moves away; its client then goes on elsewhere.
"""

from __future__ import annotations

from typing import Final

from primitives.errors import Code, ProtocolError
from primitives.ids import GroupId
from primitives.records import Query, Read, encode_query
from router.frames import FrameKind, encode_control
from router.watchframes import WatchRequest, decode_credit, decode_unwatch, decode_watch
from shards.core import Core
from shards.group import GroupDriver
from shards.outbox import INTERNAL
from shards.ports import Origin
from shards.streams import GroupStreams, Stream, Watched, ended_frame

WATCHED: Final = INTERNAL - 16
"""Connection number of the question whether a partition exists that is watched and not open here."""
ASK_TICKS: Final = 20
"""What was asked and had no answer is asked again after so many ticks."""
_NO_OPERATION: Final = 255


class Watching:
    """All watches of a node."""

    __slots__ = ("_asked", "_connections", "_engine", "_groups", "_next", "_ticks", "streams")

    def __init__(self, engine: Core) -> None:
        self._engine = engine
        self.streams = 0
        """Watches that stand."""
        self._groups: dict[GroupId, GroupStreams] = {}
        self._connections: dict[int, dict[int, tuple[GroupStreams, Stream]]] = {}
        """For each connection its watches, by their ids."""
        self._asked: dict[int, tuple[GroupId, bytes]] = {}
        """Questions about partitions, by number: group and target."""
        self._next = 0
        self._ticks = 0

    # --- What clients send ----------------------------------------------------------------------------------

    def frame(self, connection: int, kind: int, payload: bytes) -> None:
        """A WATCH, CREDIT or UNWATCH. Raises ProtocolError."""
        if kind == FrameKind.WATCH:
            self._watch(connection, decode_watch(payload))
        elif kind == FrameKind.CREDIT:
            watch, credit = decode_credit(payload)
            self._allow(connection, watch, credit)
        else:
            self._forget(connection, decode_unwatch(payload))

    def _watch(self, connection: int, request: WatchRequest) -> None:
        mine = self._connections.get(connection)
        if mine is not None and request.watch in mine:
            raise ProtocolError(f"a second watch with the id {request.watch}")
        refusal = self._refusal(0 if mine is None else len(mine), request)
        if refusal is not None:
            self._engine.out.client(connection, ended_frame(request.watch, *refusal))
            return
        driver = self._engine.groups[GroupId(request.group)]
        group = self._groups.get(driver.group)
        if group is None:
            group = self._groups[driver.group] = GroupStreams(driver)
        elif group.driver is not driver:
            group.moved(driver)
        stream = group.add(connection, request)
        self._connections.setdefault(connection, {})[request.watch] = group, stream
        self.streams += 1
        revision = request.standing(driver.applier.revision)
        self._engine.out.client(
            connection, encode_control(FrameKind.WATCHING, [request.watch, driver.group, revision])
        )
        self._ask_if_unknown(group, stream.watched)
        self._engine.touch(driver)

    def _refusal(self, count: int, request: WatchRequest) -> tuple[int, str] | None:
        """Why a watch cannot stand here."""
        engine = self._engine
        settings = engine.settings
        if count >= settings.watches_a_connection_max:
            return Code.OVERLOADED, f"the connection has {count} watches already"
        if self.streams >= settings.watches_max:
            return Code.OVERLOADED, f"the node serves {self.streams} watches already"
        driver = engine.groups.get(GroupId(request.group))
        if driver is None:
            return Code.UNAVAILABLE, "no replica of the group is on this node"
        if driver.replica.id in driver.replica.membership.learners:
            return Code.UNAVAILABLE, "the replica on this node is still learning"
        if not driver.applier.owns(request.slot, request.epoch):
            return Code.WRONG_SLOT, "the group does not own the slot"
        return None

    def _allow(self, connection: int, watch: int, credit: int) -> None:
        found = self._connections.get(connection, {}).get(watch)
        if found is not None:  # It may have ended here before the client knew.
            group, stream = found
            group.allow(stream, credit)
            driver = self._engine.groups.get(group.driver.group)  # Perhaps another one than the streams know.
            if driver is not None and not stream.covered:
                self._engine.touch(driver)

    def _forget(self, connection: int, watch: int) -> None:
        mine = self._connections.get(connection)
        found = None if mine is None else mine.pop(watch, None)
        if found is not None:
            self._drop(*found)

    def closed(self, connection: int) -> None:
        """A connection is gone, and its watches with it."""
        for found in self._connections.pop(connection, {}).values():
            self._drop(*found)

    def _drop(self, group: GroupStreams, stream: Stream) -> None:
        group.remove(stream)
        self.streams -= 1
        if not group.streams:
            self._groups.pop(group.driver.group, None)

    def _end(self, group: GroupStreams, stream: Stream, code: int, text: str) -> None:
        mine = self._connections.get(stream.connection)
        if mine is not None and mine.pop(stream.request.watch, None) is not None:
            self._engine.out.client(stream.connection, ended_frame(stream.request.watch, code, text))
            self._drop(group, stream)

    # --- Rounds ---------------------------------------------------------------------------------------------

    def round(self, now_ms: int, active: dict[GroupId, GroupDriver]) -> None:
        """Sends what the active groups applied. To be called when all of them have, and before anything of it
        is written."""
        engine = self._engine
        for number, driver in active.items():
            group = self._groups.get(number)
            if group is None:
                continue
            if driver is not group.driver:
                group.moved(driver)
            for stream, code, text in group.round(now_ms, engine.out):
                self._end(group, stream, code, text)
            if group.has_more():
                engine.touch(driver)

    def tick(self) -> None:
        """Looks after what no event announces: replicas that are gone, partitions not yet open here."""
        self._ticks += 1
        again = self._ticks % ASK_TICKS == 0
        if again:
            self._asked.clear()
        for number, group in list(self._groups.items()):
            if number not in self._engine.groups:
                for watched in list(group.watched.values()):
                    for stream in list(watched.streams):
                        self._end(group, stream, Code.UNAVAILABLE, "the replica left this node")
            elif again:
                for watched in group.unknown():
                    watched.asked = False
                    self._ask_if_unknown(group, watched)

    # --- Partitions that are not open here ------------------------------------------------------------------

    def _ask_if_unknown(self, group: GroupStreams, watched: Watched) -> None:
        """Asks the group's leader for something that a partition must be open for: so it opens, if the
        primitive exists, and else the watch ends. An operation that no type has costs nothing else."""
        driver = group.driver
        if watched.asked or driver.applier.knows(*watched.key):
            return
        watched.asked = True
        slot, primitive, partition = watched.key
        stream = next(iter(watched.streams))
        self._next += 1
        self._asked[self._next] = driver.group, watched.target
        request = stream.request
        query = Query(
            slot, request.epoch, primitive, partition, request.type, _NO_OPERATION, Read.LINEARIZABLE, 0, [],
            b"",
        )  # fmt: skip
        origin = Origin(self._engine.node, WATCHED, self._next)
        self._engine.route(origin, driver.group, encode_query(query))

    def answered(self, origin: Origin, answer: bytes) -> None:
        """An answer came for :data:`WATCHED`. What says nothing of the partition is asked again in time."""
        number, target = self._asked.pop(origin.request, (GroupId(0), b""))
        group = self._groups.get(number)
        watched = None if group is None else group.watched.get(target)
        code = answer[0]
        if group is None or watched is None or group.driver.applier.knows(*watched.key):
            return
        if code in (Code.UNKNOWN_PRIMITIVE, Code.TYPE_MISMATCH):
            text = "there is no such primitive" if code == Code.UNKNOWN_PRIMITIVE else "it is of another type"
            for stream in list(watched.streams):
                self._end(group, stream, code, text)


__all__ = ["WATCHED", "Watching"]
