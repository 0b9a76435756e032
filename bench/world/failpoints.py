"""Named points at which a node's process may end: places in the simulated ports, where a real process can die
and leave something half done. The product has no part in them.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from primitives.ids import NodeId

POINTS: Final = {
    "before_write": "a round's batch is about to be written",
    "after_write": "it is written, and neither synced nor anything that rests on it sent",
    "vote_written": "a term or vote is written, not synced",
    "entries_written": "entries of a log are written, not synced",
    "flush": "applied state is written, not synced",
    "log_cut": "a log was cut in the batch just written",
    "snapshot_staged": "part of a snapshot's state is written beside the state in use",
    "snapshot_installed": "a snapshot's state was put in place, not synced",
    "before_send": "a round is done, nothing of it sent",
    "half_sent": "the first peer's frame is sent, the others' not",
    "before_answers": "peers' frames are sent, clients' answers not",
    "before_sync": "all is sent, the sync not asked for",
    "synced": "a sync is done, and the engine not told",
}
"""By name, what has happened by then."""


class Died(BaseException):
    """The process ended at a point: raised there, and caught by what stands for the process."""


class Failpoints:
    """Which points are armed, over all nodes, and how often each was struck."""

    __slots__ = ("_armed", "struck")

    def __init__(self) -> None:
        self._armed: dict[NodeId, tuple[str, int]] = {}
        self.struck: Counter[str] = Counter()

    def arm(self, node: NodeId, point: str, hits: int) -> None:
        """The node dies at the ``hits``-th passing of the point; what was armed before is no more."""
        self._armed[node] = point, hits

    def disarm(self, node: NodeId) -> None:
        """The node passes all points."""
        self._armed.pop(node, None)

    def passes(self, node: NodeId, point: str) -> None:
        """The node is at the point. Raises Died if it ends there."""
        armed = self._armed.get(node)
        if armed is None or armed[0] != point:
            return
        if armed[1] > 1:
            self._armed[node] = point, armed[1] - 1
            return
        del self._armed[node]
        self.struck[point] += 1
        raise Died(point)
