"""The steps that ``bench.micro`` measures: the very objects that nodes and clients are made of."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, Final, NamedTuple

import trio
from sortedcontainers import SortedDict

from bench.world.disk import Disk, SimStore
from primitives import counter, lock
from primitives.applier import Applier
from primitives.catalog import CatalogOp, create_arguments, decode_found
from primitives.codec import encode_key, encode_value
from primitives.counter import Counter
from primitives.errors import Code
from primitives.ids import CATALOG_ID, SLOTS, GroupId, NodeId, PrimitiveId, SlotId
from primitives.lock import Lock
from primitives.map import Map
from primitives.mapops import Op
from primitives.queue import Queue
from primitives.queueops import Op as QueueOp
from primitives.records import (
    COMMAND_HEADER,
    Answer,
    Burst,
    Command,
    Kind,
    Register,
    Type,
    decode_answer,
    decode_command,
    decode_record,
    encode_answer,
    encode_burst,
    encode_command,
    encode_entry,
    encode_register,
    encode_run_answer,
)
from router.client import attach
from router.connection import Connection, Role, Welcome, encode_welcome
from router.frames import (
    HEADER_BYTES,
    FrameKind,
    decode_answers,
    decode_requests,
    encode_answers,
    encode_control,
    encode_requests,
)
from router.shardmap import GroupInfo, NodeInfo, ShardMap
from shards.engine import Engine
from shards.layout import STATE_PREFIX
from shards.placement import Founding, machines_of
from shards.ports import Effects
from shards.rocksbatch import RocksBatch
from shards.settings import EngineSettings
from shards.statesink import StateSink

GROUP: Final = GroupId(1)
SLOT: Final = SlotId(7)
SESSION_ID: Final = bytes(range(16))
KEYS: Final = 1000
IN_FLIGHT: Final = 16
"""Commands of a session that are under way: so far behind are its acknowledgements."""
FLUSH_EVERY: Final = 400
VALUE: Final = b"x" * 128
ADDRESS: Final = "127.0.0.1:1"
GROUPS: Final = 16

_TYPE_AT: Final = struct.calcsize(">B16sQHIQQHQH")
"""Where a command says its type."""
_COUNT: Final = struct.Struct(">H")
"""Of a burst's commands, behind what it has in common with a command."""
_FOUND: Final = struct.Struct(">QBH")


class MemoryRows:
    """Rows in memory, in order."""

    def __init__(self) -> None:
        self.rows: SortedDict[bytes, bytes] = SortedDict()

    def get(self, key: bytes) -> bytes | None:
        """See ``tables.Rows``."""
        return self.rows.get(key)

    def scan(
        self, start: bytes, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """See ``tables.Rows``."""
        for key in self.rows.irange(start, end, (True, False), reverse):
            yield key, self.rows[key]

    def write(self, batch: RocksBatch, skip: int) -> None:
        """Takes a batch over; its keys without the first ``skip`` bytes."""
        for _, key, value in batch.rows:
            if value is None:
                self.rows.pop(key[skip:], None)
            else:
                self.rows[key[skip:]] = value


class Session:
    """A session with open primitives in a slot. ``ask`` gives the answer to a record."""

    def __init__(self, ask: Callable[[bytes], bytes], slot: SlotId = SLOT) -> None:
        self._ask: Final = ask
        self._slot: Final = slot
        self._sequence = 0
        register = Register(SESSION_ID, 1, 10_000)
        self.number: Final = self._apply(encode_register(register)).revision
        self.map: Final = self._open(Map.TYPE, "map")
        self._counter: Final = self._open(Counter.TYPE, "counter")
        self._queue: Final = self._open(Queue.TYPE, "queue")
        self._lock: Final = self._open(Lock.TYPE, "lock")

    def _open(self, type: int, name: str) -> PrimitiveId:
        args, body = create_arguments("", name, type, 0, b"")
        answer = self._apply(self._record(Type.CATALOG, CATALOG_ID, CatalogOp.CREATE, args, body))
        self.revision = answer.revision
        return PrimitiveId(self._slot, decode_found(answer.result).revision)

    def _apply(self, record: bytes) -> Answer:
        answer = decode_answer(self._ask(record))
        if answer.code != Code.OK:
            raise AssertionError(f"a step of the preparation was answered {answer}")
        return answer

    def _record(self, type: int, primitive: PrimitiveId, op: int, args: list[object], body: bytes) -> bytes:
        self._sequence += 1
        return encode_command(Command(
            SESSION_ID, self.number, self._slot, 1, self._sequence, max(0, self._sequence - IN_FLIGHT),
            primitive, 0, type, op, (), args, body,
        ))

    def puts(self, count: int) -> list[bytes]:
        """Records of puts to a thousand keys, in the order of their numbers."""
        value = encode_value(VALUE)
        return [
            self._record(Map.TYPE, self.map, Op.PUT, [encode_key(f"key{n % KEYS:06}")], value)
            for n in range(count)
        ]

    def bursts(self, count: int, size: int) -> list[bytes]:
        """Records of the same puts, ``size`` of them in each."""
        value = encode_value(VALUE)
        records: list[bytes] = []
        for at in range(0, count, size):
            args = [[encode_key(f"key{n % KEYS:06}")] for n in range(at, min(at + size, count))]
            first = self._sequence + 1
            self._sequence += len(args)
            records.append(encode_burst(Burst(
                SESSION_ID, self.number, self._slot, 1, first, max(0, first - IN_FLIGHT), self.map, 0,
                Map.TYPE, Op.PUT, (), args, [value] * len(args),
            )))  # fmt: skip
        return records

    def increments(self, count: int) -> list[bytes]:
        """Records that add 1 to a counter."""
        return [self._record(Counter.TYPE, self._counter, counter.ADD, [1], b"") for _ in range(count)]

    def queued(self, count: int) -> list[bytes]:
        """Records that put an element into a queue and take it out in turn."""
        value = encode_value(VALUE)
        turns = ((QueueOp.OFFER, value), (QueueOp.POLL, b"")) * (count // 2)
        return [self._record(Queue.TYPE, self._queue, op, [], body) for op, body in turns]

    def locked(self, count: int) -> list[bytes]:
        """Records that acquire and release a lock in turn, if they are the next that the group applies."""
        records: list[bytes] = []
        for token in range(self.revision + 1, self.revision + count, 2):
            records.append(self._record(Lock.TYPE, self._lock, lock.ACQUIRE, [], b""))
            records.append(self._record(Lock.TYPE, self._lock, lock.RELEASE, [token], b""))
        return records


class Group:
    """An applier with one open map and one session."""

    def __init__(self) -> None:
        self.rows = MemoryRows()
        self.applier: Final = Applier(GROUP, self.rows, machines_of(GROUP))
        self.applier.initialize([SLOT])
        self.session: Final = Session(self._ask)
        self.puts: Final = self.session.puts

    def _ask(self, record: bytes) -> bytes:
        (answer,) = self.applier.apply(encode_entry(1000, [record])).answers
        return answer or b""

    def flush(self) -> None:
        """Writes what was applied into a batch, and takes it over."""
        batch = RocksBatch(1)
        self.applier.flush(StateSink(batch, GROUP, 1))
        self.rows.write(batch, STATE_PREFIX.size)


def _nothing() -> None:
    """What a sample leaves behind, as a rule."""


class Sample(NamedTuple):
    """A step's work on so many commands, prepared: calling ``run`` does it, and ``close`` ends it."""

    run: Callable[[], None]
    commands: int
    close: Callable[[], None] = _nothing


def _encode(count: int) -> Sample:
    value = VALUE
    keys = [f"key{n % KEYS:06}" for n in range(count)]

    def run() -> None:
        for key in keys:
            encode_command(Command(
                SESSION_ID, 42, SLOT, 1, 100, 90, CATALOG_ID, 0, 16, 1, (), [encode_key(key)],
                encode_value(value),
            ))

    return Sample(run, count)


def _decode(count: int) -> Sample:
    records = Group().puts(count)

    def run() -> None:
        for record in records:
            decode_command(record)

    return Sample(run, count)


def _applied(size: int, *, decoded: bool) -> Callable[[int], Sample]:
    def prepare(count: int) -> Sample:
        group = Group()
        group.applier.apply(encode_entry(1000, group.puts(KEYS)))
        group.flush()
        records = group.puts(count)
        entries = [
            (encode_entry(1000, part), [*map(decode_record, part)] if decoded else None)
            for part in (records[at : at + size] for at in range(0, count, size))
        ]

        def run() -> None:
            apply = group.applier.apply
            for entry, known in entries:
                apply(entry, known)

        return Sample(run, count)

    return prepare


def _applied_bursts(size: int) -> Callable[[int], Sample]:
    """Applies puts that share records, each in an entry of its own."""

    def prepare(count: int) -> Sample:
        group = Group()
        group.applier.apply(encode_entry(1000, group.puts(KEYS)))
        group.flush()
        entries = [encode_entry(1000, [record]) for record in group.session.bursts(count, size)]

        def run() -> None:
            for entry in entries:
                group.applier.apply(entry)

        return Sample(run, count)

    return prepare


def _replayed(records: Callable[[Session, int], list[bytes]]) -> Callable[[int], Sample]:
    """Applies commands of another kind."""

    def prepare(count: int) -> Sample:
        group = Group()
        found = records(group.session, count)
        entries = [encode_entry(1000, found[at : at + 4]) for at in range(0, count, 4)]

        def run() -> None:
            for entry in entries:
                if any(answer is None or answer[0] for answer in group.applier.apply(entry).answers):
                    raise AssertionError("a command failed")

        return Sample(run, count)

    return prepare


def _flushed(count: int) -> Sample:
    group = Group()
    group.applier.apply(encode_entry(1000, group.puts(KEYS)))
    group.flush()
    records = group.puts(count)
    entries = [encode_entry(1000, records[at : at + 4]) for at in range(0, count, 4)]

    def run() -> None:
        applier = group.applier
        for at, entry in enumerate(entries):
            applier.apply(entry)
            if at % (FLUSH_EVERY // 4) == 0:
                group.flush()

    return Sample(run, count)


class StandIn:
    """A node as a client sees it, on a link in memory: it leads all groups, and answers everything at once,
    without doing it."""

    is_lost = False
    queued_bytes = 0

    def __init__(self) -> None:
        self._protocol = Connection(Role.NODE)
        self._revision = 10
        self._said: list[bytes] = []
        self._receiver: trio.lowlevel.Task | None = None
        node = NodeInfo(NodeId(1), "n1", ADDRESS, ADDRESS, bytes(16))
        groups = {GroupId(n): GroupInfo(GroupId(n), ((1, node.id),)) for n in range(1, GROUPS + 1)}
        owners = [slot % GROUPS + 1 for slot in range(SLOTS)]
        leaders = dict.fromkeys(groups, node.id)
        self._map = ShardMap(
            1, bytes(16), bytes(16), {node.id: node}, groups, owners, [1] * SLOTS, leaders
        ).encode()

    def send(self, data: bytes) -> bool:
        """See ``link.ByteLink``."""
        for kind, payload in self._protocol.receive(data):
            self._said.append(self._protocol.sending(self._answer(kind, payload)))
        if self._receiver is not None:
            receiver, self._receiver = self._receiver, None
            trio.lowlevel.reschedule(receiver)
        return True

    def _answer(self, kind: int, payload: bytes) -> bytes:
        if kind == FrameKind.HELLO:
            return encode_welcome(Welcome(1, bytes(16), 1, bytes(16), 1))
        if kind == FrameKind.MAP_REQUEST:
            return encode_control(FrameKind.MAP, [], self._map)
        if kind == FrameKind.OPS:
            return encode_answers(
                [(request, self._outcome(record)) for request, _, record in decode_requests(payload)]
            )
        return encode_control(FrameKind.LEADERS, [])

    def _outcome(self, record: bytes) -> bytes:
        if record[0] == Kind.BURST:
            (count,) = _COUNT.unpack_from(record, COMMAND_HEADER.size - _COUNT.size)
            first, self._revision = self._revision + 1, self._revision + count
            return encode_run_answer(count, first)
        self._revision += 1
        if record[0] == Kind.COMMAND and record[_TYPE_AT] == Type.CATALOG:
            return encode_answer(Code.OK, self._revision, _FOUND.pack(self._revision, Map.TYPE, 16))
        return encode_answer(Code.OK, self._revision)

    async def receive(self) -> bytes:
        """See ``link.ByteLink``."""
        if self._said:
            await trio.lowlevel.checkpoint()
        while not self._said:
            self._receiver = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)
        said = b"".join(self._said)
        self._said.clear()
        return said

    async def pour(self, take: Callable[[bytes], bool]) -> None:
        """See ``link.ByteLink``."""
        while take(await self.receive()):
            pass

    async def run(self) -> None:
        """See ``link.ByteLink``."""
        await trio.sleep_forever()

    async def drained(self) -> None:
        """See ``link.ByteLink``."""
        await trio.lowlevel.checkpoint()

    def finish(self) -> None:
        """See ``link.ByteLink``."""

    def close(self) -> None:
        """See ``link.ByteLink``."""


def _called(callers: int) -> Callable[[int], Sample]:
    """A client's calls, by so many callers at once, with the little that the node's stand-in does."""

    async def dial(address: str) -> StandIn:
        return StandIn()

    async def caller(put: Callable[..., Any], at: int, count: int) -> None:
        for n in range(at, count, callers):
            await put(f"key{n % KEYS:06}", VALUE)

    async def calls(count: int) -> None:
        async with attach([ADDRESS], dial, name="micro") as client:
            entries = client.map("map")
            await entries.put("first", VALUE)
            async with trio.open_nursery() as nursery:
                for at in range(callers):
                    nursery.start_soon(caller, entries.put, at, count)

    return lambda count: Sample(lambda: trio.run(calls, count), count)


class Alone:
    """A node that is a cluster by itself, with one group; what it writes is durable at once."""

    def __init__(self) -> None:
        self._disk: Final = Disk()
        self._now_ms = 0
        self._requests = 0
        node = NodeInfo(NodeId(1), "n1", ADDRESS, ADDRESS, bytes(16))
        self.engine: Final = Engine(
            node=node.id, boot_id=bytes(16), store=SimStore(self._disk), clock=self, random=Random(1),
            settings=EngineSettings(flush_interval_ms=1 << 40, flush_bytes=1 << 40),
        )  # fmt: skip
        self.engine.start()
        self.engine.form(Founding((node,), 1, 1))
        while not self.engine.ready:
            self._now_ms += 10
            self.round()

    def monotonic_ms(self) -> int:
        """See ``ports.Clock``."""
        return self._now_ms

    def round(self, send: Callable[[Effects], object] = lambda effects: None) -> Effects:
        """One round; ``send`` is given what does not wait for its end."""
        effects = self.engine.round(partial(self._sync_before, send))
        self._sync(effects)
        return effects

    @staticmethod
    def _keep(frames: list[bytes], effects: Effects) -> None:
        frames += effects.clients.get(1, [])

    def _sync_before(self, send: Callable[[Effects], object], effects: Effects) -> None:
        self._sync(effects)
        send(effects)

    def _sync(self, effects: Effects) -> None:
        if effects.sync_round is not None:
            self._disk.sync(self._disk.written)
            self.engine.sync_done(effects.sync_round)

    def ask(self, records: Sequence[bytes]) -> list[bytes]:
        """The answers to records for the group that came in one frame."""
        requests = [(self._requests + n, GROUP, record) for n, record in enumerate(records)]
        self._requests += len(records)
        self.engine.client_frame(1, FrameKind.OPS, encode_requests(requests)[HEADER_BYTES:])
        frames: list[bytes] = []
        for _ in range(8):
            frames += self.round(partial(self._keep, frames)).clients.get(1, [])
            if frames:
                break
        return [answer for frame in frames for _, answer in decode_answers(frame[HEADER_BYTES:])]


def _rounds(size: int, *, joined: bool = False) -> Callable[[int], Sample]:
    """Rounds of a node alone, with so many commands in a frame, from one frame to the other; ``joined``: in
    one record."""

    def prepare(count: int) -> Sample:
        node = Alone()
        session, in_frame = Session(lambda record: node.ask([record])[0]), 1 if joined else size
        records = session.bursts(count, size) if joined else session.puts(count)
        frames = [records[at : at + in_frame] for at in range(0, len(records), in_frame)]

        def run() -> None:
            for frame in frames:
                node.ask(frame)

        return Sample(run, count)

    return prepare


STEPS: Final[Mapping[str, Callable[[int], Sample]]] = {
    "encode": _encode,
    "decode": _decode,
    "apply, entries of 1": _applied(1, decoded=False),
    "apply, entries of 4": _applied(4, decoded=False),
    "apply, entries of 16": _applied(16, decoded=False),
    "apply, bursts of 16": _applied_bursts(16),
    "apply, entries of 4, decoded": _applied(4, decoded=True),
    "apply and flush, entries of 4": _flushed,
    "apply, a counter's increments": _replayed(Session.increments),
    "apply, a queue's offers and polls": _replayed(Session.queued),
    "apply, a lock acquired and released": _replayed(Session.locked),
    "rounds of a node alone, 1 a frame": _rounds(1),
    "rounds of a node alone, 16 a frame": _rounds(16),
    "rounds of a node alone, bursts of 16": _rounds(16, joined=True),
    "call of a client, 16 callers": _called(16),
    "call of a client, 256 callers": _called(256),
}
"""By name: what prepares so many commands' worth of a step."""
