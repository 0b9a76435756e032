"""Lock: one holder at a time, first come first served, each grant with a fencing token.

The holder is a grant: the number of a session in the group, and the token, which is the revision of the
command that granted it. Whoever reads the holder asks whether its session lives, so a holder whose session
ended is void from that very log entry on. Who waits stands in a queue, and in an index by session, so that a
session's waiters are found when it ends. Holding and waiting both count as holdings of the session.

When the lock comes free, the first living waiter is granted it, by the command that freed it if few dead ones
stand before him, else by slices that are commands of their own; nobody overtakes him meanwhile.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress
from itertools import islice
from types import TracebackType
from typing import Any, Final, NamedTuple

import anyio

from primitives.errors import Code, InvariantViolation, QuorateError, SessionLost
from primitives.handle import LINEARIZABLE, ClientPort, Handle, Lease, LeaseState, ReadLevel, Reference
from primitives.machine import OK, Context, Machine, Result, View
from primitives.records import U64

ACQUIRE: Final = 1
"""Command ``[]``; answers the token as 8 bytes, late if the lock is taken."""
TRY_ACQUIRE: Final = 2
"""Command ``[]``; answers the token, or CONDITION if the lock is held or waited for."""
RELEASE: Final = 3
"""Command ``[token]``; CONDITION if that grant, of this session, does not hold the lock."""
HOLDER: Final = 1
"""Query ``[]``; answers number of session and token, 8 bytes each, or CONDITION if nobody holds it."""

WAITERS_MAX: Final = 100_000
"""Who asks beyond is refused as OVERLOADED."""
SLICE_WAITERS: Final = 100
"""Waiters that one command removes, twice at the most: as those of a session, and as dead ones."""

_STATE_TABLE: Final = 0
_QUEUE: Final = 1
"""Ticket, which is the revision of the command that asked (8 bytes) → waiter."""
_TICKETS: Final = 2
"""Waiter, which begins with its session's number → ticket."""

_STATE: Final = struct.Struct(">QQQI")
_HOLDING: Final = struct.Struct(">QQ")
_CONDITION: Final[Result] = (Code.CONDITION, b"")
_PENDING: Final[Result] = (Code.PENDING, b"")
_BAD: Final[Result] = (Code.BAD_REQUEST, b"not an operation of a lock")
_BAD_TOKEN: Final[Result] = (Code.BAD_REQUEST, b"not a lock's token")
_OVERLOADED: Final[Result] = (Code.OVERLOADED, b"too many wait for this lock")


class _State(NamedTuple):
    """The one row of ``_STATE_TABLE``."""

    session: int = 0
    """Whose grant holds the lock; 0: nobody's."""
    token: int = 0
    """Of the last grant."""
    served: int = 0
    """The last ticket taken from the head of the queue: all that wait have later ones."""
    waiting: int = 0
    """Rows of the queue, those of dead sessions included."""


def _state(view: View) -> _State:
    row = view.view(_STATE_TABLE).get(b"")
    return _State() if row is None else _State(*_STATE.unpack(row))


def _save(ctx: Context, state: _State) -> None:
    ctx.table(_STATE_TABLE).put(b"", _STATE.pack(*state))


def _grant(ctx: Context, state: _State, session: int) -> bytes:
    """Makes ``session`` the holder; returns the token's bytes."""
    token = ctx.revision
    if token <= state.token:
        raise InvariantViolation(f"a lock's token {token} after {state.token}")
    _save(ctx, state._replace(session=session, token=token))
    return U64.pack(token)


def _pass_on(ctx: Context, state: _State) -> None:
    """The lock is free: grants it to the first living waiter, or arms a slice to look further."""
    queue, tickets = ctx.table(_QUEUE), ctx.table(_TICKETS)
    served, waiting = state.served, state.waiting
    for _ in range(min(SLICE_WAITERS, waiting)):
        head = next(queue.scan(U64.pack(served)), None)
        if head is None:
            raise InvariantViolation(f"a lock's queue lacks {waiting} waiters that it counts")
        ticket, waiter = head
        queue.delete(ticket)
        tickets.delete(waiter)
        waiting -= 1
        (served,) = U64.unpack(ticket)
        (session,) = U64.unpack_from(waiter)
        if ctx.alive(session):
            token = _grant(ctx, state._replace(served=served, waiting=waiting), session)
            ctx.answer(waiter, (Code.OK, token))
            return
    _save(ctx, state._replace(session=0, served=served, waiting=waiting))
    if waiting:
        ctx.arm(0, b"")


def _release(ctx: Context, session: int, token: int) -> Result:
    state = _state(ctx)
    if state.session != session or state.token != token:
        return _CONDITION
    ctx.unhold(session)
    _pass_on(ctx, state)
    return OK


class LockMachine(Machine):
    """The replicated half of :class:`Lock`."""

    TYPE = 18
    NAME = "lock"

    def apply(self, ctx: Context, op: int, args: list[Any], body: bytes) -> Result:
        """Executes ACQUIRE, TRY_ACQUIRE or RELEASE."""
        if body:
            return _BAD
        if op == RELEASE:
            if len(args) != 1 or type(args[0]) is not int:
                return _BAD_TOKEN
            return _release(ctx, ctx.session, args[0])
        if args or (op != ACQUIRE and op != TRY_ACQUIRE):
            return _BAD
        state = _state(ctx)
        # While somebody waits, the lock is not taken but passed on, be it free for a moment.
        if not state.waiting and not (state.session and ctx.alive(state.session)):
            ctx.hold()
            return Code.OK, _grant(ctx, state, ctx.session)
        if op == TRY_ACQUIRE:
            return _CONDITION
        if state.waiting >= WAITERS_MAX:
            return _OVERLOADED
        ctx.hold()
        waiter, ticket = ctx.later(), U64.pack(ctx.revision)
        ctx.table(_QUEUE).put(ticket, waiter)
        ctx.table(_TICKETS).put(waiter, ticket)
        _save(ctx, state._replace(waiting=state.waiting + 1))
        return _PENDING

    def query(self, view: View, op: int, args: list[Any], body: bytes) -> Result:
        """Answers HOLDER."""
        if op != HOLDER or args or body:
            return _BAD
        state = _state(view)
        if not state.session or not view.alive(state.session):
            return _CONDITION
        return Code.OK, _HOLDING.pack(state.session, state.token)

    def timer(self, ctx: Context, payload: bytes) -> None:
        """Goes on looking for a living waiter."""
        state = _state(ctx)
        if state.waiting and not (state.session and ctx.alive(state.session)):
            _pass_on(ctx, state)

    def session_ended(self, ctx: Context, session: int) -> bool:
        """Passes on what the session held, then removes a slice of its waiters."""
        state = _state(ctx)
        if state.session == session:
            _pass_on(ctx, state)
            state = _state(ctx)
        queue, tickets = ctx.table(_QUEUE), ctx.table(_TICKETS)
        rows = list(islice(tickets.scan(U64.pack(session), U64.pack(session + 1)), SLICE_WAITERS))
        for waiter, ticket in rows:
            queue.delete(ticket)
            tickets.delete(waiter)
        if rows:
            _save(ctx, state._replace(waiting=state.waiting - len(rows)))
        return len(rows) < SLICE_WAITERS

    def withdraw(self, ctx: Context, waiter: bytes, granted: bytes | None) -> Result:
        """Removes a waiter, or gives its grant back. Does nothing if it is neither."""
        (session,) = U64.unpack_from(waiter)
        if granted is not None:
            if len(granted) == U64.size:
                _release(ctx, session, U64.unpack(granted)[0])
            return OK
        tickets = ctx.table(_TICKETS)
        ticket = tickets.get(waiter)
        if ticket is not None:
            tickets.delete(waiter)
            ctx.table(_QUEUE).delete(ticket)
            state = _state(ctx)
            _save(ctx, state._replace(waiting=state.waiting - 1))
            ctx.unhold(session)
        return OK


RELEASE_SECONDS: Final = 1.0
"""How long leaving a block holds up a cancellation to see the lock released."""

RELEASED: Final = "released"
"""The state of a grant that was let go by its holder."""


class Holder(NamedTuple):
    """Who holds a lock."""

    session: int
    """The holder's number in the lock's group: the revision at which its session registered there."""
    token: int
    """The grant's fencing token."""


class Grant:
    """A lock held. It is held until it is released or its lease is lost, whichever comes first.

    ``async with grant:`` runs a block under it: cancelled, with SessionLost, if the lease is lost, and
    followed by the release; see :class:`Lock`. A grant is for one block.
    """

    __slots__ = ("_block", "_holds", "_lease", "_port", "_ref", "_released", "_watch", "token")

    def __init__(self, port: ClientPort, ref: Reference, token: int, lease: Lease) -> None:
        self._port: Final = port
        self._ref: Final = ref
        self._lease: Final = lease
        self._released = False
        self._holds = True
        """Whether the lease is kept alive for this grant."""
        lease.hold()
        self._block: AbstractAsyncContextManager[Grant, bool | None] | None = None
        self._watch: ExitStack | None = None
        """Ends the watch over the lease that the block keeps."""
        self.token: Final = token
        """The fencing token: above every one granted before for this lock. Hand it to whatever the lock
        guards, which must refuse lower ones: holding a lock proves nothing by itself."""

    @property
    def state(self) -> str:
        """``connected``; ``suspended``: not confirmed for a while, but still held; ``lost``; ``released``.
        Judged by the clock at this moment."""
        return RELEASED if self._released else self._lease.state

    def remaining(self) -> float:
        """Seconds for which the lock is surely held even if the cluster is not heard again; 0 when it is
        lost or released."""
        return 0.0 if self._released else self._lease.remaining()

    async def release(self) -> bool:
        """Lets the lock go; False if it was lost, or let go, before.

        Waits for the cluster. If cancelled, the release is completed in the background. Only this grant is
        released, never another one of the same client. In a block, ends the watch over the lease.
        """
        if self._released or self._lease.state == LeaseState.LOST:
            return False
        self._released = True
        if self._watch is not None:
            self._watch.close()
        try:
            answer = await self._port.command(self._ref, RELEASE, [self.token], carry_on=True)
        except SessionLost:
            return False
        except QuorateError:
            self._released = False
            raise
        finally:
            if self._released:
                self._let_go()
        return answer.code == Code.OK

    def _let_go(self) -> None:
        """The lease need not be kept for this grant any longer: its release is under way at least, or its
        block was left though that failed; then the end of the lease frees the lock."""
        if self._holds:
            self._holds = False
            self._lease.let_go()

    async def _leave(self) -> None:
        """Releases, shielded against cancellation for ``RELEASE_SECONDS``."""
        with anyio.move_on_after(RELEASE_SECONDS, shield=True) as shelter:
            await self.release()
        if shelter.cancelled_caught:
            # It goes on in the background. This one comes after it, and says when it is done.
            await self._port.command(self._ref, RELEASE, [self.token], carry_on=True)

    async def _abandon(self) -> None:
        """Releases when an error is on its way, which nothing here may take the place of."""
        with suppress(QuorateError), anyio.move_on_after(RELEASE_SECONDS, shield=True):
            await self.release()

    @asynccontextmanager
    async def _hold(self) -> AsyncGenerator[Grant, None]:
        try:
            try:
                with anyio.CancelScope() as scope, ExitStack() as watch:
                    guard = watch.enter_context(self._lease.guard(scope))
                    self._watch = watch
                    yield self
            except BaseException:
                await self._abandon()
                raise
            if guard.lost:
                raise SessionLost(f"the lease under which the lock {self._ref.name!r} was held is lost")
            await self._leave()
        finally:
            self._let_go()

    async def __aenter__(self) -> Grant:
        """Begins to watch over the lease; itself."""
        if self._block is not None:
            raise RuntimeError("a grant is for one block")
        self._block = self._hold()
        return await self._block.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Releases the lock. Raises SessionLost if it was lost, unless the block raised something itself."""
        if self._block is None:
            raise RuntimeError("a block that was not entered cannot be left")
        return await self._block.__aexit__(kind, error, trace)

    def __repr__(self) -> str:
        return f"<grant {self.token} of {self._ref.name!r}, {self.state}>"


class Lock(Handle):
    """Mutual exclusion among all clients of the cluster, first come first served; pinned to one group.

    ``async with client.lock("name") as grant:`` acquires it for a block. When the lease under which it is
    held is lost (the cluster was not reached for the session's timeout), the block is cancelled and
    SessionLost raised; an error that the block raises by itself goes before that. Leaving the block releases
    the lock, even when cancelled, for which it may hold up the cancellation for a second.

    The lock is not reentrant: who holds it and acquires it again waits for itself. A handle may be used by
    many tasks at once; they exclude each other like anybody else.
    """

    TYPE = LockMachine.TYPE
    NAME = LockMachine.NAME

    __slots__ = ("_grants",)

    def __init__(
        self, port: ClientPort, namespace: str, name: str, *, read: ReadLevel = LINEARIZABLE
    ) -> None:
        super().__init__(port, namespace, name, partitions=0, read=read)
        self._grants: Final[dict[int, list[Grant]]] = {}
        """For each task, by its id, the grants of the blocks that it is in."""

    async def acquire(self) -> Grant:
        """Waits for the lock, then holds it until the grant is released or its lease lost.

        Raises SessionLost if the lease is lost while waiting, Overloaded if too many wait. Cancelled, it
        leaves neither a waiter nor a grant behind; it may take a second to withdraw.
        """
        answer = await self._port.command(self._ref, ACQUIRE, [], late=True)
        return self._granted(answer.result)

    async def try_acquire(self) -> Grant | None:
        """Holds the lock if nobody does and nobody waits for it, else returns None. Waits for the cluster,
        not for the lock. Cancelled, it leaves no grant behind."""
        answer = await self._port.command(self._ref, TRY_ACQUIRE, [], late=True)
        return self._granted(answer.result) if answer.code == Code.OK else None

    def _granted(self, result: bytes) -> Grant:
        lease = self._port.lease(self._ref)
        return Grant(self._port, self._ref, U64.unpack(result)[0], lease)

    async def holder(self, *, read: ReadLevel | None = None) -> Holder | None:
        """Who holds the lock, or None. ``read``: how fresh, else the handle's level."""
        answer = await self._port.query(self._ref, HOLDER, [], read=read or self._read)
        if answer is None or answer.code != Code.OK:
            return None
        return Holder(*_HOLDING.unpack(answer.result))

    async def __aenter__(self) -> Grant:
        """Acquires the lock for a block, like :meth:`acquire`."""
        grant = await (await self.acquire()).__aenter__()
        self._grants.setdefault(anyio.get_current_task().id, []).append(grant)
        return grant

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Releases the lock. Raises SessionLost if it was lost, unless the block raised something itself."""
        task = anyio.get_current_task().id
        grants = self._grants[task]
        grant = grants.pop()
        if not grants:
            del self._grants[task]
        return await grant.__aexit__(kind, error, trace)
