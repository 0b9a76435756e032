"""The model of a queue, each of whose elements is delivered once at the most.

A call of unknown outcome that takes an element may have got it for good, or have put it back to where it was,
at any later time: the element is in limbo. A state is (elements, limbo, next number, revision), where an
element is its number in the order of the offers and its value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Final, NamedTuple

from bench.checker.models import frozen_list
from bench.checker.moves import NULL, Effect, Model, Move, State, Step, freeze, number, require, revision
from bench.checker.record import Call

Element = tuple[int, str]
Elements = tuple[Element, ...]
States = tuple[State, ...]

OFFERS: Final = ("offer", "offer_many")
TAKES: Final = ("poll", "take")
NEVER: Final = 1 << 62
LOOKS: Final = ("peek", "size", "elements")


class QueueModel(Model):
    """See the module."""

    initial: State = ((), (), 0, 0)

    def __init__(self, calls: Iterable[Call]) -> None:
        placed = [call for call in calls if call.outcome != "fail"]
        self._is_looked_at: Final = any(call.op in LOOKS for call in placed)
        offers = Counter(value for call in placed for value in offered(call))
        takes = Counter(freeze(call.result) for call in placed if call.op in TAKES and call.outcome == "ok")
        self._delivered: Final = frozenset(takes)
        self._once: Final = {value for value in offers if offers[value] == takes[value] == 1}

    def hurries(self, state: State) -> bool:
        """Whether nobody was told of the first element: it stands in the way of all others."""
        return bool(state[0]) and state[0][0][1] not in self._delivered

    def effect(self, call: Call) -> Effect:
        """See ``Model``."""
        match call.op:
            case "offer" | "offer_many":
                return Effect(_offers(call), lazy=False)
            case "poll" | "take":
                if call.is_unknown:
                    return Effect(_loses, lazy=not self._is_looked_at)
                value = freeze(call.result)
                step = _delivers(value, or_empty=call.op == "poll")
                if value == NULL:
                    return Effect(step)
                # Nobody else can have it, and nobody looks whether it is still there.
                return Effect(step, at_once=value in self._once and not self._is_looked_at)
            case "peek":
                return Effect(_begins(freeze(call.result)))
            case "size":
                return Effect(_holds(number(call, call.result), None))
            case "elements":
                told = frozen_list(call, call.result)
                return Effect(_holds(len(told), told))
            case _:
                return Effect(_cleared(revision(call)), lazy=False)


def _offers(call: Call) -> Step:
    values = offered(call)
    position = revision(call, result=call.op == "offer")

    def step(state: State) -> States:
        elements, limbo, following, last = state
        if position is not None and position <= last:
            return ()
        added = tuple(enumerate(values, following))
        return ((elements + added, limbo, following + len(added), last if position is None else position),)

    return step


def _loses(state: State) -> States:
    """The first element is in limbo."""
    elements, limbo, *rest = state
    return ((elements[1:], tuple(sorted((*limbo, elements[0]))), *rest),) if elements else ()


def _front(state: State, value: str) -> Iterable[Element]:
    """The elements in limbo with that value that would be the first, put back."""
    elements, limbo, *_ = state
    return (one for one in limbo if one[1] == value and (not elements or one < elements[0]))


def _without(limbo: Elements, element: Element) -> Elements:
    return tuple(one for one in limbo if one != element)


def _delivers(value: str, *, or_empty: bool) -> Step:
    def step(state: State) -> States:
        elements, limbo, *rest = state
        found = [(elements, _without(limbo, one), *rest) for one in _front(state, value)]
        if elements and elements[0][1] == value:
            found.append((elements[1:], limbo, *rest))
        if or_empty and value == NULL and not elements:
            found.append(state)
        return tuple(found)

    return step


def _begins(value: str) -> Step:
    def step(state: State) -> States:
        elements, limbo, *rest = state
        found = [((one, *elements), _without(limbo, one), *rest) for one in _front(state, value)]
        if (elements and elements[0][1] == value) or (value == NULL and not elements):
            found.append(state)
        return tuple(found)

    return step


def _holds(size: int, told: tuple[str, ...] | None) -> Step:
    """So many elements, or these, are there, some of them put back perhaps."""

    def step(state: State) -> States:
        elements, limbo, *rest = state
        found = []
        for back in combinations(limbo, size - len(elements)) if size >= len(elements) else ():
            held = tuple(sorted((*elements, *back)))
            if told is None or told == tuple(value for _, value in held):
                found.append((held, tuple(one for one in limbo if one not in back), *rest))
        return tuple(found)

    return step


def _cleared(position: int | None) -> Step:
    def step(state: State) -> States:
        _, _, following, last = state
        if position is not None and position <= last:
            return ()
        return (((), (), following, last if position is None else position),)

    return step


def offered(call: Call) -> list[str]:
    """The values that a call brings in."""
    if call.op == "offer":
        return [freeze(call.args[0])]
    return list(frozen_list(call, call.args[0], "what is offered")) if call.op == "offer_many" else []


def told(call: Call) -> list[str]:
    """The values that a call was told of."""
    if call.op == "elements":
        return list(frozen_list(call, call.result))
    return [freeze(call.result)] if call.op in (*TAKES, "peek") and call.result is not None else []


def order(moves: Sequence[Move]) -> list[Move]:
    """Narrows when offers took effect, as far as the order of the deliveries tells. Leaves out unknown offers
    that nobody can have noticed: whatever has an order with them has one without."""
    require(moves, offered, told)
    if not any(move.call.op in LOOKS and not move.call.is_unknown for move in moves):
        seen = {value for move in moves if not move.call.is_unknown for value in told(move.call)}
        seen |= {NULL}
        moves = [
            move for move in moves
            if not (move.call.is_unknown and move.call.op in OFFERS and seen.isdisjoint(offered(move.call)))
        ]  # fmt: skip
    pairs = _pairs(moves)
    # What is taken by a call of unknown outcome may be put back, and overtaken meanwhile.
    strict = not any(move.call.op in TAKES and move.call.is_unknown for move in moves)
    if strict:
        _narrow_starts(pairs)
    _narrow_ends(pairs, strict)
    return list(moves)


class _Pair(NamedTuple):
    """An offer, and the lines between which its element was delivered; beyond all if it never was."""

    offer: Move
    start: int
    end: int


def _pairs(moves: Sequence[Move]) -> list[_Pair]:
    by_value: dict[str, list[Move]] = {}
    for move in moves:
        for value in offered(move.call):
            by_value.setdefault(value, []).append(move)
    pairs = []
    for move in moves:
        if move.call.op in TAKES and move.end is not None:
            givers = by_value.pop(freeze(move.call.result), [])
            if len(givers) == 1:
                pairs.append(_Pair(givers[0], move.start, move.end))
    if not any(move.call.op == "clear" for move in moves):
        left = [givers[0] for value, givers in by_value.items() if len(givers) == 1 and value != NULL]
        pairs += [_Pair(offer, NEVER, NEVER) for offer in left]
    return pairs


def _narrow_starts(pairs: Sequence[_Pair]) -> None:
    """No offer was made before one whose element was delivered before its own."""
    ended = sorted(pairs, key=lambda pair: pair.end)
    at = latest = 0
    for pair in sorted(pairs, key=lambda pair: pair.start):
        while at < len(ended) and ended[at].end < pair.start:
            latest = max(latest, ended[at].offer.start)
            at += 1
        pair.offer.start = max(pair.offer.start, latest)


def _narrow_ends(pairs: Sequence[_Pair], strict: bool) -> None:
    """Each offer was made before those whose elements were delivered after its own: certainly, if ``strict``,
    else probably."""
    begun = sorted(pairs, key=lambda pair: -pair.start)
    at = 0
    earliest = NEVER
    for pair in sorted(pairs, key=lambda pair: -pair.end):
        while at < len(begun) and begun[at].start > pair.end:
            earliest = min(earliest, begun[at].offer.end or NEVER)
            at += 1
        offer = pair.offer
        if offer.end is not None:
            end = min(offer.end, earliest)
            offer.rank = (end, pair.end)
            offer.end = end if strict else offer.end
