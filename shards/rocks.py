"""The shared store on RocksDB, and the only module that knows rocksdict.

One database holds all groups. A round's batch is written unsynced, which takes microseconds on the engine's
thread; :meth:`RocksStore.sync` makes durable what was written, and blocks, so the sync thread calls it. The
binding raises bare ``Exception``s: here they become a refusal for now, ``StoreFailed`` or ``StoreDamaged``.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    ColumnFamily,
    DBCompressionType,
    DBRecoveryMode,
    Env,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from primitives.errors import InvariantViolation
from primitives.ids import GroupId
from raftgroup.types import Index, Term
from shards.identity import StoreDirectory
from shards.layout import ROUND_KEY, STORE_KEY, decode_round, encode_round, opened, sealed, state_end
from shards.moments import Moment
from shards.ports import Batch, StateView, StoreDamaged, StoredReplica, StoreFailed
from shards.recovery import judge_log, prepare, view_without_log
from shards.rocksbatch import FAMILIES, LOG, META, STATE, STATE_RANGE, RocksBatch
from shards.rocksload import check_logs, stored_replicas
from shards.rocksviews import GroupLog, GroupRows, GroupRowsAsOf, LogEnds

_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """The store's memory and disk, in bytes."""

    cache_bytes: int = 16 * _MIB
    """Blocks of tables in memory, indexes and filters included."""
    write_buffer_bytes: int = 16 * _MIB
    """Of the log and of the state, each; up to three of each stand while the disk is behind."""
    wal_bytes_max: int = 64 * _MIB
    """Write-ahead log in all; beyond it the oldest buffers go to tables. It bounds the time to open too."""
    background_jobs: int = 2
    """Flushes and compactions at a time."""


class Pressure(NamedTuple):
    """How far RocksDB is behind with its own work. Writes are slowed at 32 files or 64 GB, and
    refused when ``is_stopped``."""

    level0_files: int
    compaction_bytes: int
    delayed_write_rate: int
    """Bytes a second to which writes are slowed; 0 when they are not."""
    is_stopped: bool
    buffered_bytes: int
    """In write buffers, of all column families."""


class RocksStore:
    """See :class:`shards.ports.Store`. All but :meth:`sync`, and the reading of snapshots, on one thread."""

    def __init__(self, directory: StoreDirectory, database: Rdict) -> None:
        self._directory: Final = directory
        self._database: Final = database
        self._families: Final = [database.get_column_family(name) for name in FAMILIES]
        self._handles: list[ColumnFamily] = [database.get_column_family_handle(name) for name in FAMILIES]
        self._log_reader: Final = _Live(self, self._families[LOG])
        self._meta_reader: Final = _Live(self, self._families[META])
        self._state_reader: Final = _Live(self, self._families[STATE])
        self._moments: weakref.WeakSet[Moment] = weakref.WeakSet()
        self._logs: dict[GroupId, GroupLog] = {}
        self._refused: RocksBatch | None = None
        self._last_round = 0
        self._synced = 0
        self._is_closed = False
        self._unsynced: Final = WriteOptions()
        self._unsynced.sync = False
        self._unsynced.no_slowdown = True

    @classmethod
    def open(cls, directory: StoreDirectory, settings: StoreSettings | None = None) -> RocksStore:
        """Opens the directory's database, making it the first time. Blocks: for the write-ahead log about
        30 ms a megabyte, for the groups' logs about 2 s for each million entries that are not cut yet.

        Raises :class:`StoreDamaged`, the directory then being marked, or :class:`StoreFailed`.
        """
        exists = prepare(directory)
        required = judge_log(directory, _oldest_log(directory)) if exists else 0
        try:
            store = cls(directory, _open(directory, settings or StoreSettings(), is_new=not exists))
        except Exception as error:
            raise _open_failure(directory, error) from error
        try:
            if exists:
                store._resume(required)
            else:
                store._begin()
        except StoreDamaged as damage:
            store.close()
            if directory.is_damaged:
                raise
            raise store.damaged(str(damage)) from damage
        except BaseException:
            store.close()
            raise
        return store

    def _begin(self) -> None:
        """A new database's first batch ties it to the directory's id, durably."""
        first = WriteBatch(raw_mode=True)
        first.put(ROUND_KEY, encode_round(0, 0), self._handles[META])
        first.put(STORE_KEY, sealed(STORE_KEY, self._directory.store_id), self._handles[META])
        try:
            self._database.write(first, self._unsynced)
            self._database.flush_wal(True)
            self._directory.database_made()
        except Exception as error:
            raise self.failure(error) from error

    def _resume(self, required: int) -> None:
        identity = self._meta_reader.get(STORE_KEY)
        row = self._meta_reader.get(ROUND_KEY)
        if identity is None or row is None:
            raise StoreDamaged("its database has lost the rows that say whose it is and how far it got")
        if opened(STORE_KEY, identity) != self._directory.store_id:
            raise StoreDamaged("its database is that of another store")
        last = decode_round(row)
        if last.round < required:
            raise StoreDamaged(f"its database ends at round {last.round}, and round {required} was synced")
        replicas = {replica.identity.group: replica for replica in stored_replicas(self._meta_reader)}
        for group, ends in check_logs(self._log_reader, self._meta_reader, replicas).items():
            self._logs[group] = GroupLog(self._log_reader, group, self.damaged, ends)
        try:
            self._directory.require_round(None)
        except OSError as error:
            raise StoreFailed(str(error)) from error
        # What was recovered from the write-ahead log is in synced tables by now.
        self._last_round = self._synced = last.round

    @property
    def last_round(self) -> int:
        """Number of the last batch in the store, 0 in a new one; the next batch's is one more."""
        return self._last_round

    def batch(self, round_number: int) -> Batch:
        """An empty batch for a round."""
        return RocksBatch(round_number)

    def write(self, batch: Batch) -> bool:
        """Writes, without syncing: some 30 µs for 16 groups' entries. False: refused for now, as RocksDB is
        behind; the same batch is to be written again, before any other.

        Raises :class:`StoreFailed`, :class:`StoreDamaged`.
        """
        if not isinstance(batch, RocksBatch):
            raise InvariantViolation("a batch of another store")
        self._check(batch)
        rows = WriteBatch(raw_mode=True)
        put, handles = rows.put, self._handles
        put(ROUND_KEY, encode_round(batch.round_number, self._synced), handles[META])
        for family, begin, end in batch.ranges:
            rows.delete_range(begin, end, handles[family])
        for family, key, value in batch.rows:
            if value is None:
                rows.delete(key, handles[family])
            elif family != STATE_RANGE:
                put(key, value, handles[family])
            else:
                rows.delete_range(key, value, handles[STATE])
        try:
            self._database.write(rows, self._unsynced)
        except Exception as error:
            if _is_refusal(error):
                self._refused = batch
                return False
            raise self.failure(error) from error
        self._refused = None
        self._last_round = batch.round_number
        for append in batch.appends:
            self.log(append.group).wrote(append.last)
        for cut in batch.cuts:
            self.log(cut.group).was_cut(cut.last, cut.last_term, keep=cut.keep)
        return True

    def _check(self, batch: RocksBatch) -> None:
        if self._refused is not None and batch is not self._refused:
            raise InvariantViolation("another batch is written before the refused one")
        if batch.round_number != self._last_round + 1:
            raise InvariantViolation(f"round {batch.round_number} is written after {self._last_round}")
        tails: dict[GroupId, Index] = {}
        for append in batch.appends:
            group, first = append.group, append.first
            tail = tails.get(group)
            if tail is None:
                tail = self.log(group).last_index()
            if append.last_stored != tail:
                raise InvariantViolation(
                    f"the batch takes {append.last_stored} for the last entry of group {group}, it is {tail}"
                )
            if not 1 <= first <= tail + 1:
                raise InvariantViolation(f"a gap in the log of group {group}: {first} after {tail}")
            tails[group] = append.last.index
        for group, index, _, keep in batch.cuts:
            log = self.log(group)
            if index < log.first_index() - 1 or (keep and index > log.last_index()):
                raise InvariantViolation(f"the log of group {group} is cut at {index}, beyond its ends")

    def sync(self) -> None:
        """Makes durable every batch whose :meth:`write` has returned. Blocks for the disk and lets other
        threads run. Raises :class:`StoreFailed`; then nothing written since the last sync may be counted
        on, a later sync that succeeds included."""
        try:
            self._database.flush_wal(True)
        except Exception as error:
            raise StoreFailed(f"the sync failed: {error}") from error

    def synced(self, round_number: int) -> None:
        """This round and all before it are durable; the next batches carry the fact."""
        if round_number > self._last_round:
            raise InvariantViolation(f"round {round_number} is called synced, {self._last_round} is the last")
        self._synced = max(self._synced, round_number)

    def replicas(self) -> Sequence[StoredReplica]:
        """Every replica stored. Raises :class:`StoreFailed`, :class:`StoreDamaged`."""
        return list(stored_replicas(self._meta_reader))

    def log(self, group: GroupId) -> GroupLog:
        """A group's log, the same object each time; empty for a group that is not stored yet."""
        log = self._logs.get(group)
        if log is None:
            ends = LogEnds(Index(0), Term(0), Index(0), Term(0))
            log = self._logs[group] = GroupLog(self._log_reader, group, self.damaged, ends)
        return log

    def state(self, group: GroupId, epoch: int) -> StateView:
        """A group's rows, as written so far."""
        return GroupRows(self._state_reader, group, epoch)

    def state_snapshot(self, group: GroupId, epoch: int) -> StateView:
        """A group's rows as of now, unmoved by later writes, and readable on any thread, one at a time.
        Closing the store ends it."""
        # A cursor, and not one of the binding's snapshots: scans of those see later writes.
        return GroupRowsAsOf(self._state_reader.moment(state_end(group, epoch)), group, epoch)

    def pressure(self) -> Pressure:
        """How far RocksDB is behind; takes some 5 µs."""
        database, families = self._database, self._families
        try:
            return Pressure(
                max(_number(family, "num-files-at-level0") for family in families),
                sum(_number(family, "estimate-pending-compaction-bytes") for family in families),
                _number(database, "actual-delayed-write-rate"),
                _number(database, "is-write-stopped") != 0,
                sum(_number(family, "cur-size-all-mem-tables") for family in families),
            )
        except Exception as error:
            raise self.failure(error) from error

    def failure(self, error: Exception) -> Exception:
        """What to raise for an error of the binding; damage is marked first."""
        if isinstance(error, StoreFailed | StoreDamaged):
            return error
        text = str(error)
        return self.damaged(text) if _is_damage(text) else StoreFailed(text or type(error).__name__)

    def damaged(self, reason: str) -> StoreDamaged:
        """Marks the directory as damaged; returns the error to raise."""
        return _mark(self._directory, reason)

    def moment(self, family: Rdict, end: bytes) -> Moment:
        """A cursor of a column family, ending before ``end``, that closing the store releases."""
        options = ReadOptions()
        options.set_iterate_upper_bound(end)
        try:
            moment = Moment(family.iter(options), options, self.failure)
        except Exception as error:
            raise self.failure(error) from error
        self._moments.add(moment)
        return moment

    def close(self) -> None:
        """Syncs, and releases everything; the directory's own lock stays. No other thread may be in the
        store. Scans and snapshots fail from now on. Raises :class:`StoreFailed` if the sync fails, or
        RocksDB's own; :class:`StoreDamaged` if RocksDB says that its files are not what it wrote, which a
        compaction may have found. The second call does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self.sync()
        finally:
            for moment in list(self._moments):
                moment.release()
            self._handles.clear()
            self._close_database()

    def _close_database(self) -> None:
        """Closes each part of the database, which raises where it could not be written out."""
        failed: Exception | None = None
        for part in (*self._families, self._database):
            try:
                part.close()
            except Exception as error:
                failed = failed or error
        if failed is not None:
            text = f"the database cannot be closed: {failed}"
            raise (self.damaged(text) if _is_damage(str(failed)) else StoreFailed(text)) from failed


class _Live:
    """A column family as written so far; a :class:`shards.rocksviews.Reader`."""

    __slots__ = ("_family", "_store")

    def __init__(self, store: RocksStore, family: Rdict) -> None:
        self._store: Final = store
        self._family: Final = family

    def get(self, key: bytes) -> bytes | None:
        """The row's value, or None."""
        try:
            value: bytes | None = self._family.get(key)
        except Exception as error:
            raise self._store.failure(error) from error
        return value

    def moment(self, end: bytes) -> Moment:
        """A new cursor that ends before ``end``, not yet placed."""
        return self._store.moment(self._family, end)


def _number(family: Rdict, name: str) -> int:
    return family.property_int_value("rocksdb." + name) or 0


def _is_refusal(error: Exception) -> bool:
    """Whether RocksDB would have had to make the write wait."""
    return str(error).startswith("Result incomplete")


def _is_damage(text: str) -> bool:
    """Whether RocksDB says that its files are not what it wrote, rather than that the system failed it."""
    return text.startswith("Corruption") or "No such file or directory" in text


def _mark(directory: StoreDirectory, reason: str) -> StoreDamaged:
    try:
        return StoreDamaged(directory.mark_damaged(reason))
    except OSError as error:
        return StoreDamaged(f"{reason}; and this could not be recorded beside the store: {error.strerror}")


def _open(directory: StoreDirectory, settings: StoreSettings, *, is_new: bool) -> Rdict:
    cache = Cache(settings.cache_bytes)
    options = _family_options(cache, 64 << 10)
    options.create_if_missing(is_new)
    options.create_missing_column_families(is_new)
    # The log was judged before and has no fault; whatever still is wrong with it must stop the opening.
    options.set_wal_recovery_mode(DBRecoveryMode.absolute_consistency())
    options.set_paranoid_checks(True)
    options.set_max_total_wal_size(settings.wal_bytes_max)
    options.set_max_background_jobs(settings.background_jobs)
    # Compactions can wait for the processor, and calls cannot. If they wait too long, writes are slowed.
    env = Env()
    env.lower_thread_pool_cpu_priority()
    options.set_env(env)
    options.set_max_open_files(512)
    options.set_max_file_opening_threads(1)
    options.set_skip_stats_update_on_db_open(True)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    options.set_keep_log_file_num(4)
    options.set_max_log_file_size(_MIB)
    options.set_recycle_log_file_num(0)
    buffers = {"log": settings.write_buffer_bytes, "meta": _MIB, "state": settings.write_buffer_bytes}
    families = {name: _family_options(cache, buffers[name]) for name in FAMILIES}
    return Rdict(str(directory.database), options, column_families=families)


def _family_options(cache: Cache, write_buffer_bytes: int) -> Options:
    tables = BlockBasedOptions()
    tables.set_block_cache(cache)
    tables.set_cache_index_and_filter_blocks(True)
    tables.set_pin_l0_filter_and_index_blocks_in_cache(True)
    tables.set_bloom_filter(10, False)
    tables.set_format_version(5)
    options = Options(raw_mode=True)
    options.set_block_based_table_factory(tables)
    options.set_write_buffer_size(write_buffer_bytes)
    options.set_max_write_buffer_number(3)
    options.set_target_file_size_base(16 * _MIB)
    # Most of what is written is dead seconds later: the longer tables are left, the less is written again.
    options.set_level_zero_file_num_compaction_trigger(16)
    options.set_level_zero_slowdown_writes_trigger(32)
    options.set_level_zero_stop_writes_trigger(48)
    options.set_max_bytes_for_level_base(128 * _MIB)
    options.set_level_compaction_dynamic_level_bytes(False)
    # Young tables are rewritten soon: compressing them would only take time from the engine.
    plain, packed = DBCompressionType.none(), DBCompressionType.lz4()
    options.set_compression_per_level([plain, plain, packed, packed, packed, packed, packed])
    return options


def _oldest_log(directory: StoreDirectory) -> int:
    """Number of the oldest write-ahead log file whose content is not all in tables; the older ones, which
    a kill may leave behind, RocksDB does not read."""
    try:
        with view_without_log(directory) as view:
            families = {name: Options(raw_mode=True) for name in FAMILIES}
            database = Rdict(str(view), Options(raw_mode=True), families, AccessType.read_only(False))
            oldest = _number(database, "min-log-number-to-keep")
            database.close()
    except Exception as error:
        raise _open_failure(directory, error) from error
    return oldest


def _open_failure(directory: StoreDirectory, error: Exception) -> Exception:
    """What to raise when RocksDB does not open: an existing database that lacks a part is damaged."""
    text = str(error)
    lacks = "does not exist" in text or "olumn famil" in text
    if directory.has_database and (_is_damage(text) or lacks):
        return _mark(directory, text)
    return StoreFailed(f"cannot open the database in {directory.database}: {text}")
