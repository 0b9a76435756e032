"""Watchers under faults: writers of a map, and watches that are left and taken up again where they were."""

from __future__ import annotations

from contextlib import suppress
from typing import ClassVar, Final

import trio

from bench.processes.calls import Caller, Nothing
from bench.processes.workloads import LIMITS, Workload
from primitives.position import Position
from primitives.watch import Event
from primitives.watching import Watch

WRITERS: Final = 3
LAST: Final = "last"
"""The key that is written when all is over: a watch that was told of it was told of everything."""
NAME: Final = "watched"


class WatchWorkload(Workload):
    """Callers of low numbers write, the others watch."""

    NAME = "watch"
    CALLERS = 6
    KEYS: ClassVar = 4
    STAY_SECONDS: ClassVar = (3.0, 15.0)
    """How long a watch is open, before it is taken up again."""

    async def run(self, caller: Caller, number: int) -> None:
        """See :class:`Workload`."""
        if number >= WRITERS:
            await self._watch(caller, number)
            return
        await super().run(caller, number)
        if number == 0:
            entries = caller.client.map(NAME, pinned=True)
            await caller.call("map", NAME, "put", [LAST, 0], lambda: entries.put(LAST, 0),
                              position=lambda revision: revision)  # fmt: skip

    async def step(self, caller: Caller, number: int) -> None:
        """A change of one of a few keys, others every few seconds."""
        entries = caller.client.map(NAME, pinned=True)
        key = f"{self.name()}/{caller.random.randrange(self.KEYS)}"
        limit = caller.random.choice(LIMITS)
        if caller.random.randrange(4):
            value = next(self.values)
            await caller.call("map", NAME, "put", [key, value], lambda: entries.put(key, value), limit=limit,
                              position=lambda revision: revision)  # fmt: skip
        else:
            await caller.call("map", NAME, "remove", [key], lambda: entries.remove(key), limit=limit)

    async def _watch(self, caller: Caller, number: int) -> None:
        """Watches until it was told of the last change."""
        position: Position | None = None
        watch = f"w{number}"
        while True:
            async with caller.client.map(NAME).watch(position=position) as events:
                with suppress(Nothing):
                    await caller.call("watch", NAME, "open", ["map"], trio.lowlevel.checkpoint, watch=watch,
                                      pinned=True)  # fmt: skip
                until = trio.current_time() + caller.random.uniform(*self.STAY_SECONDS)
                # It may end where no replica in reach has what other calls were told: it is taken up again.
                with suppress(Nothing):
                    while trio.current_time() < until or events.position is None:
                        event = await self._next(caller, events, watch)
                        if event.key == LAST:
                            return
                position = events.position or position

    async def _next(self, caller: Caller, events: Watch, watch: str) -> Event:
        return await caller.call("watch", NAME, "next", [], events.__anext__, watch=watch)
