"""Elements that are there or not: a set."""

from __future__ import annotations

from dataclasses import dataclass

from bench.histories import Ground, HistoryViolation, TimeLimit, within
from bench.workloads import LIMITS_MS, Workload
from primitives.errors import QuorateError, Retry
from router.openers import Openers


@dataclass(slots=True)
class _Known:
    """What calls on an element came to."""

    added: int = 0
    """Calls that were told that they added it."""
    removed: int = 0
    perhaps_added: int = 0
    """Calls that may have added it, those under way among them."""
    perhaps_removed: int = 0


class SetWorkload(Workload):
    """A few elements, added and removed: who is told to have added one, and who to have removed it, take
    turns."""

    NAME = "set"

    def __init__(self, name: str = "tags", *, elements: int = 5) -> None:
        self.name = name
        self._known = {f"e{number}": _Known() for number in range(elements)}

    async def call(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        element = ground.random.choice(list(self._known))
        known = self._known[element]
        of = client.set(self.name, pinned=True)
        adds = ground.random.random() < 0.5
        limit_ms = ground.random.choice(LIMITS_MS)
        many = ground.random.randrange(4) == 0

        async def change() -> bool:
            if many:
                return bool(await (of.add_all if adds else of.discard_all)([element]))
            return await (of.add if adds else of.remove)(element)

        # From the beginning, for a client that dies in its call says nothing of it.
        known.perhaps_added += adds
        known.perhaps_removed += not adds
        done = False
        try:
            done = await within(ground, limit_ms, change)
        except (TimeLimit, QuorateError) as error:
            retry = error.retry if isinstance(error, QuorateError) else Retry.AMBIGUOUS
            if retry is Retry.NEVER:
                raise HistoryViolation(f"{self.name}: {type(error).__name__}: {error}") from error
            if retry is Retry.AMBIGUOUS:
                return
        known.perhaps_added -= adds
        known.perhaps_removed -= not adds
        known.added += done and adds
        known.removed += done and not adds

    async def finish(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        of = client.set(self.name, pinned=True)
        there = [element async for element in of]
        if len(there) != await of.size() or len(there) != len(set(there)):
            raise HistoryViolation(f"{self.name}: {there} are not {await of.size()} elements")
        for element, known in self._known.items():
            is_there = await of.contains(element)
            if is_there is not (element in there):
                raise HistoryViolation(f"{self.name}: {element} is told to be there and not to be")
            balance = known.added - known.removed
            if not balance - known.perhaps_removed <= is_there <= balance + known.perhaps_added:
                raise HistoryViolation(f"{self.name}: {element} is there: {is_there}, with {known}")
