"""The node's side of watches on a stage: real appliers and the real outbox, replicas and clients by hand."""

from __future__ import annotations

from typing import Any, Final

from local_group import EPOCH, Group, MemoryRows, Session, create

from primitives.applier import Applier, ApplierLimits
from primitives.catalog import CatalogOp
from primitives.history import HistoryLimits
from primitives.ids import CATALOG_ID, GroupId, NodeId
from primitives.mapops import MapMachine, Op
from primitives.records import U64, Query, Type, decode_query, encode_answer
from primitives.registry import machines
from raftgroup.types import Membership, ReplicaId
from router.frames import HEADER_BYTES, FrameKind, encode_control
from router.watchframes import (
    FROM_NOW,
    WatchRequest,
    WireEvent,
    decode_events,
    decode_marks,
    decode_watch_ended,
    decode_watching,
    encode_watch,
)
from shards.outbox import Outbox
from shards.ports import Origin
from shards.settings import EngineSettings
from shards.watching import Watching

GROUP: Final = GroupId(1)
NODE: Final = NodeId(1)


class StagedApplying:
    """Keeps the events of watched partitions until they are taken."""

    def __init__(self) -> None:
        self.events: list[tuple[bytes, bytes, bytes]] = []

    def take_events(self) -> list[tuple[bytes, bytes, bytes]]:
        events, self.events = self.events, []
        return events


class StagedReplica:
    id = ReplicaId(1)
    membership = Membership((ReplicaId(1),), (), ())


class StagedDriver:
    """What watches need of a group's driver."""

    def __init__(self, applier: Applier) -> None:
        self.group = GROUP
        self.applier = applier
        self.applying = StagedApplying()
        self.replica = StagedReplica()


class Stage:
    """One node with one replica, that clients watch; it is what ``shards.core.Core`` promises, too."""

    def __init__(
        self, *, history: HistoryLimits | None = None, settings: EngineSettings | None = None
    ) -> None:
        self.node, self.boot_id = NODE, bytes(16)
        self.settings = settings or EngineSettings()
        self.group = Group(flush_every=5)
        limits = ApplierLimits() if history is None else ApplierLimits(history=history)
        self.rows = self.group.rows
        self.group.applier = self._applier(self.rows, limits)
        self.group.applier.initialize(range(64), EPOCH)
        self.driver = StagedDriver(self.group.applier)
        self.groups: dict[GroupId, Any] = {GROUP: self.driver}
        self.out = Outbox(NODE, self.settings.answers_early)
        self.touched: set[int] = set()
        self.routed: list[tuple[Origin, Query]] = []
        self.watching = Watching(self)  # type: ignore[arg-type]
        self.now_ms = 1000
        self.clients: dict[int, StagedClient] = {}
        applier = self.group.applier
        whole = applier.apply

        def apply(data: bytes, records: Any = None) -> Any:
            applied = whole(data, records)
            self.driver.applying.events += applied.events
            return applied

        applier.apply = apply  # type: ignore[method-assign]
        self.session = Session(self.group)
        self.slot, self.primitive = create(self.session, "m", MapMachine.TYPE)

    def _applier(self, rows: MemoryRows, limits: ApplierLimits) -> Applier:
        return Applier(GROUP, rows, machines(), limits=limits)

    def touch(self, driver: Any) -> None:
        assert driver is self.groups[driver.group], "a driver of the past"
        self.touched.add(driver.group)

    def route(self, origin: Origin, group: GroupId, record: bytes) -> None:
        self.routed.append((origin, decode_query(record)))

    # -- what is done --------------------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes = b"v") -> int:
        """Puts an entry; its revision. Nothing leaves before :meth:`round`."""
        at = self.session.send(self.slot, self.primitive, 0, MapMachine.TYPE, Op.PUT, [key], value)
        return int(self.session.answers[self.slot, at].revision)

    def delete(self) -> None:
        """Deletes the map. Nothing leaves before :meth:`round`."""
        args = ["", "m", MapMachine.TYPE]
        self.session.send(self.slot, CATALOG_ID, 0, Type.CATALOG, CatalogOp.DELETE, args)

    def round(self, *, answering: tuple[int, ...] = ()) -> None:
        """A round of the node: everything it says goes to the clients, who check the order of frames."""
        self.now_ms += 1
        self.touched.clear()
        for connection in answering:
            self.out.answer(Origin(NODE, connection, 1), encode_answer(0, self.group.applier.revision))
        self.watching.round(self.now_ms, self.groups)
        effects = self.out.take()
        for connection, frames in effects.clients.items():
            for frame in frames:
                self.clients[connection].take(frame)

    def rounds(self, most: int = 1000) -> int:
        """Rounds until nothing is left to do; how many."""
        for count in range(1, most + 1):
            self.round()
            if not self.touched:
                return count
        raise AssertionError("rounds without end")

    def client(self, connection: int) -> StagedClient:
        self.clients[connection] = StagedClient(self, connection)
        return self.clients[connection]


class StagedClient:
    """A connection; what it was told."""

    def __init__(self, stage: Stage, connection: int) -> None:
        self.stage = stage
        self.connection = connection
        self.standing: dict[int, int] = {}
        self.events: dict[int, list[WireEvent]] = {}
        self.bytes: dict[int, int] = {}
        self.marked: dict[int, int] = {}
        """Up to where each watch is known to be complete."""
        self.covered: set[int] = set()
        self.ended: dict[int, int] = {}
        self.frames: list[int] = []

    def watch(self, watch: int, *, after: int = FROM_NOW, flags: int = 0, filter: bytes = b"",
              credit: int = 1 << 30, **rest: Any) -> None:  # fmt: skip
        stage = self.stage
        request = WatchRequest(
            watch, GROUP, stage.slot, EPOCH, *stage.primitive, 0, MapMachine.TYPE, after, flags, filter,
            credit,
        )._replace(**rest)
        self.send(encode_watch(request))

    def send(self, frame: bytes) -> None:
        self.stage.watching.frame(self.connection, frame[4], frame[HEADER_BYTES:])

    def allow(self, watch: int, credit: int) -> None:
        self.send(encode_control(FrameKind.CREDIT, [watch, credit]))

    def unwatch(self, watch: int) -> None:
        self.send(encode_control(FrameKind.UNWATCH, [watch]))

    def take(self, frame: bytes) -> None:
        kind, payload = frame[4], frame[HEADER_BYTES:]
        self.frames.append(kind)
        if kind == FrameKind.WATCHING:
            watch, _, revision = decode_watching(payload)
            self.standing[watch] = self.marked[watch] = revision
            self.events[watch], self.bytes[watch] = [], 0
        elif kind == FrameKind.EVENTS:
            for watch, event, size in decode_events(payload):
                seen = self.events[watch]
                assert event.revision > self.marked[watch], "an event at or below a mark"
                assert not seen or seen[-1][:2] < event[:2], "events out of order, or twice"
                seen.append(event)
                self.bytes[watch] += size
        elif kind == FrameKind.MARKS:
            for mark in decode_marks(payload):
                watches = self.covered if mark.watch is None else {mark.watch}
                for watch in watches:
                    self.marked[watch] = max(self.marked[watch], mark.revision)
                if mark.watch is not None:
                    (self.covered.add if mark.covered else self.covered.discard)(mark.watch)
        elif kind == FrameKind.WATCH_ENDED:
            watch, code, _ = decode_watch_ended(payload)
            self.ended[watch] = code
            self.covered.discard(watch)

    def told(self, watch: int = 1) -> list[tuple[int, bytes, bytes]]:
        """Revision, key and value of each event."""
        return [(event.revision, event.key, event.value) for event in self.events[watch]]


def number(n: int) -> bytes:
    """A key that sorts by its number."""
    return U64.pack(n)
