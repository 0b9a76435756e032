"""Several runs as one: what is shown together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from bench.runs.medians import Medians, group
from bench.runs.results import Failed, Measurement, Run, Shape, SubjectInfo
from bench.runs.shapes import order


@dataclass(frozen=True, slots=True)
class Merged:
    """The systems and figures of some runs."""

    runs: Sequence[Run]
    base: str
    """The system that the others are compared with."""
    subjects: Sequence[SubjectInfo]
    """Those that have figures; the base first."""
    missing: Sequence[SubjectInfo]
    by_load: Mapping[tuple[str, Shape], Medians]
    """By the system's name and the shape."""
    failed: Sequence[Failed]

    @property
    def medians(self) -> list[Medians]:
        """All of them, in the order in which they were first measured."""
        return list(self.by_load.values())

    @property
    def workloads(self) -> list[str]:
        """In the order in which they were run."""
        return list(dict.fromkeys(shape.workload for _, shape in self.by_load))

    def shapes(self, workload: str) -> list[Shape]:
        """Of a workload, in order."""
        return sorted({shape for _, shape in self.by_load if shape.workload == workload}, key=order)

    def find(self, subject: str, shape: Shape) -> Medians | None:
        """The figures of one load on one system."""
        return self.by_load.get((subject, shape))

    def of(self, workload: str) -> list[SubjectInfo]:
        """The systems that have figures of a workload."""
        having = {subject for subject, shape in self.by_load if shape.workload == workload}
        return [one for one in self.subjects if one.name in having]


def merge(runs: Sequence[Run], base: str) -> Merged:
    """The runs side by side. A system that two runs measured by the same load, or in different versions, is
    two systems; the later one is called by the number of its run, too."""
    subjects: dict[str, SubjectInfo] = {}
    measurements: list[Measurement] = []
    failed: list[Failed] = []
    for number, run in enumerate(runs, 1):
        names = _names(number, run, subjects, measurements)
        for one in run.subjects:
            name = names[one.name]
            if name not in subjects or subjects[name].missing:
                title = one.title if name == one.name else f"{one.title}, run {number}"
                subjects[name] = msgspec.structs.replace(one, name=name, title=title)
        for taken in run.measurements:
            name = names.setdefault(taken.subject, taken.subject)
            subjects.setdefault(name, SubjectInfo(name=name, title=name))
            measurements.append(msgspec.structs.replace(taken, subject=name))
        failed += [
            msgspec.structs.replace(one, subject=names.get(one.subject, one.subject)) for one in run.failed
        ]
    having = {one.subject for one in measurements}
    shown = sorted((one for one in subjects.values() if one.name in having), key=lambda one: one.name != base)
    missing = [one for one in subjects.values() if one.name not in having]
    by_load = {(one.subject, one.shape): one for one in group(measurements)}
    return Merged(list(runs), base, shown, missing, by_load, failed)


def _names(
    number: int, run: Run, subjects: dict[str, SubjectInfo], measurements: Sequence[Measurement]
) -> dict[str, str]:
    """What the systems of a run are called beside those of the runs before it."""
    taken = {(one.subject, one.shape) for one in measurements}
    again = {one.subject for one in run.measurements if (one.subject, one.shape) in taken}
    others = {
        one.name
        for one in run.subjects
        if one.name in subjects and not one.missing
        and not subjects[one.name].missing and subjects[one.name].version != one.version
    }  # fmt: skip
    apart = again | others
    return {one.name: f"{one.name} (run {number})" if one.name in apart else one.name for one in run.subjects}
