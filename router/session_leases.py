"""A client's lease with one group under one registration, judged by the client's own clock.

The lease runs from the client's own *sending* of whatever the group confirmed, less a margin for the drift of
clocks, so it ends here before it can end there. It is judged by the clock whenever somebody asks, not by a
timer alone: a process that was stopped finds its leases lost before it believes anything else. Lost is for
good.
"""

from __future__ import annotations

from typing import Any, Final

from primitives.errors import InvariantViolation
from primitives.handle import LeaseState
from router.session_settings import SessionSettings


class LeaseClock:
    """The lease of one registration. All times are of one clock that runs while the machine sleeps, in ms."""

    __slots__ = ("_lease_ms", "_suspended_after_ms", "confirmed_ms", "group", "holds", "is_lost", "number",
                 "watchers")  # fmt: skip

    def __init__(self, settings: SessionSettings, group: int, number: int, sent_ms: int) -> None:
        self.group: Final = group
        self.number: Final = number
        self.confirmed_ms = sent_ms
        """When the last thing that was confirmed was sent."""
        self.is_lost = False
        """What was judged last; ask :meth:`judge`."""
        self.holds = 0
        """How many things are held under it, as their holders said."""
        self.watchers: set[Any] = set()
        """The driver's own: who is to be told of the loss."""
        self._lease_ms = settings.lease_ms
        self._suspended_after_ms = settings.keepalive_ms + 2 * settings.keepalive_urgent_ms

    @property
    def is_in_use(self) -> bool:
        """Whether anything is held under it, or watches over it."""
        return self.holds > 0 or bool(self.watchers)

    def hold(self) -> None:
        """One thing more is held under it."""
        self.holds += 1

    def let_go(self) -> None:
        """One thing less is."""
        if self.holds == 0:
            raise InvariantViolation("more is let go under a lease than was held")
        self.holds -= 1

    @property
    def deadline_ms(self) -> int:
        """When the lease is lost unless it is confirmed before."""
        return self.confirmed_ms + self._lease_ms

    def judge(self, now_ms: int) -> bool:
        """Whether the lease lives at ``now_ms``. Once it does not, it never does again."""
        if not self.is_lost and now_ms >= self.confirmed_ms + self._lease_ms:
            self.is_lost = True
        return not self.is_lost

    def lose(self) -> None:
        """The group said that the session ended, or the client ended it."""
        self.is_lost = True

    def confirm(self, now_ms: int, sent_ms: int) -> None:
        """The group confirmed what was sent at ``sent_ms``. Changes nothing if the lease is lost by now."""
        if self.judge(now_ms) and sent_ms > self.confirmed_ms:
            self.confirmed_ms = sent_ms

    def state(self, now_ms: int) -> str:
        """One of ``LeaseState``."""
        if not self.judge(now_ms):
            return LeaseState.LOST
        late = now_ms - self.confirmed_ms > self._suspended_after_ms
        return LeaseState.SUSPENDED if late else LeaseState.CONNECTED

    def suspends_ms(self) -> int:
        """When the lease is suspended unless it is confirmed before."""
        return self.confirmed_ms + self._suspended_after_ms + 1

    def remaining_ms(self, now_ms: int) -> int:
        """How long the lease lives if nothing confirms it; 0 once it is lost."""
        return max(0, self.deadline_ms - now_ms) if self.judge(now_ms) else 0
