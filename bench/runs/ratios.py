"""How many times better one system is than another."""

from __future__ import annotations

from bench.runs.medians import P99, THROUGHPUT, Figure, Medians, more_is_better
from bench.runs.results import Shape


def headline(shape: Shape) -> Figure:
    """What a load is judged by first: operations a second, but at a rate, which all reach that can, how long
    the slowest hundredth takes."""
    return THROUGHPUT if shape.rate is None else P99


def times_better(name: str, base: Medians | None, peer: Medians | None) -> float | None:
    """Above 1 where ``base`` is better by the figure of that name; None where one has none, or has 0."""
    ours, theirs = (side.figures.get(name) if side else None for side in (base, peer))
    if ours is None or theirs is None or not ours.median or not theirs.median:
        return None
    ratio = ours.median / theirs.median
    return ratio if more_is_better(name) else 1 / ratio
