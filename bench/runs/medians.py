"""What the repeats of a measurement say together: the median of each figure, and how far they lie apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Final, NamedTuple

from bench.runs.results import Measurement, Shape


class Figure(NamedTuple):
    """Something that is measured."""

    name: str
    """With the unit in it."""
    more_is_better: bool
    of: Callable[[Measurement], float | None]
    """None where it was not measured."""


def _per_operation(one: Measurement, amount: float | None) -> float | None:
    return amount / one.load.operations if amount is not None and one.load.operations else None


def _servers_cpu(one: Measurement) -> float | None:
    return _per_operation(one, one.cost.cpu_seconds * 1e6 if one.cost else None)


def _client_cpu(one: Measurement) -> float | None:
    return _per_operation(one, one.load.cpu_seconds * 1e6 if one.load.cpu_seconds is not None else None)


def _memory(one: Measurement) -> float | None:
    return max(one.cost.resident_mb, default=None) if one.cost else None


def _written(one: Measurement) -> float | None:
    return _per_operation(one, one.cost.written_bytes if one.cost else None)


def _syncs(one: Measurement) -> float | None:
    return _per_operation(one, one.cost.syncs if one.cost else None)


def _failed(one: Measurement) -> float:
    failed = one.load.errors + one.load.extra.get("given_up_calls", 0.0)
    calls = one.load.operations + failed
    return 100 * failed / calls if calls else 0.0


THROUGHPUT: Final = Figure("ops/s", True, lambda one: one.rate)
P50: Final = Figure("p50 ms", False, lambda one: one.load.p50_ms)
P99: Final = Figure("p99 ms", False, lambda one: one.load.p99_ms)
SERVER_CPU: Final = Figure("servers' CPU µs/op", False, _servers_cpu)
CLIENT_CPU: Final = Figure("client's CPU µs/op", False, _client_cpu)
MEMORY: Final = Figure("memory MB of the largest node", False, _memory)
CLIENT_MEMORY: Final = Figure("memory MB of the client", False, lambda one: one.load.peak_mb)
WRITTEN: Final = Figure("bytes written/op", False, _written)
SYNCS: Final = Figure("syncs/op", False, _syncs)
FAILED: Final = Figure("failed %", False, _failed)

FIGURES: Final = (
    THROUGHPUT, P50, P99, SERVER_CPU, CLIENT_CPU, MEMORY, CLIENT_MEMORY, WRITTEN, SYNCS, FAILED,
)  # fmt: skip
"""That every workload has; some have more, which their loads name."""
_ENDINGS: Final = {"_per_s": True, "_s": False, "_ms": False, "_us": False, "_mb": False, "_bytes": False}
"""Units by which a figure that a load names is known to be better if it is more, or less. Others only say
what was done."""


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure of all repeats."""

    values: tuple[float, ...]
    """In ascending order; at least one."""

    @property
    def median(self) -> float:
        """The one in the middle, or the mean of the two."""
        return median(self.values)

    @property
    def low(self) -> float:
        """The least."""
        return self.values[0]

    @property
    def high(self) -> float:
        """The most."""
        return self.values[-1]

    @property
    def relative(self) -> float:
        """From the least to the most, as a part of the median; 0 if all are 0."""
        return (self.high - self.low) / self.median if self.median else 0.0


@dataclass(frozen=True, slots=True)
class Medians:
    """One load on one system, all repeats together."""

    subject: str
    shape: Shape
    measurements: tuple[Measurement, ...]
    figures: Mapping[str, Spread]
    """By name; those that were measured."""

    def median(self, figure: Figure) -> float | None:
        """Of a figure, if it was measured."""
        spread = self.figures.get(figure.name)
        return None if spread is None else spread.median


def group(measurements: Iterable[Measurement]) -> list[Medians]:
    """The repeats of each load on each system, in the order in which they first come."""
    found: dict[tuple[str, Shape], list[Measurement]] = {}
    for one in measurements:
        found.setdefault((one.subject, one.shape), []).append(one)
    return [Medians(subject, shape, tuple(ones), _spreads(ones)) for (subject, shape), ones in found.items()]


def _spreads(measurements: Iterable[Measurement]) -> dict[str, Spread]:
    values: dict[str, list[float]] = {}
    for one in measurements:
        measured = {figure.name: figure.of(one) for figure in FIGURES}
        for name, value in {**measured, **one.load.extra}.items():
            if value is not None:
                values.setdefault(name, []).append(value)
    return {name: Spread(tuple(sorted(found))) for name, found in values.items()}


def more_is_better(name: str) -> bool | None:
    """Of a figure by its name; None if neither is better."""
    known = next((figure for figure in FIGURES if figure.name == name), None)
    if known is not None:
        return known.more_is_better
    return next((better for ending, better in _ENDINGS.items() if name.endswith(ending)), None)
