"""Models of what holds a value: a register, and an entry of a map.

A cell is (value, revision, floor): the value frozen, or ``ABSENT``; its revision; and one that the last
change of the cell was not below. A revision that nobody was told is the set of those that it is known not to
be, and is learned when somebody is told.
"""

from __future__ import annotations

import json
from typing import Any, Final

from bench.checker.moves import (
    ABSENT,
    NULL,
    BadResult,
    Effect,
    Model,
    State,
    Step,
    freeze,
    number,
    revision,
    truth,
    wanting,
)
from bench.checker.record import Call

Cell = tuple[str, int | frozenset[int], int]
Cells = tuple[Cell, ...]

UNTOLD: Final[frozenset[int]] = frozenset()
EMPTY: Final[Cell] = (ABSENT, 0, 0)


class CellModel(Model):
    """A register, or one entry of a map: the key is not looked at."""

    initial: State = EMPTY

    def __init__(self, *, is_register: bool) -> None:
        self._is_register: Final = is_register

    def effect(self, call: Call) -> Effect:
        """See ``Model``."""
        if self._is_register:
            return _register(call)
        return entry(call, call.args[1:])


def _register(call: Call) -> Effect:
    args = call.args
    match call.op:
        case "set":
            return put(call, args[0])
        case "get_and_set":
            if call.is_unknown:
                return put(call, args[0])
            told = freeze(call.result)
            return _then(_is(told, or_absent=told == NULL), change(freeze(args[0]), call.position), told)
        case "compare_and_set":
            return compare(call, args[0], args[1], or_absent=args[0] is None)
        case "replace":
            return replace(call, args[0], args[1], absent_is=0)
        case "unset":
            return remove(call, args)
        case _:
            return read(call)


def entry(call: Call, args: list[Any]) -> Effect:
    """What a call does to an entry of a map; ``args``: its arguments behind the key."""
    match call.op:
        case "put":
            return put(call, args[0])
        case "get_and_put":
            if call.is_unknown:
                return put(call, args[0])
            return _then(_shows(call), change(freeze(args[0]), call.position), _shown(call))
        case "put_if_absent":
            return put_if_absent(call, args[0])
        case "compare_and_set":
            return compare(call, args[0], args[1])
        case "replace":
            return replace(call, args[0], args[1])
        case "remove":
            return remove(call, args)
        case "increment":
            return increment(call, args)
        case _:
            return read(call)


def change(value: str, position: int | None) -> Step:
    """Sets a cell, at ``position`` if that is known."""

    def step(cell: Cell) -> Cells:
        if position is None:
            return ((value, 0 if value == ABSENT else UNTOLD, cell[2]),)
        return ((value, 0 if value == ABSENT else position, position),) if position > cell[2] else ()

    return step


def _is(value: str, *, or_absent: bool = False) -> Step:
    def step(cell: Cell) -> Cells:
        return (cell,) if cell[0] == value or (or_absent and cell[0] == ABSENT) else ()

    return step


def _there(cell: Cell) -> Cells:
    return () if cell[0] == ABSENT else (cell,)


def _of(position: int, absent_is: int | None) -> Step:
    """The cell, if its value may be of that revision: learned, if it was not told."""

    def step(cell: Cell) -> Cells:
        value, at, floor = cell
        if value == ABSENT:
            return (cell,) if position == absent_is else ()
        if isinstance(at, frozenset):
            return ((value, position, position),) if position > floor and position not in at else ()
        return (cell,) if at == position else ()

    return step


def _not_of(position: int, absent_is: int | None) -> Step:
    """The cell, unless its value is certainly of that revision: if it was not told, it is another."""

    def step(cell: Cell) -> Cells:
        value, at, floor = cell
        if value == ABSENT:
            return () if position == absent_is else (cell,)
        if isinstance(at, frozenset):
            return ((value, at | {position}, floor),) if position > floor else (cell,)
        return () if at == position else (cell,)

    return step


def _not(condition: Step) -> Step:
    """The cell, unless the condition holds of it."""
    return lambda cell: () if condition(cell) else (cell,)


def _then(first: Step, second: Step, *wants: str) -> Effect:
    def step(cell: Cell) -> Cells:
        return tuple(after for between in first(cell) for after in second(between))

    return Effect(step, None, wanting(*wants) if wants and NULL not in wants else None)


def put(call: Call, value: Any) -> Effect:
    """Sets the cell, whatever it held."""
    content = freeze(value)
    return Effect(change(content, revision(call, result=call.op in ("put", "set"))), content, wanting())


def _conditional(
    call: Call, condition: Step, step: Step, gives: str, wants: frozenset[Any] | None,
    otherwise: Step | None = None,
) -> Effect:  # fmt: skip
    """A change that is made if a condition holds, and says whether it did; ``otherwise``: what is learned if
    it does not."""
    if not call.is_unknown and not truth(call):
        return Effect(otherwise or _not(condition), changes=False)

    def both(cell: Cell) -> Cells:
        return tuple(after for met in condition(cell) for after in step(met))

    return Effect(both, gives, wants)


def put_if_absent(call: Call, value: Any) -> Effect:
    """Sets the cell if there is nothing in it."""
    content = freeze(value)
    return _conditional(call, _is(ABSENT), change(content, call.position), content, wanting(ABSENT))


def compare(call: Call, old: Any, new: Any, *, or_absent: bool = False) -> Effect:
    """Sets the cell if its value is ``old``."""
    was, content = freeze(old), freeze(new)
    wants = wanting(was, ABSENT) if or_absent else wanting(was)
    return _conditional(call, _is(was, or_absent=or_absent), change(content, call.position), content, wants)


def replace(call: Call, value: Any, expected: Any, *, absent_is: int | None = None) -> Effect:
    """Sets the cell if its value is of a revision."""
    at = number(call, expected, "the revision")
    content = freeze(value)
    step = change(content, call.position)
    return _conditional(call, _of(at, absent_is), step, content, None, _not_of(at, absent_is))


def remove(call: Call, args: list[Any]) -> Effect:
    """Empties the cell if it holds something, and of the revision given."""
    step = change(ABSENT, call.position)
    if not args or args[0] is None:
        return _conditional(call, _there, step, ABSENT, None)
    at = number(call, args[0], "the revision")
    return _conditional(call, _of(at, None), step, ABSENT, None, _not_of(at, None))


def increment(call: Call, args: list[Any]) -> Effect:
    """Adds to the cell's number; nothing counts 0."""
    by = number(call, args[0], "what is added") if args else 1
    told = None if call.is_unknown else number(call, call.result)

    def step(cell: Cell) -> Cells:
        before = 0 if cell[0] == ABSENT else json.loads(cell[0])
        if type(before) is not int or (told is not None and before + by != told):
            return ()
        return tuple(change(str(before + by), call.position)(cell))

    return Effect(step)


def read(call: Call) -> Effect:
    """What queries of a cell are told."""
    if call.op == "contains":
        return _looks(_there) if truth(call) else _looks(_is(ABSENT), ABSENT)
    if call.op == "entry":
        return _looks(_shows(call), _shown(call))
    told = freeze(call.result)
    if told == NULL:
        return _looks(_is(told, or_absent=True), told, ABSENT)
    if call.position is None:
        return _looks(_is(told), told)
    return _then(_is(told), _of(call.position, None), told)._replace(changes=False)


def _looks(step: Step, *wants: str) -> Effect:
    return Effect(step, None, wanting(*wants) if wants else None, changes=False)


def _shown(call: Call) -> str:
    if call.result is None:
        return ABSENT
    if not isinstance(call.result, dict) or "value" not in call.result:
        raise BadResult(call, "its result is to be null or an object with value and revision")
    return freeze(call.result["value"])


def _shows(call: Call) -> Step:
    """The cell, if it is the entry that the call was told."""
    value = _shown(call)
    is_value = _is(value)
    if value == ABSENT or call.result.get("revision") is None:
        return is_value
    is_of = _of(number(call, call.result["revision"], "the revision"), None)

    def step(cell: Cell) -> Cells:
        return tuple(is_of(cell)) if is_value(cell) else ()

    return step
