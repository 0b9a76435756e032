"""Is there an order? The search of Wing and Gong (1993) with the improvements of Lowe (2017).

Calls that have an end stand in a doubly linked list of their beginnings and ends, out of which those that are
placed are lifted; every call that begins before the first end left may be the next. Configurations (what is
placed, and the state) that failed are remembered. A call of unknown outcome is open for ever: it is placed
where it helps, or never. Of unknown calls that do the same, the one that began first is placed first, and a
configuration is no better than one that has placed the same calls of known outcome but fewer of the others.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Final, NamedTuple

from bench.checker.moves import Move, Problem, State, freeze

CHECK_EVERY: Final = 1024
"""Steps between looks at the clock."""
CONFIGURATION_BYTES: Final = 350
"""What one that is remembered takes, besides its state and its calls of unknown outcome."""


class Found(NamedTuple):
    """How a search ended."""

    order: list[Move]
    """All moves that have an end, and unknown ones that took effect; else the longest order there is."""
    blocked: Move | None
    """The move that cannot be placed behind that order; None: none."""
    undecided: str | None
    """Which bound stopped the search; None: none did."""
    state: State
    """The state behind that order."""
    configurations: int


class _Class:
    """Unknown moves that do the same, in the order of their beginnings; bits from ``low`` on are theirs."""

    __slots__ = ("gives", "is_lazy", "low", "mask", "moves", "wants")

    def __init__(self, moves: list[Move], low: int) -> None:
        self.moves: Final = moves
        self.low: Final = low
        self.mask: Final = ((1 << len(moves)) - 1) << low
        self.gives: Final = moves[0].effect.gives
        self.wants: Final = moves[0].effect.wants
        self.is_lazy: Final = moves[0].effect.lazy


class _Unknowns:
    """Unknown moves, and which of them are worth a try."""

    def __init__(self, mays: Sequence[Move]) -> None:
        groups: dict[object, list[Move]] = {}
        for move in sorted(mays, key=lambda move: move.start):
            groups.setdefault((move.call.op, freeze(move.call.args)), []).append(move)
        classes: list[_Class] = []
        low = 0
        for moves in groups.values():
            classes.append(_Class(moves, low))
            low += len(moves)
        self._eager: Final = [one for one in classes if not one.is_lazy]
        self._lazy: Final = [one for one in classes if one.is_lazy]
        self._any: Final = [one for one in self._lazy if one.gives is None]
        self._giving: Final[dict[object, list[_Class]]] = {}
        for one in self._lazy:
            if one.gives is not None:
                self._giving.setdefault(one.gives, []).append(one)

    def choices(self, illegal: Sequence[Move], used: int, before: int) -> Iterator[tuple[Move, int]]:
        """Unknown moves that began before line ``before`` and may help one of ``illegal`` to its place, each
        with its bit."""
        for one in (*self._eager, *self._helpful(illegal)):
            at = (used & one.mask).bit_count()
            if at < len(one.moves) and one.moves[at].start < before:
                yield one.moves[at], 1 << (one.low + at)

    def _helpful(self, illegal: Sequence[Move]) -> Sequence[_Class]:
        if not illegal or not self._lazy:
            return ()
        wanted: set[object] = set()
        for move in illegal:
            if move.effect.wants is None:
                return self._lazy
            wanted |= move.effect.wants
        if self._any and wanted:
            return self._lazy
        found: list[_Class] = []
        left = list(wanted)
        while left:
            for one in self._giving.get(left.pop(), ()):
                found.append(one)
                if one.wants is None:
                    return self._lazy
                left += one.wants - wanted
                wanted |= one.wants
        return found


class _Lines:
    """Beginnings and ends of moves that are not placed: node 2i is where move i begins, 2i + 1 its end."""

    def __init__(self, musts: Sequence[Move]) -> None:
        self.moves: Final = sorted(musts, key=lambda move: (move.start, move.end or 0))
        self._head: Final = 2 * len(self.moves)
        nodes = sorted(range(self._head), key=self._place)
        self._next: Final = [0] * (self._head + 1)
        self._last: Final = [0] * (self._head + 1)
        for before, after in zip([self._head, *nodes], [*nodes, self._head], strict=True):
            self._next[before] = after
            self._last[after] = before

    def _place(self, node: int) -> tuple[int, int, int]:
        move = self.moves[node >> 1]
        return ((move.end or 0) if node & 1 else move.start, node & 1, node)

    def candidates(self) -> tuple[list[int], Move | None]:
        """The moves that may be the next, and the one whose end keeps all others away."""
        following = self._next
        found: list[int] = []
        node = following[self._head]
        while node != self._head:
            if node & 1:
                if len(found) > 1:
                    found.sort(key=self._rank)
                return found, self.moves[node >> 1]
            found.append(node >> 1)
            node = following[node]
        return found, None

    def _rank(self, at: int) -> tuple[int, int]:
        move = self.moves[at]
        return move.rank or (move.end or 0, 0)

    def lift(self, at: int) -> None:
        """Move ``at`` is placed."""
        following, last = self._next, self._last
        for node in (2 * at, 2 * at + 1):
            following[last[node]] = following[node]
            last[following[node]] = last[node]

    def put_back(self, at: int) -> None:
        """Move ``at``, the last that was lifted, is not placed after all."""
        following, last = self._next, self._last
        for node in (2 * at + 1, 2 * at):
            following[last[node]] = node
            last[following[node]] = node


class _Needs:
    """Aspects of the state that moves which are not placed need, and how often they can still come about.

    Whoever leaves one behind that is needed, and will not come again, is on a wrong way.
    """

    def __init__(self, problem: Problem) -> None:
        self._wanted: Final[dict[object, int]] = {}
        self._givers: Final[dict[object, int]] = {}
        moves = [*problem.musts, *problem.mays]
        self.is_known: Final = all(
            move.effect.gives is not None or not move.effect.changes for move in moves
        )
        if self.is_known:
            for move in moves:
                self.count(move, 1)

    def count(self, move: Move, by: int) -> None:
        """One move more (1) or less (-1) is left."""
        effect = move.effect
        if effect.gives is not None:
            self._givers[effect.gives] = self._givers.get(effect.gives, 0) + by
        if move.end is not None and effect.wants is not None and len(effect.wants) == 1:
            (wanted,) = effect.wants
            self._wanted[wanted] = self._wanted.get(wanted, 0) + by

    def forbids(self, move: Move, before: State, after: State) -> bool:
        """Whether the move, not placed yet, leaves what is still needed."""
        left = before[0]
        if after[0] == left or self._givers.get(left):
            return False
        wants = move.effect.wants
        mine = move.end is not None and wants is not None and len(wants) == 1 and left in wants
        return self._wanted.get(left, 0) > mine


class _Frame(NamedTuple):
    """A configuration on the way to the present one."""

    options: Iterator[tuple[Move, int, int, State]]
    state: State
    low: int
    mask: int
    used: int


class Search:
    """One search. ``is_over`` is asked now and then whether time is up."""

    def __init__(self, problem: Problem, is_over: Callable[[], bool], memory_bytes: int) -> None:
        self._lines: Final = _Lines(problem.musts)
        self._unknowns: Final = _Unknowns(problem.mays)
        self._needs: Final = _Needs(problem)
        self._initial: Final = problem.initial
        self._hurries: Final = problem.hurries
        self._is_over: Final = is_over
        self._memory_bytes: Final = memory_bytes
        self._seen: Final[dict[tuple[int, int, State], int | list[int]]] = {}
        self._bytes = 0
        self._turn = 0
        """How many of the moves whose order is known are placed."""
        self._placed: list[Move] = []
        self._lifted: list[int] = []
        self._best = Found([], None, None, problem.initial, 0)
        self._best_left = len(problem.musts) + 1

    def run(self) -> Found:
        """Searches."""
        left = len(self._lines.moves)
        frames = [_Frame(self._options(self._initial, 0), self._initial, 0, 0, 0)]
        steps = 0
        while left:
            steps += 1
            if steps % CHECK_EVERY == 0 and (reason := self._bound()) is not None:
                self._note(frames[-1].state, left)
                return self._found(reason)
            frame = frames[-1]
            option = next(frame.options, None)
            if option is None:
                self._note(frame.state, left)
                frames.pop()
                if not frames:
                    return self._found(None)
                left += self._undo()
                continue
            move, at, bit, state = option
            low, mask = (frame.low, frame.mask) if at < 0 else _with(frame.low, frame.mask, at)
            used = frame.used | bit
            if self._needs.is_known and self._needs.forbids(move, frame.state, state):
                continue
            if not self._is_new(low, mask, used, state):
                continue
            if self._needs.is_known:
                self._needs.count(move, -1)
            self._placed.append(move)
            self._lifted.append(at)
            if at >= 0:
                self._lines.lift(at)
                self._turn += move.turn is not None
                left -= 1
            frames.append(_Frame(self._options(state, used), state, low, mask, used))
        return Found(self._placed, None, None, frames[-1].state, len(self._seen))

    def _options(self, state: State, used: int) -> Iterator[tuple[Move, int, int, State]]:
        """What may come next, each with its number or -1, its bit or 0, and the state behind it."""
        found, first = self._lines.candidates()
        moves = self._lines.moves
        illegal = []
        choices = []
        for at in found:
            move = moves[at]
            if move.turn is not None and move.turn != self._turn:
                continue
            states = move.step(state)
            if not states:
                illegal.append(move)
            elif (not move.effect.changes and states[0] == state) or (
                move.effect.at_once and len(states) == 1
            ):
                # If it changes nothing, here or anywhere, whatever comes may as well come after it.
                yield move, at, 0, states[0]
                return
            else:
                choices.append((move, at, states))
        before = 0 if first is None else first.end or 0
        is_hurried = bool(illegal) and self._hurries(state)
        if is_hurried:
            yield from self._unknown(illegal, used, before, state)
        for move, at, states in choices:
            for after in states:
                yield move, at, 0, after
        if not is_hurried:
            yield from self._unknown(illegal, used, before, state)

    def _unknown(
        self, illegal: Sequence[Move], used: int, before: int, state: State
    ) -> Iterator[tuple[Move, int, int, State]]:
        for move, bit in self._unknowns.choices(illegal, used, before):
            for after in move.step(state):
                if after != state:
                    yield move, -1, bit, after

    def _is_new(self, low: int, mask: int, used: int, state: State) -> bool:
        """Whether the configuration was not met before, nor a better one; it is remembered."""
        key = (low, mask, state)
        known = self._seen.get(key)
        if known is None:
            self._seen[key] = used
            self._bytes += CONFIGURATION_BYTES + sys.getsizeof(state) + sys.getsizeof(used)
            return True
        if isinstance(known, int):
            if known & used == known:
                return False
            self._seen[key] = [used] if used & known == used else [known, used]
        else:
            if any(one & used == one for one in known):
                return False
            known[:] = [one for one in known if one & used != used]
            known.append(used)
        self._bytes += sys.getsizeof(used) + 16
        return True

    def _undo(self) -> int:
        """Takes the last move away: 1 if it had an end."""
        move = self._placed.pop()
        if self._needs.is_known:
            self._needs.count(move, 1)
        at = self._lifted.pop()
        if at < 0:
            return 0
        self._lines.put_back(at)
        self._turn -= move.turn is not None
        return 1

    def _note(self, state: State, left: int) -> None:
        """This way leads no further: keeps it if none came as far."""
        if left < self._best_left:
            self._best_left = left
            self._best = Found(list(self._placed), self._lines.candidates()[1], None, state, 0)

    def _bound(self) -> str | None:
        if self._bytes > self._memory_bytes:
            return "the memory bound was reached"
        return "the time bound was reached" if self._is_over() else None

    def _found(self, reason: str | None) -> Found:
        return self._best._replace(undecided=reason, configurations=len(self._seen))


def _with(low: int, mask: int, at: int) -> tuple[int, int]:
    """The moves below ``low`` and those in ``mask``, counted from there, and move ``at``."""
    mask |= 1 << (at - low)
    if mask & 1:
        ones = (~mask & (mask + 1)).bit_length() - 1
        return low + ones, mask >> ones
    return low, mask


def search(problem: Problem, seconds: float, memory_mb: float) -> Found:
    """Searches an order for so long, with so much memory at the most."""
    until = monotonic() + seconds
    return Search(problem, lambda: monotonic() > until, int(memory_mb * (1 << 20))).run()
