"""The node's clock."""

from __future__ import annotations

import time
from typing import Final

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""It runs on while the machine sleeps: else a replica would take what it proved before for fresh."""


class SystemClock:
    """The engine's clock on a real machine."""

    __slots__ = ()

    def monotonic_ms(self) -> int:
        """Milliseconds since some point; they only grow, also while the machine sleeps, and changes of the
        wall clock do not move them."""
        return time.clock_gettime_ns(_CLOCK) // 1_000_000
