"""ReadIndex rounds (thesis, section 6.4): many reads share one proof that their leader still leads.

The leader numbers the rounds itself, and the numbers only grow: a caller's ids, used twice, let an old
confirmation answer a new read. A round begins after its reads joined it, takes the commit index of that
moment, and is proven by a quorum that answered a heartbeat of this round or of a later one.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from raftgroup.types import Index, ReadState

ROUNDS_MAX: Final = 64
"""Rounds on their way at once; reads beyond wait and share the next one."""


class Reads:
    """The rounds of one replica, for as long as the process lives."""

    __slots__ = ("_made", "answered", "joining", "lost", "rounds")

    def __init__(self) -> None:
        self._made = 0
        self.joining = 0
        """The context of the round that reads may still join; 0 when none has."""
        self.rounds: deque[tuple[int, Index]] = deque()
        """(context, commit index at its beginning) of the rounds on their way."""
        self.answered: list[ReadState] = []
        self.lost: list[int] = []

    def join(self) -> int:
        """The context of the round that begins next."""
        if not self.joining:
            self._made += 1
            self.joining = self._made
        return self.joining

    def begin(self, index: Index) -> int:
        """Closes the round that reads joined; returns its context."""
        context = self.joining
        self.rounds.append((context, index))
        self.joining = 0
        return context

    def newest(self) -> int:
        """The context of the newest round on its way, 0 if there is none."""
        return self.rounds[-1][0] if self.rounds else 0

    def confirm(self, context: int) -> None:
        """A quorum confirmed the round ``context``, and with it all earlier ones."""
        rounds = self.rounds
        while rounds and rounds[0][0] <= context:
            self.answered.append(ReadState(*rounds.popleft()))

    def drop(self) -> None:
        """Leadership went: no round that is not yet confirmed will be answered."""
        self.lost.extend(context for context, _ in self.rounds)
        self.rounds.clear()
        if self.joining:
            self.lost.append(self.joining)
            self.joining = 0
