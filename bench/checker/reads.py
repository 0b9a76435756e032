"""Reads that need not be linearizable: what each must hold all the same.

Such a read shows some state of the past. It is told by the change that made it, and that change

- was begun before the read ended;
- is not certainly older than what the read's session had been told, or had changed, before it asked;
- for a causal read: nor than any change at or before the position it was given (``after``);
- for a stale one: nor than any change that had ended ``bound_ms`` before it began.

A change is certainly older than another if its revision is lower, or if it ended before the other began. No
read is accused that could be right.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from bench.checker.moves import ABSENT, NULL, freeze
from bench.checker.objects import WHOLE, place
from bench.checker.operations import KINDS
from bench.checker.record import Call

END_OF_TIME: Final = 1 << 62


class Finding(NamedTuple):
    """Of one object, or one key of it."""

    title: str
    judged: int
    reason: str
    read: Call | None
    window: list[Call]


class _Change(NamedTuple):
    """A call that may have left ``value`` behind, between two lines; None as value: nobody knows which."""

    call: Call | None
    value: str | None
    start: int
    end: int
    revision: int | None


_BEGINNING: Final = _Change(None, ABSENT, 0, 0, 0)


class _Floor:
    """What is to be seen at the least: of changes, the highest revision and the latest beginning."""

    __slots__ = ("revision", "start", "why")

    def __init__(self) -> None:
        self.revision = self.start = 0
        self.why: list[Call] = []

    def add(self, change: _Change) -> None:
        if (change.revision or 0) > self.revision or change.start > self.start:
            self.why = [*self.why[-1:], change.call] if change.call is not None else self.why
        self.revision = max(self.revision, change.revision or 0)
        self.start = max(self.start, change.start)

    def is_above(self, change: _Change) -> bool:
        """Whether the change is certainly older than one of those."""
        if change.revision is not None and change.revision < self.revision:
            return True
        return change.end < self.start


@dataclass(slots=True)
class _Cell:
    """What has a value of its own: its changes and its reads."""

    title: str
    changes: list[_Change] = field(default_factory=lambda: [_BEGINNING])
    reads: list[Call] = field(default_factory=list)


def check_reads(calls: Sequence[Call]) -> tuple[list[Finding], int]:
    """What was found of each object, and of how many reads nothing can be said."""
    cells: dict[tuple[str, str, str | None], _Cell] = {}
    unjudged = 0
    cleared: dict[tuple[str, str], list[_Change]] = {}
    for call in calls:
        if call.kind == "watch" or call.outcome == "fail":
            continue
        if call.op == "clear" and call.kind in WHOLE:
            cleared.setdefault((call.kind, call.name), []).append(_change(call, ABSENT))
            continue
        is_query = KINDS[call.kind][call.op].is_query
        if is_query and call.is_unknown:
            continue
        if call.kind in ("queue", "list") or call.op in WHOLE.get(call.kind, ()) or _shown(call) is None:
            unjudged += is_query and call.read != "linearizable"
            continue
        key = freeze(call.args[0]) if call.kind in WHOLE else None
        title = f"{call.kind} {call.name}" + ("" if key is None else f" at {key}")
        cell = cells.setdefault((call.kind, call.name, key), _Cell(title))
        if is_query:
            cell.reads.append(call)
        else:
            cell.changes += _changes(call)
    found = []
    for (kind, name, _), cell in cells.items():
        cell.changes += cleared.get((kind, name), [])
        if any(read.read != "linearizable" for read in cell.reads):
            found.append(_judge(cell, initial=freeze(0) if kind == "counter" else ABSENT))
    return found, unjudged


def _change(call: Call, value: str | None, revision: int | None = None) -> _Change:
    end = END_OF_TIME if call.is_unknown else call.end_line or END_OF_TIME
    return _Change(call, value, call.line, end, revision)


def _shown(call: Call) -> str | None:
    """The value that a read was told, ``ABSENT`` for none; None if that says nothing. For changes: ABSENT."""
    if not KINDS[call.kind][call.op].is_query:
        return ABSENT
    result = call.result
    if call.kind in ("lock", "election"):
        token = result.get("token", result.get("term")) if isinstance(result, dict) else result
        return freeze(token) if type(token) is int else None
    if call.op == "contains":
        return "?" if result is True else ABSENT
    if call.op == "entry":
        return freeze(result["value"]) if isinstance(result, dict) and "value" in result else ABSENT
    return freeze(result)


def _changes(call: Call) -> Iterator[_Change]:
    """What the call may have left behind."""
    if call.outcome == "ok" and call.result is False and call.op not in ("add", "remove"):
        return
    args = [freeze(arg) for arg in call.args]
    at = place(call)
    match call.kind, call.op:
        case "set", "add" | "remove":
            if call.result is not False:
                yield _change(call, freeze(True) if call.op == "add" else ABSENT, at)
        case "register" | "map", "remove" | "unset":
            if call.result is not False:
                yield _change(call, ABSENT, at)
        case "map", "put" | "get_and_put" | "put_if_absent" | "replace":
            yield _change(call, args[1], at)
        case "register", "set" | "get_and_set" | "replace":
            yield _change(call, args[0], at)
        case "register" | "map" | "counter", "compare_and_set":
            yield _change(call, args[-1], at)
        case "counter", "set":
            yield _change(call, args[0], at)
        case "counter", "get_and_add" if call.outcome == "ok":
            yield _change(call, freeze(call.result + call.args[0]), at)
        case "counter" | "map", "add" | "increment" | "decrement" if call.outcome == "ok":
            yield _change(call, freeze(call.result), at)
        case "lock" | "election", "acquire" | "try_acquire" | "campaign" if call.outcome == "ok":
            result = call.result
            token = result.get("token", result.get("term")) if isinstance(result, dict) else result
            if token is not None:
                yield _change(call, freeze(token), token)
        case "lock" | "election", "release" | "resign" | "expire":
            return
        case _:
            yield _change(call, None, at)


def _judge(cell: _Cell, initial: str) -> Finding:
    changes = [_BEGINNING._replace(value=initial), *cell.changes[1:]]
    by_value: dict[str | None, list[_Change]] = {}
    for change in changes:
        by_value.setdefault(change.value, []).append(change)
    acknowledged = _Acknowledged(changes)
    sessions: dict[str, _Floor] = {}
    waiting = sorted(
        [(change.end, 0, change) for change in changes if change.end < END_OF_TIME and change.call],
        key=lambda one: one[0],
    )
    told: list[tuple[int, str, _Change]] = []
    judged = at = 0
    for read in sorted(cell.reads, key=lambda one: one.line):
        while at < len(waiting) and waiting[at][0] < read.line:
            change = waiting[at][2]
            if change.call is not None:
                sessions.setdefault(_session(change.call), _Floor()).add(change)
            at += 1
        for one in [one for one in told if one[0] < read.line]:
            sessions.setdefault(one[1], _Floor()).add(one[2])
            told.remove(one)
        found = _candidates(read, by_value)
        if read.read != "linearizable":
            judged += 1
            reason, why = _wrong(read, found, sessions.get(_session(read)), acknowledged, by_value)
            if reason:
                text = f"{read!r} ({read.read}): {reason}"
                return Finding(cell.title, judged, text, read, _window(read, found, why))
        if None not in by_value and found:
            told.append((read.end_line or 0, _session(read), _least(read, found, acknowledged)))
    return Finding(cell.title, judged, "", None, [])


def _least(read: Call, found: Sequence[_Change], acknowledged: _Acknowledged) -> _Change:
    """What the read's client knows at the least from then on: of the changes that it may have been told of,
    the lowest revision and the earliest beginning."""
    if read.read == "linearizable":
        floor = acknowledged.before(read.start_us)
        found = [change for change in found if not floor.is_above(change)] or found
    revision = min(change.revision or 0 for change in found)
    start = min(change.start for change in found)
    shown = found[0].call if len(found) == 1 else read
    return _Change(shown, None, start, 0, revision)


def _session(call: Call) -> str:
    """The client whose view must not go back."""
    return str(call.extra.get("session", call.process.partition("#")[0]))


def _candidates(read: Call, by_value: dict[str | None, list[_Change]]) -> list[_Change]:
    """The changes that the read may have been told of."""
    shown = _shown(read)
    if shown == "?":
        return [change for value, found in by_value.items() if value != ABSENT for change in found]
    found = list(by_value.get(shown, ()))
    if read.op == "get" and shown == NULL:
        found += by_value.get(ABSENT, ())
    revision = read.result.get("revision") if isinstance(read.result, dict) else read.position
    if read.op in ("entry", "get") and revision is not None and shown != ABSENT:
        found = [change for change in found if change.revision in (None, revision)]
        found = [change._replace(revision=revision) for change in found]
    return found


class _Acknowledged:
    """The changes by when they ended, and those by revision: what is to be seen at the least, at a moment."""

    def __init__(self, changes: Sequence[_Change]) -> None:
        ended = sorted(
            (change for change in changes if change.call is not None and change.call.end_us is not None),
            key=lambda change: change.call.end_us if change.call and change.call.end_us else 0,
        )
        self._ends: Final = [change.call.end_us or 0 for change in ended if change.call]
        self._floors: Final[list[tuple[int, int, Call | None]]] = [(0, 0, None)]
        for change in ended:
            revision, start, call = self._floors[-1]
            newer = change.call if (change.revision or 0) > revision or change.start > start else call
            self._floors.append((max(revision, change.revision or 0), max(start, change.start), newer))
        self._revisions: Final = sorted(change.revision for change in changes if change.revision is not None)

    def before(self, time_us: int) -> _Floor:
        """What had ended before that time."""
        floor = _Floor()
        floor.revision, floor.start, call = self._floors[bisect_left(self._ends, time_us)]
        floor.why = [] if call is None else [call]
        return floor

    def upto(self, revision: int) -> _Floor:
        """All changes up to a revision."""
        floor = _Floor()
        at = bisect_right(self._revisions, revision)
        floor.revision = self._revisions[at - 1] if at else 0
        return floor


def _wrong(
    read: Call, found: list[_Change], session: _Floor | None, acknowledged: _Acknowledged,
    by_value: dict[str | None, list[_Change]],
) -> tuple[str, list[Call]]:  # fmt: skip
    """What is wrong with a read, and the calls that show it."""
    if None in by_value:
        found = [*found, *by_value[None]]
    if not found:
        return "nobody wrote that", []
    begun = [change for change in found if change.start < (read.end_line or END_OF_TIME)]
    if not begun:
        return "it was written later only", []
    floors = [("its client was told of a later state before", session)]
    if read.read == "causal" and "after" in read.extra:
        after = read.extra["after"]
        floors.append((f"it is older than position {after}", acknowledged.upto(after)))
    if read.read == "stale":
        bound_ms = read.extra["bound_ms"]
        floor = acknowledged.before(read.start_us - bound_ms * 1000)
        floors.append((f"a later state was acknowledged more than {bound_ms} ms before", floor))
    for reason, floor_or_none in floors:
        if floor_or_none is not None and all(map(floor_or_none.is_above, begun)):
            return reason, floor_or_none.why
    return "", []


def _window(read: Call, found: list[_Change], why: list[Call]) -> list[Call]:
    calls = {call.line: call for call in [read, *why, *(one.call for one in found[-6:] if one.call)]}
    return [calls[line] for line in sorted(calls)]
