"""What a run measures, in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from bench.runs.results import Shape
from bench.runs.subjects import Subject
from bench.runs.workloads import OPEN_CALLERS, WORKLOADS

START_S: Final = 5.0
"""About what a cluster takes to be started and stopped."""
LOADER_S: Final = 1.0
"""About what a loader takes to begin, and to prepare what it needs."""
MORE_S: Final = {"recovery": 6.0, "fanout": 5.0}
"""About what some workloads take beyond that."""


def shapes(
    workloads: Sequence[str], *, callers: Sequence[int] | None = None, groups: Sequence[int] = (16,),
    value_bytes: Sequence[int] | None = None, rate: float | None = None, nodes: int = 3, keys: int = 1000,
) -> list[Shape]:  # fmt: skip
    """Everything that is asked for, without repetition, in order, but recovery last. Raises ValueError for
    what cannot be, or KeyError for an unknown workload."""
    found: dict[Shape, None] = {}
    for name in workloads:
        kind = WORKLOADS[name]
        if rate is not None and not kind.at_rate:
            raise ValueError(f"calls of {name} cannot be begun at a rate")
        counts = kind.callers if kind.fixed_callers else callers
        if counts is None:
            counts = kind.callers if rate is None else (OPEN_CALLERS,)
        sizes = (value_bytes or kind.value_bytes or (128,)) if kind.has_values else (128,)
        for group_count in groups:
            for size in sizes:
                for count in counts:
                    shape = Shape(
                        workload=kind.load or name, callers=count, groups=group_count, nodes=nodes,
                        value_bytes=size, keys=keys, rate=rate,
                    )  # fmt: skip
                    found[shape] = None
    # A node that was killed has lost its caches, and leads less for a while: nothing is measured behind that.
    return sorted(found, key=lambda shape: shape.workload == "recovery")


@dataclass(frozen=True, slots=True)
class Step:
    """One measurement to make."""

    subject: Subject
    shape: Shape
    repeat: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Measurements on one cluster, which is started for them."""

    server: Subject
    """Which starts it."""
    nodes: int
    groups: int
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run. Only one cluster runs at a time: even one that nobody asks takes processor time from others.
    Servers take turns, forwards and then backwards, so that what changes slowly meets all of them alike."""

    subjects: Sequence[Subject] = ()
    shapes: Sequence[Shape] = ()
    repeats: int
    seconds: float
    warm_up: float

    def batches(self) -> Iterator[Batch]:
        """In the order in which they are run."""
        servers: dict[str, list[Subject]] = {}
        for subject in self.subjects:
            servers.setdefault(subject.server, []).append(subject)
        for repeat in range(self.repeats):
            for nodes, groups in dict.fromkeys((shape.nodes, shape.groups) for shape in self.shapes):
                order = list(servers.values())
                for subjects in order if repeat % 2 == 0 else reversed(order):
                    steps = tuple(self._steps(subjects, nodes, groups, repeat))
                    if steps:
                        yield Batch(subjects[0], nodes, groups, steps)

    def _steps(self, subjects: Sequence[Subject], nodes: int, groups: int, repeat: int) -> Iterator[Step]:
        for shape in self.shapes:
            if (shape.nodes, shape.groups) != (nodes, groups):
                continue
            for subject in subjects if repeat % 2 == 0 else reversed(subjects):
                if shape.workload in subject.workloads:
                    yield Step(subject, shape, repeat)

    @property
    def count(self) -> int:
        """Of the measurements."""
        return sum(len(batch.steps) for batch in self.batches())

    def expected_s(self, step: Step) -> float:
        """About what a measurement takes, without the cluster's start."""
        return self.seconds + self.warm_up + LOADER_S + MORE_S.get(step.shape.workload, 0.0)

    @property
    def total_s(self) -> float:
        """About what all of it takes."""
        return sum(START_S + sum(map(self.expected_s, batch.steps)) for batch in self.batches())
