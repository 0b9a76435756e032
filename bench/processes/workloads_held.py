"""What clients hold under faults: a lock and the leadership of an election. Each grant is recorded, with the
moment from which its lease may be lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, ClassVar, Final, TypeVar

import trio

from bench.processes.calls import Caller, Nothing
from bench.processes.workloads import PATIENT_LIMITS, Workload
from primitives.errors import QuorateError
from primitives.holding import Held

T = TypeVar("T")
SURE_SECONDS: Final = 0.5
"""A lease with less time left is recorded as one that may be lost from now on."""
LOOK_SECONDS: Final = 0.05
HOLD_SECONDS: Final = (0.0, 0.0, 0.02, 0.05, 0.3)


class _Holding:
    """A grant that is held, or being given back."""

    def __init__(self, grant: Held) -> None:
        self._grant: Final = grant
        self._until: float | None = None

    def give_back(self) -> None:
        """It is being given back: the grant itself says no more how long it would have held."""
        self._until = trio.current_time() + self._grant.remaining()

    def left(self) -> float:
        """For how many seconds its lease is certain."""
        return self._grant.remaining() if self._until is None else self._until - trio.current_time()


class LockWorkload(Workload):
    """Contention for one lock. A call that is called off gives back what it was granted."""

    NAME = "lock"
    KIND: ClassVar = "lock"
    GIVE_BACK: ClassVar = "release"

    def __init__(self) -> None:
        super().__init__()
        self._held: Final[dict[tuple[str, int], _Holding]] = {}
        """By name and token: what is held, and surely so."""

    async def step(self, caller: Caller, number: int) -> None:
        """See :class:`Workload`."""
        name = self.name()
        if caller.random.randrange(5) == 0:
            await self.look(caller, name)
            return
        op, args, do = self.ask(caller, name)
        limit = caller.random.choice(PATIENT_LIMITS)
        told = self.told(caller, _token)
        grant = await caller.call(self.KIND, name, op, args, do, told=told, limit=limit)
        if grant is None:
            return
        held = self._held[name, grant.token] = _Holding(grant)
        if not await self._is_kept(caller, name, grant):
            with suppress(QuorateError):
                await grant.release()
            return
        held.give_back()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._doubt, caller)
            with suppress(Nothing):
                await caller.call(self.KIND, name, self.GIVE_BACK, [grant.token], grant.release,
                                  told=self.told(caller, lambda done: done))  # fmt: skip
            nursery.cancel_scope.cancel()
        self._held.pop((name, grant.token), None)

    def ask(self, caller: Caller, name: str) -> tuple[str, list[Any], Callable[[], Awaitable[Held | None]]]:
        """The call that asks for the grant: its name, its arguments, and itself."""
        lock = caller.client.lock(name)
        if caller.random.randrange(3) == 0:
            return "try_acquire", [], lock.try_acquire
        return "acquire", [], lock.acquire

    async def look(self, caller: Caller, name: str) -> None:
        """Asks who holds it."""
        told = self.told(caller, lambda holder: holder)
        await caller.call("lock", name, "holder", [], caller.client.lock(name).holder, told=told)

    def told(self, caller: Caller, shown: Callable[[T], Any]) -> Callable[[T], Any]:
        """What is recorded of a result. Before it comes what may be lost by now: however late this process
        is, a grant is not recorded before the doubt about the former one."""

        def tell(result: T) -> Any:
            self._sweep(caller)
            return shown(result)

        return tell

    def _sweep(self, caller: Caller) -> None:
        """Records which grants may be lost from now on."""
        for (name, token), held in list(self._held.items()):
            if held.left() < SURE_SECONDS:
                del self._held[name, token]
                caller.recorder.expire(self.KIND, name, token)

    async def _is_kept(self, caller: Caller, name: str, grant: Held) -> bool:
        """Holds a grant for a while; False if its lease may have been lost, which is recorded then."""
        until = trio.current_time() + caller.random.choice(HOLD_SECONDS)
        while True:
            self._sweep(caller)
            if (name, grant.token) not in self._held:
                return False
            left = until - trio.current_time()
            if left <= 0:
                return True
            await trio.sleep(min(left, LOOK_SECONDS))

    async def _doubt(self, caller: Caller) -> None:
        """Looks again and again for grants that may be lost."""
        while True:
            await trio.sleep(LOOK_SECONDS)
            self._sweep(caller)


class ElectionWorkload(LockWorkload):
    """Candidates for one leadership."""

    NAME = "election"
    KIND = "election"
    GIVE_BACK = "resign"

    def ask(self, caller: Caller, name: str) -> tuple[str, list[Any], Callable[[], Awaitable[Held | None]]]:
        """See :class:`LockWorkload`."""
        data = next(self.values)
        return "campaign", [data], lambda: caller.client.election(name).stand(data)

    async def look(self, caller: Caller, name: str) -> None:
        """See :class:`LockWorkload`."""
        told = self.told(caller, lambda leadership: leadership)
        await caller.call("election", name, "leader", [], caller.client.election(name).leader, told=told)


def _token(grant: Held | None) -> int | None:
    return None if grant is None else grant.token
