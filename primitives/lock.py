"""Lock: one holder at a time, first come first served, each grant with a fencing token. See ``locking``."""

from __future__ import annotations

import struct
from typing import Any, Final

from primitives.errors import Code
from primitives.handle import LINEARIZABLE, ClientPort, Handle, ReadLevel
from primitives.holding import Acquirer, Held, Holder
from primitives.locking import Locks
from primitives.machine import Context, Machine, Result, View
from primitives.records import U64, Answer

ACQUIRE: Final = 1
"""Command ``[]``; answers the token as 8 bytes, late if the lock is taken."""
TRY_ACQUIRE: Final = 2
"""Command ``[]``; answers the token, or CONDITION if the lock is held or waited for."""
RELEASE: Final = 3
"""Command ``[token]``; CONDITION if that grant, of this session, does not hold the lock."""
HOLDER: Final = 1
"""Query ``[]``; answers number of session and token, 8 bytes each, or CONDITION if nobody holds it."""

_LOCKS: Final = Locks(0)
_NAME: Final = b""
"""There is one lock in a partition."""
_HOLDING: Final = struct.Struct(">QQ")
_CONDITION: Final[Result] = (Code.CONDITION, b"")
_BAD: Final[Result] = (Code.BAD_REQUEST, b"not an operation of a lock")
_BAD_TOKEN: Final[Result] = (Code.BAD_REQUEST, b"not a lock's token")


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
            return _LOCKS.release(ctx, _NAME, ctx.session, args[0])
        if args or (op != ACQUIRE and op != TRY_ACQUIRE):
            return _BAD
        return _LOCKS.acquire(ctx, _NAME, wait=op == ACQUIRE)

    def query(self, view: View, op: int, args: list[Any], body: bytes) -> Result:
        """Answers HOLDER."""
        if op != HOLDER or args or body:
            return _BAD
        holder = _LOCKS.holder(view, _NAME)
        return _CONDITION if holder is None else (Code.OK, _HOLDING.pack(*holder))

    def timer(self, ctx: Context, payload: bytes) -> None:
        """Goes on looking for a living waiter."""
        _LOCKS.timer(ctx, payload)

    def session_ended(self, ctx: Context, session: int) -> bool:
        """Passes on what the session held, and removes its waiters, in slices."""
        return _LOCKS.session_ended(ctx, session)

    def withdraw(self, ctx: Context, waiter: bytes, granted: bytes | None) -> Result:
        """Removes a waiter, or gives its grant back. Does nothing if it is neither."""
        return _LOCKS.withdraw(ctx, waiter, granted)


class Grant(Held):
    """A lock held. It is held until it is released or its lease is lost, whichever comes first.

    ``async with grant:`` runs a block under it: cancelled, with SessionLost, if the lease is lost, and
    followed by the release; see :class:`Lock`. A grant is for one block.
    """

    WHAT = "the lock"

    __slots__ = ()

    async def _give_back(self) -> Answer:
        return await self._port.command(self._ref, RELEASE, [self.token], carry_on=True)


class Lock(Handle, Acquirer[Grant]):
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
        self._grants = {}

    async def _ask(self, *, wait: bool) -> Grant | None:
        answer = await self._port.command(self._ref, ACQUIRE if wait else TRY_ACQUIRE, [], late=True)
        if answer.code != Code.OK:
            return None
        lease = self._port.lease(self._ref)
        return Grant(self._port, self._ref, U64.unpack(answer.result)[0], lease)

    async def holder(self, *, read: ReadLevel | None = None) -> Holder | None:
        """Who holds the lock, or None. ``read``: how fresh, else the handle's level."""
        answer = await self._port.query(self._ref, HOLDER, [], read=read or self._read)
        if answer is None or answer.code != Code.OK:
            return None
        return Holder(*_HOLDING.unpack(answer.result))
