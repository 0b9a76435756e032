"""The replicated half of queues: elements in the order offered, each delivered to one taker.

An element has an index, which only grows, and a row that says which event offered it; the value is that
event's, which is kept for it. What is polled or taken is removed and is the command's answer, which the group
keeps until the client acknowledged it; a taker that gives up has the element put back under its own index, so
it stands where it was. Takers that find the queue empty stand in a line (see ``line``) and are served in the
order they came, by the command that offers if few dead ones stand before them, else by slices that are
commands of their own.

Clearing moves a bound that all elements must be above, and drops the rows below it in slices.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import islice
from typing import Any, Final, NamedTuple

from primitives.arguments import BAD_ARGS, BAD_VALUE, CONDITION, PENDING, TOO_LARGE, bad_op, cut
from primitives.errors import Code, InvariantViolation
from primitives.limits import PAGE_BYTES_MAX, VALUE_BYTES_MAX
from primitives.line import SLICE_WAITERS, WAITERS_MAX, Line
from primitives.machine import OK, Context, Machine, Result, View
from primitives.pages import asks_page, encode_page
from primitives.records import U64
from primitives.watch import EventKind

OFFER_MANY_MAX: Final = 200
"""Elements of one command."""
SLICE_ROWS: Final = 250
"""Cleared elements that one slice drops."""


class Op:
    """Commands. Never renumber: they are in logs. An element is answered as its index, 8 bytes, and value."""

    OFFER: Final = 1
    """``[]``, body: the value. CONDITION if the queue is full."""
    OFFER_MANY: Final = 2
    """``[length, ...]``, body: the values. CONDITION if not all of them find room."""
    POLL: Final = 3
    """``[]``; answers the first element, or CONDITION if there is none."""
    TAKE: Final = 4
    """``[]``; answers the first element, late if there is none."""
    CLEAR: Final = 5
    """``[]``."""


class Ask:
    """Queries."""

    PEEK: Final = 1
    """``[]``; the first element, or CONDITION."""
    SIZE: Final = 2
    """``[]``; 8 bytes."""
    PAGE: Final = 3
    """``[after, rows, values]``: elements behind the index ``after`` (empty: all), with the revision that
    offered each, and its value; see ``pages``."""


_STATE_TABLE: Final = 0
_ELEMENTS: Final = 1
"""Index, 8 bytes → mark of the event that has the value."""
_LINE: Final = Line(2)

_STATE: Final = struct.Struct(">QQQQQI?")
_BAD_OP: Final = bad_op("queue")
_OVERLOADED: Final[Result] = (Code.OVERLOADED, b"too many wait for elements of this queue")
_DROP: Final = b"\x00"
_SERVE: Final = b"\x01"


class _State(NamedTuple):
    """The one row of ``_STATE_TABLE``."""

    head: int = 0
    """No element has a lower index."""
    tail: int = 0
    """The next element's index."""
    cleared: int = 0
    """Elements below are cleared."""
    size: int = 0
    served: int = 0
    """The last ticket, a revision, taken from the head of the line."""
    waiting: int = 0
    """How many stand in line, those of dead sessions included."""
    dropping: bool = False
    """Whether a slice is armed that drops cleared elements."""


def _state(view: View) -> _State:
    row = view.view(_STATE_TABLE).get(b"")
    return _State() if row is None else tuple.__new__(_State, _STATE.unpack(row))


def _save(ctx: Context, state: _State) -> None:
    ctx.table(_STATE_TABLE).put(b"", _STATE.pack(*state))


def _first(view: View, state: _State) -> tuple[bytes, bytes]:
    """Index and mark of the first element of a queue that has some."""
    elements, head = view.view(_ELEMENTS), U64.pack(state.head)
    mark = elements.get(head)
    if mark is not None:  # As it is unless something between was taken back: no scan, which asks the store.
        return head, mark
    found = next(elements.scan(head), None)
    if found is None:
        raise InvariantViolation(f"a queue lacks {state.size} elements that it counts")
    return found


def _value(view: View, mark: bytes) -> bytes:
    value = view.event(mark)
    if value is None:
        raise InvariantViolation("an element without the event that offered it")
    return value


def _append(ctx: Context, index: bytes, value: bytes) -> None:
    mark = ctx.emit(EventKind.PUT, index, value, kept=True)
    ctx.table(_ELEMENTS).put(index, mark)


def _shift(ctx: Context, state: _State) -> tuple[_State, Result]:
    """Takes the first element out of a queue that has some: the state then, and the answer."""
    index, mark = _first(ctx, state)
    ctx.table(_ELEMENTS).delete(index)
    ctx.emit(EventKind.REMOVED, index, previous=mark)
    state = state._replace(head=U64.unpack(index)[0] + 1, size=state.size - 1)
    return state, (Code.OK, index + _value(ctx, mark))


def _serve(ctx: Context, state: _State) -> None:
    """Gives elements to whoever waits, and saves the state. Looks at ``SLICE_WAITERS`` at the most; then a
    slice goes on."""
    for _ in range(SLICE_WAITERS):
        if not state.size or not state.waiting:
            break
        stander = _LINE.first(ctx, U64.pack(state.served))
        if stander is None:
            raise InvariantViolation(f"a queue's line lacks {state.waiting} takers that it counts")
        _LINE.remove(ctx, stander)
        state = state._replace(served=U64.unpack(stander.place)[0], waiting=state.waiting - 1)
        session = stander.session
        if ctx.alive(session):
            ctx.unhold(session)
            state, answer = _shift(ctx, state)
            ctx.answer(stander.waiter, answer)
    if state.size and state.waiting:
        ctx.arm(0, _SERVE)
    _save(ctx, state)


def _offer(ctx: Context, values: list[bytes]) -> Result:
    state = _state(ctx)
    config = ctx.config
    if len(config) == U64.size and state.size + len(values) > U64.unpack(config)[0]:
        return CONDITION
    tail = state.tail
    for value in values:
        _append(ctx, U64.pack(tail), value)
        tail += 1
    state = state._replace(tail=tail, size=state.size + len(values))
    if state.waiting:
        _serve(ctx, state)
    else:
        _save(ctx, state)
    return OK


def _offer_one(ctx: Context, args: list[Any], body: bytes) -> Result:
    if args:
        return BAD_ARGS
    if not body:
        return BAD_VALUE
    return TOO_LARGE if len(body) > VALUE_BYTES_MAX else _offer(ctx, [body])


def _offer_many(ctx: Context, args: list[Any], body: bytes) -> Result:
    values = cut(body, args, OFFER_MANY_MAX)
    return _offer(ctx, values) if isinstance(values, list) else values


def _poll(ctx: Context, args: list[Any], body: bytes) -> Result:
    if args or body:
        return BAD_ARGS
    state = _state(ctx)
    if not state.size:
        return CONDITION
    state, answer = _shift(ctx, state)
    _save(ctx, state)
    return answer


def _take(ctx: Context, args: list[Any], body: bytes) -> Result:
    if args or body:
        return BAD_ARGS
    state = _state(ctx)
    if state.size and not state.waiting:
        state, answer = _shift(ctx, state)
        _save(ctx, state)
        return answer
    if state.waiting >= WAITERS_MAX:
        return _OVERLOADED
    _LINE.join(ctx, U64.pack(ctx.revision))
    _save(ctx, state._replace(waiting=state.waiting + 1))
    return PENDING


def _clear(ctx: Context, args: list[Any], body: bytes) -> Result:
    if args or body:
        return BAD_ARGS
    state = _state(ctx)
    if state.tail > state.cleared:
        if state.size and not state.dropping:
            ctx.arm(0, _DROP)
        if state.size:
            ctx.emit(EventKind.CLEARED, b"")
        dropping = state.dropping or state.size > 0
        _save(ctx, state._replace(head=state.tail, cleared=state.tail, size=0, dropping=dropping))
    return OK


_COMMANDS: Final[dict[int, Callable[[Context, list[Any], bytes], Result]]] = {
    Op.OFFER: _offer_one,
    Op.OFFER_MANY: _offer_many,
    Op.POLL: _poll,
    Op.TAKE: _take,
    Op.CLEAR: _clear,
}


class QueueMachine(Machine):
    """The replicated half of :class:`Queue`."""

    TYPE = 21
    NAME = "queue"

    def apply(self, ctx: Context, op: int, args: list[Any], body: bytes) -> Result:
        """Executes one of :class:`Op`."""
        command = _COMMANDS.get(op)
        return _BAD_OP if command is None else command(ctx, args, body)

    def query(self, view: View, op: int, args: list[Any], body: bytes) -> Result:
        """Answers one of :class:`Ask`."""
        state = _state(view)
        if op == Ask.PAGE and not body:
            if not asks_page(args):
                return BAD_ARGS
            after, rows_max, values = args
            if type(after) is not bytes or len(after) not in (0, U64.size):
                return BAD_ARGS
            start = max(U64.pack(state.head), after + b"\x00" if after else b"")
            rows = view.view(_ELEMENTS).scan(start)
            found = ((index, mark[:8] + _value(view, mark) if values else b"") for index, mark in rows)
            return Code.OK, encode_page(found, rows_max, PAGE_BYTES_MAX)
        if args or body:
            return BAD_ARGS
        if op == Ask.SIZE:
            return Code.OK, U64.pack(state.size)
        if op != Ask.PEEK:
            return _BAD_OP
        if not state.size:
            return CONDITION
        index, mark = _first(view, state)
        return Code.OK, index + _value(view, mark)

    def timer(self, ctx: Context, payload: bytes) -> None:
        """Goes on serving, or drops a slice of cleared elements."""
        state = _state(ctx)
        if payload == _SERVE:
            _serve(ctx, state)
            return
        elements = ctx.table(_ELEMENTS)
        cleared = list(islice(elements.scan(b"", U64.pack(state.cleared)), SLICE_ROWS))
        for index, mark in cleared:
            elements.delete(index)
            ctx.release(mark)
        if len(cleared) == SLICE_ROWS:
            ctx.arm(0, _DROP)
        else:
            _save(ctx, state._replace(dropping=False))

    def session_ended(self, ctx: Context, session: int) -> bool:
        """Takes a slice of the session's takers out of the line."""
        standers = _LINE.drop(ctx, session)
        if standers:
            state = _state(ctx)
            _save(ctx, state._replace(waiting=state.waiting - len(standers)))
        return len(standers) < SLICE_WAITERS

    def withdraw(self, ctx: Context, waiter: bytes, granted: bytes | None) -> Result:
        """Takes a taker out of the line, or puts its element back to where it was."""
        if granted is None:
            if _LINE.withdraw(ctx, waiter) is not None:
                state = _state(ctx)
                _save(ctx, state._replace(waiting=state.waiting - 1))
        elif len(granted) > U64.size:
            self._put_back(ctx, granted[: U64.size], granted[U64.size :])
        return OK

    def _put_back(self, ctx: Context, index: bytes, value: bytes) -> None:
        """Puts back what was taken, unless the queue was cleared since: as if it had never been taken."""
        state = _state(ctx)
        (number,) = U64.unpack(index)
        if state.cleared <= number < state.tail:
            _append(ctx, index, value)
            _serve(ctx, state._replace(head=min(state.head, number), size=state.size + 1))
