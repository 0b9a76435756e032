"""The model of a map as a whole, for histories that ask for its size, list it or clear it.

Revisions are those of all entries: each change has a greater one than all before it, of whichever key. One
that nobody was told is learned when somebody is, and then it must agree with what is known of the changes
around it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bench.checker.cells import EMPTY, Cell, entry
from bench.checker.moves import ABSENT, BadResult, Effect, Model, State, Step, freeze, number, revision
from bench.checker.operations import KINDS
from bench.checker.record import Call

Entries = tuple[tuple[str, Cell], ...]
"""(key, cell) in order, of keys that are there. A cell's floor is the last revision known when it changed."""
Order = tuple[tuple[str, int], ...]
"""Keys whose revision may yet be learned, in the order of their changes, each with one that it is below, or
with 0."""


class WholeMapModel(Model):
    """All entries of a map together: (entries, order, the last revision that is known)."""

    initial: State = ((), (), 0)

    def __init__(self, calls: Iterable[Call]) -> None:
        self._told: Final = {
            freeze(call.args[0]) for call in calls if call.outcome != "fail" and _learned(call) is not None
        }
        """Keys of whose revisions somebody may learn."""

    def effect(self, call: Call) -> Effect:
        """See ``Model``."""
        match call.op:
            case "size":
                size = number(call, call.result)
                return Effect(lambda state: (state,) if len(state[0]) == size else ())
            case "items":
                return _items(call)
            case "clear":
                return Effect(_cleared(revision(call)), lazy=False)
            case _:
                return self._of_key(call)

    def _of_key(self, call: Call) -> Effect:
        key = freeze(call.args[0])
        inner = entry(call, call.args[1:])
        change = inner.step
        learned = _learned(call)
        after: Step = _kept
        if not KINDS[call.kind][call.op].is_query and call.result is not False:
            after = _changed(key, revision(call, result=call.op == "put"), key in self._told)

        def step(state: State) -> tuple[State, ...]:
            between = state if learned is None else _learn(state, key, learned)
            if between is None:
                return ()
            held = dict(between[0])
            return tuple(
                done
                for cell in change(held.get(key, EMPTY))
                for done in after((_with(held, key, cell), *between[1:]))
            )

        # The revision of an entry says before which changes of others it was put: it may not come later.
        is_lazy = key not in self._told or inner.gives == ABSENT
        return Effect(step, lazy=is_lazy)


def _learned(call: Call) -> int | None:
    """The revision that the call says the entry had before, if it did."""
    match call.op:
        case "get":
            return call.position
        case "entry" | "get_and_put" if isinstance(call.result, dict):
            at = call.result.get("revision")
            return None if at is None else number(call, at, "the revision")
        case "replace" if call.result is not False:
            return number(call, call.args[2], "the revision")
        case "remove" if call.result is not False and len(call.args) > 1 and call.args[1] is not None:
            return number(call, call.args[1], "the revision")
        case _:
            return None


def _learn(state: State, key: str, at: int) -> State | None:
    """The state, in which the entry is known to be of revision ``at``; None if it cannot be."""
    cells, order, floor = state
    place = next((number for number, (other, _) in enumerate(order) if other == key), None)
    if place is None:
        return state
    held = dict(cells)
    value, not_these, low = held[key]
    high = order[place][1]
    if at <= low or at in not_these or (high and at >= high):
        return None
    held[key] = (value, at, at)
    for later, _ in order[place + 1 :]:
        other, unknown, above = held[later]
        held[later] = (other, unknown, max(above, at))
    return _sorted(held), (*_below(order[:place], at), *order[place + 1 :]), max(floor, at)


def _below(order: Order, at: int) -> Order:
    return tuple((key, min(high, at) if high else at) for key, high in order)


def _with(held: dict[str, Cell], key: str, cell: Cell) -> Entries:
    """The entries with one of them changed."""
    changed = {**held, key: cell}
    if cell[0] == ABSENT:
        del changed[key]
    return _sorted(changed)


def _sorted(held: dict[str, Cell]) -> Entries:
    return tuple(sorted(held.items(), key=lambda item: item[0]))


def _kept(state: State) -> tuple[State, ...]:
    return (state,)


def _changed(key: str, position: int | None, is_told: bool) -> Step:
    """The entry was changed, behind all other changes."""

    def step(state: State) -> tuple[State, ...]:
        cells, order, floor = state
        if position is not None and position <= floor:
            return ()
        order = tuple(item for item in order if item[0] != key)
        if position is not None:
            return ((cells, _below(order, position), position),)
        held = dict(cells)
        if key not in held:
            return ((cells, order, floor),)
        value, at, _ = held[key]
        order = (*order, (key, 0)) if is_told else order
        return ((_with(held, key, (value, at, floor)), order, floor),)

    return step


def _items(call: Call) -> Effect:
    if not isinstance(call.result, list) or not all(
        isinstance(row, list) and len(row) == 2 for row in call.result
    ):
        raise BadResult(call, "its result is to be an array of pairs")
    told = sorted((freeze(key), freeze(value)) for key, value in call.result)
    return Effect(lambda state: (state,) if [(key, cell[0]) for key, cell in state[0]] == told else ())


def _cleared(position: int | None) -> Step:
    def step(state: State) -> tuple[State, ...]:
        floor = state[2]
        if position is None:
            return (((), (), floor),)
        return (((), (), position),) if position > floor else ()

    return step
