"""A client's port over a group inside the test, so that handles are tried whole without a network."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import anyio
import trio
from local_group import EPOCH, Group, Session, slot_of
from local_watch import CLUSTER_ID, LocalWatch

from primitives.catalog import CatalogOp, create_arguments, decode_found, lookup_query
from primitives.errors import ERRORS, Code, QuorateError, SessionLost, TypeMismatch
from primitives.handle import Causal, ClientPort, LeaseState, ReadLevel, Reference
from primitives.ids import CATALOG_ID, PrimitiveId, SlotId
from primitives.position import Position
from primitives.records import (
    Answer,
    Delete,
    Deleted,
    Open,
    Type,
    decode_answer,
    encode_delete,
    encode_deleted,
    encode_open,
)
from primitives.watch import BUFFER_BYTES, WatchPort


class LocalLease:
    """The lease of one registration, lost when the test says so."""

    def __init__(self) -> None:
        self.state = LeaseState.CONNECTED
        self.guards: list[LocalGuard] = []
        self.holds = 0

    def remaining(self) -> float:
        return 0.0 if self.state == LeaseState.LOST else 10.0

    def guard(self, scope: anyio.CancelScope) -> LocalGuard:
        return LocalGuard(self, scope)

    def hold(self) -> None:
        self.holds += 1

    def let_go(self) -> None:
        assert self.holds > 0
        self.holds -= 1

    def lose(self) -> None:
        self.state = LeaseState.LOST
        for guard in self.guards:
            guard.scope.cancel()


class LocalGuard:
    """Cancels a scope when its lease is lost."""

    def __init__(self, lease: LocalLease, scope: anyio.CancelScope) -> None:
        self.lease = lease
        self.scope = scope
        self.lost = False

    def __enter__(self) -> LocalGuard:
        self.lease.guards.append(self)
        if self.lease.state == LeaseState.LOST:
            self.scope.cancel()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lease.guards.remove(self)
        self.lost = self.lease.state == LeaseState.LOST


class Call:
    """A command on its way."""

    def __init__(self, ref: Reference, op: int, args: list[Any], body: bytes, partition: int) -> None:
        self.ref = ref
        self.op = op
        self.args = args
        self.body = body
        self.partition = partition
        self.session: Session | None = None
        """Once sent."""
        self.slot = 0
        self.sequence = 0
        self.arrived = trio.Event()

    @property
    def answer(self) -> Answer:
        assert self.session is not None
        return self.session.answers[self.slot, self.sequence]


class LocalPort:
    """A client's port with one session in the group. ``sends`` and ``delivers`` are the network's two
    directions: while one is False, commands do not leave, or answers do not arrive; :meth:`open` lets both
    through again."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.id = next(group.ids).to_bytes(16, "big")
        self.registrations = 0
        self._session: Session | None = None
        self._lease = LocalLease()
        self.sends = True
        self.delivers = True
        self.refuses: QuorateError | None = None
        """What commands raise instead of leaving."""
        self._unsent: deque[tuple[Call, trio.Event, bool]] = deque()
        self._changed = trio.Event()

    # -- what tests do ---------------------------------------------------------------------------------------

    @property
    def session(self) -> Session:
        """The present registration, made if need be."""
        if self._session is None or self._session.number not in self.group.sessions:
            self.registrations += 1
            self._session = Session(self.group, session_id=self.id, registrations=self.registrations)
            self._lease = LocalLease()
        return self._session

    def open(self) -> None:
        """Lets everything through."""
        self.sends = self.delivers = True
        while self._unsent:
            call, sent, late = self._unsent.popleft()
            self._send(call, late)
            sent.set()
        self._changed.set()
        self._changed = trio.Event()

    def lose(self, *, expire: bool = True) -> None:
        """The lease is lost; the group knows it too if it was expired."""
        self._lease.lose()
        if expire:
            self.session.expire()
            self.group.settle()

    def suspend(self) -> None:
        """The lease is not confirmed for a while."""
        self._lease.state = LeaseState.SUSPENDED

    # -- the port --------------------------------------------------------------------------------------------

    async def command(
        self, ref: Reference, op: int, args: list[Any], body: bytes = b"", *, key: bytes | None = None,
        partition: int | None = None, late: bool = False, carry_on: bool = False,
    ) -> Answer:  # fmt: skip
        if self.refuses is not None:
            raise self.refuses
        self._resolve(ref, create=True)
        call = Call(ref, op, args, body, self._partition(ref, key, partition))
        sent = trio.Event()
        if self.sends and not self._unsent:
            self._send(call, late)
            sent.set()
        else:
            self._unsent.append((call, sent, late))
        lease = self._lease
        try:
            await sent.wait()
            await call.arrived.wait()
            while not self.delivers:
                await self._changed.wait()
        except trio.Cancelled:
            if not carry_on:
                self._call_off(call, late)
            raise
        if late and lease.state == LeaseState.LOST:
            raise SessionLost("the lease is lost")
        if late and call.session is not None:
            call.session.take(call.slot, call.sequence)
        return self._judge(call.answer)

    async def query(
        self, ref: Reference, op: int, args: list[Any], body: bytes = b"", *, key: bytes | None = None,
        partition: int | None = None, read: ReadLevel | None = None,
    ) -> Answer | None:  # fmt: skip
        await trio.lowlevel.checkpoint()
        if not self._resolve(ref, create=False):
            return None
        assert ref.primitive is not None
        if isinstance(read, Causal) and read.position is not None:
            read.position.check(CLUSTER_ID, ref.primitive, max(1, ref.spread or 0))
        slot, primitive, at = self._open(ref, self._partition(ref, key, partition))
        return self._judge(self.group.query(slot, primitive, at, ref.type, op, args, body))

    def watch(
        self, ref: Reference, *, after: Position | None = None, key: bytes | None = None,
        prefix: bytes | None = None, previous: bool = False, progress: bool = False,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> WatchPort:  # fmt: skip
        return LocalWatch(
            self.group, ref, lambda: self._resolve(ref, create=False),
            lambda: self._partition(ref, key, None), after=after, key=key, prefix=prefix,
            previous=previous, progress=progress,
        )  # fmt: skip

    async def position(self, ref: Reference) -> Position | None:
        if await self.partitions(ref) is None:
            return None
        assert ref.primitive is not None
        revision = self.group.applier.revision
        return Position.at(CLUSTER_ID, ref.primitive, [revision] * max(1, ref.spread or 0))

    async def delete(self, ref: Reference) -> bool:
        await trio.lowlevel.checkpoint()
        group, slot = self.group, slot_of(ref.namespace, ref.name)
        args = [ref.namespace, ref.name, ref.type]
        at = self.session.send(slot, CATALOG_ID, 0, Type.CATALOG, CatalogOp.DELETE, args)
        group.settle()
        for primitive, partitions in list(group.applier.deletions.items()):
            for partition in range(partitions):
                record = Delete(slot_of(primitive, partition), primitive, partition)
                group.apply(encode_delete(record))
            group.apply(encode_deleted(Deleted(primitive.slot, primitive.revision)))
        group.applier.deletions.clear()
        group.settle()
        ref.primitive = ref.spread = None
        return self._judge(self.session.answers[slot, at]).code == Code.OK

    async def partitions(self, ref: Reference) -> int | None:
        await trio.lowlevel.checkpoint()
        return ref.spread if self._resolve(ref, create=False) else None

    async def spread(
        self, ref: Reference, keys: Sequence[bytes], *, create: bool = False
    ) -> list[tuple[int, list[int]]] | None:
        await trio.lowlevel.checkpoint()
        if not self._resolve(ref, create=create):
            return None
        found: dict[int, list[int]] = {}
        for at, key in enumerate(keys):
            found.setdefault(self._partition(ref, key, None), []).append(at)
        return list(found.items())

    def lease(self, ref: Reference, *, partition: int = 0) -> LocalLease:
        return self._lease

    # -- its parts -----------------------------------------------------------------------------------------

    def _resolve(self, ref: Reference, *, create: bool) -> bool:
        if ref.primitive is not None:
            return True
        slot = slot_of(ref.namespace, ref.name)
        if create:
            args, body = create_arguments(ref.namespace, ref.name, ref.type, ref.partitions, ref.config)
            at = self.session.send(slot, CATALOG_ID, 0, Type.CATALOG, CatalogOp.CREATE, args, body)
            answer = self.session.answers[slot, at]
        else:
            lookup = lookup_query(slot, EPOCH, ref.namespace, ref.name)
            answer = decode_answer(self.group.applier.query(lookup))
        if self._judge(answer).code == Code.CONDITION:
            return False
        found = decode_found(answer.result)
        if found.type != ref.type:
            raise TypeMismatch(f"{ref.name!r} exists as another type")
        ref.primitive = PrimitiveId(slot, found.revision)
        ref.spread = found.partitions
        return True

    def _partition(self, ref: Reference, key: bytes | None, partition: int | None) -> int:
        assert ref.spread is not None
        if key is not None and ref.spread:
            return zlib.crc32(key) % ref.spread
        return partition or 0

    def _open(self, ref: Reference, partition: int) -> tuple[SlotId, PrimitiveId, int]:
        """Where the partition lives, opened if need be."""
        primitive = ref.primitive
        assert primitive is not None
        slot = slot_of(primitive, partition) if ref.spread else primitive.slot
        if not self.group.applier.knows(slot, primitive, partition):
            asked = self.group.applier.revision
            self.group.apply(encode_open(Open(slot, primitive, partition, ref.type, asked, b"")))
        return slot, primitive, partition

    def _send(self, call: Call, late: bool) -> None:
        session = call.session = self.session
        slot, primitive, partition = self._open(call.ref, call.partition)
        call.slot, call.sequence = slot, session.last.get(slot, 0) + 1
        session.waits[slot, call.sequence] = call.arrived.set
        session.send(
            slot, primitive, partition, call.ref.type, call.op, call.args, call.body, keep=late
        )

    def _call_off(self, call: Call, late: bool) -> None:
        if call.session is None:
            self._unsent = deque(item for item in self._unsent if item[0] is not call)
        elif late and call.session.number in self.group.sessions:
            call.session.withdraw(call.slot, call.sequence)
            call.session.take(call.slot, call.sequence)

    def _judge(self, answer: Answer) -> Answer:
        if answer.code in (Code.OK, Code.CONDITION):
            return answer
        raise ERRORS.get(answer.code, QuorateError)(answer.result.decode() or f"code {answer.code}")


def check_port(port: LocalPort) -> ClientPort:
    """For type checkers: it is one."""
    return port
