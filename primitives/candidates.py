"""The replicated half of elections: one leader at a time among those who stand, in the order they came.

Leading is a grant, like a lock's: the number of a session in the group, and the term, which is the revision
of the command that granted it. Whoever reads the leader asks whether its session lives, so a leader whose
session ended is void from that very log entry on. Candidates stand in a line (see ``line``) by a rank that
promoting and demoting change; a candidate's id is the revision of the command by which it stood.

When leadership comes free, the first living candidate gets it, by the command that freed it if few dead ones
stand before him, else by slices that are commands of their own. A leader may ask to be told when it is
deposed: a command that is answered late, by whatever ends its term.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from primitives.arguments import BAD_ARGS, BAD_VALUE, CONDITION, PENDING, TOO_LARGE, bad_op, within
from primitives.errors import Code, InvariantViolation
from primitives.limits import INT_MAX, PAGE_BYTES_MAX, PAGE_ROWS_MAX
from primitives.line import SLICE_WAITERS, WAITERS_MAX, Line, Stander
from primitives.machine import OK, Context, Machine, Result, View
from primitives.pages import encode_page
from primitives.records import U64

DATA_BYTES_MAX: Final = 64 * 1024
"""Of what a candidate brings along, encoded."""


class Op:
    """Commands. Never renumber: they are in logs."""

    CAMPAIGN: Final = 1
    """``[]``, body: the candidate's data. Answers the term and the candidate's id, 8 bytes each, late while
    another leads; CONDITION if the candidate was evicted."""
    RESIGN: Final = 2
    """``[term]``; CONDITION if that term, of this session, is over."""
    ATTEND: Final = 3
    """``[term]``: answered when that term, of this session, is over, late unless it is already."""
    ANOINT: Final = 4
    """``[id]``: that candidate leads from now on. CONDITION for an id that neither leads nor stands, here and
    in what follows."""
    PROMOTE: Final = 5
    """``[id]``: that candidate is the next."""
    DEMOTE: Final = 6
    """``[id]``: that candidate is the last; if it leads, its term is over."""
    EVICT: Final = 7
    """``[id]``: that candidate is none any more; if it leads, its term is over."""


class Ask:
    """Queries."""

    LEADER: Final = 1
    """``[]``; the leader as in an event's value, or CONDITION if there is none."""
    LEADERSHIP: Final = 2
    """``[after]``: 4 bytes, the length of what LEADER answers or 0, that, and a page (see ``pages``) of the
    candidates behind the rank ``after`` (empty: all): the rank, and session, id and data."""


LED: Final = 16
"""Kind of the event that tells who leads: term, session and id, 8 bytes each, and data."""
VACANT: Final = 17
"""Kind of the event that tells that nobody leads; without a value."""

_STATE_TABLE: Final = 0
_LEADER: Final = b"l"
"""Where the leader's part of an event's value is."""
_IDS: Final = 1
"""Candidate's id → its rank in the line."""
_LINE: Final = Line(2)
"""By rank; who stands brings along id and data."""

_RANK_MIDDLE: Final = 1 << 63
_STATE: Final = struct.Struct(">QQQQQI")
LED_HEAD: Final = struct.Struct(">QQQ")
"""Term, session and id; data follow."""
CANDIDATE: Final = struct.Struct(">QQ")
"""Session and id, and data follow; or term and id, as a campaign is answered."""
LENGTH: Final = struct.Struct(">I")
_BAD_OP: Final = bad_op("election")
_OVERLOADED: Final[Result] = (Code.OVERLOADED, b"too many stand in this election")


class _State(NamedTuple):
    """One row of ``_STATE_TABLE``; behind it the waiter of whoever attends the term, if anybody does."""

    session: int = 0
    """Who leads; 0: nobody."""
    term: int = 0
    """The last."""
    id: int = 0
    """Of the candidate who leads, or led last."""
    low: int = _RANK_MIDDLE
    """All ranks are above."""
    high: int = _RANK_MIDDLE
    """All ranks are up to this."""
    waiting: int = 0
    """How many stand, those of dead sessions included."""
    attends: bytes = b""


def _state(view: View) -> _State:
    row = view.view(_STATE_TABLE).get(b"")
    if row is None:
        return _State()
    return _State(*(*_STATE.unpack_from(row), row[_STATE.size :]))


def _save(ctx: Context, state: _State) -> None:
    ctx.table(_STATE_TABLE).put(b"", _STATE.pack(*state[:-1]) + state.attends)


def _leads(view: View, state: _State) -> bool:
    return state.session != 0 and view.alive(state.session)


def _leave(ctx: Context, stander: Stander) -> None:
    """Takes a candidate out of the line."""
    _LINE.remove(ctx, stander)
    ctx.table(_IDS).delete(stander.load[: U64.size])


def _crown(ctx: Context, state: _State, session: int, load: bytes) -> bytes:
    """Makes the candidate with that load (id and data) the leader; returns the answer to its campaign."""
    term = ctx.revision
    if term <= state.term:
        raise InvariantViolation(f"an election's term {term} after {state.term}")
    (number,) = U64.unpack_from(load)
    value = U64.pack(term) + U64.pack(session) + load
    ctx.table(_STATE_TABLE).put(_LEADER, value)
    _save(ctx, state._replace(session=session, term=term, id=number, attends=b""))
    ctx.emit(LED, b"", value)
    return U64.pack(term) + load[: U64.size]


def _depose(ctx: Context, state: _State) -> _State:
    """Ends the present term, tells whoever attends it, and gives the leader's holding back."""
    if state.attends:
        ctx.answer(state.attends, OK)
    ctx.unhold(state.session)
    return state._replace(session=0, attends=b"")


def _elect(ctx: Context, state: _State) -> None:
    """Nobody leads: makes the first living candidate the leader, or arms a slice to look further. If there is
    none, tells so, once."""
    for _ in range(min(SLICE_WAITERS, state.waiting)):
        stander = _LINE.first(ctx, U64.pack(state.low))
        if stander is None:
            raise InvariantViolation(f"an election lacks {state.waiting} candidates that it counts")
        _leave(ctx, stander)
        state = state._replace(low=U64.unpack(stander.place)[0], waiting=state.waiting - 1)
        if ctx.alive(stander.session):
            ctx.answer(stander.waiter, (Code.OK, _crown(ctx, state, stander.session, stander.load)))
            return
    _save(ctx, state._replace(session=0, attends=b""))
    if state.waiting:
        ctx.arm(0, b"")
    elif ctx.table(_STATE_TABLE).get(_LEADER) is not None:
        ctx.table(_STATE_TABLE).delete(_LEADER)
        ctx.emit(VACANT, b"")


def _campaign(ctx: Context, body: bytes) -> Result:
    if not body:
        return BAD_VALUE
    if len(body) > DATA_BYTES_MAX:
        return TOO_LARGE
    state = _state(ctx)
    load = U64.pack(ctx.revision) + body
    # While somebody stands, leadership is not taken but passed on, be it free for a moment.
    if not state.waiting and not _leads(ctx, state):
        ctx.hold()
        return Code.OK, _crown(ctx, state, ctx.session, load)
    if state.waiting >= WAITERS_MAX:
        return _OVERLOADED
    rank = U64.pack(state.high + 1)
    _LINE.join(ctx, rank, load)
    ctx.table(_IDS).put(load[: U64.size], rank)
    _save(ctx, state._replace(high=state.high + 1, waiting=state.waiting + 1))
    return PENDING


def _resign(ctx: Context, state: _State, session: int, term: int) -> Result:
    if state.session != session or state.term != term:
        return CONDITION
    _elect(ctx, _depose(ctx, state))
    return OK


def _attend(ctx: Context, term: int) -> Result:
    state = _state(ctx)
    if state.session != ctx.session or state.term != term:
        return OK
    if state.attends:
        return BAD_ARGS
    _save(ctx, state._replace(attends=ctx.later()))
    return PENDING


def _candidate(ctx: Context, number: int) -> Stander | None:
    """The living candidate of that id."""
    rank = ctx.table(_IDS).get(U64.pack(number))
    stander = None if rank is None else _LINE.at(ctx, rank)
    return stander if stander is not None and ctx.alive(stander.session) else None


def _anoint(ctx: Context, state: _State, number: int) -> Result:
    if _leads(ctx, state) and state.id == number:
        return OK
    stander = _candidate(ctx, number)
    if stander is None:
        return CONDITION
    if state.session:
        state = _depose(ctx, state)
    _leave(ctx, stander)
    state = state._replace(waiting=state.waiting - 1)
    ctx.answer(stander.waiter, (Code.OK, _crown(ctx, state, stander.session, stander.load)))
    return OK


def _promote(ctx: Context, state: _State, number: int) -> Result:
    if _leads(ctx, state) and state.id == number:
        return OK
    stander = _candidate(ctx, number)
    if stander is None:
        return CONDITION
    _LINE.move(ctx, stander, U64.pack(state.low))
    ctx.table(_IDS).put(U64.pack(number), U64.pack(state.low))
    _save(ctx, state._replace(low=state.low - 1))
    return OK


def _demote(ctx: Context, state: _State, number: int) -> Result:
    if _leads(ctx, state) and state.id == number:
        return _resign(ctx, state, state.session, state.term)
    stander = _candidate(ctx, number)
    if stander is None:
        return CONDITION
    rank = U64.pack(state.high + 1)
    _LINE.move(ctx, stander, rank)
    ctx.table(_IDS).put(U64.pack(number), rank)
    _save(ctx, state._replace(high=state.high + 1))
    return OK


def _evict(ctx: Context, state: _State, number: int) -> Result:
    if _leads(ctx, state) and state.id == number:
        return _resign(ctx, state, state.session, state.term)
    stander = _candidate(ctx, number)
    if stander is None:
        return CONDITION
    _leave(ctx, stander)
    ctx.unhold(stander.session)
    ctx.answer(stander.waiter, CONDITION)
    _save(ctx, state._replace(waiting=state.waiting - 1))
    return OK


_ARRANGEMENTS: Final[dict[int, Callable[[Context, _State, int], Result]]] = {
    Op.ANOINT: _anoint,
    Op.PROMOTE: _promote,
    Op.DEMOTE: _demote,
    Op.EVICT: _evict,
}


class ElectionMachine(Machine):
    """The replicated half of elections."""

    TYPE = 22
    NAME = "election"

    def apply(self, ctx: Context, op: int, args: list[Any], body: bytes) -> Result:
        """Executes one of :class:`Op`."""
        if op == Op.CAMPAIGN:
            return BAD_ARGS if args else _campaign(ctx, body)
        if op not in _ARRANGEMENTS and op != Op.RESIGN and op != Op.ATTEND:
            return _BAD_OP
        if body or len(args) != 1 or not within(args[0], 0, INT_MAX):
            return BAD_ARGS
        if op == Op.RESIGN:
            return _resign(ctx, _state(ctx), ctx.session, args[0])
        if op == Op.ATTEND:
            return _attend(ctx, args[0])
        return _ARRANGEMENTS[op](ctx, _state(ctx), args[0])

    def query(self, view: View, op: int, args: list[Any], body: bytes) -> Result:
        """Answers one of :class:`Ask`."""
        state = _state(view)
        leader = view.view(_STATE_TABLE).get(_LEADER) if _leads(view, state) else None
        if op == Ask.LEADER and not args and not body:
            return CONDITION if leader is None else (Code.OK, leader)
        if op != Ask.LEADERSHIP:
            return _BAD_OP
        if body or len(args) != 1 or type(args[0]) is not bytes or len(args[0]) not in (0, U64.size):
            return BAD_ARGS
        shown = leader or b""
        candidates = (
            (stander.place, stander.waiter[: U64.size] + stander.load)
            for stander in _LINE.behind(view, args[0])
            if view.alive(stander.session)
        )
        page = encode_page(candidates, PAGE_ROWS_MAX, PAGE_BYTES_MAX)
        return Code.OK, LENGTH.pack(len(shown)) + shown + page

    def timer(self, ctx: Context, payload: bytes) -> None:
        """Goes on looking for a living candidate."""
        state = _state(ctx)
        if not _leads(ctx, state):
            _elect(ctx, state)

    def session_ended(self, ctx: Context, session: int) -> bool:
        """Ends the session's term, then removes a slice of its candidates."""
        state = _state(ctx)
        if state.session == session:
            _elect(ctx, state)
            state = _state(ctx)
        standers = _LINE.drop(ctx, session)
        for stander in standers:
            ctx.table(_IDS).delete(stander.load[: U64.size])
        if standers:
            _save(ctx, state._replace(waiting=state.waiting - len(standers)))
        return len(standers) < SLICE_WAITERS

    def withdraw(self, ctx: Context, waiter: bytes, granted: bytes | None) -> Result:
        """Removes a candidate, or somebody who attends, or ends the term that was granted."""
        state = _state(ctx)
        if granted is not None:
            if len(granted) == CANDIDATE.size:
                _resign(ctx, state, U64.unpack_from(waiter)[0], U64.unpack_from(granted)[0])
            return OK
        if waiter == state.attends:
            _save(ctx, state._replace(attends=b""))
            return OK
        stander = _LINE.withdraw(ctx, waiter)
        if stander is not None:
            ctx.table(_IDS).delete(stander.load[: U64.size])
            _save(ctx, state._replace(waiting=state.waiting - 1))
        return OK
