"""The node's clock."""

from __future__ import annotations

import time


class SystemClock:
    """The engine's clock on a real machine."""

    __slots__ = ()

    def monotonic_ms(self) -> int:
        """Milliseconds since some point; they only grow, and wall clock changes do not move them."""
        return time.monotonic_ns() // 1_000_000
