"""A watch over a group inside the test: it reads the histories of its partitions, by cursors."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

import trio
from local_group import Group, slot_of

from primitives.errors import Compacted, Deleted
from primitives.handle import Reference
from primitives.history import MARK, Event, History, value_of
from primitives.ids import PrimitiveId
from primitives.position import NUMBER_BITS, WHOLE, Position, mark_of
from primitives.watch import PROGRESS, EventKind, StreamEvent

CLUSTER_ID = b"cluster-of-tests"


class LocalWatch:
    """See ``primitives.watch.WatchPort``."""

    def __init__(
        self, group: Group, ref: Reference, resolve: Callable[[], bool], partition: Callable[[], int], *,
        after: Position | None, key: bytes | None, prefix: bytes | None, previous: bool, progress: bool,
    ) -> None:  # fmt: skip
        self.group = group
        self.ref = ref
        self.existed = False
        self._resolve = resolve
        self._partition = partition
        """Where the key is, once resolved."""
        self._after = after
        self._key = key
        self._prefix = prefix or b""
        self._previous = previous
        self._progress = progress
        self._told: Position | None = None
        self._id: PrimitiveId | None = None
        self._marks: list[int] = []
        self._watched: list[int] = []

    async def __aenter__(self) -> LocalWatch:
        await trio.lowlevel.checkpoint()
        self.existed = self._begin(self.group.applier.revision)
        if self._after is not None and not self.existed:
            raise Deleted("the primitive of the position does not exist any more")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def _begin(self, revision: int) -> bool:
        if self._id is not None:
            return True
        if not self._resolve():
            return False
        assert self.ref.primitive is not None
        assert self.ref.spread is not None
        self._id = self.ref.primitive
        count = max(1, self.ref.spread)
        if self._after is not None:
            self._after.check(CLUSTER_ID, self._id, count)
            self._marks = list(self._after.marks)
        else:
            self._marks = [mark_of(revision) if revision else 0] * count
        self._watched = list(range(count)) if self._key is None else [self._partition()]
        return True

    @property
    def position(self) -> Position | None:
        if self._id is None:
            return None
        revision = self.group.applier.revision
        marks = list(self._marks)
        for partition in self._watched:
            if not self._events(partition):
                marks[partition] = max(marks[partition], mark_of(revision))
        return Position(CLUSTER_ID, self._id, tuple(marks))

    def pop(self) -> StreamEvent | None:
        if not self._begin(0):
            return None
        waiting = [(found.mark, p, found) for p in self._watched for found in self._events(p)]
        if not waiting:
            return self._mark()
        mark, partition, found = min(waiting, key=lambda one: one[:2])
        revision, number = MARK.unpack(mark)
        self._marks[partition] = mark_of(revision, number)
        if found.kind == EventKind.DELETED:
            raise Deleted("the primitive was deleted")
        former = self._value(partition, found.previous) if self._previous and found.previous else None
        return StreamEvent(partition, revision, number, found.kind, found.key, found.value, former)

    def _mark(self) -> StreamEvent | None:
        position = self.position
        if not self._progress or position is None or position == self._told:
            return None
        self._told = position
        return StreamEvent(-1, 0, 0, PROGRESS)

    def _events(self, partition: int) -> list[Event]:
        """The next event of a partition that passes the filter, if there is one."""
        history = self._history(partition)
        if history is None:
            return []
        mark = self._marks[partition]
        cursor = MARK.pack(mark >> NUMBER_BITS, mark & WHOLE)
        if cursor < history.floor:
            raise Compacted("the position is no longer in the history")
        for found in history.after(cursor):
            wanted = found.key == self._key if self._key is not None else found.key.startswith(self._prefix)
            if wanted or not found.key:
                return [found]
        return []

    def _history(self, partition: int) -> History | None:
        assert self._id is not None
        slot = slot_of(self._id, partition) if self.ref.spread else self._id.slot
        return self.group.applier.history(slot, self._id, partition)

    def _value(self, partition: int, mark: bytes) -> bytes | None:
        history = self._history(partition)
        row = None if history is None else history.table.get(mark)
        return None if row is None else value_of(row)

    async def next(self) -> StreamEvent:
        await trio.lowlevel.checkpoint()
        while (event := self.pop()) is None:
            await self.group.changed.wait()
        return event
