"""What clients hold: locks, the leadership of an election, entries that go with their sessions."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from bench.histories import Ground, History, HistoryViolation, TimeLimit, check_real_time, complete
from bench.workloads import Workload
from primitives.errors import QuorateError, Retry
from primitives.handle import LeaseState
from primitives.holding import Held
from router.openers import Openers

HELD: Final = (LeaseState.CONNECTED, LeaseState.SUSPENDED)
"""States of a grant in which nobody else may hold the lock."""


class Fenced:
    """What a lock guards, outside the cluster: a number that refuses whoever has a lower fencing token than
    one it has seen."""

    __slots__ = ("changes", "number", "token")

    def __init__(self) -> None:
        self.token = 0
        self.number = 0
        self.changes = 0

    def read(self, token: int) -> int | None:
        """The number, or None for a token of the past."""
        if token < self.token:
            return None
        self.token = token
        return self.number

    def write(self, token: int, number: int) -> bool:
        """Sets the number; False for a token of the past."""
        if token < self.token:
            return False
        self.token = token
        self.number = number
        self.changes += 1
        return True


class LockWorkload(Workload):
    """Contention for one lock that guards a fenced number, which each holder reads, and raises later."""

    NAME = "lock"

    def __init__(self, name: str = "guard") -> None:
        self.name = name
        self.guarded = Fenced()
        self.grants = 0
        self._granted_last = 0
        self._holders: dict[int, tuple[Openers, Held]] = {}
        """By token, everyone who was granted the lock and has not begun to release it."""

    async def call(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        limit = ground.random.choice((100, 1000, 10_000, 60_000))
        wait = ground.random.randrange(5) > 0
        try:
            grant = await ground.within(limit, lambda: self._ask(client, wait))
        except TimeLimit:
            return
        except QuorateError as error:
            if error.retry is Retry.NEVER:
                raise HistoryViolation(f"{self.name}: {type(error).__name__}: {error}") from error
            return
        if grant is not None:
            self._granted(client, grant)
            await self._use(grant, ground)

    async def finish(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        grant = await self._ask(client, True)
        if grant is None:
            raise HistoryViolation(f"{self.name}: nothing was granted")
        self._granted(client, grant)
        del self._holders[grant.token]
        await grant.release()
        if self.guarded.number != self.guarded.changes:
            raise HistoryViolation(
                f"{self.name}: {self.guarded.changes} changes left {self.guarded.number}: one was lost"
            )

    def died(self, client: Openers) -> None:
        """See :class:`Workload`."""
        for token in [token for token, (holder, _) in self._holders.items() if holder is client]:
            del self._holders[token]

    async def _ask(self, client: Openers, wait: bool) -> Held | None:
        """Asks for what one may hold, and waits for it if so said."""
        lock = client.lock(self.name)
        return await (lock.acquire() if wait else lock.try_acquire())

    def _granted(self, client: Openers, grant: Held) -> None:
        if grant.state not in HELD:
            raise HistoryViolation(f"{self.name}: a grant is returned {grant.state}")
        for token, (_, other) in sorted(self._holders.items()):
            if other.state in HELD:
                raise HistoryViolation(
                    f"{self.name}: {grant.token} is granted while {token} is {other.state}"
                )
        if grant.token <= self._granted_last:
            raise HistoryViolation(f"{self.name}: token {grant.token} is granted after {self._granted_last}")
        self._granted_last = grant.token
        self.grants += 1
        self._holders[grant.token] = (client, grant)

    async def _use(self, grant: Held, ground: Ground) -> None:
        number = self.guarded.read(grant.token)
        await ground.sleep_ms(ground.random.choice((0, 0, 5, 5, 50, 400, 3000)))
        sure = grant.state in HELD
        done = number is not None and self.guarded.write(grant.token, number + 1)
        if sure and not done:
            raise HistoryViolation(f"{self.name}: {grant.token} is refused while it is held")
        self._holders.pop(grant.token, None)
        with suppress(QuorateError):
            await grant.release()


class ElectionWorkload(LockWorkload):
    """Leadership guards a fenced number, like a lock. Some ask who leads, or promote a candidate: terms that
    anybody was told of only grow."""

    NAME = "election"

    def __init__(self, name: str = "scheduler") -> None:
        super().__init__(name)
        self.history = History()
        self._stood = 0

    async def call(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        kind = ground.random.randrange(10)
        if kind < 6:
            await super().call(client, ground)
            return
        election = client.election(self.name)
        operation = self.history.begin(ground, "leader", writes=False)
        if kind < 9:
            await complete(operation, ground, election.leader, lambda found: found.term if found else None)
            return
        leadership = await complete(operation, ground, election.leadership, lambda found: found.term or None)
        if leadership is not None and leadership.candidates:
            ids = [candidate.id for candidate in leadership.candidates]
            if len(set(ids)) != len(ids):
                raise HistoryViolation(f"{self.name}: a candidate stands twice, among {ids}")
            chosen = ground.random.choice(leadership.candidates)
            promotion = self.history.begin(ground, f"promote {chosen}", writes=False)
            await complete(promotion, ground, lambda: election.promote(chosen), lambda _: None, 2000)

    async def finish(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        await super().finish(client, ground)
        leadership = await client.election(self.name).leadership()
        if leadership.leader is not None:
            raise HistoryViolation(f"{self.name}: {leadership} after everybody resigned")
        check_real_time(self.history.operations)

    async def _ask(self, client: Openers, wait: bool) -> Held | None:
        self._stood += 1
        return await client.election(self.name).stand(self._stood)


class KeyLockWorkload(LockWorkload):
    """The lock of one key of a map, used and judged like a lock."""

    NAME = "key"

    def __init__(self, name: str = "guarded") -> None:
        super().__init__(name)

    async def _ask(self, client: Openers, wait: bool) -> Held | None:
        lock = client.map(self.name).lock("key")
        return await (lock.acquire() if wait else lock.try_acquire())


class PresenceWorkload(Workload):
    """Entries that go with the sessions that put them: those of clients that are gone go, too."""

    NAME = "presence"

    def __init__(self, name: str = "members") -> None:
        self.name = name
        self._gone: set[str] = set()
        self._names: dict[Openers, str] = {}
        self._named = 0

    async def call(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        key = self._names.get(client)
        if key is None:
            # Never that of one who is gone, by which its entries are known.
            self._named += 1
            key = self._names[client] = f"m{self._named}"
        members = client.map(self.name, pinned=True)
        kind = ground.random.randrange(4)
        with suppress(TimeLimit):
            try:
                if kind < 2:
                    number = ground.random.randrange(5)
                    await ground.within(3000, lambda: members.put(f"{key}/{number}", key, session=True))
                elif kind == 2:
                    await ground.within(3000, lambda: members.remove(f"{key}/0"))
                else:
                    await ground.within(3000, members.size)
            except QuorateError as error:
                if error.retry is Retry.NEVER:
                    raise HistoryViolation(f"{self.name}: {type(error).__name__}: {error}") from error

    async def finish(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        members = client.map(self.name, pinned=True)
        while True:
            found = [value async for value in members.values()]
            if not self._gone.intersection(found):
                break
            await ground.sleep_ms(500)  # The sessions of those who died lately have still to expire.

    def died(self, client: Openers) -> None:
        """See :class:`Workload`."""
        if client in self._names:
            self._gone.add(self._names.pop(client))
