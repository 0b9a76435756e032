"""What handles see of a lease: its state by the clock, and a guard that cancels a block when it is lost."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Final

import anyio

from router.session_leases import LeaseClock

Clock = Callable[[], int]
"""Milliseconds of a clock that runs while the machine sleeps."""


class HeldLease:
    """The client's standing in one group, under one registration. Once lost it stays lost."""

    __slots__ = ("_clock", "_lease")

    def __init__(self, lease: LeaseClock, clock: Clock) -> None:
        self._lease: Final = lease
        self._clock: Final = clock

    @property
    def state(self) -> str:
        """``connected``, ``suspended`` or ``lost``, judged by the clock at this call."""
        return self._lease.state(self._clock())

    def remaining(self) -> float:
        """Seconds until the lease is lost if nothing renews it; 0 once it is lost."""
        return self._lease.remaining_ms(self._clock()) / 1000

    def guard(self, scope: anyio.CancelScope) -> LeaseGuard:
        """A context manager that cancels ``scope`` when the lease is lost; its ``lost`` tells."""
        return LeaseGuard(self._lease, self._clock, scope)

    def hold(self) -> None:
        """Something is held under the lease, which is kept alive for it."""
        self._lease.hold()

    def let_go(self) -> None:
        """One hold less."""
        self._lease.let_go()


class LeaseGuard:
    """Watches a lease while it is entered."""

    __slots__ = ("_clock", "_lease", "_scope", "lost")

    def __init__(self, lease: LeaseClock, clock: Clock, scope: anyio.CancelScope) -> None:
        self._lease: Final = lease
        self._clock: Final = clock
        self._scope: Final = scope
        self.lost = False
        """Whether the lease was lost before the guard was left; judged by the clock when it is left."""

    def lose(self) -> None:
        """The lease is lost now."""
        self.lost = True
        self._scope.cancel()

    def __enter__(self) -> LeaseGuard:
        """Begins to watch. Cancels the scope at once if the lease is lost already."""
        self._lease.watchers.add(self)
        if not self._lease.judge(self._clock()):
            self.lose()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends watching. Never swallows."""
        self._lease.watchers.discard(self)
        if not self._lease.judge(self._clock()):
            self.lost = True
