"""Which faults come in which episode: all of them by turns, in an order that the seed decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from random import Random
from typing import Final

from bench.processes.episode import CALM, Plan
from bench.processes.faults import Fault

SECONDS: Final = (60.0, 110.0)
"""Of an episode's load."""


def plans(
    seed: int, nodes: Sequence[int], faults: Sequence[type[Fault]], workloads: Sequence[str],
    length: tuple[float, float] = SECONDS,
) -> Iterator[Plan]:  # fmt: skip
    """Episodes without end, each with between so many seconds of load."""
    deck: list[type[Fault]] = []
    for number in count(1):
        random = Random(f"{seed}/{number}")
        seconds = random.uniform(*length)
        dealt = _deal(deck, faults, random, seconds)
        size = nodes[(number - 1) % len(nodes)]
        yield Plan(number, f"{seed}/{number}", size, dealt, workloads, seconds)


def _deal(
    deck: list[type[Fault]], faults: Sequence[type[Fault]], random: Random, seconds: float
) -> list[type[Fault]]:
    """Takes the next faults for so many seconds off the deck, passing over those that cannot be together."""
    dealt: list[type[Fault]] = []
    last: type[Fault] | None = None
    store: str | None = None
    passed: list[type[Fault]] = []
    expected = 0.0
    for _ in range(4 * len(faults) + 8):
        if expected >= seconds:
            break
        if not deck:
            deck += random.sample(faults, len(faults))
        kind = deck.pop(0)
        if (kind.STORE and store and store != kind.STORE) or (kind.IS_LAST and last):
            passed.append(kind)
            continue
        store = store or kind.STORE
        expected += sum(kind.SECONDS) / 2 + sum(CALM) / 2 + kind.OVERHEAD_SECONDS
        if kind.IS_LAST:
            last = kind
        else:
            dealt.append(kind)
    deck[:0] = passed
    return [*dealt, last] if last else dealt
