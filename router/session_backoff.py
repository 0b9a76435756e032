"""How long to wait before the next try."""

from __future__ import annotations

from typing import Protocol


class Random(Protocol):
    """An injected source of randomness."""

    def randrange(self, start: int, stop: int) -> int:
        """A whole number with ``start <= n < stop``."""


class Backoff:
    """Waits that double up to a maximum, each randomized between half of it and the whole."""

    __slots__ = ("_first_ms", "_max_ms", "_random", "tries")

    def __init__(self, random: Random, first_ms: int, max_ms: int) -> None:
        self._random = random
        self._first_ms = first_ms
        self._max_ms = max_ms
        self.tries = 0
        """Tries since the last success."""

    def next_ms(self) -> int:
        """The wait after one more failure."""
        whole = min(self._first_ms << min(self.tries, 16), self._max_ms)
        self.tries += 1
        return self._random.randrange(whole // 2, whole + 1)

    def reset(self) -> None:
        """Something succeeded."""
        self.tries = 0
