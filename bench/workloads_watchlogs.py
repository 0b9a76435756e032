"""Writers of a map and logs of watchers, which are cut off and go on elsewhere, and must all tell the same.

A log is what one watcher after the other has written down: each begins at the position where the one before
ended, as whichever client, at whichever node. Every change of the map must be in every log, once, in order.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar, Final

from bench.histories import Ground, History, HistoryViolation, Operation, TimeLimit, complete
from bench.workloads import LIMITS_MS, Workload
from primitives.errors import QuorateError, Retry, WatchOverflow
from primitives.map import Map
from primitives.position import Position
from primitives.watch import BUFFER_BYTES, Event
from primitives.watching import Watch
from router.openers import Openers

AT_ONCE_MS: Final = 1
"""What is in a watch's buffer is given without waiting."""


def _is_current(events: Watch) -> bool:
    """Whether all of the watch has caught up once, so that answers wait for its events."""
    port: Any = events._stream
    return bool(port._watch.streams) and all(stream.holds for stream in port._watch.streams)


class WatchLog:
    """What successive watchers were told."""

    __slots__ = ("events", "position", "start", "user")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.start: Position | None = None
        """Where the log begins; None: with the map's first event."""
        self.position: Position | None = None
        """Behind the last event written down; None: nothing was."""
        self.user: Openers | None = None
        """Who writes at present."""

    def begins(self, partition: int) -> int:
        """The revision above which the log has a partition's events."""
        return 0 if self.start is None else self.start.revision(partition)


class WatchLogWorkload(Workload):
    """Changes of a small map, and logs of what its watchers are told."""

    NAME = "watch-log"
    KEYS: ClassVar[int] = 6

    def __init__(self, name: str = "logged", *, logs: int = 4, pinned: bool = False) -> None:
        self.name = name
        self._pinned = pinned
        self._partitions = 1 if pinned else 3
        self._logs = [WatchLog() for _ in range(logs)]
        self._history = History()
        self._keys = [f"k{number}" for number in range(self.KEYS)]
        self._written: list[tuple[str, Operation]] = []
        """For each value, which begins with its number, from 1: its key, and the call that writes it."""

    async def call(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        free = [log for log in self._logs if log.user is None]
        if free and (not self._written or ground.random.randrange(3) == 0):
            await self._watch(client, ground, ground.random.choice(free))
        else:
            await self._change(client, ground)

    def died(self, client: Openers) -> None:
        """See :class:`Workload`."""
        for log in self._logs:
            if log.user is client:
                log.user = None

    async def finish(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        entries = self._map(client)
        last: dict[str, str] = {}
        for key in self._keys:
            last[key], operation = self._begin(ground, key)
            operation.position = await entries.put(key, last[key])
            operation.ended_ms = ground.now_ms()
        for log in self._logs:
            if log.position is not None:
                await self._read_up(client, ground, log, last)
        logs = [log for log in self._logs if log.position is not None]
        if logs:
            self._judge(logs)
        found = {key: value async for key, value in entries.items()}
        if found != last:
            raise HistoryViolation(f"{self.name} holds {found}, not {last}")

    # --- Changes --------------------------------------------------------------------------------------------

    def _map(self, client: Openers) -> Map:
        if self._pinned:
            return client.map(self.name, pinned=True)
        return client.map(self.name, partitions=self._partitions)

    def _begin(self, ground: Ground, key: str) -> tuple[str, Operation]:
        """A value that nobody else writes, and the call that is to write it."""
        number = len(self._written) + 1
        operation = self._history.begin(ground, f"put {key} {number}", writes=True)
        self._written.append((key, operation))
        return f"{number} " + "." * ground.random.choice((0, 0, 1500)), operation

    async def _put(self, entries: Map, ground: Ground, key: str) -> int | None:
        """The change's revision, if it is known."""
        value, operation = self._begin(ground, key)
        ttl = ground.random.choice((None, None, 0.5))
        limit_ms = ground.random.choice(LIMITS_MS)
        call = entries.put
        return await complete(operation, ground, lambda: call(key, value, ttl=ttl), lambda at: at, limit_ms)

    async def _change(self, client: Openers, ground: Ground) -> None:
        entries = self._map(client)
        key = ground.random.choice(self._keys)
        kind = ground.random.randrange(12)
        if kind < 9:
            await self._put(entries, ground, key)
            return
        operation = self._history.begin(ground, "remove or clear", writes=True)
        if kind < 11 or not self._pinned:  # To clear several partitions at once takes tasks.
            await complete(operation, ground, lambda: entries.remove(key), lambda _: None)
        else:
            await complete(operation, ground, entries.clear, lambda _: None)

    # --- Watchers -------------------------------------------------------------------------------------------

    async def _watch(self, client: Openers, ground: Ground, log: WatchLog) -> None:
        """Writes the log on for a while."""
        log.user = client
        entries = self._map(client)
        try:
            room = ground.random.choice((4096, BUFFER_BYTES))
            watch = entries.watch(position=log.position, previous=True, buffer_bytes=room)
            async with watch as events:
                if log.position is None:
                    log.start = log.position = events.position
                until_ms = ground.now_ms() + ground.random.choice((50, 500, 2000))
                while (left_ms := until_ms - ground.now_ms()) > 0:
                    await self._take(ground, log, events, min(left_ms, ground.random.choice((1, 20, 300))))
                    if ground.random.randrange(4) == 0:
                        is_current = _is_current(events)
                        revision = await self._put(entries, ground, ground.random.choice(self._keys))
                        if is_current:
                            await self._see(ground, log, events, revision)
        except QuorateError as error:
            if error.retry is Retry.NEVER and not isinstance(error, WatchOverflow):
                raise HistoryViolation(f"{self.name}: {type(error).__name__}: {error}") from error
        finally:
            if log.user is client:
                log.user = None

    async def _take(self, ground: Ground, log: WatchLog, events: Watch, limit_ms: int) -> Event | None:
        try:
            event = await ground.within(limit_ms, events.__anext__)
        except TimeLimit:
            return None
        log.events.append(event)
        log.position = events.position
        return event

    async def _see(self, ground: Ground, log: WatchLog, events: Watch, revision: int | None) -> None:
        """Whoever is told of a change has its event in the buffer."""
        while revision is not None:
            event = await self._take(ground, log, events, AT_ONCE_MS)
            if event is None:
                raise HistoryViolation(f"{self.name}: {revision} was answered before its event came")
            if event.revision == revision and event.kind == "put":
                return

    async def _read_up(self, client: Openers, ground: Ground, log: WatchLog, last: dict[str, str]) -> None:
        """Writes the log on to its end, through as many watches as that takes."""
        missing = set(last.values())
        while missing:
            try:
                async with self._map(client).watch(position=log.position, previous=True) as events:
                    while missing:
                        event = await events.__anext__()
                        log.events.append(event)
                        log.position = events.position
                        missing.discard(event.value)
            except QuorateError as error:
                if error.retry is Retry.NEVER:
                    raise HistoryViolation(f"{self.name}: {type(error).__name__}: {error}") from error

    # --- The judgement --------------------------------------------------------------------------------------

    def _judge(self, logs: list[WatchLog]) -> None:
        for partition in range(self._partitions):
            self._judge_partition(partition, logs)
        whole = next((log for log in logs if log.start is None), None)
        if whole is not None:
            self._judge_whole(whole)

    def _judge_partition(self, partition: int, logs: list[WatchLog]) -> None:
        """All logs tell the same, each from where it begins."""
        longest = min(logs, key=lambda log: log.begins(partition))
        all_told = [event for event in longest.events if event.partition == partition]
        for before, event in pairwise(all_told):
            if event.revision <= before.revision:
                raise HistoryViolation(f"{self.name}: {event} was told behind {before}")
        for log in logs:
            told = [event for event in log.events if event.partition == partition]
            wanted = [event for event in all_told if event.revision > log.begins(partition)]
            if told != wanted:
                odd = next((pair for pair in zip(told, wanted, strict=False) if pair[0] != pair[1]), None)
                raise HistoryViolation(
                    f"{self.name}: of partition {partition} one log tells {len(told)} events, another"
                    f" {len(wanted)}; they part at {odd}"
                )

    def _judge_whole(self, log: WatchLog) -> None:
        """The log explains itself: each event replaces what the ones before it left; and it has every change
        that was acknowledged, at its revision."""
        held: dict[str, tuple[str, int]] = {}
        revisions: dict[int, int] = {}
        for event in log.events:
            value, _ = held.get(event.key, (None, 0))
            if event.kind == "cleared":
                held = {key: entry for key, entry in held.items() if entry[1] != event.partition}
                continue
            if event.previous != value:
                raise HistoryViolation(f"{self.name}: {event} replaced {value}")
            if event.kind == "put":
                held[event.key] = (event.value, event.partition)
                number = int(event.value.split()[0])
                key, _ = self._written[number - 1]
                if event.key != key or number in revisions:
                    raise HistoryViolation(f"{self.name}: {event} is of a change of {key}, or told twice")
                revisions[number] = event.revision
            elif event.kind not in ("removed", "expired") or held.pop(event.key, None) is None:
                raise HistoryViolation(f"{self.name}: {event} of a key that is not there")
        for number, (_, operation) in enumerate(self._written, start=1):
            told = revisions.get(number)
            acknowledged = operation.position is not None
            if (acknowledged and told != operation.position) or (operation.is_void and told is not None):
                raise HistoryViolation(f"{self.name}: {operation} was told at {told}")


class PinnedWatchLogWorkload(WatchLogWorkload):
    """The same with a map of one partition, which is cleared at times."""

    NAME = "watch-log-pinned"

    def __init__(self, name: str = "logged-pinned") -> None:
        super().__init__(name, pinned=True)
