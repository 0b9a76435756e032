"""Deletions of spread primitives, as the leader of their names' group carries them out.

The name is ``deleting`` in replicated state, and a timer there tells whoever leads, again and again, until it
is over. So nothing here need outlive this leader. He has each partition's group log that the partition is
gone, wherever that is led; when all have, he logs that the deletion is over. All of it may be repeated.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from primitives.errors import Code
from primitives.ids import GroupId, PrimitiveId
from primitives.records import Delete, Deleted, encode_delete, encode_deleted
from router.slots import slot_of_partition
from shards.core import Core
from shards.group import GroupDriver
from shards.outbox import NOBODY, OPENED
from shards.ports import Origin

DELETING: Final = OPENED - 2
"""Connection number by which records of deletions are answered; the request is a number of this node's."""
UNDER_WAY_MAX: Final = 256
"""Records of deletions that a node has under way."""
STALE_MS: Final = 5000
"""A deletion that did not come further for so long is begun again."""


class _Deletion:
    """A primitive's deletion."""

    __slots__ = ("group", "heard_ms", "left", "primitive")

    def __init__(self, group: GroupId, primitive: PrimitiveId, partitions: int, now_ms: int) -> None:
        self.group: Final = group
        """Of its name."""
        self.primitive: Final = primitive
        self.left = set(range(partitions))
        self.heard_ms = now_ms


class Deletions:
    """Deletions of primitives whose names this node leads."""

    __slots__ = ("_deletions", "_engine", "_next", "_now_ms", "_unsent", "_waiting")

    def __init__(self, engine: Core) -> None:
        self._engine = engine
        self._deletions: dict[PrimitiveId, _Deletion] = {}
        self._unsent: deque[tuple[PrimitiveId, int]] = deque()
        """Partitions that are still to be deleted."""
        self._waiting: dict[int, tuple[PrimitiveId, int]] = {}
        """By request."""
        self._next = 0
        self._now_ms = 0

    def take(self, now_ms: int, driver: GroupDriver) -> None:
        """A group's replica has deletions that are to go on, if it leads."""
        self._now_ms = now_ms
        due = dict(driver.applier.deletions)
        driver.applier.deletions.clear()
        if not driver.leads:
            return
        for primitive, partitions in due.items():
            known = self._deletions.get(primitive)
            if known is None or now_ms >= known.heard_ms + STALE_MS:
                self._forget(primitive)
                self._deletions[primitive] = _Deletion(driver.group, primitive, partitions, now_ms)
                self._unsent.extend((primitive, partition) for partition in range(partitions))
        self._send()

    def _forget(self, primitive: PrimitiveId) -> None:
        if self._deletions.pop(primitive, None) is not None:
            self._unsent = deque(one for one in self._unsent if one[0] != primitive)
            self._waiting = {key: one for key, one in self._waiting.items() if one[0] != primitive}

    def _send(self) -> None:
        engine = self._engine
        shard_map = engine.shard_map
        while shard_map is not None and self._unsent and len(self._waiting) < UNDER_WAY_MAX:
            primitive, partition = self._unsent.popleft()
            self._next += 1
            self._waiting[self._next] = (primitive, partition)
            slot = slot_of_partition(shard_map.salt, primitive, partition)
            record = encode_delete(Delete(slot, primitive, partition))
            engine.route(Origin(engine.node, DELETING, self._next), shard_map.group(slot), record)

    def answered(self, request: int, answer: bytes) -> None:
        """An answer came for :data:`DELETING`. What was not logged is sent again with the next tick."""
        found = self._waiting.pop(request, None)
        deletion = None if found is None else self._deletions.get(found[0])
        if found is None or deletion is None:
            return
        primitive, partition = found
        if answer[0] != Code.OK:
            self._unsent.append(found)
            return
        deletion.heard_ms = self._now_ms
        deletion.left.discard(partition)
        if not deletion.left:
            self._forget(primitive)
            self._end(deletion)
        self._send()

    def _end(self, deletion: _Deletion) -> None:
        driver = self._engine.groups.get(deletion.group)
        if driver is not None and driver.leads:
            record = Deleted(deletion.primitive.slot, deletion.primitive.revision)
            driver.propose(encode_deleted(record), record, NOBODY, self._engine.out)
            self._engine.touch(driver)

    def tick(self, now_ms: int) -> None:
        """Sends again what was refused; forgets what others lead now."""
        if not self._deletions:
            return
        self._now_ms = now_ms
        groups = self._engine.groups
        for primitive, deletion in list(self._deletions.items()):
            driver = groups.get(deletion.group)
            if driver is None or not driver.leads:
                self._forget(primitive)
        self._send()
