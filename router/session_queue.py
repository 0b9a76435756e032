"""A queue of calls of which any may be called off at any time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from router.session_calls import Call

_DEAD_MIN = 32


class CallQueue:
    """First in, first out; calls that were called off are skipped, and dropped before they are the most."""

    __slots__ = ("_calls", "_dead")

    def __init__(self, calls: Iterable[Call] = ()) -> None:
        self._calls: deque[Call] = deque()
        self._dead = 0
        for call in calls:
            self.push(call)

    def __len__(self) -> int:
        return len(self._calls) - self._dead

    def __iter__(self) -> Iterator[Call]:
        return (call for call in self._calls if not call.called_off)

    def push(self, call: Call) -> None:
        """Puts a call at the end."""
        call.queue = self
        self._calls.append(call)

    def push_front(self, call: Call) -> None:
        """Puts a call before all others."""
        call.queue = self
        self._calls.appendleft(call)

    def first(self) -> Call | None:
        """The first call, which stays."""
        calls = self._calls
        while calls and calls[0].called_off:
            calls.popleft()
            self._dead -= 1
        return calls[0] if calls else None

    def pop(self) -> Call | None:
        """Takes the first call; None if there is none."""
        calls = self._calls
        while calls:
            call = calls.popleft()
            if not call.called_off:
                call.queue = None
                return call
            self._dead -= 1
        return None

    def drain(self) -> list[Call]:
        """Takes all calls."""
        calls = list(self)
        for call in calls:
            call.queue = None
        self._calls.clear()
        self._dead = 0
        return calls

    def call_off(self, call: Call) -> None:
        """Takes out a call that is here."""
        call.called_off = True
        call.queue = None
        self._dead += 1
        if self._dead > _DEAD_MIN and 2 * self._dead > len(self._calls):
            self._calls = deque(self)
            self._dead = 0
