"""How much of a group's log may go: all that is written as state, but for a bounded tail.

The tail lets a follower that lags, or was away for a moment, catch up without a snapshot. A leader keeps more
than the tail while a connected follower still needs it (one that a snapshot is being sent to needs what comes
behind that), up to another bound: so a snapshot is not overtaken by the writes made meanwhile.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from primitives.ids import GroupId
from raftgroup.types import Index, LogReader
from shards.applying import Applying
from shards.ports import Batch
from shards.settings import EngineSettings

CUT_MIN: Final = 64
"""Fewer entries are not worth a cut, unless the tail itself is smaller."""
MARKS_MAX: Final = 4096


class LogCut:
    """Cuts one group's log. Bytes are known by marks, made at each look."""

    __slots__ = ("_applying", "_group", "_log", "_marks")

    def __init__(self, group: GroupId, log: LogReader, applying: Applying) -> None:
        self._group: Final = group
        self._log: Final = log
        self._applying: Final = applying
        self._marks: deque[tuple[Index, int]] = deque()
        """Written indexes with the bytes that had been applied when each was."""

    def cut(self, batch: Batch, settings: EngineSettings, needed: Index | None) -> None:
        """Cuts what may go, in ``batch``, which may have the latest flush too. ``needed``: on a leader, the
        last entry that all connected followers have, or will have by a snapshot."""
        written, total = self._applying.flushed_index, self._applying.flushed_bytes
        marks = self._marks
        if (not marks or marks[-1][0] != written) and len(marks) < MARKS_MAX:
            marks.append((written, total))
        index = max(written - settings.log_tail_entries, self._behind(total - settings.log_tail_bytes))
        if needed is not None and needed < index:
            index = max(needed, self._behind(total - settings.log_held_bytes))
        if index < self._log.first_index() + min(CUT_MIN, settings.log_tail_entries):
            return
        while len(marks) > 1 and marks[1][0] <= index:
            marks.popleft()
        batch.cut_log(self._group, Index(index), self._log.term(Index(index)))

    def _behind(self, total: int) -> int:
        """The latest written index behind which all that was applied since ``total`` bytes stands; 0 if none
        is known."""
        found = 0
        for index, at in self._marks:
            if at > total:
                break
            found = index
        return found
