"""A line of waiters: commands that are answered late, in an order of places, in two tables of a partition.

One table holds the waiters by their places, the other the places by waiter, whose first 8 bytes are its
session's number, so that a session's waiters are found when it ends. Whoever stands in a line counts as a
holding of its session for as long.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from primitives.machine import Context, View
from primitives.records import U64

WAITER_BYTES: Final = 18
"""What ``Context.later`` gives."""
SLICE_WAITERS: Final = 100
"""Waiters that one command removes, twice at the most: as those of a session, and as dead ones."""
WAITERS_MAX: Final = 100_000
"""Who asks beyond, of one line, is refused as OVERLOADED."""


class Stander(NamedTuple):
    """One who stands in a line."""

    place: bytes
    waiter: bytes
    load: bytes
    """What it brought along."""

    @property
    def session(self) -> int:
        """Number of its session, which may have ended."""
        return int(U64.unpack_from(self.waiter)[0])


class Line:
    """The tables ``first`` and ``first + 1`` of a partition."""

    __slots__ = ("_places", "_standers")

    def __init__(self, first: int) -> None:
        self._standers: Final = first
        self._places: Final = first + 1

    def join(self, ctx: Context, place: bytes, load: bytes = b"") -> None:
        """The present command is answered late, and stands at ``place``, which must be free."""
        ctx.hold()
        waiter = ctx.later()
        ctx.table(self._standers).put(place, waiter + load)
        ctx.table(self._places).put(waiter, place)

    def move(self, ctx: Context, stander: Stander, place: bytes) -> None:
        """The stander stands at ``place`` now, which must be free."""
        standers = ctx.table(self._standers)
        standers.delete(stander.place)
        standers.put(place, stander.waiter + stander.load)
        ctx.table(self._places).put(stander.waiter, place)

    def at(self, view: View, place: bytes) -> Stander | None:
        """Who stands at ``place``."""
        row = view.view(self._standers).get(place)
        return None if row is None else _stander(place, row)

    def first(self, view: View, start: bytes, end: bytes | None = None) -> Stander | None:
        """The first from the place ``start``, inclusive, to ``end``, exclusive."""
        found = next(view.view(self._standers).scan(start, end), None)
        return None if found is None else _stander(*found)

    def remove(self, ctx: Context, stander: Stander) -> None:
        """Takes the stander out of the line. Its holding is the caller's: it goes, or becomes what it was
        granted."""
        ctx.table(self._standers).delete(stander.place)
        ctx.table(self._places).delete(stander.waiter)

    def behind(self, view: View, place: bytes) -> Iterator[Stander]:
        """All behind ``place`` (empty: all), in order."""
        for found, row in view.view(self._standers).scan(place + b"\x00" if place else b""):
            yield _stander(found, row)

    def withdraw(self, ctx: Context, waiter: bytes) -> Stander | None:
        """The waiter leaves the line, and its holding goes; None if it does not stand in it."""
        place = ctx.table(self._places).get(waiter)
        stander = None if place is None else self.at(ctx, place)
        if stander is not None:
            self.remove(ctx, stander)
            ctx.unhold(stander.session)
        return stander

    def drop(self, ctx: Context, session: int) -> list[Stander]:
        """Takes the first ``SLICE_WAITERS`` of a session that ended out of the line, and returns them. Fewer
        are all of them."""
        rows = ctx.table(self._places).scan(U64.pack(session), U64.pack(session + 1))
        places = [place for _, place in islice(rows, SLICE_WAITERS)]
        standers = [stander for place in places if (stander := self.at(ctx, place)) is not None]
        for stander in standers:
            self.remove(ctx, stander)
        return standers


def _stander(place: bytes, row: bytes) -> Stander:
    return Stander(place, row[:WAITER_BYTES], row[WAITER_BYTES:])
