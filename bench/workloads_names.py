"""Names that are created, deleted and created again by several clients at once."""

from __future__ import annotations

from typing import Final

from bench.histories import Ground, HistoryViolation, Operation, complete
from bench.workloads import LIMITS_MS, Workload
from primitives.map import Map
from router.openers import Openers

SPREAD: Final = "wide"
NAMES: Final = (SPREAD, "narrow")
KEYS: Final = ("a", "b", "c")


class _Named:
    """What is known of one map: who put what, and who deleted it."""

    __slots__ = ("deletions", "puts")

    def __init__(self) -> None:
        self.puts: dict[str, dict[int, Operation]] = {key: {} for key in KEYS}
        """By key and value, which is never used twice."""
        self.deletions: list[Operation] = []

    def gone(self, put: Operation, before_ms: int) -> bool:
        """Whether a deletion that ended before then surely came behind the put."""
        return put.ended_ms is not None and any(
            one.ended_ms is not None and put.ended_ms < one.begun_ms and one.ended_ms < before_ms
            for one in self.deletions
        )

    def may_be_gone(self, put: Operation, until_ms: int, but: Operation | None = None) -> bool:
        """Whether some deletion may have come behind the put, and before then."""
        return any(
            one.begun_ms <= until_ms and (one.ended_ms is None or one.ended_ms >= put.begun_ms)
            for one in self.deletions if one is not but and not one.is_void
        )  # fmt: skip


class NamesWorkload(Workload):
    """Puts into and reads of maps that anybody deletes at any time. An entry that was put before a deletion
    is never seen again after it; one that was acknowledged after it is there until the next."""

    NAME = "names"

    def __init__(self) -> None:
        self.deleted = 0
        """Deletions that found something."""
        self._known = {name: _Named() for name in NAMES}
        self._values = 0

    async def call(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        name = ground.random.choice(NAMES)
        kind = ground.random.randrange(12)
        entries = _open(client, name)
        if kind < 2:
            await self._delete(entries, ground, name)
        elif kind < 7:
            await self._put(entries, ground, name, ground.random.choice(KEYS))
        else:
            await self._read(entries, ground, name, ground.random.choice(KEYS))

    async def finish(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        for name in NAMES:
            entries = _open(client, name)
            for key in KEYS:
                await self._read(entries, ground, name, key)
            await self._delete(entries, ground, name)
            for key in KEYS:
                await self._read(entries, ground, name, key)
                await self._put(entries, ground, name, key)
                await self._read(entries, ground, name, key)

    async def _delete(self, entries: Map, ground: Ground, name: str) -> None:
        known = self._known[name]
        operation = Operation(ground.now_ms(), f"delete {name}", True)
        known.deletions.append(operation)
        found = await complete(
            operation, ground, entries.delete, lambda _: None, ground.random.choice(LIMITS_MS)
        )
        if found:
            self.deleted += 1
        elif found is False:
            for puts in known.puts.values():
                for put in puts.values():
                    there = put.ended_ms is not None and put.ended_ms < operation.begun_ms
                    if there and not known.may_be_gone(put, ground.now_ms(), operation):
                        raise HistoryViolation(f"{operation} found nothing, yet {put} had been there")

    async def _put(self, entries: Map, ground: Ground, name: str, key: str) -> None:
        self._values += 1
        value = self._values
        operation = Operation(ground.now_ms(), f"put {name} {key} {value}", True)
        self._known[name].puts[key][value] = operation
        limit_ms = ground.random.choice(LIMITS_MS)
        await complete(operation, ground, lambda: entries.put(key, value), lambda found: found, limit_ms)

    async def _read(self, entries: Map, ground: Ground, name: str, key: str) -> None:
        known = self._known[name]
        operation = Operation(ground.now_ms(), f"read {name} {key}", False)
        told: list[int | None] = []

        async def read() -> bool:
            value = await entries.get(key)
            told.append(value if isinstance(value, int) else None)
            return True

        if not await complete(operation, ground, read, lambda _: None):
            return
        puts, value = known.puts[key], told[0]
        if value is None:
            for put in puts.values():
                there = put.ended_ms is not None and put.ended_ms < operation.begun_ms
                if there and not known.may_be_gone(put, ground.now_ms()):
                    raise HistoryViolation(f"{operation} found nothing, yet {put} had been there")
            return
        if value not in puts or puts[value].is_void:
            raise HistoryViolation(f"{operation} found {value}, which nobody put there")
        if known.gone(puts[value], operation.begun_ms):
            raise HistoryViolation(f"{operation} found {value}, which was deleted before: {puts[value]}")


def _open(client: Openers, name: str) -> Map:
    return client.map(name, partitions=4) if name == SPREAD else client.map(name, pinned=True)
