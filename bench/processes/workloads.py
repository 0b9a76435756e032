"""What clients do under faults: calls at a moderate rate, recorded, on objects that change every few seconds.

A new object every few seconds keeps the history of each short enough to be judged.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, ClassVar, Final

import trio

from bench.processes.calls import Caller, Nothing
from primitives.handle import LINEARIZABLE, SEQUENTIAL, ReadLevel, Stale

LIMITS: Final = (None, None, None, 0.3, 1.0, 3.0)
"""Time limits of ordinary calls."""
PATIENT_LIMITS: Final = (None, None, None, None, 2.0)
"""Time limits of calls that undo what they did if they are called off, which is dear to judge."""
STALE_SECONDS: Final = 2.0
_LEVELS: Final[dict[str, ReadLevel]] = {
    "linearizable": LINEARIZABLE, "sequential": SEQUENTIAL, "stale": Stale(STALE_SECONDS),
}  # fmt: skip


class Workload:
    """One kind of use, shared by its callers. An object is used for ``SECONDS``, then another one."""

    NAME: ClassVar[str]
    SECONDS: ClassVar[float] = 8.0
    CALLERS: ClassVar[int] = 4
    PAUSE: ClassVar[float] = 0.06
    """Between calls of a caller, on average."""

    def __init__(self) -> None:
        self._began: Final = time.monotonic()
        self.values: Final = count(1)
        """Each is written once."""
        self.objects: Final[set[str]] = set()
        """Names used so far."""
        self.stopping = False

    def name(self) -> str:
        """Of the object of the moment."""
        name = f"{self.NAME}/{int((time.monotonic() - self._began) / self.SECONDS)}"
        self.objects.add(name)
        return name

    async def run(self, caller: Caller, number: int) -> None:
        """Calls until it is to stop."""
        while not self.stopping:
            with suppress(Nothing):
                await self.step(caller, number)
            await trio.sleep(caller.random.expovariate(1 / self.PAUSE))

    async def step(self, caller: Caller, number: int) -> None:
        """One call, or a few that belong together."""
        raise NotImplementedError

    async def finish(self, caller: Caller) -> None:
        """Looks at what is left of every object, when all is healed and all callers have ended."""


def level_of(caller: Caller) -> tuple[dict[str, Any], ReadLevel]:
    """A read level, with what a history says of it: mostly linearizable."""
    chosen = caller.random.choice(("linearizable",) * 6 + ("sequential", "stale"))
    said: dict[str, Any] = {"read": chosen, "session": caller.session}
    if chosen == "linearizable":
        said = {}
    if chosen == "stale":
        said["bound_ms"] = round(STALE_SECONDS * 1000)
    return said, _LEVELS[chosen]


class RegisterWorkload(Workload):
    """A value that is set, compared and read."""

    NAME = "register"

    async def step(self, caller: Caller, number: int) -> None:
        """See :class:`Workload`."""
        name = self.name()
        value = caller.client.value(name)
        limit = caller.random.choice(LIMITS)
        kind = caller.random.randrange(10)
        new = next(self.values)
        if kind < 3:
            await caller.call("register", name, "set", [new], lambda: value.set(new), limit=limit,
                              position=lambda revision: revision)  # fmt: skip
            return
        said, level = level_of(caller)
        found = await caller.call("register", name, "entry", [], lambda: value.entry(read=level),
                                  position=_revision, **said)  # fmt: skip
        if kind >= 8:
            revision = 0 if found is None else found.revision
            await caller.call("register", name, "replace", [new, revision],
                              lambda: value.replace(new, revision=revision), limit=limit)  # fmt: skip
        elif kind >= 6:
            old = None if found is None else found.value
            await caller.call("register", name, "compare_and_set", [old, new],
                              lambda: value.compare_and_set(old, new), limit=limit)  # fmt: skip

    async def finish(self, caller: Caller) -> None:
        """See :class:`Workload`."""
        for name in sorted(self.objects):
            await caller.call("register", name, "entry", [], caller.client.value(name).entry,
                              position=_revision)  # fmt: skip


def _revision(entry: Any) -> int | None:
    return None if entry is None else int(entry.revision)


class MapWorkload(Workload):
    """A few entries of a map of several partitions."""

    NAME = "map"
    KEYS: ClassVar = ("a", "b", "c", "d")

    async def step(self, caller: Caller, number: int) -> None:
        """See :class:`Workload`."""
        name = self.name()
        entries = caller.client.map(name)
        key = caller.random.choice(self.KEYS)
        new = next(self.values)
        kind = caller.random.randrange(12)

        async def change(op: str, args: list[Any], do: Callable[[], Awaitable[Any]]) -> None:
            await caller.call("map", name, op, args, do, limit=caller.random.choice(LIMITS))

        if kind < 3:
            limit = caller.random.choice(LIMITS)
            await caller.call("map", name, "put", [key, new], lambda: entries.put(key, new), limit=limit,
                              position=lambda revision: revision)  # fmt: skip
        elif kind == 3:
            await change("remove", [key], lambda: entries.remove(key))
        elif kind == 4:
            await change("put_if_absent", [key, new], lambda: entries.put_if_absent(key, new))
        else:
            said, level = level_of(caller)
            found = await caller.call("map", name, "entry", [key], lambda: entries.entry(key, read=level),
                                      position=_revision, **said)  # fmt: skip
            if kind < 8 or found is None:
                return
            old, revision = found.value, found.revision
            if kind < 10:
                await change("compare_and_set", [key, old, new],
                             lambda: entries.compare_and_set(key, old, new))  # fmt: skip
            else:
                await change("replace", [key, new, revision],
                             lambda: entries.replace(key, new, revision=revision))  # fmt: skip

    async def finish(self, caller: Caller) -> None:
        """See :class:`Workload`."""
        for name in sorted(self.objects):
            entries = caller.client.map(name)
            for key in self.KEYS:
                await caller.call("map", name, "entry", [key], partial(entries.entry, key),
                                  position=_revision)  # fmt: skip


class CounterWorkload(Workload):
    """Sums, which each must count once."""

    NAME = "counter"

    async def step(self, caller: Caller, number: int) -> None:
        """See :class:`Workload`."""
        name = self.name()
        counter = caller.client.counter(name)
        if caller.random.randrange(3):
            n = caller.random.randrange(1, 100)
            await caller.call("counter", name, "add", [n], lambda: counter.add(n),
                              limit=caller.random.choice(LIMITS))  # fmt: skip
        else:
            await caller.call("counter", name, "get", [], counter.get)

    async def finish(self, caller: Caller) -> None:
        """See :class:`Workload`."""
        for name in sorted(self.objects):
            await caller.call("counter", name, "get", [], caller.client.counter(name).get)


class SetWorkload(Workload):
    """A few elements that come and go."""

    NAME = "set"
    ELEMENTS: ClassVar = (1, 2, 3)

    async def step(self, caller: Caller, number: int) -> None:
        """See :class:`Workload`."""
        name = self.name()
        elements = caller.client.set(name)
        one = caller.random.choice(self.ELEMENTS)
        op, do = caller.random.choice((
            ("add", elements.add), ("remove", elements.remove), ("contains", elements.contains),
        ))  # fmt: skip
        limit = None if op == "contains" else caller.random.choice(LIMITS)
        await caller.call("set", name, op, [one], lambda: do(one), limit=limit)

    async def finish(self, caller: Caller) -> None:
        """See :class:`Workload`."""
        for name in sorted(self.objects):
            elements = caller.client.set(name)
            for one in self.ELEMENTS:
                await caller.call("set", name, "contains", [one], partial(elements.contains, one))


class QueueWorkload(Workload):
    """Elements that are handed over, each once. A poll that is called off puts back what it took."""

    NAME = "queue"
    SECONDS = 6.0

    async def step(self, caller: Caller, number: int) -> None:
        """See :class:`Workload`."""
        name = self.name()
        queue = caller.client.queue(name)
        if caller.random.randrange(2):
            value = next(self.values)
            limit = caller.random.choice(LIMITS)
            await caller.call("queue", name, "offer", [value], lambda: queue.offer(value), limit=limit,
                              position=lambda revision: revision)  # fmt: skip
        else:
            limit = caller.random.choice(PATIENT_LIMITS)
            await caller.call("queue", name, "poll", [], queue.poll, limit=limit)

    async def finish(self, caller: Caller) -> None:
        """See :class:`Workload`."""
        for name in sorted(self.objects):
            queue = caller.client.queue(name)
            while await caller.call("queue", name, "poll", [], queue.poll) is not None:
                pass
