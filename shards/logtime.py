"""Log time: the replicated milliseconds by which deadlines count. It may run late, never early.

A leader adds its monotonic time since its election to the highest log time in its own log, or heard from
the leader of its last entry's term. What others said does not count: their entries may be gone.
"""

from __future__ import annotations

from primitives.records import U64
from raftgroup.types import EntryKind, Index, LogReader, Term

_SCAN_BYTES = 1 << 16


def last_log_time_ms(log: LogReader, last: Index, applied: Index, applied_ms: int) -> int:
    """The highest log time in the log up to ``last``: that of its last normal entry, for it never falls."""
    index = last
    while index > applied:
        entry = log.entries(index, Index(index + 1), _SCAN_BYTES)[0]
        if entry.kind == EntryKind.NORMAL:
            (log_time_ms,) = U64.unpack_from(entry.data)
            return max(int(log_time_ms), applied_ms)
        index = Index(index - 1)
    return applied_ms


class LogTime:
    """One replica's knowledge of its group's log time."""

    __slots__ = ("_base_ms", "_elected_ms", "_heard_ms", "_heard_term")

    def __init__(self) -> None:
        self._heard_term = Term(0)
        self._heard_ms = 0
        self._base_ms = 0
        self._elected_ms = 0

    def heard(self, term: Term, log_time_ms: int) -> None:
        """The leader of ``term`` told its log time."""
        if term > self._heard_term:
            self._heard_term, self._heard_ms = term, log_time_ms
        elif term == self._heard_term and log_time_ms > self._heard_ms:
            self._heard_ms = log_time_ms

    def elected(self, now_ms: int, last_term: Term, log_ms: int) -> None:
        """This replica leads from ``now_ms``; its last entry is of ``last_term``, its log says ``log_ms``."""
        base_ms = log_ms
        if self._heard_term == last_term and self._heard_ms > base_ms:
            base_ms = self._heard_ms
        self._base_ms, self._elected_ms = base_ms, now_ms

    def now_ms(self, now_ms: int) -> int:
        """Log time at the monotonic ``now_ms``, on a leader."""
        return self._base_ms + now_ms - self._elected_ms
