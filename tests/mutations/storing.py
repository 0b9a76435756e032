"""Planted bugs in what is stored: snapshots, the cut of the log, the written state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bench.world.disk import SimBatch
from primitives.ids import GROUP_SLOT, GroupId
from primitives.layout import HostTable, host_prefix
from primitives.tables import Table
from raftgroup.types import Entry, Index, Membership, Term
from shards.applying import Applying
from shards.group import GroupDriver
from shards.ports import Batch
from shards.rocks import RocksStore
from shards.rocksbatch import STATE_RANGE, RocksBatch
from shards.sending import Sending
from shards.staging import Staging
from shards.statesink import StateSink
from shards.syncer import SyncThread
from tests.mutations.registry import Patch, mutation
from tests.mutations.suites import SNAPSHOTS, STORE

_NUMBERS_BYTES = 16
_SESSIONS = host_prefix(GROUP_SLOT, HostTable.SESSION)


def _is_session(key: bytes) -> bool:
    return key.startswith(_SESSIONS)


def _send(patch: Patch, changed: Callable[[bytes, bytes], bytes | None]) -> None:
    """Snapshots are sent with ``changed`` rows; None leaves a row out."""
    begin = Sending.__init__

    def careless(self: Sending, *arguments: Any) -> None:
        begin(self, *arguments)
        rows = self._walk
        if rows is not None:
            made = ((key, changed(key, row)) for key, row in rows)
            self._walk = ((key, row) for key, row in made if row is not None)

    patch.setattr(Sending, "__init__", careless)


@mutation(
    "session-rows-not-in-snapshots", "Snapshots are sent without the rows of sessions.", rule="pitfall 20",
    suites=SNAPSHOTS,
)  # fmt: skip
def _session_rows_not_in_snapshots(patch: Patch) -> None:
    _send(patch, lambda key, row: None if _is_session(key) else row)


@mutation(
    "answers-not-in-snapshots", "Snapshots are sent without the stored answers.", rule="pitfall 24",
    suites=SNAPSHOTS,
)  # fmt: skip
def _answers_not_in_snapshots(patch: Patch) -> None:
    def changed(key: bytes, row: bytes) -> bytes | None:
        slot = int.from_bytes(key[:2], "big")
        if key.startswith(host_prefix(slot, HostTable.ANSWER)):
            return None
        # Short answers stand behind the numbers of how far the session came.
        return row[:_NUMBERS_BYTES] if key.startswith(host_prefix(slot, HostTable.NUMBERING)) else row

    _send(patch, changed)


@mutation(
    "snapshot-lacks-a-row", "A part of a snapshot begins a row too late.", rule="pitfall 20",
    suites=SNAPSHOTS,
)  # fmt: skip
def _snapshot_lacks_a_row(patch: Patch) -> None:
    make = Sending._make

    def careless(self: Sending, part_bytes: int) -> bytes:
        if self._rows and self._walk is not None:
            next(self._walk, None)
        return make(self, part_bytes)

    patch.setattr(Sending, "_make", careless)


class _WithoutSessions:
    """A batch that does not take the rows of sessions."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def put_state(self, group: GroupId, epoch: int, key: bytes, value: bytes) -> None:
        if not _is_session(key):
            self._batch.put_state(group, epoch, key, value)


@mutation(
    "snapshot-installed-without-sessions", "A received snapshot is installed without the sessions in it.",
    rule="pitfall 20", suites=SNAPSHOTS,
)  # fmt: skip
def _snapshot_installed_without_sessions(patch: Patch) -> None:
    stage = Staging.stage
    patch.setattr(Staging, "stage", lambda self, batch: stage(self, _WithoutSessions(batch)))


@mutation(
    "epoch-used-again", "Received snapshots are all staged under the same epoch.", rule="pitfall 36",
    suites=SNAPSHOTS,
)  # fmt: skip
def _epoch_used_again(patch: Patch) -> None:
    stage = Staging.__init__

    def frugal(self: Staging, *arguments: Any) -> None:
        group, node, message, membership, _, now_ms = arguments
        stage(self, group, node, message, membership, 2, now_ms)

    patch.setattr(Staging, "__init__", frugal)


@mutation(
    "kept-values-swept", "A slice of the history that is dropped as a range takes the values with it that its"
    " primitive still has.", rule="what is acknowledged stays", suites=("tables-unit", "history-properties"),
)  # fmt: skip
def _kept_values_swept(patch: Patch) -> None:
    sweep = Table.sweep
    patch.setattr(Table, "sweep", lambda self, gone, kept: sweep(self, gone, {}))


@mutation(
    "swept-rows-read-again", "Rows that were dropped as a range are still found in the cache.",
    rule="what is seen depends on what was written, never on where it is kept", suites=("tables-unit",),
)  # fmt: skip
def _swept_rows_read_again(patch: Patch) -> None:
    drop = Table.drop_swept

    def careless(self: Table, sink: Any) -> None:
        young = dict(self._young)
        drop(self, sink)
        self._young.clear()
        self._young.update(young)

    patch.setattr(Table, "drop_swept", careless)


@mutation(
    "range-written-last", "A range of rows is dropped after what its batch sets, not before.",
    rule="what is acknowledged stays", suites=("store-unit", "tables-unit"),
)  # fmt: skip
def _range_written_last(patch: Patch) -> None:
    write = RocksStore.write

    def late(self: RocksStore, batch: Batch) -> bool:
        if isinstance(batch, RocksBatch):
            batch.rows.sort(key=lambda row: row[0] == STATE_RANGE)
        return write(self, batch)

    patch.setattr(RocksStore, "write", late)


def _always_keep(patch: Patch, batch: Any) -> None:
    cut = batch.cut_log

    def keeping(self: Any, group: GroupId, index: Index, term: Term, *, keep: bool = True) -> None:
        cut(self, group, index, term, keep=True)

    patch.setattr(batch, "cut_log", keeping)


@mutation(
    "log-kept-beyond-a-snapshot", "The log is kept beyond a snapshot, whether it holds that entry or not.",
    rule="pitfall 20", suites=SNAPSHOTS,
)  # fmt: skip
def _log_kept_beyond_a_snapshot(patch: Patch) -> None:
    _always_keep(patch, SimBatch)
    _always_keep(patch, RocksBatch)


@mutation(
    "log-cut-beyond-what-is-written", "The log is cut behind the applied index, written or not; followers"
    " write their state late.", rule="the log is cut behind the written applied index", suites=SNAPSHOTS,
)  # fmt: skip
def _log_cut_beyond_what_is_written(patch: Patch) -> None:
    patch.setattr(Applying, "flushed_index", property(lambda self: self.applied))
    flush = GroupDriver.flush
    patch.setattr(GroupDriver, "flush", lambda self, batch: flush(self, batch) if self.leads else None)


@mutation(
    "applied-index-apart-from-its-data", "The applied index is written with the flush after the one that has"
    " the data.", rule="pitfall 23", suites=STORE,
)  # fmt: skip
def _applied_index_apart_from_its_data(patch: Patch) -> None:
    rows_at: dict[int, tuple[Applying, Index]] = {}

    def apart(self: Applying, batch: Batch, membership: Membership) -> None:
        self._applier.flush(StateSink(batch, self._group, self._epoch))
        _, behind = rows_at.get(id(self), (self, self._flushed))
        batch.applied(self._group, behind, membership)
        self._flushed = behind
        rows_at[id(self)] = (self, self.applied)

    patch.setattr(Applying, "flush", apart)


@mutation(
    "stale-tail-left-behind", "Entries behind a rewritten suffix stay in the store.", rule="pitfall 10",
    suites=STORE,
)  # fmt: skip
def _stale_tail_left_behind(patch: Patch) -> None:
    append = RocksBatch.append

    def careless(self: RocksBatch, group: GroupId, entries: Sequence[Entry], last_stored: Index) -> None:
        append(self, group, entries, last_stored)
        self.rows = [row for row in self.rows if row[0] != 0 or row[2] is not None]

    patch.setattr(RocksBatch, "append", careless)


@mutation(
    "failed-sync-tried-again", "A sync that failed is tried again, and its second success believed.",
    rule="pitfall 39", suites=STORE,
)  # fmt: skip
def _failed_sync_tried_again(patch: Patch) -> None:
    class Stubborn:
        """Syncs twice if need be."""

        def __init__(self, store: Any) -> None:
            self._store = store

        def sync(self) -> None:
            try:
                self._store.sync()
            except Exception:
                self._store.sync()

    begin = SyncThread.__init__

    def stubborn(self: SyncThread, store: Any, door: Any, done: Any, failed: Any) -> None:
        begin(self, Stubborn(store), door, done, failed)

    patch.setattr(SyncThread, "__init__", stubborn)
