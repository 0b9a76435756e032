"""Makes a plan of faults smaller that still shows a bug: delta debugging over its faults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from bench.world.nemesis import Plan
from bench.world.target import Fault

TRIES_MAX: Final = 500


def shrink(plan: Plan, fails: Callable[[Plan], bool], *, tries_max: int = TRIES_MAX) -> Plan:
    """A part of ``plan`` for which ``fails`` still holds. None of its faults can be left out alone, unless
    ``tries_max`` calls did not suffice to see that."""
    kept: Sequence[Fault] = plan
    tries, parts = 0, 2
    if not kept or fails(()):
        return ()
    while len(kept) > 1 and tries < tries_max:
        size = -(-len(kept) // parts)
        for at in range(0, len(kept), size):
            rest = (*kept[:at], *kept[at + size :])
            tries += 1
            if tries > tries_max:
                break
            if rest and fails(rest):
                kept, parts = rest, max(parts - 1, 2)
                break
        else:
            if size == 1:
                break
            parts = min(parts * 2, len(kept))
    return tuple(kept)
