"""Writes on conditions, and writes that tell what was there before: of a map, a value and a counter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from bench.histories import Ground, attempt
from bench.workloads import LIMITS_MS, Workload
from router.openers import Openers

Call = Callable[[], Awaitable[Any]]

GUESSES: Final = (0, 1, 2)
"""Values: so few that a guess of what is there is often right."""


class ConditionWorkload(Workload):
    """A few entries of a map, a value and a counter, changed by every operation that compares first or tells
    what it replaced. The search in the history judges the answers: nothing else knows what was there."""

    NAME = "conditions"

    def __init__(self, name: str = "conditions", *, keys: int = 3) -> None:
        self.name = name
        self._keys = [f"k{number}" for number in range(keys)]
        self._revisions: dict[str, int] = {}
        """By key of the map and by name of the value: the last revision that somebody was told."""

    async def call(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        kind = ground.random.randrange(4)
        if kind < 2:
            made = self._of_map(client, ground)
        else:
            made = self._of_value(client, ground) if kind == 2 else self._of_counter(client, ground)
        await attempt(ground, ground.random.choice(LIMITS_MS), made)

    async def finish(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`. Last looks, which the search has to explain."""
        entries = client.map(self.name)
        for key in self._keys:
            await entries.entry(key)
        await client.value(self.name + "/value").entry()
        await client.counter(self.name + "/counter").get()

    def _of_map(self, client: Openers, ground: Ground) -> Call:
        entries, key = client.map(self.name), ground.random.choice(self._keys)
        old, new, revision = _guess(ground), _guess(ground), self._revisions.get(key, 1)
        return ground.random.choice((
            partial(entries.put_if_absent, key, new),
            partial(entries.get_and_put, key, new),
            partial(entries.compare_and_set, key, old, new),
            partial(entries.compare_and_set, key, old, new),
            partial(entries.replace, key, new, revision=revision),
            partial(entries.increment, key, new),
            partial(entries.remove, key),
            partial(entries.remove, key, revision=revision),
            partial(self._look, entries, key, key),
        ))  # fmt: skip

    def _of_value(self, client: Openers, ground: Ground) -> Call:
        name = self.name + "/value"
        value, old, new = client.value(name), _guess(ground), _guess(ground)
        revision = self._revisions.get(name, 0)
        return ground.random.choice((
            partial(value.get_and_set, new),
            partial(value.compare_and_set, ground.random.choice((old, None)), new),
            partial(value.compare_and_set, old, new),
            partial(value.replace, new, revision=revision),
            value.unset,
            partial(value.unset, revision=revision),
            partial(self._look, value, name),
        ))  # fmt: skip

    def _of_counter(self, client: Openers, ground: Ground) -> Call:
        counter, old, new = client.counter(self.name + "/counter"), _guess(ground), _guess(ground)
        return ground.random.choice((
            partial(counter.get_and_add, new),
            partial(counter.compare_and_set, old, new),
            partial(counter.compare_and_set, old, new),
            partial(counter.add, -new),
            partial(counter.set, new),
            counter.get,
        ))  # fmt: skip

    async def _look(self, handle: Any, at: str, *key: str) -> None:
        """Reads an entry, and remembers its revision for conditions to come."""
        entry = await handle.entry(*key)
        if entry is not None:
            self._revisions[at] = max(entry.revision, self._revisions.get(at, 0))


def _guess(ground: Ground) -> int:
    return ground.random.choice(GUESSES)
