"""How the shapes of loads are told to people: what varies among them, and what all of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from bench.runs.results import Shape


class Dimension(NamedTuple):
    """One way in which loads differ."""

    name: str
    """Of the field of a shape."""
    title: str
    told: Callable[[Any], str]
    """A value, with its unit."""


def _counted(noun: str) -> Callable[[int], str]:
    return lambda number: f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def told_bytes(number: float) -> str:
    """Like ``128 B`` or ``64 KiB``."""
    unit = next((size for size in (2**20, 2**10) if number >= size and not number % size), 1)
    return f"{number / unit:g} {({1: 'B', 2**10: 'KiB', 2**20: 'MiB'})[unit]}"


def _told_rate(rate: float | None) -> str:
    return "" if rate is None else f"{rate:,g}/s due"


DIMENSIONS: Final = (
    Dimension("rate", "calls due a second", _told_rate),
    Dimension("callers", "callers", _counted("caller")),
    Dimension("groups", "groups", _counted("group")),
    Dimension("value_bytes", "size of values", told_bytes),
    Dimension("keys", "keys", _counted("key")),
    Dimension("nodes", "nodes", _counted("node")),
)
"""All but the workload."""


def varying(shapes: Iterable[Shape]) -> list[Dimension]:
    """Those in which the shapes differ."""
    known = set(shapes)
    return [one for one in DIMENSIONS if len({getattr(shape, one.name) for shape in known}) > 1]


def told(shape: Shape, dimensions: Sequence[Dimension]) -> str:
    """The shape in these dimensions: ``64 callers, 128 B``."""
    return ", ".join(filter(None, (one.told(getattr(shape, one.name)) for one in dimensions)))


def shared(shapes: Iterable[Shape]) -> str:
    """What all of them have, like ``3 nodes, 16 groups``."""
    known = list(shapes)
    vary = varying(known)
    return told(known[0], [one for one in DIMENSIONS[::-1] if one not in vary])


def loads_told(shapes: Iterable[Shape]) -> dict[Shape, str]:
    """Each by its difference from the others of its workload; by its callers if there is none."""
    by_workload: dict[str, list[Shape]] = {}
    for shape in shapes:
        by_workload.setdefault(shape.workload, []).append(shape)
    callers = [one for one in DIMENSIONS if one.name == "callers"]
    return {
        shape: told(shape, vary)
        for ones in by_workload.values()
        for vary in [varying(ones) or callers]
        for shape in ones
    }


def order(shape: Shape) -> tuple[Any, ...]:
    """By which shapes of a workload are sorted: closed loops first."""
    values = (getattr(shape, one.name) for one in DIMENSIONS if one.name != "rate")
    return (shape.rate is not None, shape.rate or 0.0, *values)
