"""Several calls of one caller at once: their commands share records, and take effect in the order made."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Final

from bench.histories import Ground, HistoryViolation, Operation, complete, place
from bench.workloads import LIMITS_MS, CounterWorkload, RegisterWorkload
from router.openers import Openers

AT_ONCE: Final = (2, 3, 5, 12, 80)
"""So many calls; the last are more than one record has room for."""


class TogetherWorkload(RegisterWorkload):
    """Puts into a map of one partition and increments of a counter, many of them at once, each with a time
    limit of its own. Judged like registers and a counter; and puts of one caller stand in the order made."""

    NAME = "together"

    def __init__(self, name: str = "together") -> None:
        super().__init__(name, keys=5, pinned=True)
        self._counter = CounterWorkload(name + "/count")

    async def call(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        count = ground.random.choice(AT_ONCE)
        kind = ground.random.randrange(5)
        if kind < 2:
            await ground.together([partial(self._counter.call, client, ground)] * count)
        elif kind < 4:
            await self._put_many(client, ground, count)
        else:
            await ground.together([partial(super().call, client, ground)] * min(count, 5))

    async def finish(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        await super().finish(client, ground)
        await self._counter.finish(client, ground)

    async def _put_many(self, client: Openers, ground: Ground, count: int) -> None:
        registers = self._open(client)
        puts: list[Operation] = []

        async def put(key: str, limit_ms: int | None) -> None:
            value, operation = self._begin_write(ground, key, "put")
            puts.append(operation)
            await complete(
                operation, ground, lambda: registers.put(key, value), lambda found: found, limit_ms
            )

        random = ground.random
        await ground.together(
            [partial(put, random.choice(self._keys), random.choice(LIMITS_MS)) for _ in range(count)]
        )
        told = [operation for operation in puts if operation.ended_ms is not None]
        for one, after in pairwise(told):
            if place(one) >= place(after):
                raise HistoryViolation(f"{after} was called after {one}, and took effect before it")
