"""Carries a plan of faults out. The plan is drawn beforehand, so that it can be kept, told, and made smaller.

Each seed draws its own mix of kinds and its own pace, so that some runs see one kind only and others all of
them at once. :meth:`Nemesis.heal` ends everything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from random import Random
from typing import Final

from bench.world.clock import Heap
from bench.world.faults import KINDS, Course, Kind
from bench.world.target import Fault, Target
from primitives.ids import NodeId

Plan = tuple[Fault, ...]
QUIET_MS: Final = (500, 2000)
"""At the beginning, in which the cluster forms."""


def draw_plan(
    random: Random, nodes: Sequence[NodeId], kinds: Sequence[str], until_ms: int,
    known: Mapping[str, Kind] = KINDS,
) -> Plan:  # fmt: skip
    """Faults that begin before ``until_ms``, of a mix of ``kinds``: often a few, sometimes all. ``known`` has
    what each is."""
    if not kinds:
        return ()
    count = random.choice((1, 2, 3, len(kinds)))
    pace = random.choice((100, 400, 1500))
    last = random.choice((200, 800, 3000))
    chosen = sorted(random.sample(sorted(kinds), min(count, len(kinds))))
    faults: list[Fault] = []
    at_ms = random.randint(*QUIET_MS)
    while at_ms < until_ms:
        name = random.choice(chosen)
        kind = known[name]
        last_ms = random.randint(last // 4, last * 2) * kind.times
        faults.append(Fault(at_ms, name, last_ms, kind.draw(random, nodes)))
        at_ms += random.randint(pace // 4, pace * 2)
    return tuple(faults)


class Nemesis:
    """Carries a plan out on a target."""

    def __init__(
        self, heap: Heap, target: Target, plan: Plan, known: Mapping[str, Kind] = KINDS
    ) -> None:
        self._heap = heap
        self._target = target
        self._kinds = known
        self.plan: Final = plan
        self.begun: Final[Counter[str]] = Counter()
        """How many faults of each kind have begun."""
        self._ended = False
        self._open: dict[int, Course] = {}
        """The courses under way, by the number of the fault in the plan."""

    def start(self) -> None:
        """Puts every fault of the plan on the heap."""
        for number, fault in enumerate(self.plan):
            self._heap.at(fault.at_ms, partial(self._begin, number))

    def heal(self) -> None:
        """Ends every fault now and begins no more."""
        self._ended = True
        for number in sorted(self._open):
            self._go_on(number, False)
        for node in self._target.nodes:
            if not self._target.is_up(node):
                self._target.restart(node)

    def _begin(self, number: int) -> None:
        if self._ended:
            return
        fault = self.plan[number]
        course = self._kinds[fault.kind].course(self._target, fault.details)
        self.begun[fault.kind] += 1
        try:
            wait_ms = next(course)
        except StopIteration:
            return
        self._open[number] = course
        self._heap.after(fault.last_ms, lambda: self._go_on(number, False))
        self._wait(number, wait_ms)

    def _wait(self, number: int, wait_ms: int | None) -> None:
        if wait_ms is not None:
            self._heap.after(wait_ms, lambda: self._go_on(number, True))

    def _go_on(self, number: int, goes_on: bool) -> None:
        course = self._open.get(number)
        if course is None:
            return
        try:
            wait_ms = course.send(goes_on)
        except StopIteration:
            del self._open[number]
        else:
            self._wait(number, wait_ms)
