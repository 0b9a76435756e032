"""Models of counters, sets, lists, locks and elections. Each step is pure; see ``moves``."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, Final

from bench.checker.cells import CellModel
from bench.checker.moves import (
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

States = tuple[State, ...]


class CounterModel(Model):
    """A number, and the last revision that was told: (number, revision)."""

    initial: State = (0, 0)

    def effect(self, call: Call) -> Effect:
        """See ``Model``."""
        unknown = call.is_unknown
        match call.op:
            case "get":
                told = number(call, call.result)
                return _looks(lambda state: state[0] == told, told)
            case "set":
                to = number(call, call.args[0], "the number")
                return Effect(_at(lambda _: to, revision(call, result=True)), to, wanting())
            case "compare_and_set":
                old, new = (number(call, arg, "the number") for arg in call.args)
                if unknown or truth(call):
                    step = _at(lambda held: new if held == old else None, revision(call))
                    return Effect(step, new, wanting(old))
                return _looks(lambda state: state[0] != old)
        by = {"increment": 1, "decrement": -1}.get(call.op)
        by = number(call, call.args[0], "what is added") if by is None else by
        if unknown:
            return Effect(_at(lambda held: held + by, None))
        before = number(call, call.result) - (0 if call.op == "get_and_add" else by)
        step = _at(lambda held: before + by if held == before else None, revision(call))
        return Effect(step, before + by, wanting(before))


def _looks(is_true: Callable[[State], bool], *wants: Hashable) -> Effect:
    return Effect(
        lambda state: (state,) if is_true(state) else (), None, wanting(*wants) if wants else None,
        changes=False,
    )  # fmt: skip


def _at(change: Callable[[int], int | None], position: int | None) -> Step:
    def step(state: State) -> States:
        after = change(state[0])
        if after is None or (position is not None and position <= state[1]):
            return ()
        return ((after, state[1] if position is None else position),)

    return step


class ElementModel(Model):
    """One element of a set, there or not: a cell whose value says nothing."""

    initial: State = CellModel.initial

    def effect(self, call: Call) -> Effect:
        """See ``Model``."""
        return _element(call)


_THERE: Final = freeze(True)


def _element(call: Call) -> Effect:
    """A cell is (value, revision, floor), of which elements use the first and the last."""
    changes = {"add": (_THERE, ""), "remove": ("", _THERE)}.get(call.op)
    if changes is None:
        wanted = _THERE if truth(call) else ""
        return _looks(lambda cell: cell[0] == wanted, wanted)
    to, off = changes
    position = revision(call)

    def step(cell: State) -> States:
        if cell[0] != off or (position is not None and position <= cell[2]):
            return ()
        return ((to, 0, cell[2] if position is None else position),)

    if not call.is_unknown and not truth(call):
        return _looks(lambda cell: cell[0] == to, to)
    return Effect(step, to, wanting(off))


class WholeSetModel(Model):
    """All elements of a set together: (elements, revision)."""

    initial: State = (frozenset(), 0)

    def effect(self, call: Call) -> Effect:
        """See ``Model``."""
        match call.op:
            case "size":
                size = number(call, call.result)
                return Effect(lambda state: (state,) if len(state[0]) == size else ())
            case "elements":
                told = frozenset(frozen_list(call, call.result))
                return Effect(lambda state: (state,) if state[0] == told else ())
            case "clear":
                return Effect(_whole(lambda held: frozenset(), revision(call)), lazy=False)
        element = freeze(call.args[0])
        if call.op == "contains":
            there = truth(call)
            return Effect(lambda state: (state,) if (element in state[0]) == there else ())
        adds = call.op == "add"
        if not call.is_unknown and not truth(call):
            return Effect(lambda state: (state,) if (element in state[0]) == adds else ())
        return Effect(_whole(lambda held: _toggled(held, element, adds), revision(call)))


def _toggled(held: frozenset[str], element: str, adds: bool) -> frozenset[str] | None:
    return None if (element in held) == adds else held ^ {element}


def _whole(change: Callable[[Any], Any], position: int | None) -> Step:
    """A change of a state (content, revision) that is not made where it gives None."""

    def step(state: State) -> States:
        after = change(state[0])
        if after is None or (position is not None and position <= state[1]):
            return ()
        return ((after, state[1] if position is None else position),)

    return step


def frozen_list(call: Call, values: Any, what: str = "its result") -> tuple[str, ...]:
    """The values of a list. Raises BadResult."""
    if not isinstance(values, list):
        raise BadResult(call, f"{what} is to be an array")
    return tuple(map(freeze, values))


class ListModel(Model):
    """Elements in order: (elements, revision). No change of an order may come later than it did: nothing
    is lazy."""

    initial: State = ((), 0)

    def effect(self, call: Call) -> Effect:
        """See ``Model``."""
        query = _list_query(call)
        if query is not None:
            return Effect(query, changes=False)
        return Effect(_whole(_list_change(call), _list_revision(call)), lazy=False)


def _list_revision(call: Call) -> int | None:
    return revision(call, result=call.op in ("append", "insert", "set"))


def _list_query(call: Call) -> Step | None:
    args = call.args
    match call.op:
        case "get":
            at, told = number(call, args[0], "the index"), freeze(call.result)
            return _shows(lambda held: _has(held, at) and held[at] == told)
        case "index":
            value, start = freeze(args[0]), number(call, args[1], "the start") if args[1:] else 0
            at_or_none = None if call.result is None else number(call, call.result)
            return _shows(lambda held: _find(held, value, start) == at_or_none)
        case "size":
            size = number(call, call.result)
            return _shows(lambda held: len(held) == size)
        case "slice":
            told_list = frozen_list(call, call.result)
            begin = number(call, args[0], "the start") if args else 0
            end = None if len(args) < 2 or args[1] is None else number(call, args[1], "the end")
            return _shows(lambda held: held[begin:end] == told_list)
        case "remove" if not call.is_unknown and not truth(call):
            gone = freeze(args[0])
            return _shows(lambda held: gone not in held)
        case _:
            return None


def _shows(is_true: Callable[[tuple[str, ...]], bool]) -> Step:
    return lambda state: (state,) if is_true(state[0]) else ()


def _has(held: tuple[str, ...], at: int) -> bool:
    return -len(held) <= at < len(held)


def _find(held: tuple[str, ...], value: str, start: int) -> int | None:
    return held.index(value, start) if value in held[start:] else None


def _list_change(call: Call) -> Callable[[tuple[str, ...]], tuple[str, ...] | None]:
    args = call.args
    match call.op:
        case "append":
            added: tuple[str, ...] = (freeze(args[0]),)
            return lambda held: held + added
        case "extend":
            extended = frozen_list(call, args[0], "what is appended")
            return lambda held: held + extended
        case "insert":
            at, inserted = number(call, args[0], "the index"), freeze(args[1])
            return lambda held: (*held[:at], inserted, *held[at:])
        case "set":
            place, value = number(call, args[0], "the index"), freeze(args[1])
            return lambda held: _set(held, place, value)
        case "pop":
            index = number(call, args[0], "the index") if args else -1
            told = None if call.is_unknown else freeze(call.result)
            return lambda held: _pop(held, index, told)
        case "remove":
            gone = freeze(args[0])
            return lambda held: _pop(held, held.index(gone), gone) if gone in held else None
        case _:
            return lambda held: ()


def _set(held: tuple[str, ...], at: int, value: str) -> tuple[str, ...] | None:
    if not _has(held, at):
        return None
    at %= len(held)
    return (*held[:at], value, *held[at + 1 :])


def _pop(held: tuple[str, ...], at: int, told: str | None) -> tuple[str, ...] | None:
    if not _has(held, at) or (told is not None and held[at] != told):
        return None
    at %= len(held)
    return (*held[:at], *held[at + 1 :])


FREE: Final = (0, 0, False)
_UNTOLD: Final = 0


class LockModel(Model):
    """One holder at a time, each with a token above all before: (token, last token, loose).

    ``loose``: the grant was given to a call whose outcome is unknown. It may have been given back, or lost
    with its lease, whenever that helps; its token is 0 until somebody is told of it. A grant that is known
    ends with a release, or with a call ``expire`` that says from when on its lease may be lost.
    """

    initial: State = FREE

    def __init__(self, calls: Iterable[Call]) -> None:
        listed = list(calls)
        self._expiries: Final[dict[int, int]] = {}
        """By token, the line from which on it may be lost."""
        for call in listed:
            if call.op == "expire":
                token = number(call, call.args[0], "the token")
                self._expiries[token] = min(call.line, self._expiries.get(token, call.line))
        self._waits: Final = [call for call in listed if call.op in ("acquire", "campaign")]

    def effect(self, call: Call) -> Effect:
        """See ``Model``."""
        match call.op:
            case "acquire" | "try_acquire" | "campaign":
                return self._acquire(call)
            case "release" | "resign":
                return self._release(call)
            case "expire":
                return Effect(_ends(number(call, call.args[0], "the token")))
            case _:
                return Effect(_told_holder(None if call.result is None else _token(call, call.result)))

    def _acquire(self, call: Call) -> Effect:
        if call.is_unknown:
            return Effect(lambda state: tuple((_UNTOLD, free[1], True) for free in _free(state)))
        if call.result is None and call.op == "try_acquire":
            if self._is_crowded(call):
                return Effect(lambda state: (state,))
            return Effect(lambda state: (state,) if state[0] or state[2] else ())
        token = _token(call, call.result)

        def step(state: State) -> States:
            return tuple((token, token, False) for free in _free(state) if token > free[1])

        return Effect(step)

    def _is_crowded(self, call: Call) -> bool:
        """Whether somebody may have stood in line at some time of the call. Then the lock, free for a moment,
        is not taken but passed on."""
        return any(
            one.line < (call.end_line or 0) and (one.is_unknown or (one.end_line or 0) > call.line)
            for one in self._waits
        )

    def _release(self, call: Call) -> Effect:
        token = number(call, call.args[0], "the token")
        if call.is_unknown:
            return Effect(_ends(token))
        if truth(call):
            return Effect(_released(token))
        # Whoever finds its own lease lost says so without asking: the grant may live on for a while.
        if self._expiries.get(token, call.end_line or 0) < (call.end_line or 0):
            return Effect(lambda state: (state,))
        return Effect(lambda state: (state,) if state[0] != token else ())


def _free(state: State) -> States:
    """The state, if the lock is free or may have come free by itself."""
    if state[2]:
        return ((0, state[1], False),)
    return () if state[0] else (state,)


def _ends(token: int) -> Step:
    return lambda state: ((0, state[1], False),) if state[0] == token else ()


def _released(token: int) -> Step:
    """The holder gave it back. If nobody was told yet of the token of who holds it, it may have been that."""

    def step(state: State) -> States:
        held, last, loose = state
        if held == _UNTOLD and loose:
            return ((0, token, False),) if token > last else ()
        return ((0, last, False),) if held == token else ()

    return step


def _token(call: Call, result: Any) -> int:
    """The token in a result: itself, or under ``token`` or ``term``."""
    if isinstance(result, dict):
        result = result.get("token", result.get("term"))
    token = number(call, result, "the token")
    if token < 1:
        raise BadResult(call, "a token is above 0")
    return token


def _told_holder(token: int | None) -> Step:
    if token is None:
        return lambda state: tuple(_free(state))

    def step(state: State) -> States:
        held, last, loose = state
        if held == _UNTOLD and loose:
            return ((token, token, True),) if token > last else ()
        return (state,) if held == token else ()

    return step
