"""Two runs, or two systems of one run, figure by figure, with a verdict on each.

A figure has changed if its median moved by more than the threshold, and the repeats bear it out: the ranges
of the two sides do not touch, and the gap between them is more than half of their mean length. Of figures
that did not change, but scatter as a normal distribution does, 3.4 in a hundred pass that with three repeats
on each side, 0.6 with four; with fewer than three nothing can be told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from bench.runs.medians import FAILED, Medians, Spread, group, more_is_better
from bench.runs.results import Run, Shape
from bench.runs.shapes import order

THRESHOLD: Final = 0.05
REPEATS_MIN: Final = 3


class Verdict(StrEnum):
    """On one figure."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "same within noise"
    TOO_FEW = "too few repeats"


@dataclass(frozen=True, slots=True)
class Line:
    """One figure that both sides have."""

    subject: str
    """Whose it is; of two systems of one run, the peer that the other is compared with."""
    shape: Shape
    figure: str
    old: Spread
    new: Spread
    verdict: Verdict

    @property
    def change(self) -> float | None:
        """Of the median, as a part of the old one; None from 0."""
        return self.new.median / self.old.median - 1 if self.old.median else None


@dataclass(frozen=True, slots=True)
class Alone:
    """Figures of one load that only one side has."""

    subject: str
    shape: Shape
    side: str
    """``old`` or ``new``, or which of two systems."""
    figures: tuple[str, ...]


@dataclass(slots=True)
class Comparison:
    """All figures of two sides."""

    lines: list[Line] = field(default_factory=list)
    alone: list[Alone] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What one must know to compare: that the machines differ, for instance."""

    def of(self, verdict: Verdict) -> list[Line]:
        """The lines with that verdict."""
        return [line for line in self.lines if line.verdict is verdict]


def judge(name: str, old: Spread, new: Spread, threshold: float = THRESHOLD) -> Verdict:
    """What became of the figure of that name."""
    if min(len(old.values), len(new.values)) < REPEATS_MIN:
        return Verdict.TOO_FEW
    gap = max(new.low - old.high, old.low - new.high)
    noise = ((old.high - old.low) + (new.high - new.low)) / 4
    if gap <= noise or abs(new.median - old.median) <= threshold * old.median:
        return Verdict.SAME
    return Verdict.BETTER if (new.median > old.median) is bool(more_is_better(name)) else Verdict.WORSE


def compare_runs(old: Run, new: Run, threshold: float = THRESHOLD) -> Comparison:
    """What changed from one run to another."""
    found = Comparison(notes=list(_differences(old, new)))
    olds, news = ({(one.subject, one.shape): one for one in group(run.measurements)} for run in (old, new))
    for key in sorted((*olds, *(key for key in news if key not in olds)), key=_place):
        _add(found, *key, ("old", olds.get(key)), ("new", news.get(key)), threshold)
    return found


def compare_subjects(run: Run, base: str, threshold: float = THRESHOLD) -> Comparison:
    """How the system ``base`` does beside each other one: the other is ``old``, ``base`` is ``new``."""
    found = Comparison(notes=[f"{one.name}: {one.note}" for one in run.subjects if one.note])
    medians = {(one.subject, one.shape): one for one in group(run.measurements)}
    for peer in dict.fromkeys(subject for subject, _ in medians if subject != base):
        for shape in sorted({shape for subject, shape in medians if subject in (peer, base)}, key=_by_load):
            theirs, ours = (medians.get((name, shape)) for name in (peer, base))
            _add(found, peer, shape, (peer, theirs), (base, ours), threshold)
    return found


def _add(
    found: Comparison, subject: str, shape: Shape, old: tuple[str, Medians | None],
    new: tuple[str, Medians | None], threshold: float,
) -> None:  # fmt: skip
    """Puts the figures of one load where they belong."""
    olds, news = (_judgeable(side[1]) for side in (old, new))
    for name in (name for name in olds if name in news):
        if name != FAILED.name or olds[name].high or news[name].high:
            verdict = judge(name, olds[name], news[name], threshold)
            found.lines.append(Line(subject, shape, name, olds[name], news[name], verdict))
    for (side, _), mine, others in ((old, olds, news), (new, news, olds)):
        if only := tuple(name for name in mine if name not in others and name != FAILED.name):
            found.alone.append(Alone(subject, shape, side, only))


def _judgeable(one: Medians | None) -> dict[str, Spread]:
    """The figures of which more, or less, is better."""
    figures = one.figures if one else {}
    return {name: spread for name, spread in figures.items() if more_is_better(name) is not None}


def _place(key: tuple[str, Shape]) -> tuple[Any, ...]:
    """Where a load of a system stands among the others."""
    return (key[0], *_by_load(key[1]))


def _by_load(shape: Shape) -> tuple[Any, ...]:
    return (shape.workload, *order(shape))


def _differences(old: Run, new: Run) -> Iterable[str]:
    """What else than the systems' merits may have changed the figures."""
    for name in type(old.machine).__struct_fields__:
        was, now = getattr(old.machine, name), getattr(new.machine, name)
        if was != now:
            yield f"the machines differ: {name} was {was}, now {now}"
    versions = {one.name: one.version for one in old.subjects}
    for one in new.subjects:
        was = versions.get(one.name, one.version)
        if was != one.version:
            yield f"{one.name}: version {was or 'unknown'} before, {one.version or 'unknown'} now"
    for side, run in (("old", old), ("new", new)):
        counted = Counter((one.subject, one.shape.workload) for one in run.failed)
        for (subject, workload), count in counted.items():
            yield f"{side}: measurements of {subject}, {workload} that failed: {count}"


def counts(comparison: Comparison) -> str:
    """How many figures have which verdict, in one line."""
    parts: Sequence[str] = [f"{len(comparison.of(verdict))} {verdict}" for verdict in Verdict]
    return f"{len(comparison.lines)} figures: {', '.join(parts)}"
