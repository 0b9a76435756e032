"""What watchers were told, against what was written: each change once, in order, without a gap.

A watch is the calls ``open`` and ``next`` of one process, or of several with one ``watch``. What it is told
between its first and its last event of a partition must be all that happened there: all that any other watch
was told of those revisions, and all changes whose revisions their callers were told. One event for each
``next`` of unknown outcome is excepted: that may have been delivered, and lost on its way to the record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from bench.checker.events import CONTENTS, LISTED, LOSSES, PROGRESS, Change, Event, change_of, event_of
from bench.checker.makers import Conflict, conflict
from bench.checker.moves import ABSENT, BadResult, freeze, number
from bench.checker.objects import place
from bench.checker.record import Call

WATCHED: Final = ("map", "set", "register")
KEYED: Final = {*CONTENTS, *LOSSES}
"""Kinds of events of one key."""


_At = tuple[int, int, str]
"""Partition, revision and key."""


class WatchFinding(NamedTuple):
    """Of one watch."""

    title: str
    judged: int
    reason: str
    call: Call | None
    window: list[Call]


class _Watch:
    """The log of one watch."""

    def __init__(self, name: str, opened: Call) -> None:
        self.name: Final = name
        self.of: Final = str(opened.args[0])
        self.object: Final = opened.name
        self.opened: Final = opened
        self.after: Final[int | None] = number(opened, opened.args[1], "after") if opened.args[1:] else None
        self.key: Final = freeze(opened.extra["key"]) if "key" in opened.extra else None
        """Frozen, of one that alone is watched."""
        self.is_pinned: Final = opened.extra.get("pinned") is True
        self.told: list[Event] = []
        """All of it, but for what was listed."""
        self.events: list[Event] = []
        """Changes alone."""
        self.reached: dict[int, int] = {}
        """By partition, up to which revision it was told everything."""
        self.losses: list[int] = []
        """For each event that may have been lost, how many of ``told`` came before."""

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
        if call.kind != "watch" or call.outcome == "fail":
            continue
        name = str(call.extra.get("watch", call.process.partition("#")[0]))
        if call.is_unknown:
            if call.op == "next" and name in found:
                found[name].losses.append(len(found[name].told))
        elif call.op == "open":
            if call.args[0] not in WATCHED:
                raise BadResult(call, f"what is watched is one of {', '.join(WATCHED)}")
            found.setdefault(name, _Watch(name, call))
        elif name not in found:
            raise BadResult(call, f"the watch {name!r} was not opened")
        else:
            _take(found[name], event_of(call))
    return list(found.values())


def _take(watch: _Watch, event: Event) -> None:
    if event.kind == LISTED:
        return
    watch.reached[event.partition] = max(watch.reached.get(event.partition, 0), event.revision)
    watch.told.append(event)
    if event.kind != PROGRESS:
        watch.events.append(event)


class _Facts:
    """What is known of a watched object from all its watches and writers."""

    def __init__(self, watches: Sequence[_Watch], calls: Sequence[Call]) -> None:
        self.partitions: Final[dict[str, int]] = {}
        self.told: Final[dict[tuple[int, int, str], Event]] = {}
        """By partition, revision and key, what the first watch was told."""
        self._known: Final[dict[int, int]] = {}
        """By the line of the call of each of these, where the first of all watches was told of it."""
        for watch in watches:
            for event in watch.events:
                first = self.told.setdefault((event.partition, *event.place), event)
                self.partitions.setdefault(event.key, event.partition)
                line, end = first.call.line, event.call.end_line or 0
                self._known[line] = min(self._known.get(line, end), end)
        self._only: Final = _only_partition(watches)
        self.changes: Final[dict[str, list[Change]]] = {}
        self.placed: Final[dict[tuple[int, str], Change]] = {}
        unplaced: dict[str, list[Change]] = {}
        for change in map(change_of, calls):
            if change is None:
                continue
            self.changes.setdefault(change.key, []).append(change)
            at = place(change.call)
            if at is not None:
                self.placed[at, change.key] = change
            else:
                unplaced.setdefault(change.key, []).append(change)
        self._unplaced: Final = unplaced
        self._conflicts: Final = list(self._find_conflicts())

    def _find_conflicts(self) -> Iterator[Conflict]:
        """Of each partition, what its events cannot have been made by."""
        partitions: dict[int, list[Event]] = {}
        for event in self.told.values():
            if event.kind in CONTENTS:
                partitions.setdefault(event.partition, []).append(event)
        for events in partitions.values():
            events.sort(key=lambda event: event.revision)
            found = conflict(events, self._known, self.placed, self._unplaced)
            if found is not None:
                yield found

    def check(self, watch: _Watch) -> None:
        """Raises _Wrong."""
        last: dict[int, Event] = {}
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
        mine = {event.call.line for event in watch.events}
        for found in self._conflicts:
            if found.calls[0].line in mine:
                raise _Wrong(found.reason, *found.calls)

    def _check_place(
        self, watch: _Watch, event: Event, before: Event | None, seen: set[tuple[int, int, str]]
    ) -> None:
        """It is told once, behind what the watch was opened behind and behind what was told ``before``."""
        if watch.key is not None and event.kind in KEYED and event.key != watch.key:
            raise _Wrong(f"told of {event}, opened for {watch.key} alone", event.call)
        if (event.partition, *event.place) in seen:
            raise _Wrong(f"told twice of {event}", event.call)
        if watch.after is not None and event.revision <= watch.after:
            raise _Wrong(f"told of {event}, opened behind revision {watch.after}", event.call)
        if before is None or event.revision > before.revision:
            return
        if event.revision < before.revision or before.kind == PROGRESS:
            raise _Wrong(f"told of {event} after {before}", event.call, before.call)

    def _check_content(self, event: Event) -> None:
        """It says what other watches were told, and what somebody wrote, not before he did."""
        other = self.told[event.partition, *event.place]
        if (other.kind, other.value) != (event.kind, event.value):
            raise _Wrong(f"told of {event}, another of {other}", event.call, other.call)
        if event.kind in LOSSES and not self._was_there(event):
            raise _Wrong(f"told of {event}, where nothing was", event.call)
        if event.kind not in CONTENTS:
            return
        change = self.placed.get(event.place)
        if change is not None:
            if not change.may_be(event.value):
                raise _Wrong(f"told of {event}, but {change.call!r} made it", event.call, change.call)
            found = [change]
        else:
            found = [one for one in self._unplaced.get(event.key, ()) if one.may_be(event.value)]
            if not found:
                raise _Wrong(f"told of {event}, which nobody wrote", event.call)
        if all(one.call.line > (event.call.end_line or 0) for one in found):
            raise _Wrong(f"told of {event} before it was written", event.call, found[0].call)

    def _was_there(self, event: Event) -> bool:
        """Whether somebody may have put the key, before it went."""
        for change in self.changes.get(event.key, ()):
            at = place(change.call)
            is_before = at < event.revision if at is not None else True
            if change.value != ABSENT and is_before and change.call.line < (event.call.end_line or 0):
                return True
        return False

    def _check_gaps(self, watch: _Watch, seen: set[tuple[int, int, str]]) -> None:
        """It was told of all that it is known to have passed, but for what may be lost."""
        first: dict[int, int] = {}
        for event in watch.events:
            first.setdefault(event.partition, event.revision)
        missing: dict[_At, Call] = {}

        def demand(at: _At, call: Call, low: int) -> None:
            partition, revision, key = at
            is_watched = watch.key in (None, key) and low <= revision <= watch.reached.get(partition, 0)
            if is_watched and at not in seen:
                missing.setdefault(at, call)

        for at, event in self.told.items():
            low = first.get(at[0], 1 << 62) if watch.after is None else watch.after + 1
            demand(at, event.call, low)
        opened = watch.opened.end_line or 0
        for (revision, key), change in self.placed.items():
            partition = self.partitions.get(key, self._only)
            if partition is not None and change.call.result is not False:
                low = first.get(partition, 1 << 62) if watch.after is None else watch.after + 1
                low = 0 if change.call.line > opened and watch.after is None else low
                demand((partition, revision, key), change.call, low)
        gap = _gap(watch, missing)
        if gap is None:
            return
        partition, revision, key = gap
        later = next((one.call for one in watch.events if one.revision > revision), watch.opened)
        where = f"{key} at revision {revision}" if key != "null" else f"revision {revision}"
        raise _Wrong(
            f"never told of {where}, but of revision {watch.reached[partition]}", later, missing[gap]
        )


def _only_partition(watches: Sequence[_Watch]) -> int | None:
    """The partition of all keys, if they are known to have one: some watch says that they are pinned, or no
    event names a partition."""
    found = {event.partition for watch in watches for event in watch.told}
    is_one = any(watch.is_pinned for watch in watches) or not any(
        "partition" in event.call.result for watch in watches for event in watch.told
    )
    return found.pop() if is_one and len(found) == 1 else None


def _gap(watch: _Watch, missing: Iterable[_At]) -> _At | None:
    """The first event that is missing and cannot be one that was lost, if there is any. Each loss may be of
    any event between those that were told before and after; of those that may be, that is taken which has to
    come first."""
    waiting = sorted((*_between(watch, at), at) for at in missing) if watch.losses else []
    if not waiting:
        return next(iter(missing), None)
    for loss in watch.losses:
        fitting = [one for one in waiting if one[0] <= loss <= one[1]]
        if fitting:
            waiting.remove(min(fitting, key=lambda one: one[1]))
    return waiting[0][2] if waiting else None


def _between(watch: _Watch, at: _At) -> tuple[int, int]:
    """Where in what the watch was told the event belongs: behind how many events at the least, and at the
    most."""
    partition, revision, _ = at
    least, most = 0, len(watch.told)
    for passed, event in enumerate(watch.told):
        if event.partition != partition:
            continue
        is_progress = event.kind == PROGRESS
        if event.revision < revision and not is_progress:
            least = passed + 1
        if event.revision > revision or (is_progress and event.revision == revision):
            most = min(most, passed)
    return least, most
