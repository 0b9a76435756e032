"""Reads at every level from whichever replica answers, judged: for no client does time go back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeVar

from bench.histories import Ground, HistoryViolation, attempt
from bench.workloads import Workload
from primitives.handle import LINEARIZABLE, SEQUENTIAL, Causal, ReadLevel, Stale
from primitives.map import Entry, Map
from primitives.position import Position
from router.openers import Openers

T = TypeVar("T")

LIMITS_MS: Final = (None, None, 300, 3000)
AGES_MS: Final = (50, 500, 3000)
HANDED_MAX: Final = 50


class Handed(NamedTuple):
    """A position that some client gave away, and what it had been told by then: revisions by key."""

    position: Position
    told: dict[str, int]


class ReadWorkload(Workload):
    """Puts, and reads at all levels, of a few entries. Each put writes a value of its own, so revisions tell
    which put a read saw. An answer must hold

    - all that its client was told by calls that had ended before (at every level);
    - all that a position's giver had been told when it gave it (causal);
    - all puts that had ended ``max_age`` before the query began (stale), or when it began (linearizable).
    """

    NAME = "reads"

    def __init__(self, name: str = "read", *, keys: int = 6, pinned: bool = False) -> None:
        self.name = name
        self.reads = 0
        """Reads that were answered and checked."""
        self._pinned = pinned
        self._keys = [f"k{number}" for number in range(keys)]
        self._told: dict[Openers, dict[str, int]] = {}
        self._put: dict[str, list[tuple[int, int]]] = {key: [] for key in self._keys}
        """By key, the ends and revisions of puts that ended, the revisions ascending."""
        self._handed: list[Handed] = []
        self._values = 0

    async def call(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        entries = client.map(self.name, pinned=self._pinned)
        key = ground.random.choice(self._keys)
        kind = ground.random.randrange(20)
        if kind < 4:
            await self._write(client, entries, ground, key)
        elif kind < 6:
            await self._hand(client, entries, ground)
        elif kind < 8:
            await self._read(client, entries, ground, key, LINEARIZABLE, self._acknowledged(key, ground, 0))
        elif kind < 11:
            age_ms = ground.random.choice(AGES_MS)
            floor = self._acknowledged(key, ground, age_ms)
            await self._read(client, entries, ground, key, Stale(age_ms / 1000), floor)
        elif kind < 15 and self._handed:
            handed = ground.random.choice(self._handed)
            floor = handed.told.get(key, 0)
            await self._read(client, entries, ground, key, Causal(handed.position), floor)
        else:
            await self._read(client, entries, ground, key, SEQUENTIAL, 0)

    async def finish(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        entries = client.map(self.name, pinned=self._pinned)
        for key in self._keys:
            for level in (LINEARIZABLE, SEQUENTIAL, Stale(1.0)):
                floor = self._acknowledged(key, ground, 1000 if isinstance(level, Stale) else 0)
                floor = 0 if level is SEQUENTIAL else floor
                await self._read(client, entries, ground, key, level, floor)

    def died(self, client: Openers) -> None:
        """See :class:`Workload`."""
        self._told.pop(client, None)

    def _acknowledged(self, key: str, ground: Ground, age_ms: int) -> int:
        """The highest revision of a put of ``key`` that had ended so long ago."""
        until_ms = ground.now_ms() - age_ms
        return max((revision for ended_ms, revision in self._put[key] if ended_ms < until_ms), default=0)

    async def _write(self, client: Openers, entries: Map, ground: Ground, key: str) -> None:
        self._values += 1
        value = self._values
        revision = await _within(ground, lambda: entries.put(key, value))
        if revision is not None:
            self._put[key] = [*self._put[key][-20:], (ground.now_ms(), revision)]
            self._learn(client, key, revision)

    async def _hand(self, client: Openers, entries: Map, ground: Ground) -> None:
        """The client gives its position away, for others to read from."""
        told = dict(self._told.get(client, {}))
        position = await _within(ground, entries.position)
        if position is not None:
            self._handed = [*self._handed[-HANDED_MAX:], Handed(position, told)]

    async def _read(
        self, client: Openers, entries: Map, ground: Ground, key: str, level: ReadLevel, floor: int
    ) -> None:
        told = self._told.setdefault(client, {}).get(key, 0)
        found: list[Entry | None] = []

        async def ask() -> bool:
            found.append(await entries.entry(key, read=level))
            return True

        if not await _within(ground, ask):
            return
        revision = 0 if found[0] is None else found[0].revision
        self.reads += 1
        if revision < told:
            raise HistoryViolation(
                f"{self.name}: {key} at {level} is of revision {revision}; its client was told {told} before"
            )
        if revision < floor:
            raise HistoryViolation(
                f"{self.name}: {key} at {level} is of revision {revision}, though it must hold {floor}"
            )
        self._learn(client, key, revision)

    def _learn(self, client: Openers, key: str, revision: int) -> None:
        told = self._told.setdefault(client, {})
        told[key] = max(told.get(key, 0), revision)


async def _within(ground: Ground, call: Callable[[], Awaitable[T]]) -> T | None:
    """What the call gives, or None if it failed in a way that faults explain."""
    return await attempt(ground, ground.random.choice(LIMITS_MS), call)
