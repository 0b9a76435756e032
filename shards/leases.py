"""A leader's view of its group's leases: who was heard when, and whose expiry is to be proposed.

It is not replicated. A leader counts every lease anew from its election, and from the arrival of each
keepalive, so it never ends a lease that the client, who counts from its own sending, still trusts.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable


class LeaderLeases:
    """Leases of one group while this replica leads it."""

    __slots__ = ("_closing", "_due", "_elected_ms", "_expiring", "_heard")

    def __init__(self) -> None:
        self._heard: dict[int, int] = {}
        self._due: list[tuple[int, int, int]] = []
        self._expiring: set[int] = set()
        self._closing: set[int] = set()
        self._elected_ms = 0

    def elected(self, now_ms: int, sessions: Iterable[tuple[int, bytes, int]]) -> None:
        """Starts all leases anew; ``sessions`` are (number, session id, timeout in ms)."""
        self._elected_ms = now_ms
        self._heard.clear()
        self._expiring.clear()
        self._closing.clear()
        self._due = [(now_ms + timeout_ms, number, timeout_ms) for number, _, timeout_ms in sessions]
        heapq.heapify(self._due)

    def closing(self, now_ms: int, number: int) -> None:
        """The session is to end: its lease is renewed no more, and expires a full timeout from now, when no
        confirmation that was given before counts any more."""
        self._closing.add(number)
        self._heard[number] = now_ms

    def confirmed(self, now_ms: int, sessions: Iterable[tuple[int, bytes, int]]) -> None:
        """The leader's own first entry is applied, and with it all that former leaders logged: sessions that
        were registered by entries applied since the election are counted from now."""
        known = self._expiring.union(number for _, number, _ in self._due)
        for number, _, timeout_ms in sessions:
            if number not in known:
                self.registered(now_ms, number, timeout_ms)

    def deposed(self) -> None:
        """Forgets everything: another leader counts now."""
        self._heard.clear()
        self._expiring.clear()
        self._closing.clear()
        self._due.clear()

    def registered(self, now_ms: int, number: int, timeout_ms: int) -> None:
        """A session was registered, or registered again."""
        self._heard[number] = now_ms
        heapq.heappush(self._due, (now_ms + timeout_ms, number, timeout_ms))

    def arrived(self, now_ms: int, number: int) -> None:
        """A keepalive of the session arrived."""
        if number not in self._closing:
            self._heard[number] = now_ms

    def heard_ms(self, number: int) -> int:
        """When the session was last heard, or its lease counted from."""
        return self._heard.get(number, self._elected_ms)

    def paused(self, gap_ms: int) -> None:
        """The process stood still for ``gap_ms``: keepalives that came meanwhile are not read yet, so that
        time does not count against anybody."""
        self._elected_ms += gap_ms
        for number in self._heard:
            self._heard[number] += gap_ms

    def ended(self, number: int) -> None:
        """The session's end was applied."""
        self._heard.pop(number, None)
        self._expiring.discard(number)
        self._closing.discard(number)

    def is_expiring(self, number: int) -> bool:
        """Whether this leader proposed the session's expiry, or somebody its end; such a lease is confirmed
        no more."""
        return number in self._expiring or number in self._closing

    def is_due(self, now_ms: int) -> bool:
        """Whether :meth:`expired` may find any."""
        return bool(self._due) and self._due[0][0] <= now_ms

    def expired(self, now_ms: int) -> list[int]:
        """Sessions not heard for their timeout, each returned once; the caller proposes their expiry."""
        found: list[int] = []
        due = self._due
        while due and due[0][0] <= now_ms:
            _, number, timeout_ms = heapq.heappop(due)
            at_ms = self._heard.get(number, self._elected_ms) + timeout_ms
            if at_ms > now_ms:
                heapq.heappush(due, (at_ms, number, timeout_ms))
            elif number not in self._expiring:
                self._expiring.add(number)
                found.append(number)
        return found
