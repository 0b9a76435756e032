"""The replicated half of locks: one holder at a time, first come first served, each grant with a token.

A partition may keep one lock, or many by name. The holder is a grant: the number of a session in the group,
and the token, which is the revision of the command that granted it. Whoever reads the holder asks whether its
session lives, so a holder whose session ended is void from that very log entry on. Holding and waiting both
count as holdings of the session.

When a lock comes free, the first living waiter is granted it, by the command that freed it if few dead ones
stand before him, else by slices that are commands of their own; nobody overtakes him meanwhile. A lock that
nobody holds or waits for has no rows.
"""

from __future__ import annotations

import struct
from itertools import islice
from typing import Final, NamedTuple

from primitives.errors import Code, InvariantViolation
from primitives.line import SLICE_WAITERS, WAITERS_MAX, Line
from primitives.machine import OK, Context, Result, View
from primitives.records import U64

TABLES: Final = 4
"""How many tables locks take."""
SLICE_HELD: Final = 4
"""Locks of an ended session that one command passes on."""

_STATE: Final = struct.Struct(">QQQI")
_LENGTH: Final = struct.Struct(">H")
_CONDITION: Final[Result] = (Code.CONDITION, b"")
_PENDING: Final[Result] = (Code.PENDING, b"")
_OVERLOADED: Final[Result] = (Code.OVERLOADED, b"too many wait for this lock")


class _State(NamedTuple):
    """A lock's row."""

    session: int = 0
    """Whose grant holds the lock; 0: nobody's."""
    token: int = 0
    """Of the last grant."""
    served: int = 0
    """The last ticket taken from the head of the line: all that wait have later ones."""
    waiting: int = 0
    """How many stand in line, those of dead sessions included."""


class Locks:
    """The locks of a partition, in ``TABLES`` tables from ``first`` on.

    A lock's name is any bytes, at most 65,535 of them. A place in line is the name behind its length, then
    the ticket: the revision of the command that asked. ``timer`` is what the payloads of their timers begin
    with.
    """

    __slots__ = ("_held", "_line", "_states", "_timer")

    def __init__(self, first: int, timer: bytes = b"") -> None:
        self._states: Final = first
        """Lock's name → :class:`_State`."""
        self._held: Final = first + 1
        """Session and token → the name of the lock that they hold."""
        self._line: Final = Line(first + 2)
        self._timer: Final = timer

    def acquire(self, ctx: Context, name: bytes, *, wait: bool) -> Result:
        """Grants the lock, answered with its token as 8 bytes; where it is held or waited for, the answer
        comes late if it is to ``wait``, else it is CONDITION."""
        state = self._state(ctx, name)
        # While somebody waits, the lock is not taken but passed on, be it free for a moment.
        if not state.waiting and not (state.session and ctx.alive(state.session)):
            ctx.hold()
            return Code.OK, self._grant(ctx, name, state.token, ctx.session, ctx.revision, 0)
        if not wait:
            return _CONDITION
        if state.waiting >= WAITERS_MAX:
            return _OVERLOADED
        self._line.join(ctx, _place(name, ctx.revision))
        self._save(ctx, name, state._replace(waiting=state.waiting + 1))
        return _PENDING

    def release(self, ctx: Context, name: bytes, session: int, token: int) -> Result:
        """Ends the grant with that token, of that session; CONDITION if it does not hold the lock."""
        state = self._state(ctx, name)
        if state.session != session or state.token != token:
            return _CONDITION
        ctx.table(self._held).delete(U64.pack(session) + U64.pack(token))
        ctx.unhold(session)
        self._pass_on(ctx, name, state, SLICE_WAITERS)
        return OK

    def holder(self, view: View, name: bytes) -> tuple[int, int] | None:
        """Number of session and token of the grant that holds the lock."""
        state = self._state(view, name)
        if not state.session or not view.alive(state.session):
            return None
        return state.session, state.token

    def timer(self, ctx: Context, payload: bytes) -> None:
        """Goes on looking for a living waiter."""
        name = payload[len(self._timer) :]
        state = self._state(ctx, name)
        if state.waiting and not (state.session and ctx.alive(state.session)):
            self._pass_on(ctx, name, state, SLICE_WAITERS)

    def session_ended(self, ctx: Context, session: int) -> bool:
        """Passes on what the session held, and takes its waiters out of the lines, a slice at a time; True
        when nothing of either is left."""
        held = ctx.table(self._held)
        grants = list(islice(held.scan(U64.pack(session), U64.pack(session + 1)), SLICE_HELD))
        for grant, name in grants:
            held.delete(grant)
            state = self._state(ctx, name)
            if state.session == session and grant[8:] == U64.pack(state.token):
                self._pass_on(ctx, name, state, SLICE_WAITERS // SLICE_HELD)
        standers = self._line.drop(ctx, session)
        for stander in standers:
            self._leave(ctx, stander.place)
        return len(grants) < SLICE_HELD and len(standers) < SLICE_WAITERS

    def withdraw(self, ctx: Context, waiter: bytes, granted: bytes | None) -> Result:
        """See ``Machine.withdraw``. Does nothing for what is neither a waiter nor a grant."""
        (session,) = U64.unpack_from(waiter)
        if granted is not None:
            name = ctx.table(self._held).get(U64.pack(session) + granted)
            if name is not None:
                self.release(ctx, name, session, U64.unpack(granted)[0])
            return OK
        stander = self._line.withdraw(ctx, waiter)
        if stander is not None:
            self._leave(ctx, stander.place)
        return OK

    def _leave(self, ctx: Context, place: bytes) -> None:
        """Somebody left that place without being granted the lock."""
        name = place[_LENGTH.size : -U64.size]
        state = self._state(ctx, name)
        self._save(ctx, name, state._replace(waiting=state.waiting - 1))

    def _grant(
        self, ctx: Context, name: bytes, former: int, session: int, served: int, waiting: int
    ) -> bytes:
        """Makes ``session`` the holder, behind the grant with the token ``former``; returns the new token's
        bytes. ``served`` and ``waiting`` are as in :class:`_State`."""
        token = ctx.revision
        if token <= former:
            raise InvariantViolation(f"a lock's token {token} after {former}")
        data = U64.pack(token)
        ctx.table(self._held).put(U64.pack(session) + data, name)
        self._save(ctx, name, _State(session, token, served, waiting))
        return data

    def _pass_on(self, ctx: Context, name: bytes, state: _State, looks: int) -> None:
        """The lock is free: grants it to the first living waiter, or arms a slice to look further than at the
        first ``looks`` waiters."""
        served, waiting = state.served, state.waiting
        end = _place(name, (1 << 64) - 1)
        for _ in range(min(looks, waiting)):
            stander = self._line.first(ctx, _place(name, served), end)
            if stander is None:
                raise InvariantViolation(f"a lock's line lacks {waiting} waiters that it counts")
            self._line.remove(ctx, stander)
            waiting -= 1
            (served,) = U64.unpack(stander.place[-U64.size :])
            if ctx.alive(stander.session):
                token = self._grant(ctx, name, state.token, stander.session, served, waiting)
                ctx.answer(stander.waiter, (Code.OK, token))
                return
        self._save(ctx, name, _State(0, state.token, served, waiting))
        if waiting:
            ctx.arm(0, self._timer + name)

    def _state(self, view: View, name: bytes) -> _State:
        row = view.view(self._states).get(name)
        return _State() if row is None else _State(*_STATE.unpack(row))

    def _save(self, ctx: Context, name: bytes, state: _State) -> None:
        if state.session or state.waiting:
            ctx.table(self._states).put(name, _STATE.pack(*state))
        else:
            ctx.table(self._states).delete(name)


def _place(name: bytes, ticket: int) -> bytes:
    return _LENGTH.pack(len(name)) + name + U64.pack(ticket)
