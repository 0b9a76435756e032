"""What watchers were told, against what was written: each change once, in order, without a gap.

A watch is the calls ``open`` and ``next`` of one process, or of several with one ``watch``. What it is told
between its first and its last event of a partition must be all that happened there: all that any other watch
was told of those revisions, and all changes whose revisions their callers were told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from bench.checker.moves import ABSENT, BadResult, freeze, number
from bench.checker.objects import place
from bench.checker.operations import KINDS
from bench.checker.record import Call

WATCHED: Final = ("map", "set", "register")
CONTENTS: Final = ("put", "removed")
"""Kinds of events that a call of a client made, and that name it."""
PROGRESS: Final = "progress"
"""The kind of what is told when nothing happened: all up to its revision was told."""


class WatchFinding(NamedTuple):
    """Of one watch."""

    title: str
    judged: int
    reason: str
    call: Call | None
    window: list[Call]


class _Event(NamedTuple):
    """What a watch was told."""

    call: Call
    kind: str
    key: str
    value: str
    revision: int
    partition: int

    @property
    def place(self) -> tuple[int, str]:
        return self.revision, self.key


class _Change(NamedTuple):
    """What a call wrote, if it took effect."""

    call: Call
    key: str
    value: str


class _Watch:
    """The log of one watch."""

    def __init__(self, name: str, opened: Call) -> None:
        self.name: Final = name
        self.of: Final = str(opened.args[0])
        self.object: Final = opened.name
        self.opened: Final = opened
        self.after: Final[int | None] = number(opened, opened.args[1], "after") if opened.args[1:] else None
        self.key: Final = freeze(opened.extra["key"]) if "key" in opened.extra else None
        self.told: list[_Event] = []
        """All of it, but for what was listed."""
        self.events: list[_Event] = []
        """Changes alone."""
        self.reached: dict[int, int] = {}
        """By partition, up to which revision it was told everything."""

    def title(self) -> str:
        return f"watch {self.name} of {self.of} {self.object}"


class _Wrong(Exception):
    """A watch was told what cannot be."""

    def __init__(self, reason: str, *calls: Call) -> None:
        super().__init__(reason)
        self.calls: Final = calls


def check_watches(calls: Sequence[Call]) -> Iterator[WatchFinding]:
    """What was found of each watch. Raises BadResult."""
    watches = _watches(calls)
    for of, name in {(watch.of, watch.object) for watch in watches}:
        mine = [watch for watch in watches if (watch.of, watch.object) == (of, name)]
        facts = _Facts(mine, [call for call in calls if call.kind == of and call.name == name])
        for watch in mine:
            try:
                facts.check(watch)
            except _Wrong as wrong:
                shown = {call.line: call for call in wrong.calls}
                window = [shown[line] for line in sorted(shown)]
                yield WatchFinding(watch.title(), len(watch.events), str(wrong), wrong.calls[0], window)
            else:
                yield WatchFinding(watch.title(), len(watch.events), "", None, [])


def _watches(calls: Sequence[Call]) -> list[_Watch]:
    found: dict[str, _Watch] = {}
    for call in calls:
        if call.kind != "watch" or call.outcome != "ok":
            continue
        name = str(call.extra.get("watch", call.process.partition("#")[0]))
        if call.op == "open":
            if call.args[0] not in WATCHED:
                raise BadResult(call, f"what is watched is one of {', '.join(WATCHED)}")
            found.setdefault(name, _Watch(name, call))
        elif name not in found:
            raise BadResult(call, f"the watch {name!r} was not opened")
        else:
            _take(found[name], _event(call))
    return list(found.values())


def _event(call: Call) -> _Event:
    told = call.result
    if not isinstance(told, dict) or not isinstance(told.get("kind"), str):
        raise BadResult(call, "its result is to be an event: an object with kind, key, value and revision")
    revision = number(call, told.get("revision"), "the revision")
    partition = number(call, told.get("partition", 0), "the partition")
    value = freeze(told.get("value")) if told["kind"] == "put" else ABSENT
    return _Event(call, told["kind"], freeze(told.get("key")), value, revision, partition)


def _take(watch: _Watch, event: _Event) -> None:
    if event.kind == "listed":
        return
    watch.reached[event.partition] = max(watch.reached.get(event.partition, 0), event.revision)
    watch.told.append(event)
    if event.kind != PROGRESS:
        watch.events.append(event)


class _Facts:
    """What is known of a watched object from all its watches and writers."""

    def __init__(self, watches: Sequence[_Watch], calls: Sequence[Call]) -> None:
        self.partitions: Final[dict[str, int]] = {}
        self.told: Final[dict[tuple[int, int, str], _Event]] = {}
        """By partition, revision and key, what the first watch was told."""
        for watch in watches:
            for event in watch.events:
                self.told.setdefault((event.partition, *event.place), event)
                self.partitions.setdefault(event.key, event.partition)
        self.changes: Final[dict[str, list[_Change]]] = {}
        self.placed: Final[dict[tuple[int, str], _Change]] = {}
        for change in map(_change, calls):
            if change is None:
                continue
            self.changes.setdefault(change.key, []).append(change)
            at = place(change.call)
            if at is not None:
                self.placed[at, change.key] = change

    def check(self, watch: _Watch) -> None:
        """Raises _Wrong."""
        last: dict[int, _Event] = {}
        seen: set[tuple[int, int, str]] = set()
        for event in watch.told:
            before = last.get(event.partition)
            if event.kind != PROGRESS:
                self._check_place(watch, event, before, seen)
                self._check_content(event)
                seen.add((event.partition, *event.place))
            if before is None or event.revision >= before.revision:
                last[event.partition] = event
        self._check_gaps(watch, seen)

    def _check_place(
        self, watch: _Watch, event: _Event, before: _Event | None, seen: set[tuple[int, int, str]]
    ) -> None:
        """It is told once, behind what the watch was opened behind and behind what was told ``before``."""
        if (event.partition, *event.place) in seen:
            raise _Wrong(f"told twice of {_name(event)}", event.call)
        if watch.after is not None and event.revision <= watch.after:
            raise _Wrong(f"told of {_name(event)}, opened behind revision {watch.after}", event.call)
        if before is None or event.revision > before.revision:
            return
        if event.revision < before.revision or before.kind == PROGRESS:
            raise _Wrong(f"told of {_name(event)} after {_name(before)}", event.call, before.call)

    def _check_content(self, event: _Event) -> None:
        """It says what other watches were told, and what somebody wrote, not before he did."""
        other = self.told[event.partition, *event.place]
        if (other.kind, other.value) != (event.kind, event.value):
            raise _Wrong(f"told of {_name(event)}, another of {_name(other)}", event.call, other.call)
        if event.kind not in CONTENTS:
            return
        change = self.placed.get(event.place)
        if change is not None:
            if change.value != event.value and _has_value(change):
                raise _Wrong(f"told of {_name(event)}, but {change.call!r} made it", event.call, change.call)
            found = [change]
        else:
            found = [
                one for one in self.changes.get(event.key, ())
                if place(one.call) is None and (one.value == event.value or not _has_value(one))
            ]  # fmt: skip
            if not found:
                raise _Wrong(f"told of {_name(event)}, which nobody wrote", event.call)
        if all(one.call.line > (event.call.end_line or 0) for one in found):
            raise _Wrong(f"told of {_name(event)} before it was written", event.call, found[0].call)

    def _check_gaps(self, watch: _Watch, seen: set[tuple[int, int, str]]) -> None:
        first: dict[int, int] = {}
        for event in watch.events:
            first.setdefault(event.partition, event.revision)
        for (partition, revision, key), event in self.told.items():
            low = first.get(partition, 1 << 62) if watch.after is None else watch.after + 1
            self._demand(watch, seen, (partition, revision, key), event.call, low)
        opened = watch.opened.end_line or 0
        for (revision, key), change in self.placed.items():
            at = self.partitions.get(key)
            if at is not None and change.call.result is not False:
                low = first.get(at, 1 << 62) if watch.after is None else watch.after + 1
                low = 0 if change.call.line > opened and watch.after is None else low
                self._demand(watch, seen, (at, revision, key), change.call, low)

    def _demand(
        self, watch: _Watch, seen: set[tuple[int, int, str]], at: tuple[int, int, str], call: Call, low: int
    ) -> None:
        partition, revision, key = at
        if watch.key not in (None, key) or not low <= revision <= watch.reached.get(partition, 0):
            return
        if at not in seen:
            later = next((one.call for one in watch.events if one.revision > revision), watch.opened)
            where = f"{key} at revision {revision}" if key != "null" else f"revision {revision}"
            raise _Wrong(f"never told of {where}, but of revision {watch.reached[partition]}", later, call)


def _name(event: _Event) -> str:
    key = "" if event.key == "null" else f" {event.key}"
    value = f" = {event.value}" if event.value else ""
    return f"{event.kind}{key}{value} at revision {event.revision}"


def _has_value(change: _Change) -> bool:
    return change.value != "?"


def _change(call: Call) -> _Change | None:
    """What the call wrote, if it took effect; ``?`` as value: nobody knows, or none is told."""
    is_change = not KINDS[call.kind][call.op].is_query and call.op != "clear"
    if not is_change or call.outcome == "fail":
        return None
    if call.result is False and (call.kind != "set" or call.op != "add"):
        return None
    key = freeze(None) if call.kind == "register" else freeze(call.args[0])
    if call.op in ("remove", "unset"):
        return _Change(call, key, ABSENT)
    if call.kind == "set":
        return _Change(call, key, freeze(None))
    if call.op == "increment":
        return _Change(call, key, "?" if call.is_unknown else freeze(call.result))
    values = call.args if call.kind == "register" else call.args[1:]
    return _Change(call, key, freeze(values[1 if call.op == "compare_and_set" else 0]))
