"""The port through which handles reach the session core of a simulated client."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, NoReturn, Protocol

import anyio

from bench.world.tasks import CalledOff, Pause
from primitives.errors import Code, InvariantViolation, SessionLost
from primitives.handle import ReadLevel, Reference
from primitives.ids import SlotId
from primitives.position import Position
from primitives.records import Answer
from primitives.watch import BUFFER_BYTES, StreamEvent, WatchPort
from router.session import SessionCore
from router.session_calls import Call
from router.session_leases import LeaseClock
from router.session_streams import Watch
from router.slots import partition_of_key, slot_of_partition

WITHDRAWAL_MS: Final = 1000
"""How long a cancelled late call holds up its cancellation."""


class Owner(Protocol):
    """The client around the core."""

    @property
    def core(self) -> SessionCore:
        """The session."""

    def now_ms(self) -> int:
        """By the client's own clock."""

    def touch(self) -> None:
        """Something was asked of the core."""

    def after(self, delay_ms: int, action: Any) -> None:
        """Does something later."""


class SimLease:
    """The lease with a group under one registration, judged by the client's clock, even in a pause."""

    __slots__ = ("_lease", "_owner")

    def __init__(self, owner: Owner, lease: LeaseClock) -> None:
        self._owner = owner
        self._lease = lease

    @property
    def state(self) -> str:
        """See :class:`primitives.handle.Lease`."""
        return self._lease.state(self._owner.now_ms())

    def remaining(self) -> float:
        """See :class:`primitives.handle.Lease`."""
        return self._lease.remaining_ms(self._owner.now_ms()) / 1000

    def guard(self, scope: anyio.CancelScope) -> NoReturn:
        """Blocks need an event loop; callers here ask for the state of what they hold."""
        raise InvariantViolation("there are no cancel scopes in the simulated world")

    def hold(self) -> None:
        """See :class:`primitives.handle.Lease`."""
        self._lease.hold()

    def let_go(self) -> None:
        """See :class:`primitives.handle.Lease`."""
        self._lease.let_go()


class SimWatch:
    """See :class:`primitives.watch.WatchPort`. A client that dies drops it with its tasks."""

    def __init__(self, owner: Owner, ref: Reference, **options: Any) -> None:
        self._owner = owner
        self._ref = ref
        self._options = options
        self._watch: Watch | None = None

    @property
    def existed(self) -> bool:
        """See :class:`primitives.watch.WatchPort`."""
        return self._watch is not None and self._watch.existed

    @property
    def position(self) -> Position | None:
        """See :class:`primitives.watch.WatchPort`."""
        return None if self._watch is None else self._watch.position

    async def __aenter__(self) -> SimWatch:
        """See :class:`primitives.watch.WatchPort`."""
        owner = self._owner
        watch = self._watch = owner.core.watches.begin(owner.now_ms(), self._ref, **self._options)
        owner.touch()
        try:
            while not watch.is_standing and watch.error is None:
                await self._news(watch)
            if not watch.is_standing and watch.error is not None:
                raise watch.error
        except BaseException as error:
            await self.__aexit__(type(error), error, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See :class:`primitives.watch.WatchPort`."""
        if self._watch is not None:
            self._owner.core.watches.end(self._owner.now_ms(), self._watch)
            self._owner.touch()

    async def _news(self, watch: Watch) -> None:
        pause = watch.token = Pause()
        await pause

    def pop(self) -> StreamEvent | None:
        """See :class:`primitives.watch.WatchPort`."""
        if self._watch is None:
            raise InvariantViolation("events are taken from a watch that was not entered")
        watches = self._owner.core.watches
        event = watches.pop(self._watch)
        if watches.has_work:
            self._owner.touch()
        return event

    async def next(self) -> StreamEvent:
        """See :class:`primitives.watch.WatchPort`."""
        while (event := self.pop()) is None:
            if self._watch is not None:
                await self._news(self._watch)
        return event


class SimPort:
    """See :class:`primitives.handle.ClientPort`."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    async def command(
        self, ref: Reference, op: int, args: list[Any], body: bytes = b"", *, key: bytes | None = None,
        partition: int | None = None, late: bool = False, carry_on: bool = False,
    ) -> Answer:  # fmt: skip
        """See :class:`primitives.handle.ClientPort`."""
        pause = Pause()
        owner = self._owner
        call = owner.core.command(
            owner.now_ms(), ref, op, args, body, key=key, partition=partition, late=late, carry_on=carry_on,
            token=pause,
        )  # fmt: skip
        answer = await self._outcome(call, pause)
        if answer is None:
            raise InvariantViolation(f"{call} ended without an answer or an error")
        if late:
            lease = owner.core.lease(call.group)
            if lease is None or lease.number != call.number or not lease.judge(owner.now_ms()):
                raise SessionLost("the lease under which it was granted is lost")
        return answer

    async def query(
        self, ref: Reference, op: int, args: list[Any], body: bytes = b"", *, key: bytes | None = None,
        partition: int | None = None, read: ReadLevel | None = None,
    ) -> Answer | None:  # fmt: skip
        """See :class:`primitives.handle.ClientPort`."""
        pause = Pause()
        owner = self._owner
        call = owner.core.query(
            owner.now_ms(), ref, op, args, body, key=key, partition=partition, read=read, token=pause
        )
        return await self._outcome(call, pause)

    def watch(
        self, ref: Reference, *, after: Position | None = None, key: bytes | None = None,
        prefix: bytes | None = None, previous: bool = False, progress: bool = False,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> WatchPort:  # fmt: skip
        """See :class:`primitives.handle.ClientPort`."""
        return SimWatch(
            self._owner, ref, after=after, key=key, prefix=prefix, previous=previous, progress=progress,
            buffer_bytes=buffer_bytes,
        )  # fmt: skip

    async def delete(self, ref: Reference) -> bool:
        """See :class:`primitives.handle.ClientPort`."""
        pause = Pause()
        core = self._owner.core
        call = core.catalogs.delete(self._owner.now_ms(), ref, token=pause)
        answer = await self._outcome(call, pause)
        core.catalogs.forget(ref)
        return answer is not None and answer.code == Code.OK

    async def position(self, ref: Reference) -> Position | None:
        """See :class:`primitives.handle.ClientPort`."""
        return None if await self.partitions(ref) is None else self._owner.core.position(ref)

    async def partitions(self, ref: Reference) -> int | None:
        """See :class:`primitives.handle.ClientPort`."""
        pause = Pause()
        call = self._owner.core.resolve(self._owner.now_ms(), ref, token=pause)
        return ref.spread if await self._outcome(call, pause) is not None else None

    async def spread(
        self, ref: Reference, keys: Sequence[bytes], *, create: bool = False
    ) -> list[tuple[int, list[int]]] | None:
        """See :class:`primitives.handle.ClientPort`."""
        pause = Pause()
        core = self._owner.core
        call = core.resolve(self._owner.now_ms(), ref, create=create, token=pause)
        found_it = await self._outcome(call, pause) is not None
        shard_map = core.shard_map
        if not found_it or shard_map is None:
            return None
        found: dict[int, list[int]] = {}
        for at, key in enumerate(keys):
            number = partition_of_key(shard_map.salt, key, ref.spread) if ref.spread else 0
            found.setdefault(number, []).append(at)
        return sorted(found.items())

    def lease(self, ref: Reference, *, partition: int = 0) -> SimLease:
        """See :class:`primitives.handle.ClientPort`."""
        shard_map = self._owner.core.shard_map
        if shard_map is None or ref.primitive is None:
            raise SessionLost("nothing is known of the primitive")
        slot: SlotId = ref.primitive.slot
        if ref.spread:
            slot = slot_of_partition(shard_map.salt, ref.primitive, partition)
        lease = self._owner.core.lease(shard_map.group(slot))
        if lease is None:
            raise SessionLost("there is no registration with the group")
        return SimLease(self._owner, lease)

    async def _outcome(self, call: Call, pause: Pause) -> Answer | None:
        """Waits for the call; cancels it if the task is cancelled."""
        self._owner.touch()
        try:
            await pause
        except CalledOff:
            await self._call_off(call)
            raise
        if call.error is not None:
            raise call.error
        return call.answer

    async def _call_off(self, call: Call) -> None:
        owner = self._owner
        withdrawal = owner.core.cancel(owner.now_ms(), call)
        owner.touch()
        if withdrawal is not None and not withdrawal.done:
            pause = Pause()
            withdrawal.token = pause
            owner.after(WITHDRAWAL_MS, pause.resume)
            await pause
