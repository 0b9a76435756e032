"""Watchers under faults, judged: each is told each change once and in order, and all are told the same."""

from __future__ import annotations

from typing import Final

from bench.histories import Ground, HistoryViolation, TimeLimit
from bench.workloads import Workload
from primitives.errors import QuorateError, Retry, WatchOverflow
from primitives.map import Map
from primitives.position import Position
from primitives.watch import Event
from primitives.watching import Watch
from router.openers import Openers

WATCHERS_MAX: Final = 4
LIMITS_MS: Final = (100, 1000, 4000)
BUFFERS: Final = (64 * 1024, 4 << 20)
Place = tuple[int, int]
"""Partition and revision. Each command of this workload makes one event."""


class Watcher:
    """A watch that is taken up again and again, by whichever client."""

    def __init__(self, number: int) -> None:
        self.number: Final = number
        self.client: Openers | None = None
        """Who runs it at present."""
        self.start: Position | None = None
        """Where it began; None: before the first event, or not yet."""
        self.position: Position | None = None
        self.told: dict[Place, Event] = {}
        self.last: dict[int, int] = {}

    def take(self, event: Event) -> None:
        """Notes an event; raises HistoryViolation if it comes twice or out of order."""
        if event.kind == "progress":
            return
        if event.revision <= self.last.get(event.partition, -1):
            raise HistoryViolation(
                f"watcher {self.number} is told {event} after revision {self.last[event.partition]}"
            )
        self.last[event.partition] = event.revision
        self.told[event.partition, event.revision] = event

    def covers(self, place: Place) -> bool:
        """Whether the place is between where the watcher began and how far it came."""
        partition, revision = place
        if self.position is None or self.position.revision(partition) < revision:
            return False
        return self.start is None or self.start.revision(partition) < revision


class WatchWorkload(Workload):
    """Puts and removals by all callers, and a few watchers which go from client to client."""

    NAME = "watch"

    def __init__(self, name: str = "watched", *, keys: int = 8, pinned: bool = False) -> None:
        self.name = name
        self.events = 0
        """Events told to watchers."""
        self._pinned = pinned
        self._keys = [f"k{number}" for number in range(keys)]
        self._watchers: list[Watcher] = []
        self._put: dict[int, tuple[str, int]] = {}
        """By value: key and revision of puts that were acknowledged."""
        self._values = 0

    async def call(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        entries = client.map(self.name, pinned=self._pinned)
        if ground.random.randrange(10):
            await self._write(entries, ground)
            return
        watcher = self._free(ground)
        if watcher is not None:
            watcher.client = client
            limit_ms = ground.random.choice(LIMITS_MS)
            try:
                await ground.within(limit_ms, lambda: self._watch(watcher, entries, ground, None))
            except TimeLimit:
                pass
            finally:
                watcher.client = None

    def _free(self, ground: Ground) -> Watcher | None:
        free = [watcher for watcher in self._watchers if watcher.client is None]
        if len(self._watchers) < WATCHERS_MAX:
            self._watchers.append(Watcher(len(self._watchers)))
            return self._watchers[-1]
        return ground.random.choice(free) if free else None

    def died(self, client: Openers) -> None:
        """See :class:`Workload`."""
        for watcher in self._watchers:
            if watcher.client is client:
                watcher.client = None

    async def _write(self, entries: Map, ground: Ground) -> None:
        key = ground.random.choice(self._keys)
        self._values += 1
        value = self._values
        try:
            if ground.random.randrange(4):
                revision = await ground.within(
                    ground.random.choice((200, 5000, 60_000)), lambda: entries.put(key, value)
                )
                self._put[value] = key, revision
            else:
                await ground.within(5000, lambda: entries.remove(key))
        except TimeLimit:
            pass
        except QuorateError as error:
            if error.retry is Retry.NEVER:
                raise HistoryViolation(f"{self.name}: {type(error).__name__}: {error}") from error

    async def _watch(
        self, watcher: Watcher, entries: Map, ground: Ground, until: Position | None
    ) -> None:
        """Has the watcher told what happens, for ever, or until it has come as far as ``until``."""
        while True:
            buffer_bytes = ground.random.choice(BUFFERS)
            watch = entries.watch(position=watcher.position, progress=True, buffer_bytes=buffer_bytes)
            try:
                async with watch as events:
                    if watcher.position is None:
                        # So it is, too, while there is nothing to watch: that tells no place to go on from.
                        watcher.start = watcher.position = events.position
                    await self._take(watcher, events, until)
            except QuorateError as error:
                # One that is full ends, and is taken up again; others end for lack of nodes.
                if error.retry is Retry.NEVER and not isinstance(error, WatchOverflow):
                    raise HistoryViolation(f"{self.name}: {type(error).__name__}: {error}") from error
                continue
            return

    async def _take(self, watcher: Watcher, events: Watch, until: Position | None) -> None:
        while until is None or watcher.position is None or not watcher.position.covers(until):
            event = await events.__anext__()
            watcher.take(event)
            self.events += 1
            watcher.position = events.position

    async def finish(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        entries = client.map(self.name, pinned=self._pinned)
        await entries.put("end", 0)
        there = {key: value async for key, value in entries.items()}
        until = await entries.position()
        for watcher in self._watchers:
            await self._watch(watcher, entries, ground, until)
        self._judge()
        mirror: dict[object, object] = {}
        async with entries.watch(initial=True, progress=True) as events:
            async for event in events:
                if event.kind == "progress":
                    break
                mirror[event.key] = event.value
        if mirror != there:
            raise HistoryViolation(f"{self.name}: {mirror} was listed, {there} is there")

    def _judge(self) -> None:
        everything: dict[Place, Event] = {}
        for watcher in self._watchers:
            for place, event in watcher.told.items():
                if everything.setdefault(place, event) != event:
                    raise HistoryViolation(f"{self.name}: {event} and {everything[place]} at one place")
        for watcher in self._watchers:
            for place, event in everything.items():
                if watcher.covers(place) and place not in watcher.told:
                    raise HistoryViolation(f"{self.name}: watcher {watcher.number} was not told {event}")
        values = {event.value: event for event in everything.values() if event.kind == "put"}
        for value, (key, revision) in self._put.items():
            told = values.get(value)
            if told is not None and (told.key, told.revision) != (key, revision):
                raise HistoryViolation(f"{self.name}: {key} was put at {revision}, and told as {told}")
        self._judge_acknowledged(everything)

    def _judge_acknowledged(self, everything: dict[Place, Event]) -> None:
        """What was acknowledged while somebody watched was told."""
        partitions = {event.key: event.partition for event in everything.values()}
        told = {(event.key, event.revision) for event in everything.values()}
        for key, revision in self._put.values():
            partition = partitions.get(key)
            if partition is None or (key, revision) in told:
                continue
            for watcher in self._watchers:
                if watcher.covers((partition, revision)):
                    raise HistoryViolation(
                        f"{self.name}: watcher {watcher.number} was not told that {key} was put at {revision}"
                    )
