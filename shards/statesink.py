"""Where an applier writes what it applied: the state rows of its group, in a round's batch."""

from __future__ import annotations

from collections.abc import Mapping

from primitives.ids import GroupId
from shards.ports import Batch


class StateSink:
    """Lets an applier write its rows into a batch, under its group and epoch."""

    __slots__ = ("_batch", "_epoch", "_group")

    def __init__(self, batch: Batch, group: GroupId, epoch: int) -> None:
        self._batch, self._group, self._epoch = batch, group, epoch

    def put(self, key: bytes, value: bytes) -> None:
        """Sets a row."""
        self._batch.put_state(self._group, self._epoch, key, value)

    def delete(self, key: bytes) -> None:
        """Removes a row."""
        self._batch.delete_state(self._group, self._epoch, key)

    def write(self, prefix: bytes, rows: Mapping[bytes, bytes | None]) -> None:
        """Sets rows, or removes those whose value is None, by their keys behind ``prefix``."""
        self._batch.write_state(self._group, self._epoch, prefix, rows)

    def drop(self, first: bytes, last: bytes) -> None:
        """Removes the rows from ``first`` to ``last``, both included, but those that are set after this."""
        self._batch.drop_rows(self._group, self._epoch, first, last)
