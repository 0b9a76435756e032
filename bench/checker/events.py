"""Events as watches are told them, and the calls that can have made them."""

from __future__ import annotations

from typing import Final, NamedTuple

from bench.checker.moves import ABSENT, BadResult, freeze, number
from bench.checker.operations import KINDS
from bench.checker.record import Call

CONTENTS: Final = ("put", "removed")
"""Kinds of events that a call of a client made, and that name it."""
LOSSES: Final = ("removed", "expired")
"""Kinds of events that a key went with which was there."""
PROGRESS: Final = "progress"
"""The kind of what is told when nothing happened: all up to its revision was told."""
LISTED: Final = "listed"
"""The kind of what was there before the watch."""
EVENTS: Final = (*CONTENTS, "expired", "cleared", "deleted", LISTED, PROGRESS)
ANY: Final = "?"
"""For the value of a change of which nobody knows the value."""


class Event(NamedTuple):
    """What a watch was told."""

    call: Call
    kind: str
    key: str
    value: str
    revision: int
    partition: int

    @property
    def place(self) -> tuple[int, str]:
        """Where it happened in its partition."""
        return self.revision, self.key

    def __str__(self) -> str:
        key = "" if self.key == "null" else f" {self.key}"
        value = f" = {self.value}" if self.value else ""
        return f"{self.kind}{key}{value} at revision {self.revision}"


class Change(NamedTuple):
    """What a call wrote, if it took effect."""

    call: Call
    key: str
    value: str
    """``ABSENT``: it removed the key."""

    def may_be(self, value: str) -> bool:
        """Whether it can have written that."""
        return self.value in (value, ANY)


def event_of(call: Call) -> Event:
    """The event that a call ``next`` gave. Raises BadResult."""
    told = call.result
    if not isinstance(told, dict) or not isinstance(told.get("kind"), str):
        raise BadResult(call, "its result is to be an event: an object with kind, key, value and revision")
    if told["kind"] not in EVENTS:
        raise BadResult(call, f"unknown kind of event {told['kind']!r}: one of {', '.join(EVENTS)}")
    revision = number(call, told.get("revision"), "the revision")
    partition = number(call, told.get("partition", 0), "the partition")
    value = freeze(told.get("value")) if told["kind"] == "put" else ABSENT
    return Event(call, told["kind"], freeze(told.get("key")), value, revision, partition)


def change_of(call: Call) -> Change | None:
    """What the call wrote, if it took effect; None: nothing, or all keys at once."""
    is_change = not KINDS[call.kind][call.op].is_query and call.op != "clear"
    if not is_change or call.outcome == "fail":
        return None
    if call.result is False and (call.kind != "set" or call.op != "add"):
        return None
    key = freeze(None) if call.kind == "register" else freeze(call.args[0])
    if call.op in ("remove", "unset"):
        return Change(call, key, ABSENT)
    if call.kind == "set":
        return Change(call, key, freeze(None))
    if call.op == "increment":
        return Change(call, key, ANY if call.is_unknown else freeze(call.result))
    values = call.args if call.kind == "register" else call.args[1:]
    return Change(call, key, freeze(values[1 if call.op == "compare_and_set" else 0]))
