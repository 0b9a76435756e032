"""The watches of a model cluster: streams over the histories of its groups' replicas."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from primitives.errors import Code
from primitives.history import MARK, History, value_of
from primitives.ids import GroupId, PrimitiveId, SlotId
from router.frames import FrameKind, encode_control
from router.watchframes import (
    Mark,
    WatchFlag,
    WatchRequest,
    decode_credit,
    decode_unwatch,
    decode_watch,
    encode_event,
    encode_events,
    encode_marks,
    encode_part,
)

if TYPE_CHECKING:
    from router_model import ModelCluster, ModelConnection, ModelGroup


class ModelStream:
    """One watch of a connection."""

    def __init__(self, connection: ModelConnection, request: WatchRequest, revision: int) -> None:
        self.connection = connection
        self.request = request
        self.cursor = MARK.pack(*request.start(revision))
        self.credit = request.credit
        self.marked = request.standing(revision)
        self.covered = False

    @property
    def group(self) -> GroupId:
        return GroupId(self.request.group)


class ModelStreams:
    """All streams of a model cluster. ``refuses`` is asked before each stream what it is refused with."""

    def __init__(self, cluster: ModelCluster) -> None:
        self.cluster = cluster
        self.streams: list[ModelStream] = []
        self.refuses: Callable[[], int | None] = lambda: None
        self.asked = 0
        """Streams that were asked for."""

    def frame(self, connection: ModelConnection, kind: int, payload: bytes) -> None:
        if kind == FrameKind.WATCH:
            self._watch(connection, decode_watch(payload))
            return
        number, credit = decode_credit(payload) if kind == FrameKind.CREDIT else (decode_unwatch(payload), 0)
        for stream in list(self.streams):
            if stream.connection is connection and stream.request.watch == number:
                if kind == FrameKind.UNWATCH:
                    self.streams.remove(stream)
                else:
                    stream.credit += credit
                    self._pump(stream)

    def _watch(self, connection: ModelConnection, request: WatchRequest) -> None:
        self.asked += 1
        group = self.cluster.groups[GroupId(request.group)]
        code = self.refuses()
        applier = group.replica(connection.node)
        if applier is None:
            code = Code.UNAVAILABLE
        elif not applier.owns(request.slot, request.epoch):
            code = Code.WRONG_SLOT
        elif not self.cluster.exists(PrimitiveId(request.primitive_slot, request.primitive_revision)):
            code = Code.UNKNOWN_PRIMITIVE
        if code is not None or applier is None:
            connection.send(encode_control(FrameKind.WATCH_ENDED, [request.watch, code, "refused"]))
            return
        stream = ModelStream(connection, request, applier.revision)
        self.streams.append(stream)
        connection.send(encode_control(
            FrameKind.WATCHING, [request.watch, request.group, stream.marked]
        ))  # fmt: skip
        self._pump(stream)

    def lost(self, connection: ModelConnection) -> None:
        self.streams = [stream for stream in self.streams if stream.connection is not connection]

    def end(self, stream: ModelStream, code: int) -> None:
        """Ends a stream from the node's side."""
        self.streams.remove(stream)
        frame = encode_control(FrameKind.WATCH_ENDED, [stream.request.watch, code, "ended"])
        stream.connection.send(frame)

    def pump(self, group: ModelGroup) -> None:
        """Sends what the group's replicas have applied."""
        for stream in list(self.streams):
            if stream.group == group.id:
                self._pump(stream)

    def _pump(self, stream: ModelStream) -> None:
        request, connection = stream.request, stream.connection
        group = self.cluster.groups[stream.group]
        applier = group.replica(connection.node)
        if applier is None:
            return
        key = PrimitiveId(request.primitive_slot, request.primitive_revision)
        history = applier.history(SlotId(request.slot), key, request.partition)
        if history is not None:
            if stream.cursor < history.floor:
                self.end(stream, Code.COMPACTED)
                return
            for found in history.after(stream.cursor):
                if stream.credit <= 0:
                    self._mark(stream, MARK.unpack(found.mark)[0] - 1, covered=False)
                    return
                stream.cursor = found.mark
                wanted = found.key.startswith(request.filter) if request.flags & WatchFlag.PREFIX else (
                    found.key == request.filter
                )  # fmt: skip
                if wanted or not found.key:
                    former = None
                    if request.flags & WatchFlag.PREVIOUS and found.previous:
                        former = _value(history, found.previous)
                    data = encode_event(
                        *MARK.unpack(found.mark), found.kind, found.key, found.value, former
                    )
                    stream.credit -= len(data)
                    connection.send(encode_events(encode_part(request.watch, data)))
        self._mark(stream, applier.revision, covered=True)

    def _mark(self, stream: ModelStream, revision: int, *, covered: bool) -> None:
        revision = max(revision, stream.marked)
        if revision == stream.marked and covered == stream.covered:
            return
        if covered and stream.covered:
            mark = Mark(stream.group, revision)
            others = [
                other for other in self.streams
                if other.connection is stream.connection and other.group == stream.group and other.covered
            ]  # fmt: skip
            if others != [stream]:
                mark = Mark(stream.group, revision, stream.request.watch)
        else:
            mark = Mark(stream.group, revision, stream.request.watch, covered)
        stream.marked, stream.covered = revision, covered
        stream.connection.send(encode_marks([mark]))


def _value(history: History, mark: bytes) -> bytes | None:
    row = history.table.get(mark)
    return None if row is None else value_of(row)
