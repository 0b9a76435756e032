"""Simulated time, seeded randomness and the trace: what makes a run repeatable to the byte."""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Final

Action = Callable[[], None]

PPM: Final = 1_000_000
"""A clock rate of exactly one, in parts per million."""

TAIL_LINES: Final = 4000
"""Lines of the trace that are kept for a report."""


class Heap:
    """What happens next. Events of the same millisecond happen in the order in which they were added."""

    __slots__ = ("_added", "_events", "now_ms", "steps")

    def __init__(self) -> None:
        self._events: list[tuple[int, int, Action]] = []
        self._added = 0
        self.now_ms = 0
        """Simulated milliseconds since the run began."""
        self.steps = 0
        """Events that have happened."""

    def at(self, when_ms: int, action: Action) -> None:
        """Adds an event at ``when_ms``, or now if that is past."""
        self._added += 1
        heapq.heappush(self._events, (max(when_ms, self.now_ms), self._added, action))

    def after(self, delay_ms: int, action: Action) -> None:
        """Adds an event ``delay_ms`` from now."""
        self.at(self.now_ms + delay_ms, action)

    def step(self) -> bool:
        """Lets the next event happen; False when there is none."""
        if not self._events:
            return False
        when_ms, _, action = heapq.heappop(self._events)
        self.now_ms = when_ms
        self.steps += 1
        action()
        return True

    def run_until(self, when_ms: int, done: Callable[[], bool] | None = None) -> bool:
        """Lets everything up to ``when_ms`` (inclusive) happen, or stops as soon as ``done()`` holds after
        an event. True when it stopped for ``done``."""
        while self._events and self._events[0][0] <= when_ms:
            self.step()
            if done is not None and done():
                return True
        self.now_ms = max(self.now_ms, when_ms)
        return False


class Seed:
    """The run's only randomness: one independent stream for each purpose, so that what one part draws does
    not shift what another gets."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number: Final = number

    def stream(self, purpose: str) -> Random:
        """A source of its own, the same for the same seed and purpose."""
        return Random(f"{self.number}/{purpose}")


class Clock:
    """One machine's monotonic clock, which may run fast or slow; it is the engine's clock port."""

    __slots__ = ("_base_ms", "_heap", "_since_ms", "rate_ppm")

    def __init__(self, heap: Heap, *, start_ms: int = 0, rate_ppm: int = PPM) -> None:
        self._heap = heap
        self._base_ms = start_ms
        self._since_ms = heap.now_ms
        self.rate_ppm = rate_ppm

    def monotonic_ms(self) -> int:
        """This machine's milliseconds; they never go back."""
        return self._base_ms + (self._heap.now_ms - self._since_ms) * self.rate_ppm // PPM

    def set_rate(self, rate_ppm: int) -> None:
        """From now on, ``rate_ppm`` of this clock's microseconds pass in each true second."""
        self._base_ms = self.monotonic_ms()
        self._since_ms = self._heap.now_ms
        self.rate_ppm = rate_ppm

    def jump(self, jump_ms: int) -> None:
        """``jump_ms`` pass at once."""
        self._base_ms += jump_ms

    def true_delay_ms(self, delay_ms: int) -> int:
        """True milliseconds until this clock has advanced by ``delay_ms``, at least."""
        return -(-delay_ms * PPM // self.rate_ppm)


class Trace:
    """One line for each event. The digest of all lines is what two runs of a seed are compared by."""

    __slots__ = ("_digest", "_echo", "_heap", "count", "tail")

    def __init__(self, heap: Heap, echo: Callable[[str], None] | None = None) -> None:
        self._heap = heap
        self._echo = echo
        self._digest = hashlib.blake2b(digest_size=16)
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.count = 0

    def __call__(self, who: str, what: str) -> None:
        """Adds a line: who did what, now."""
        line = f"{self._heap.now_ms:>7} {who:<6} {what}"
        self.count += 1
        self._digest.update(line.encode())
        self._show(line)

    def aside(self, who: str, what: str) -> None:
        """A line for people alone, which the digest does not count."""
        self._show(f"{self._heap.now_ms:>7} {who:<6} {what}")

    def _show(self, line: str) -> None:
        self.tail.append(line)
        if self._echo is not None:
            self._echo(line)

    def digest(self) -> str:
        """Of every line so far, in hex."""
        return self._digest.hexdigest()
