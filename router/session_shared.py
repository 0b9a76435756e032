"""What the parts of one client's session have in common."""

from __future__ import annotations

from typing import Final

from primitives.ids import GROUP_SLOT
from primitives.records import Answer
from router.session_backoff import Random
from router.session_calls import Call
from router.session_leases import LeaseClock
from router.session_settings import SessionSettings
from router.shardmap import ShardMap


class Shared:
    """What all groups of a session have in common, and where they leave what happened."""

    __slots__ = ("finished", "lost", "random", "session_id", "settings", "shard_map")

    def __init__(self, session_id: bytes, settings: SessionSettings, random: Random) -> None:
        self.session_id: Final = session_id
        self.settings: Final = settings
        self.random: Final = random
        self.shard_map: ShardMap | None = None
        self.finished: list[Call] = []
        """Calls that have their outcome."""
        self.lost: list[LeaseClock] = []
        """Leases newly judged lost."""

    def epoch(self, slot: int) -> int:
        """The slot's epoch, by the map; 0 for the group's own."""
        return 0 if self.shard_map is None or slot == GROUP_SLOT else self.shard_map.epoch(slot)

    def finish(self, call: Call, answer: Answer | None, error: Exception | None = None) -> None:
        """Settles a call, unless nobody wants its outcome any more."""
        if not call.done:
            call.done, call.answer, call.error = True, answer, error
            self.finished.append(call)
