"""What clients do to a cluster: written once, to run in the simulated world and on trio against processes.

A workload is shared by all its callers, keeps the history of their calls and judges it at the end.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from typing import ClassVar, Final

from bench.histories import (
    Ground,
    History,
    HistoryViolation,
    Operation,
    TimeLimit,
    check_real_time,
    complete,
    place,
)
from primitives.errors import QuorateError, Retry
from primitives.handle import LeaseState
from primitives.lock import Grant
from primitives.map import Map
from router.openers import Openers

HELD: Final = (LeaseState.CONNECTED, LeaseState.SUSPENDED)
"""States of a grant in which nobody else may hold the lock."""
LIMITS_MS: Final = (None, None, None, 200, 2000)
"""Time limits of calls; None: as long as it takes."""


class Workload:
    """One kind of use of a cluster, shared by all its callers."""

    NAME: ClassVar[str]

    async def call(self, client: Openers, ground: Ground) -> None:
        """One call, or one short series of calls that belong together."""
        raise NotImplementedError

    async def finish(self, client: Openers, ground: Ground) -> None:
        """After all callers have ended and everything is healed: looks at the outcome and judges it. Raises
        HistoryViolation."""
        raise NotImplementedError

    def died(self, client: Openers) -> None:
        """The client's process is gone, with all that it held."""


class CounterWorkload(Workload):
    """Increments of one counter, each taking effect exactly once, and reads of it."""

    NAME = "counter"

    def __init__(self, name: str = "count") -> None:
        self.name = name
        self.history = History()

    async def call(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        counter = client.counter(self.name)
        if ground.random.randrange(4):
            operation = self.history.begin(ground, "increment", writes=True)
            limit_ms = ground.random.choice(LIMITS_MS)
            await complete(operation, ground, counter.increment, lambda value: value, limit_ms)
        else:
            operation = self.history.begin(ground, "get", writes=False)
            await complete(operation, ground, counter.get, lambda value: value)

    async def finish(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        final = await client.counter(self.name).get()
        increments = [operation for operation in self.history.operations if operation.writes]
        values = sorted(place(operation) for operation in increments if operation.position is not None)
        for value, after in pairwise(values):
            if value == after:
                raise HistoryViolation(f"{self.name}: two increments were told {value}")
        if not max([len(values), *values[-1:]]) <= final <= len(increments):
            raise HistoryViolation(
                f"{self.name} is {final}: {len(values)} of {len(increments)} increments were acknowledged,"
                f" up to {values[-1:]}"
            )
        check_real_time(self.history.operations)


class RegisterWorkload(Workload):
    """A few entries of a map as registers: puts, conditional replaces and reads, judged by revisions."""

    NAME = "register"

    def __init__(self, name: str = "registers", *, keys: int = 4, pinned: bool = False) -> None:
        self.name = name
        self._pinned = pinned
        self._keys = [f"k{number}" for number in range(keys)]
        self._histories = {key: History() for key in self._keys}
        self._written: dict[int, tuple[str, Operation]] = {}
        """By value, which is never used twice: the key and the call that writes it."""
        self._replaced: dict[int, int] = {}
        """By value: the revision that a successful conditional replace asked for."""

    async def call(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        registers = client.map(self.name, pinned=self._pinned)
        key = ground.random.choice(self._keys)
        kind = ground.random.randrange(10)
        if kind < 4:
            await self._put(registers, ground, key)
        elif kind < 9:
            await self._read(registers, ground, key)
        else:
            revision = await self._read(registers, ground, key)
            if revision:
                await self._replace(registers, ground, key, revision)

    async def finish(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        registers = client.map(self.name, pinned=self._pinned)
        for key in self._keys:
            await self._read(registers, ground, key)
            self._judge(key)

    async def _put(self, registers: Map, ground: Ground, key: str) -> None:
        value, operation = self._begin_write(ground, key, "put")
        limit_ms = ground.random.choice(LIMITS_MS)
        await complete(operation, ground, lambda: registers.put(key, value), lambda found: found, limit_ms)

    async def _replace(self, registers: Map, ground: Ground, key: str, revision: int) -> None:
        value, operation = self._begin_write(ground, key, f"replace at {revision}")
        call = registers.replace
        done = await complete(operation, ground, lambda: call(key, value, revision=revision), lambda _: None)
        if done:
            self._replaced[value] = revision
        elif done is not None:
            operation.is_void = True

    def _begin_write(self, ground: Ground, key: str, label: str) -> tuple[int, Operation]:
        """A value of its own and the call that is to write it."""
        value = len(self._written) + 1
        operation = self._histories[key].begin(ground, f"{label} {key} {value}", writes=True)
        self._written[value] = (key, operation)
        return value, operation

    async def _read(self, registers: Map, ground: Ground, key: str) -> int | None:
        """The revision of the entry; 0 if there is none, None if the call failed."""
        operation = self._histories[key].begin(ground, f"read {key}", writes=False)
        entry = await complete(
            operation, ground, lambda: registers.entry(key), lambda entry: entry.revision if entry else 0
        )
        if entry is not None:
            self._learn(key, entry.value, entry.revision)
        return operation.position

    def _learn(self, key: str, value: object, revision: int) -> None:
        """A read showed at which revision ``value`` was written."""
        if not isinstance(value, int) or value not in self._written:
            raise HistoryViolation(f"{key} holds {value!r}, which nobody wrote")
        at, operation = self._written[value]
        if at != key or operation.is_void or operation.position not in (None, revision):
            raise HistoryViolation(f"{key} holds {value!r} at {revision}, but {operation} wrote it")
        operation.position = revision

    def _judge(self, key: str) -> None:
        operations = self._histories[key].operations
        check_real_time(operations)
        for at, operation in self._written.values():
            if at == key and operation.is_void and operation.position is not None:
                raise HistoryViolation(f"{operation} was refused, yet took effect")
        revisions = sorted(place(one) for one in operations if one.writes and one.position is not None)
        if len(set(revisions)) != len(revisions):
            raise HistoryViolation(f"{key}: two writes have one revision, of {revisions}")
        for value, asked in self._replaced.items():
            at, operation = self._written[value]
            if at == key and operation.position is not None:
                between = [one for one in revisions if asked < one < operation.position]
                if between:
                    raise HistoryViolation(f"{operation} succeeded although {between} came between")


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
        self._holders: dict[int, tuple[Openers, Grant]] = {}
        """By token, everyone who was granted the lock and has not begun to release it."""

    async def call(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        lock = client.lock(self.name)
        limit = ground.random.choice((100, 1000, 10_000, 60_000))
        try:
            if ground.random.randrange(5):
                grant: Grant | None = await ground.within(limit, lock.acquire)
            else:
                grant = await ground.within(limit, lock.try_acquire)
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
        grant = await client.lock(self.name).acquire()
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

    def _granted(self, client: Openers, grant: Grant) -> None:
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

    async def _use(self, grant: Grant, ground: Ground) -> None:
        number = self.guarded.read(grant.token)
        await ground.sleep_ms(ground.random.choice((0, 0, 5, 5, 50, 400, 3000)))
        sure = grant.state in HELD
        done = number is not None and self.guarded.write(grant.token, number + 1)
        if sure and not done:
            raise HistoryViolation(f"{self.name}: {grant.token} is refused while it is held")
        self._holders.pop(grant.token, None)
        with suppress(QuorateError):
            await grant.release()
