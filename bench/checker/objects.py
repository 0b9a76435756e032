"""Which model judges which calls: histories taken apart by object, and by key where keys are independent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from bench.checker import queues
from bench.checker.cells import CellModel
from bench.checker.maps import WholeMapModel
from bench.checker.models import (
    CounterModel,
    ElementModel,
    ListModel,
    LockModel,
    WholeSetModel,
    frozen_list,
)
from bench.checker.moves import Model, Move, Problem, State, freeze, require, revision, split, tighten
from bench.checker.operations import KINDS
from bench.checker.record import Call

WHOLE: Final = {"map": ("size", "items", "clear"), "set": ("size", "elements", "clear")}
"""Operations that concern all keys of an object at once."""
STATES_MAX: Final = 16
"""States that are followed, where an order leaves several possible."""
REVISIONS: Final = {
    "register": ("set",),
    "map": ("put",),
    "counter": ("set",),
    "queue": ("offer",),
    "list": ("append", "insert", "set"),
}
"""Changes whose result is their revision."""


class Part(NamedTuple):
    """Calls that are judged together."""

    kind: str
    name: str
    key: str | None
    """Frozen; None: the whole object."""
    calls: list[Call]
    model: Model

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.kind} {self.name}" + ("" if self.key is None else f" at {self.key}")


def parts(calls: Sequence[Call]) -> Iterator[Part]:
    """The parts of a history that an order is to be found for. Calls that failed, and queries of unknown
    outcome, are left out, and so are those that need not be linearizable."""
    objects: dict[tuple[str, str], list[Call]] = {}
    for call in calls:
        if call.kind != "watch":
            objects.setdefault((call.kind, call.name), []).append(call)
    for (kind, name), of_object in objects.items():
        found = [call for call in of_object if is_placed(call)]
        if found:
            yield from _parts(kind, name, of_object, found)


def is_placed(call: Call) -> bool:
    """Whether a place in an order is to be found for the call."""
    if call.outcome == "fail" or call.read != "linearizable":
        return False
    return not (call.is_unknown and KINDS[call.kind][call.op].is_query)


def _parts(kind: str, name: str, calls: list[Call], placed: list[Call]) -> Iterator[Part]:
    if kind not in WHOLE:
        yield Part(kind, name, None, placed, _MODELS[kind](calls))
    elif any(call.op in WHOLE[kind] for call in placed):
        yield Part(kind, name, None, placed, WholeMapModel(placed) if kind == "map" else WholeSetModel())
    else:
        by_key: dict[str, list[Call]] = {}
        for call in placed:
            by_key.setdefault(freeze(call.args[0]), []).append(call)
        model = CellModel(is_register=False) if kind == "map" else ElementModel()
        yield from (Part(kind, name, key, of_key, model) for key, of_key in by_key.items())


_MODELS: Final[dict[str, Callable[[list[Call]], Model]]] = {
    "register": lambda calls: CellModel(is_register=True),
    "counter": lambda calls: CounterModel(),
    "queue": queues.QueueModel,
    "list": lambda calls: ListModel(),
    "lock": LockModel,
    "election": LockModel,
}


def problem(part: Part) -> Problem:
    """The part as the search takes it. Raises BadResult."""
    moves = [Move(call, part.model.effect(call)) for call in part.calls]
    if part.kind == "queue":
        moves = queues.order(moves)
    elif part.kind == "list":
        require(moves, _list_given, _list_seen)
    told = [(at, move) for move in moves if (at := place(move.call)) is not None]
    tighten([move for _, move in sorted(told, key=lambda one: (one[0], one[1].start))])
    return split(part.model, moves)


def place(call: Call) -> int | None:
    """The revision of a known change, or the token of a grant: the order of changes agrees with both."""
    if call.outcome != "ok" or KINDS[call.kind][call.op].is_query:
        return None
    if call.kind in ("lock", "election"):
        return call.result if type(call.result) is int and call.op not in ("release", "resign") else None
    if call.result is False or call.op in queues.TAKES:
        return None
    return revision(call, result=call.op in REVISIONS.get(call.kind, ()))


def _list_given(call: Call) -> list[str]:
    match call.op:
        case "append":
            return [freeze(call.args[0])]
        case "insert" | "set":
            return [freeze(call.args[1])]
        case "extend":
            return list(frozen_list(call, call.args[0], "what is appended"))
        case _:
            return []


def _list_seen(call: Call) -> list[str]:
    match call.op:
        case "get" | "pop":
            return [freeze(call.result)]
        case "slice":
            return list(frozen_list(call, call.result))
        case "index" if call.result is not None:
            return [freeze(call.args[0])]
        case "remove" if call.result is True:
            return [freeze(call.args[0])]
        case _:
            return []


def trail(part: Part, order: Sequence[Call]) -> list[str]:
    """The states behind each call of an order, for people; where there may be several, the first of them."""
    states: list[State] = [part.model.initial]
    shown = []
    for call in order:
        step = part.model.effect(call).step
        states = list(dict.fromkeys(after for state in states for after in step(state)))[:STATES_MAX]
        shown.append(show(part, states[0]) if states else "?")
    return shown


def show(part: Part, state: State) -> str:
    """A state, for people."""
    match part.kind:
        case "register" | "map" | "set" if part.key is not None or part.kind == "register":
            value, at, _ = state
            known = f" of revision {at}" if isinstance(at, int) and at > 0 else ""
            return f"{value}{known}" if value else "absent"
        case "map":
            return "{" + ", ".join(f"{key}: {cell[0]}" for key, cell in state[0]) + "}"
        case "set":
            return "{" + ", ".join(sorted(state[0])) + "}"
        case "lock" | "election":
            token, last, loose = state
            if loose:
                return "held, perhaps, by a call of unknown outcome"
            return f"held with token {token}" if token else f"free, the last token {last}"
        case "queue":
            return "[" + ", ".join(value for _, value in state[0]) + "]"
        case "list":
            return "[" + ", ".join(state[0]) + "]"
        case _:
            return str(state[0])
