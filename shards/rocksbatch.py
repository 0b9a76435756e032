"""A round's writes, kept as rows, so that a batch which the database refused can be written again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from primitives.errors import InvariantViolation
from primitives.ids import GroupId
from raftgroup.types import Entry, HardState, Index, Membership, Term
from shards.layout import (
    LOG_KEY,
    applied_key,
    base_key,
    encode_applied,
    encode_base,
    encode_replica,
    encode_staged,
    hard_state_row,
    replica_key,
    staged_key,
    state_end,
    state_prefix,
)
from shards.logrecord import encode_record
from shards.ports import StoredReplica

LOG: Final = 0
META: Final = 1
STATE: Final = 2
STATE_RANGE: Final = 3
FAMILIES: Final = ("log", "meta", "state")
"""Names of the column families, by their numbers above."""


class Append:
    """What one append does to a group's log."""

    __slots__ = ("first", "group", "last", "last_stored")

    def __init__(self, group: GroupId, first: Index, last: Entry, last_stored: Index) -> None:
        self.group: Final = group
        self.first: Final = first
        self.last: Final = last
        self.last_stored: Final = last_stored


class Cut(NamedTuple):
    """What a cut does to a group's log."""

    group: GroupId
    last: Index
    last_term: Term
    keep: bool


class RocksBatch:
    """See :class:`shards.ports.Batch`. Whole logs and states are deleted first, then rows are written in the
    order in which they were put."""

    __slots__ = ("_prefix", "_prefix_of", "appends", "cuts", "ranges", "round_number", "rows")

    def __init__(self, round_number: int) -> None:
        self.round_number: Final = round_number
        self.rows: list[tuple[int, bytes, bytes | None]] = []
        """Column family, key, and the value or None to delete; of a range that is deleted ``STATE_RANGE``,
        its first key, and the first behind it that stays."""
        self.ranges: list[tuple[int, bytes, bytes]] = []
        """Column family, first key that goes, first one behind that stays."""
        self.appends: list[Append] = []
        self.cuts: list[Cut] = []
        self._prefix_of: tuple[GroupId, int] | None = None
        self._prefix = b""
        """Of the state's rows that were put last: rows of one group come together."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was put into it."""
        return not (self.rows or self.ranges)

    def append(self, group: GroupId, entries: Sequence[Entry], last_stored: Index) -> None:
        """Stores entries and deletes every stored one from ``entries[0].index`` to ``last_stored``."""
        if not entries:
            return
        rows = self.rows
        index = first = entries[0].index
        for entry in entries:
            if entry.index != index:
                raise InvariantViolation(f"entries of a batch are not contiguous: {list(entries)}")
            rows.append((LOG, LOG_KEY.pack(group, index), encode_record(entry)))
            index = Index(index + 1)
        # Those up to the new end were overwritten just now; what stood behind it must not come back.
        for stale in range(index, last_stored + 1):
            rows.append((LOG, LOG_KEY.pack(group, stale), None))
        self.appends.append(Append(group, first, entries[-1], last_stored))

    def hard_state(self, group: GroupId, state: HardState) -> None:
        """Stores a group's term, vote and commit."""
        key, row = hard_state_row(group, state)
        self.rows.append((META, key, row))

    def put_state(self, group: GroupId, epoch: int, key: bytes, value: bytes) -> None:
        """Sets a row of a group's state."""
        self.rows.append((STATE, self._state_prefix(group, epoch) + key, value))

    def delete_state(self, group: GroupId, epoch: int, key: bytes) -> None:
        """Removes a row of a group's state."""
        self.rows.append((STATE, self._state_prefix(group, epoch) + key, None))

    def _state_prefix(self, group: GroupId, epoch: int) -> bytes:
        if self._prefix_of != (group, epoch):
            self._prefix_of = (group, epoch)
            self._prefix = state_prefix(group, epoch)
        return self._prefix

    def write_state(
        self, group: GroupId, epoch: int, prefix: bytes, rows: Mapping[bytes, bytes | None]
    ) -> None:
        """Sets rows of a group's state, or removes those without a value, by their keys behind ``prefix``."""
        start = state_prefix(group, epoch) + prefix
        self.rows += [(STATE, start + key, value) for key, value in rows.items()]

    def drop_rows(self, group: GroupId, epoch: int, first: bytes, last: bytes) -> None:
        """Removes rows of a group's state from ``first`` to ``last``, both included, but those that are set
        after this."""
        prefix = self._state_prefix(group, epoch)
        self.rows.append((STATE_RANGE, prefix + first, prefix + last + b"\0"))

    def applied(self, group: GroupId, index: Index, membership: Membership) -> None:
        """Stores the applied index with the membership as of it."""
        self.rows.append((META, applied_key(group), encode_applied(group, index, membership)))

    def create(self, replica: StoredReplica) -> None:
        """Stores a new replica with everything it starts from."""
        group = replica.identity.group
        row = encode_replica(group, replica.identity.replica, replica.epoch)
        self.rows.append((META, replica_key(group), row))
        self.hard_state(group, replica.hard_state)
        self.applied(group, replica.applied, replica.membership)

    def cut_log(self, group: GroupId, index: Index, term: Term, *, keep: bool = True) -> None:
        """The log begins behind that entry; unless ``keep``, nothing is left of it."""
        end = LOG_KEY.pack(group, index + 1) if keep else LOG_KEY.pack(group + 1, 0)
        self.ranges.append((LOG, LOG_KEY.pack(group, 0), end))
        self.rows.append((META, base_key(group), encode_base(group, index, term)))
        self.cuts.append(Cut(group, index, term, keep))

    def use_epoch(self, group: GroupId, epoch: int) -> None:
        """Notes that the epoch's number was used, and deletes whatever rows are left under it."""
        self.rows.append((META, staged_key(group), encode_staged(group, epoch)))
        self.drop_state(group, epoch)

    def drop_state(self, group: GroupId, epoch: int) -> None:
        """Deletes all rows of a group's epoch."""
        self.ranges.append((STATE, state_prefix(group, epoch), state_end(group, epoch)))

    def switch(self, replica: StoredReplica) -> None:
        """Rewrites what a stored replica starts from."""
        self.create(replica)
