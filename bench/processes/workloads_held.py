"""What clients hold under faults: a lock and the leadership of an election. Each grant is recorded, with the
moment from which its lease may be lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, ClassVar, Final

import trio

from bench.processes.calls import Caller, Nothing
from bench.processes.workloads import PATIENT_LIMITS, Workload
from primitives.handle import LeaseState
from primitives.holding import Held

SURE_SECONDS: Final = 0.5
"""A lease with less time left is recorded as one that may be lost from now on."""
LOOK_SECONDS: Final = 0.05
HOLD_SECONDS: Final = (0.0, 0.0, 0.02, 0.05, 0.3)


class LockWorkload(Workload):
    """Contention for one lock. A call that is called off gives back what it was granted."""

    NAME = "lock"
    KIND: ClassVar = "lock"
    GIVE_BACK: ClassVar = "release"

    async def step(self, caller: Caller, number: int) -> None:
        """See :class:`Workload`."""
        name = self.name()
        if caller.random.randrange(5) == 0:
            await self.look(caller, name)
            return
        op, args, do = self.ask(caller, name)
        limit = caller.random.choice(PATIENT_LIMITS)
        grant = await caller.call(self.KIND, name, op, args, do, told=_token, limit=limit)
        if grant is None:
            return
        if not await self._keep(caller, name, grant):
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._doubt, caller, name, grant.token, grant.remaining() - SURE_SECONDS)
            with suppress(Nothing):
                await caller.call(self.KIND, name, self.GIVE_BACK, [grant.token], grant.release)
            nursery.cancel_scope.cancel()

    async def _doubt(self, caller: Caller, name: str, token: int, sure_seconds: float) -> None:
        """Records that the lease may be lost, if giving back takes so long."""
        await trio.sleep(max(0.0, sure_seconds))
        caller.recorder.expire(self.KIND, name, token)

    def ask(self, caller: Caller, name: str) -> tuple[str, list[Any], Callable[[], Awaitable[Held | None]]]:
        """The call that asks for the grant: its name, its arguments, and itself."""
        lock = caller.client.lock(name)
        if caller.random.randrange(3) == 0:
            return "try_acquire", [], lock.try_acquire
        return "acquire", [], lock.acquire

    async def look(self, caller: Caller, name: str) -> None:
        """Asks who holds it."""
        await caller.call("lock", name, "holder", [], caller.client.lock(name).holder)

    async def _keep(self, caller: Caller, name: str, grant: Held) -> bool:
        """Holds it for a while; False if the lease may have been lost, which is recorded then."""
        until = trio.current_time() + caller.random.choice(HOLD_SECONDS)
        while True:
            if grant.state == LeaseState.LOST or grant.remaining() < SURE_SECONDS:
                caller.recorder.expire(self.KIND, name, grant.token)
                await grant.release()
                return False
            left = until - trio.current_time()
            if left <= 0:
                return True
            await trio.sleep(min(left, LOOK_SECONDS))


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
        await caller.call("election", name, "leader", [], caller.client.election(name).leader)


def _token(grant: Held | None) -> int | None:
    return None if grant is None else grant.token
