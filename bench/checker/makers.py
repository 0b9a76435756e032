"""Whether the events of a partition can have been made by the calls that there were, each by one of its own.

Events happened in the order of their revisions, each between the beginning and the end of the call that made
it, and before anybody was told of it. Which of several calls that wrote the same made which event is not
known: what is wrong here is wrong for every choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import heappop, heappush
from typing import Final, NamedTuple

from bench.checker.events import ANY, Change, Event
from bench.checker.record import Call

NEVER: Final = 1 << 62
"""A line behind all others: where calls of unknown outcome end."""


class Conflict(NamedTuple):
    """Events that cannot all have been made, and why."""

    reason: str
    calls: list[Call]
    """The first is that of an event."""


class _Bound(NamedTuple):
    """A line that an event happened behind, or before."""

    line: int
    event: Event
    """Whose call, or whose being told, says so."""
    call: Call | None
    """Which says so; None: several together, or one that was told."""


def conflict(
    events: Sequence[Event], known: Mapping[int, int], placed: Mapping[tuple[int, str], Change],
    unplaced: Mapping[str, Sequence[Change]],
) -> Conflict | None:  # fmt: skip
    """What is wrong with the events of one partition that calls made; None: nothing.

    ``events``, in the order of their revisions, each once; ``known``, for each, by the line of its call, the
    line where it was first told; ``placed``: changes whose revisions are known; ``unplaced``: the others, by
    key.
    """
    classes: dict[tuple[str, str], list[Event]] = {}
    for event in events:
        if event.place not in placed:
            classes.setdefault((event.key, event.value), []).append(event)
    begins: dict[int, _Bound] = {}
    ends: dict[int, _Bound] = {}
    for (key, value), alike in classes.items():
        calls = [one.call for one in unplaced.get(key, ()) if one.may_be(value)]
        if len(alike) > len(calls):
            return _too_many(alike, calls)
        _bound(alike, calls, begins, ends)
    for event in events:
        made = placed.get(event.place)
        if made is not None:
            begins[event.call.line] = _Bound(made.call.line, event, made.call)
            ends[event.call.line] = _Bound(_end(made.call), event, made.call)
    lows, highs = _narrowed(events, known, begins, ends)
    for event in events:
        low, high = lows[event.call.line], highs[event.call.line]
        if low.line >= high.line:
            return _out_of_order(low, high)
    for (key, value), alike in classes.items():
        of_key = unplaced.get(key, ())
        if not any(one.value == ANY for one in of_key):
            left = _left_over(alike, [one.call for one in of_key if one.may_be(value)], lows, highs)
            if left is not None:
                return Conflict(f"told of {left}, but whatever wrote that at that time made other events",
                                [left.call])  # fmt: skip
    return None


def _end(call: Call) -> int:
    return NEVER if call.is_unknown or call.end_line is None else call.end_line


def _bound(
    alike: Sequence[Event], calls: Sequence[Call], begins: dict[int, _Bound], ends: dict[int, _Bound]
) -> None:
    """The first of events that are alike may be of the call that began first; the second is, at best, of the
    one that began next; and so on, and likewise from the last back."""
    for event, call in zip(alike, sorted(calls, key=lambda call: call.line), strict=False):
        begins[event.call.line] = _Bound(call.line, event, call if len(calls) == 1 else None)
    for event, call in zip(reversed(alike), sorted(calls, key=_end, reverse=True), strict=False):
        ends[event.call.line] = _Bound(_end(call), event, call if len(calls) == 1 else None)


def _narrowed(
    events: Sequence[Event], known: Mapping[int, int], begins: Mapping[int, _Bound],
    ends: Mapping[int, _Bound],
) -> tuple[dict[int, _Bound], dict[int, _Bound]]:  # fmt: skip
    """Between which lines each event happened: none before one that stands before it."""
    lows: dict[int, _Bound] = {}
    highs: dict[int, _Bound] = {}
    low: _Bound | None = None
    for event in events:
        here = begins[event.call.line]
        low = here if low is None or here.line > low.line else low
        lows[event.call.line] = low
    high: _Bound | None = None
    for event in reversed(events):
        told = _Bound(known[event.call.line], event, None)
        for here in (ends[event.call.line], told):
            high = here if high is None or here.line < high.line else high
        assert high is not None
        highs[event.call.line] = high
    return lows, highs


def _left_over(
    alike: Iterable[Event], calls: Sequence[Call], lows: Mapping[int, _Bound], highs: Mapping[int, _Bound]
) -> Event | None:
    """An event for which no call is left; None if each has one. Glover's rule: of the calls that can have
    made the next event, that which ends first."""
    waiting = sorted(calls, key=lambda call: call.line, reverse=True)
    open_: list[tuple[int, int]] = []
    for event in alike:
        while waiting and waiting[-1].line < highs[event.call.line].line:
            call = waiting.pop()
            heappush(open_, (_end(call), call.line))
        while open_ and open_[0][0] <= lows[event.call.line].line:
            heappop(open_)
        if not open_:
            return event
        heappop(open_)
    return None


def _too_many(alike: Sequence[Event], calls: Sequence[Call]) -> Conflict:
    times = "once" if len(calls) == 1 else f"{len(calls)} times"
    text = f"told of {alike[-1]}, and {len(alike)} times in all of what was written {times} at the most"
    return Conflict(text, [alike[-1].call, *(one.call for one in alike[:-1]), *calls])


def _out_of_order(low: _Bound, high: _Bound) -> Conflict:
    calls = [one.call for one in (low, high) if one.call is not None]
    events = [low.event.call] if low.event is high.event else [low.event.call, high.event.call]
    if low.event is high.event:
        text = f"told of {low.event} when none that can have written it had begun"
    else:
        text = f"told of {low.event}, before {high.event}: but that was there before the other was begun"
    return Conflict(text, [*events, *calls])
