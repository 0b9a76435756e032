"""What clients do to a cluster: written once, to run in the simulated world and on trio against processes.

A workload is shared by all its callers, keeps the history of their calls and judges it at the end.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Final, Protocol

from bench.histories import (
    Ground,
    History,
    HistoryViolation,
    Operation,
    check_real_time,
    complete,
    place,
)
from primitives.codec import Value
from primitives.map import Entry
from router.openers import Openers

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


class Registers(Protocol):
    """Values by name with revisions, as a map has them."""

    async def put(self, key: str, value: Value) -> int:
        """Sets a value; its revision."""

    async def replace(self, key: str, value: Value, *, revision: int) -> bool:
        """Sets a value if it still is of that revision; whether it was."""

    async def entry(self, key: str) -> Entry | None:
        """A value with its revision, or None."""


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
        registers = self._open(client)
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
        registers = self._open(client)
        for key in self._keys:
            await self._read(registers, ground, key)
            self._judge(key)

    def _open(self, client: Openers) -> Registers:
        return client.map(self.name, pinned=self._pinned)

    async def _put(self, registers: Registers, ground: Ground, key: str) -> None:
        value, operation = self._begin_write(ground, key, "put")
        limit_ms = ground.random.choice(LIMITS_MS)
        await complete(operation, ground, lambda: registers.put(key, value), lambda found: found, limit_ms)

    async def _replace(self, registers: Registers, ground: Ground, key: str, revision: int) -> None:
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

    async def _read(self, registers: Registers, ground: Ground, key: str) -> int | None:
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


class _Values:
    """Registers that are values, each a primitive of its own."""

    def __init__(self, client: Openers, name: str) -> None:
        self._client = client
        self._name = name

    async def put(self, key: str, value: Value) -> int:
        """See :class:`Registers`."""
        return await self._client.value(f"{self._name}/{key}").set(value)

    async def replace(self, key: str, value: Value, *, revision: int) -> bool:
        """See :class:`Registers`."""
        return await self._client.value(f"{self._name}/{key}").replace(value, revision=revision)

    async def entry(self, key: str) -> Entry | None:
        """See :class:`Registers`."""
        return await self._client.value(f"{self._name}/{key}").entry()


class ValueWorkload(RegisterWorkload):
    """A few values, used and judged like the entries of a map."""

    NAME = "value"

    def __init__(self, name: str = "values", *, keys: int = 3) -> None:
        super().__init__(name, keys=keys)

    def _open(self, client: Openers) -> Registers:
        return _Values(client, self.name)
