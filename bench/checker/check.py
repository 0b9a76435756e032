"""The verdict on a history: part by part, within bounds of time and memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Final

from bench.checker.moves import BadResult
from bench.checker.objects import Part, parts, problem, show, trail
from bench.checker.operations import KINDS
from bench.checker.reads import check_reads
from bench.checker.record import Call, History, HistoryFormatError
from bench.checker.search import Found, search
from bench.checker.shrink import first_wrong
from bench.checker.watches import check_watches

VALID: Final = "valid"
VIOLATION: Final = "violation"
UNDECIDED: Final = "undecided"

SECONDS: Final = 60.0
MEMORY_MB: Final = 1024.0
WINDOW_CALLS: Final = 16
"""Calls around a violation that are shown."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was found of one part of a history."""

    check: str
    """``linearizable``, ``reads`` or ``watch``."""
    title: str
    """Of the object, and of the key if it is of one alone."""
    outcome: str
    """``valid``, ``violation`` or ``undecided``."""
    calls: int
    """How many were judged."""
    reason: str = ""
    """In words; empty if valid."""
    blocked: Call | None = None
    """The call that cannot be placed, or whose result cannot be."""
    order: list[Call] = field(default_factory=list)
    """The order found, or the longest there is."""
    states: list[str] = field(default_factory=list)
    """Of a violation: what the object was behind each call of the order, for people."""
    window: list[Call] = field(default_factory=list)
    """The calls around a violation, in the order of their beginnings."""
    seconds: float = 0.0
    configurations: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of a history."""

    judgements: list[Judgement]
    calls: int
    """How many the history has."""
    unjudged: int
    """Reads that need not be linearizable, of which nothing can be said: their object's state is not told by
    any one change."""

    @property
    def outcome(self) -> str:
        """``violation`` if there is one, else ``undecided`` if any part is, else ``valid``."""
        found = {judgement.outcome for judgement in self.judgements}
        return next((one for one in (VIOLATION, UNDECIDED) if one in found), VALID)

    def worst(self) -> Judgement | None:
        """The judgement to show: the violation that came first in the history, else an undecided part."""
        found = [one for one in self.judgements if one.outcome == self.outcome and one.outcome != VALID]
        return min(found, key=lambda one: one.blocked.line if one.blocked else 0, default=None)


def check(
    history: History, *, seconds: float = SECONDS, memory_mb: float = MEMORY_MB,
    progress: Callable[[int, int], object] = lambda done, of: None,
) -> Verdict:  # fmt: skip
    """Judges a history. ``seconds`` bound all searches together, ``memory_mb`` each of them; ``progress`` is
    told after each part how many calls are judged, and of how many. Raises HistoryFormatError if a result is
    of no shape that its operation has."""
    try:
        return _check(history, seconds, memory_mb, progress)
    except BadResult as error:
        line, _, reason = str(error).partition(": ")
        raise HistoryFormatError(int(line.removeprefix("line ")), reason) from error


def _check(
    history: History, seconds: float, memory_mb: float, progress: Callable[[int, int], object]
) -> Verdict:
    until = monotonic() + seconds
    # The small ones first: what they cost is little, and they use up little of the time of the others.
    found = sorted(parts(history.calls), key=lambda part: len(part.calls))
    total = sum(len(part.calls) for part in found)
    judgements = []
    done = 0
    for part in found:
        judgements.append(_judge(part, until, memory_mb))
        done += len(part.calls)
        progress(done, total)
    reads, unjudged = check_reads(history.calls)
    judgements += [
        Judgement("reads", one.title, VIOLATION if one.reason else VALID, one.judged, one.reason, one.read,
                  window=one.window)
        for one in reads
    ]  # fmt: skip
    judgements += [
        Judgement("watch", one.title, VIOLATION if one.reason else VALID, one.judged, one.reason, one.call,
                  window=one.window)
        for one in check_watches(history.calls)
    ]  # fmt: skip
    return Verdict(judgements, len(history.calls), unjudged)


def _judge(part: Part, until: float, memory_mb: float) -> Judgement:
    begun = monotonic()

    def judge(some: Part) -> Found:
        return search(problem(some), until - monotonic(), memory_mb)

    found = judge(part)
    wrong = first_wrong(part, judge) if found.blocked is not None and found.undecided is None else None
    if wrong is not None:
        found = wrong[1]
    known = {call.line: call for call in part.calls}
    order = [known[move.call.line] for move in found.order]
    judged = Judgement(
        "linearizable", part.title, VALID, len(part.calls), order=order, seconds=monotonic() - begun,
        configurations=found.configurations,
    )  # fmt: skip
    if found.undecided is not None:
        bounds = f"{len(order)} of {len(part.calls)} calls in order, {found.configurations} configurations"
        return replace(judged, outcome=UNDECIDED, reason=f"{found.undecided}: {bounds}")
    blocked = wrong[0] if wrong is not None else found.blocked.call if found.blocked is not None else None
    if blocked is None:
        return judged
    reason = f"{blocked!r} fits nowhere: {_behind(order)}, the {part.kind} is {show(part, found.state)}"
    return replace(
        judged, outcome=VIOLATION, reason=reason, blocked=blocked, window=_window(part, order, blocked),
        states=trail(part, [move.call for move in found.order]),
    )  # fmt: skip


def _behind(order: list[Call]) -> str:
    if not order:
        return "before any call"
    return f"after the {len(order)} calls that have an order" if len(order) > 1 else "after one call"


def _window(part: Part, order: list[Call], blocked: Call) -> list[Call]:
    """The calls around a violation: the last changes of the order, what overlaps the call that cannot be
    placed, and whoever brought in what it was told of."""
    end = blocked.end_line or part.calls[-1].line
    changes = [call for call in order if not KINDS[call.kind][call.op].is_query]
    wanted: dict[int, Call] = {blocked.line: blocked}

    def want(calls: list[Call]) -> None:
        for call in calls:
            if len(wanted) < WINDOW_CALLS:
                wanted.setdefault(call.line, call)

    want(changes[-2:])
    want([call for call in part.calls if call.args and blocked.result in call.args and call.line < end][-3:])
    want([call for call in part.calls if call is not blocked and call.result == blocked.result
          and call.result is not None and call.line < end][-3:])  # fmt: skip
    want(order[-6:])
    overlapping = [
        call for call in part.calls
        if call.line < end and (call.is_unknown or (call.end_line or end) > blocked.line)
    ]  # fmt: skip
    want(overlapping[-12:])
    return [wanted[line] for line in sorted(wanted)]
