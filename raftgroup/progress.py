"""What a leader knows of a member of its group, and how much it may send it."""

from __future__ import annotations

from typing import Final

from raftgroup.types import Index, ReplicaId


class ProgressState:
    """How a leader sends entries to a member."""

    PROBE: Final = 0
    """Where its log meets ours is not known: one message at a time."""
    REPLICATE: Final = 1
    """Entries are sent ahead of their acknowledgements, as many as the window takes."""
    SNAPSHOT: Final = 2
    """It needs entries that are no longer in the log: none are sent until it has a snapshot."""


class Progress:
    """A member as its leader sees it.

    ``match`` is the last index known to be in its log, durable there and equal to ours; ``next`` the first
    to be sent. The window holds (last index, bytes) of each message on its way.
    """

    __slots__ = (
        "active", "beat_match", "context", "id", "match", "next", "nudge", "pending", "state", "waiting",
        "window", "window_bytes",
    )  # fmt: skip

    def __init__(self, replica: ReplicaId, next_index: Index, active: bool) -> None:
        self.id: Final = replica
        self.state: int = ProgressState.PROBE
        self.match = Index(0)
        self.next = next_index
        self.active = active
        """Heard from since the leader last checked its quorum."""
        self.context = 0
        """The newest ReadIndex round that it confirmed."""
        self.waiting = False
        """While probing: a probe is on its way."""
        self.nudge = False
        """No entry was acknowledged since the heartbeat before, though some are on their way: find out at
        the next sign of life whether they were lost."""
        self.pending = Index(0)
        """The last entry of the snapshot that is being sent to it; 0: none is."""
        self.beat_match = Index(0)
        """``match`` at the last heartbeat."""
        self.window: list[tuple[int, int]] = []
        self.window_bytes = 0

    def probe(self, next_index: Index) -> None:
        """Forgets what is on its way and looks for the place where the logs meet, from ``next_index``."""
        self.state = ProgressState.PROBE
        self.next = next_index
        self.pending = Index(0)
        self.waiting = self.nudge = False
        self.window.clear()
        self.window_bytes = 0

    def replicate(self) -> None:
        """The logs are known to meet at ``match``: from now on entries are sent ahead."""
        self.state = ProgressState.REPLICATE
        self.next = Index(self.match + 1)
        self.pending = Index(0)
        self.waiting = self.nudge = False

    def need_snapshot(self) -> None:
        """Its log is not known to meet ours anywhere that is still in the log."""
        self.state = ProgressState.SNAPSHOT
        self.waiting = self.nudge = False
        self.window.clear()
        self.window_bytes = 0

    def sent(self, last: int, size: int) -> None:
        """A message with entries up to ``last``, of ``size`` bytes, is on its way."""
        self.window.append((last, size))
        self.window_bytes += size

    def arrived(self, index: int) -> None:
        """Everything up to ``index`` was acknowledged."""
        window = self.window
        for at, (last, size) in enumerate(window):
            if last > index:
                del window[:at]
                return
            self.window_bytes -= size
        window.clear()
