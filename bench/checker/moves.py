"""What a search is given: calls as pure steps from one state of a model to the next."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from bench.checker.record import Call, to_plain

State = Any
"""Of a model: immutable and hashable."""
Step = Callable[[State], Sequence[State]]
"""The states that a call may leave behind; none if it cannot have been told what it was told."""

ABSENT: Final = ""
"""A value that is not there; no frozen value is empty."""


class Effect(NamedTuple):
    """What a call does, by its model.

    An unknown call is ``lazy`` if, in any order in which the next call would have been told the same without
    it, it might as well come after that call, or not at all. Then it need be tried only where a call cannot
    be placed otherwise. ``gives`` and ``wants`` narrow this further: the aspect of the state that it leads
    to, and those in which alone it can be placed or has an effect; None: any. The aspect of a state is its
    first part, for models that tell any.
    """

    step: Step
    gives: Hashable | None = None
    wants: frozenset[Hashable] | None = None
    lazy: bool = True
    changes: bool = True
    """Whether it ever leaves another state behind, but for what is learned of the one before."""
    at_once: bool = False
    """Whether, as soon as it can be placed in one way, no order is lost by placing it."""


class Model(Protocol):
    """A kind of object, as a sequential specification."""

    initial: State

    def hurries(self, state: State) -> bool:
        """Whether it is probable that only an unknown call leads further."""
        return False

    def effect(self, call: Call) -> Effect:
        """What the call does: one that is known, with what it was told, or one that is unknown and does take
        effect."""


class Move:
    """A call to be placed, in lines of the history: it takes effect between ``start`` and ``end``."""

    __slots__ = ("call", "effect", "end", "rank", "start", "step", "turn")

    def __init__(self, call: Call, effect: Effect) -> None:
        self.call: Final = call
        self.effect: Final = effect
        self.step: Final = effect.step
        self.start = call.line
        self.end: int | None = None if call.is_unknown else call.end_line
        """None: it need not be placed at all."""
        self.turn: int | None = None
        """Its number among the moves whose order is known; None: it is none of them."""
        self.rank: tuple[int, int] | None = None
        """Where it had better be placed, among moves that overlap; None: by its end."""

    def __repr__(self) -> str:
        return f"<{self.call} {self.start}-{self.end}>"


class Problem(NamedTuple):
    """Moves of one object, or of one key of it."""

    initial: State
    musts: list[Move]
    mays: list[Move]
    hurries: Callable[[State], bool]
    """See :class:`Model`."""


class BadResult(ValueError):
    """The result of a call, or an argument, is of no shape that its operation has."""

    def __init__(self, call: Call, reason: str) -> None:
        super().__init__(f"line {call.end_line or call.line}: {call.kind} {call.op}: {reason}")
        self.call: Final = call


def freeze(value: Any) -> str:
    """A value as a text: equal for equal values alone. 1, 1.0 and True differ."""
    return json.dumps(to_plain(value), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


NULL: Final = freeze(None)


def truth(call: Call) -> bool:
    """The result, which is to be true or false. Raises BadResult."""
    if not isinstance(call.result, bool):
        raise BadResult(call, "its result is to be true or false")
    return call.result


def number(call: Call, value: Any, what: str = "its result") -> int:
    """``value``, which is to be an integer. Raises BadResult."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadResult(call, f"{what} is to be an integer")
    return value


def revision(call: Call, *, result: bool = False) -> int | None:
    """The revision at which a known call took effect, if it was told; ``result``: its result is one."""
    if call.position is not None or call.is_unknown or not result or call.result is None:
        return call.position
    return number(call, call.result)


def wanting(*values: Hashable) -> frozenset[Hashable]:
    """For :class:`Effect`."""
    return frozenset(values)


def require(
    moves: Iterable[Move], given: Callable[[Call], list[str]], seen: Callable[[Call], list[str]]
) -> None:
    """An unknown call that alone brings in a value that somebody was told of did take effect, before he was
    told: it is given an end. ``given``: the values that a call brings in; ``seen``: those that it was told.
    """
    givers: dict[str, list[Move]] = {}
    ends: dict[str, int] = {}
    for move in moves:
        for value in given(move.call):
            givers.setdefault(value, []).append(move)
        end = move.end
        if end is not None:
            ends.update((value, min(ends.get(value, end), end)) for value in seen(move.call))
    for value, end in ends.items():
        found = givers.get(value, ())
        if len(found) == 1 and found[0].call.is_unknown:
            known = found[0].end
            found[0].end = end if known is None else min(known, end)


def tighten(moves: Sequence[Move]) -> None:
    """Moves in the order in which they certainly took effect: none begins before one that stands before it
    did, none ends after one that stands behind it has."""
    start = 0
    for turn, move in enumerate(moves):
        move.turn = turn
        start = move.start = max(start, move.start)
    end: int | None = None
    for move in reversed(moves):
        if move.end is not None and end is not None:
            move.end = min(end, move.end)
        end = move.end if move.end is not None else end
        move.rank = None


def split(model: Model, moves: Sequence[Move]) -> Problem:
    """The problem that the moves are."""
    musts = [move for move in moves if move.end is not None]
    return Problem(model.initial, musts, [move for move in moves if move.end is None], model.hurries)
