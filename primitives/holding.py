"""What clients hold under a lease until they let it go: the handles' half of locks and leaderships."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress
from types import TracebackType
from typing import ClassVar, Final, Generic, NamedTuple, Self, TypeVar

import anyio

from primitives.errors import Code, InvariantViolation, QuorateError, SessionLost
from primitives.handle import ClientPort, Lease, LeaseState, Reference
from primitives.records import Answer

RELEASE_SECONDS: Final = 1.0
"""How long leaving a block holds up a cancellation to see what was held let go."""

RELEASED: Final = "released"
"""The state of what was let go by its holder."""


class Held:
    """Something held until it is released or its lease is lost, whichever comes first.

    ``async with held:`` runs a block under it: cancelled, with SessionLost, if the lease is lost, and
    followed by the release. It is for one block.
    """

    WHAT: ClassVar[str]
    """For people, before the primitive's name: ``the lock``."""

    __slots__ = ("_block", "_holds", "_lease", "_port", "_ref", "_released", "_watch", "token")

    def __init__(self, port: ClientPort, ref: Reference, token: int, lease: Lease) -> None:
        self._port: Final = port
        self._ref: Final = ref
        self._lease: Final = lease
        self._released = False
        self._holds = True
        """Whether the lease is kept alive for this."""
        lease.hold()
        self._block: AbstractAsyncContextManager[None, bool | None] | None = None
        self._watch: ExitStack | None = None
        """Ends the watch over the lease that the block keeps."""
        self.token: Final = token
        """The fencing token: above every one granted before. Hand it to whatever is guarded, which must
        refuse lower ones: holding something proves nothing by itself."""

    @property
    def state(self) -> str:
        """``connected``; ``suspended``: not confirmed for a while, but still held; ``lost``; ``released``.
        Judged by the clock at this moment."""
        return RELEASED if self._released else self._lease.state

    def remaining(self) -> float:
        """Seconds for which this is surely held even if the cluster is not heard again; 0 when it is lost or
        released."""
        return 0.0 if self._released else self._lease.remaining()

    async def release(self) -> bool:
        """Lets it go; False if it was lost, or let go, before.

        Waits for the cluster. If cancelled, the release is completed in the background. Only what this very
        object stands for is released. In a block, ends the watch over the lease.
        """
        if self._released or self._lease.state == LeaseState.LOST:
            return False
        self._released = True
        if self._watch is not None:
            self._watch.close()
        try:
            answer = await self._give_back()
        except SessionLost:
            return False
        except QuorateError:
            self._released = False
            raise
        finally:
            if self._released:
                self._let_go()
        return answer.code == Code.OK

    async def _give_back(self) -> Answer:
        """The command that lets it go: OK if it was held. If cancelled, it is completed in the background."""
        raise NotImplementedError

    def _let_go(self) -> None:
        """The lease need not be kept for this any longer: its release is under way at least, or its block was
        left though that failed; then the end of the lease frees it."""
        if self._holds:
            self._holds = False
            self._lease.let_go()

    async def _leave(self) -> None:
        """Releases, shielded against cancellation for ``RELEASE_SECONDS``."""
        with anyio.move_on_after(RELEASE_SECONDS, shield=True) as shelter:
            await self.release()
        if shelter.cancelled_caught:
            # It goes on in the background. This one comes after it, and says when it is done.
            await self._give_back()

    async def _abandon(self) -> None:
        """Releases when an error is on its way, which nothing here may take the place of."""
        with suppress(QuorateError), anyio.move_on_after(RELEASE_SECONDS, shield=True):
            await self.release()

    @asynccontextmanager
    async def _hold(self) -> AsyncGenerator[None, None]:
        try:
            try:
                with anyio.CancelScope() as scope, ExitStack() as watch:
                    guard = watch.enter_context(self._lease.guard(scope))
                    self._watch = watch
                    yield
            except BaseException:
                await self._abandon()
                raise
            if guard.lost:
                raise SessionLost(f"the lease under which {self.WHAT} {self._ref.name!r} was held is lost")
            await self._leave()
        finally:
            self._let_go()

    async def __aenter__(self) -> Self:
        """Begins to watch over the lease; itself."""
        if self._block is not None:
            raise RuntimeError(f"{self.WHAT} that was granted is for one block")
        self._block = self._hold()
        await self._block.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Releases. Raises SessionLost if it was lost, unless the block raised something itself."""
        if self._block is None:
            raise RuntimeError("a block that was not entered cannot be left")
        return await self._block.__aexit__(kind, error, trace)

    def __repr__(self) -> str:
        return f"<grant {self.token} of {self._ref.name!r}, {self.state}>"


class Holder(NamedTuple):
    """Who holds a lock."""

    session: int
    """The holder's number in the lock's group: the revision at which its session registered there."""
    token: int
    """The grant's fencing token."""


H = TypeVar("H", bound=Held)


class Acquirer(Generic[H]):
    """What locks have in common for those who acquire them: with calls, or ``async with lock as grant``."""

    __slots__ = ()

    _grants: dict[int, list[H]]
    """For each task, by its id, the grants of the blocks that it is in."""

    async def _ask(self, *, wait: bool) -> H | None:
        """The grant; None, if it is not to ``wait``, when somebody holds the lock or waits for it."""
        raise NotImplementedError

    async def acquire(self) -> H:
        """Waits for the lock, then holds it until the grant is released or its lease lost.

        Raises SessionLost if the lease is lost while waiting, Overloaded if too many wait. Cancelled, it
        leaves neither a waiter nor a grant behind; it may take a second to withdraw.
        """
        grant = await self._ask(wait=True)
        if grant is None:
            raise InvariantViolation("who waited for a lock was not granted it")
        return grant

    async def try_acquire(self) -> H | None:
        """Holds the lock if nobody does and nobody waits for it, else returns None. Waits for the cluster,
        not for the lock. Cancelled, it leaves no grant behind."""
        return await self._ask(wait=False)

    async def __aenter__(self) -> H:
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
