"""How many times better one system is than another."""

from __future__ import annotations

from typing import Final

from bench.runs.medians import P50, P99, THROUGHPUT, Medians, more_is_better
from bench.runs.results import Shape

_HEADLINES: Final = {"recovery": "gap_s", "election": P50.name}
"""Of workloads in which one thing is waited for."""


def headline(shape: Shape) -> str:
    """The name of the figure that a load is judged by first: operations a second, but at a rate, which all
    reach that can, how long the slowest hundredth takes."""
    return P99.name if shape.rate is not None else _HEADLINES.get(shape.workload, THROUGHPUT.name)


def times_better(name: str, base: Medians | None, peer: Medians | None) -> float | None:
    """Above 1 where ``base`` is better by the figure of that name; None where one has none, or has 0."""
    ours, theirs = (side.figures.get(name) if side else None for side in (base, peer))
    if ours is None or theirs is None or not ours.median or not theirs.median:
        return None
    ratio = ours.median / theirs.median
    return ratio if more_is_better(name) else 1 / ratio
