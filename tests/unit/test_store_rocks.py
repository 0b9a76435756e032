"""The shared store: what is written is read, in order, atomically, also after a restart."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.world.disk import Disk, SimStore
from primitives.errors import InvariantViolation
from primitives.ids import GroupId
from raftgroup.types import Entry, EntryKind, HardState, Index, Membership, ReplicaId, Term
from shards.identity import StoreDirectory
from shards.ports import ReplicaIdentity, StoredReplica, StoreFailed
from shards.rocks import RocksStore, StoreSettings

GROUP = GroupId(7)
MEMBERS = Membership((ReplicaId(1), ReplicaId(2)), (ReplicaId(3),), (ReplicaId(4), ReplicaId(5)), ())


class Opened:
    """A store with its directory, and rounds written one by one."""

    def __init__(self, path: Path) -> None:
        self._open(path)

    def _open(self, path: Path) -> None:
        self.directory = StoreDirectory.open(path, "n1")
        self.store = RocksStore.open(self.directory)

    def reopen(self) -> None:
        self.close()
        self._open(self.directory.path)

    def close(self) -> None:
        self.store.close()
        self.directory.close()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    found = Opened(tmp_path / "data")
    yield found
    found.close()


def entries(term: int, *indexes: int) -> list[Entry]:
    return [Entry(Term(term), Index(index), EntryKind.NORMAL, b"%d/%d" % (term, index)) for index in indexes]


def create(store: RocksStore | SimStore, *groups: int) -> None:
    batch = store.batch(store.last_round + 1)
    for group in groups:
        identity = ReplicaIdentity(GroupId(group), ReplicaId(10 + group))
        batch.create(StoredReplica(identity, MEMBERS, HardState(Term(9)), Index(0), 1))
    assert store.write(batch)


def append(store: RocksStore, group: int, found: list[Entry], last_stored: int) -> None:
    batch = store.batch(store.last_round + 1)
    batch.append(GroupId(group), found, Index(last_stored))
    assert store.write(batch)


def put(store: RocksStore, rows: dict[bytes, bytes | None], group: int = GROUP, epoch: int = 1) -> None:
    batch = store.batch(store.last_round + 1)
    for key, value in rows.items():
        if value is None:
            batch.delete_state(GroupId(group), epoch, key)
        else:
            batch.put_state(GroupId(group), epoch, key, value)
    assert store.write(batch)


def log_of(store: RocksStore, group: int) -> list[tuple[int, int, bytes]]:
    log = store.log(GroupId(group))
    if log.last_index() == 0:
        return []
    found = log.entries(log.first_index(), Index(log.last_index() + 1), 1 << 30)
    return [(entry.term, entry.index, entry.data) for entry in found]


def test_new_store_is_empty(opened: Opened) -> None:
    assert opened.store.last_round == 0
    assert opened.store.replicas() == []
    log = opened.store.log(GROUP)
    assert (log.first_index(), log.last_index(), log.term(Index(0))) == (1, 0, 0)
    assert opened.store.state(GROUP, 1).get(b"k") is None


def test_everything_written_is_there_after_reopening(tmp_path: Path) -> None:
    opened = Opened(tmp_path / "data")
    create(opened.store, 0, 7)
    batch = opened.store.batch(2)
    batch.append(GROUP, entries(3, 1, 2, 3), Index(0))
    batch.hard_state(GROUP, HardState(Term(3), ReplicaId(2), Index(2)))
    batch.applied(GROUP, Index(2), Membership((ReplicaId(1),)))
    batch.put_state(GROUP, 1, b"key", b"value")
    assert opened.store.write(batch)
    opened.close()
    opened = Opened(tmp_path / "data")
    store = opened.store
    assert store.last_round == 2
    first, second = store.replicas()
    assert first == StoredReplica(
        ReplicaIdentity(GroupId(0), ReplicaId(10)), MEMBERS, HardState(Term(9)), Index(0), 1
    )
    assert second == StoredReplica(
        ReplicaIdentity(GROUP, ReplicaId(17)), Membership((ReplicaId(1),)),
        HardState(Term(3), ReplicaId(2), Index(2)), Index(2), 1,
    )  # fmt: skip
    assert log_of(store, GROUP) == [(3, 1, b"3/1"), (3, 2, b"3/2"), (3, 3, b"3/3")]
    assert store.log(GROUP).term(Index(3)) == 3
    assert store.state(GROUP, 1).get(b"key") == b"value"
    opened.close()


def test_rewritten_suffix_leaves_no_stale_tail(tmp_path: Path) -> None:
    opened = Opened(tmp_path / "data")
    create(opened.store, 7)
    append(opened.store, 7, entries(1, 1, 2, 3, 4, 5), 0)
    append(opened.store, 7, entries(2, 3), 5)
    expected = [(1, 1, b"1/1"), (1, 2, b"1/2"), (2, 3, b"2/3")]
    assert log_of(opened.store, 7) == expected
    assert opened.store.log(GROUP).last_index() == 3
    opened.close()
    opened = Opened(tmp_path / "data")
    assert log_of(opened.store, 7) == expected
    append(opened.store, 7, entries(3, 4), 3)
    assert log_of(opened.store, 7) == [*expected, (3, 4, b"3/4")]
    opened.close()


def test_two_appends_of_one_group_in_a_batch_are_both_carried_out(opened: Opened) -> None:
    create(opened.store, 7)
    batch = opened.store.batch(2)
    batch.append(GROUP, entries(1, 1, 2, 3), Index(0))
    batch.append(GROUP, entries(2, 2), Index(3))
    assert opened.store.write(batch)
    assert log_of(opened.store, 7) == [(1, 1, b"1/1"), (2, 2, b"2/2")]


def test_append_that_would_leave_a_gap_or_a_stale_tail_is_refused(opened: Opened) -> None:
    create(opened.store, 7)
    append(opened.store, 7, entries(1, 1, 2, 3), 0)
    for found, last_stored in ((entries(1, 5), 3), (entries(2, 2), 2), (entries(2, 4), 4)):
        batch = opened.store.batch(3)
        batch.append(GROUP, found, Index(last_stored))
        with pytest.raises(InvariantViolation):
            opened.store.write(batch)
    with pytest.raises(InvariantViolation, match="contiguous"):
        opened.store.batch(3).append(GROUP, entries(1, 4, 6), Index(3))


def test_rounds_are_written_in_their_order_only(opened: Opened) -> None:
    with pytest.raises(InvariantViolation, match="round 2 is written after 0"):
        opened.store.write(opened.store.batch(2))
    create(opened.store, 7)
    with pytest.raises(InvariantViolation, match="round 1 is written after 1"):
        opened.store.write(opened.store.batch(1))
    with pytest.raises(InvariantViolation, match="called synced"):
        opened.store.synced(2)


def test_entries_end_at_the_byte_limit_but_one_always_comes(opened: Opened) -> None:
    create(opened.store, 7)
    append(opened.store, 7, entries(1, *range(1, 11)), 0)
    log = opened.store.log(GROUP)
    assert [entry.index for entry in log.entries(Index(4), Index(99), 1)] == [4]
    assert [entry.index for entry in log.entries(Index(4), Index(99), 50)] == [4, 5]
    assert [entry.index for entry in log.entries(Index(4), Index(7), 1 << 20)] == [4, 5, 6]
    with pytest.raises(InvariantViolation):
        log.entries(Index(11), Index(12), 1)
    with pytest.raises(InvariantViolation):
        log.term(Index(11))


def test_logs_of_neighbouring_groups_are_apart(opened: Opened) -> None:
    create(opened.store, 6, 7, 8)
    for group in (6, 7, 8):
        append(opened.store, group, entries(group, 1, 2), 0)
    assert log_of(opened.store, 7) == [(7, 1, b"7/1"), (7, 2, b"7/2")]


def test_a_range_of_rows_goes_but_what_is_set_after_it_stays(opened: Opened) -> None:
    stores: tuple[RocksStore | SimStore, ...] = (opened.store, SimStore(Disk()))
    for store in stores:
        create(store, GROUP, GROUP + 1)
        first = store.batch(store.last_round + 1)
        for epoch in (1, 2):
            for group in (GROUP, GroupId(GROUP + 1)):
                first.write_state(group, epoch, b"", {b"k%d" % number: b"old" for number in range(9)})
        assert store.write(first)
        before = store.state_snapshot(GROUP, 1)
        batch = store.batch(store.last_round + 1)
        batch.put_state(GROUP, 1, b"k4", b"set before")
        batch.drop_rows(GROUP, 1, b"k2", b"k6")
        batch.put_state(GROUP, 1, b"k5", b"set after")
        assert not batch.is_empty and store.write(batch)
        kept = {b"k%d" % number: b"old" for number in (0, 1, 7, 8)} | {b"k5": b"set after"}
        assert dict(store.state(GROUP, 1).scan(b"", None)) == kept
        assert store.state(GROUP, 1).get(b"k4") is None
        assert len(dict(before.scan(b"", None))) == 9
        for group, epoch in ((GROUP, 2), (GroupId(GROUP + 1), 1)):
            assert len(dict(store.state(group, epoch).scan(b"", None))) == 9
    opened.reopen()
    assert dict(opened.store.state(GROUP, 1).scan(b"", None)) == kept


def test_scan_gives_the_rows_within_bounds_in_both_directions(opened: Opened) -> None:
    put(opened.store, {b"a": b"1", b"b": b"2", b"c": b"3", b"\xff\xff": b"4", b"": b"0"})
    for group, epoch in ((GROUP, 0), (GROUP, 2), (GROUP - 1, 1), (GROUP + 1, 1), (GROUP - 1, 0xFFFFFFFE)):
        put(opened.store, {b"": b"x", b"b": b"x", b"\xff\xff\xff": b"x"}, group, epoch)
    everything = [(b"", b"0"), (b"a", b"1"), (b"b", b"2"), (b"c", b"3"), (b"\xff\xff", b"4")]
    for view in (opened.store.state(GROUP, 1), opened.store.state_snapshot(GROUP, 1)):
        for start, end, expected in (
            (b"", None, everything), (b"b", None, everything[2:]), (b"", b"b", everything[:2]),
            (b"a", b"c", everything[1:3]), (b"aa", b"bb", everything[2:3]), (b"c", b"a", []),
            (b"a", b"a", []), (b"d", None, everything[4:]), (b"d", b"e", []), (b"", b"", []),
        ):  # fmt: skip
            assert list(view.scan(start, end)) == expected
            assert list(view.scan(start, end, reverse=True)) == expected[::-1]


def test_scan_sees_the_moment_of_its_call(opened: Opened) -> None:
    put(opened.store, {b"a": b"1", b"b": b"2"})
    rows = opened.store.state(GROUP, 1).scan(b"", None)
    put(opened.store, {b"a": None, b"b": b"3", b"c": b"4"})
    assert list(rows) == [(b"a", b"1"), (b"b", b"2")]


def test_snapshot_is_unmoved_by_later_writes_on_any_thread(opened: Opened) -> None:
    put(opened.store, {b"a": b"1", b"b": b"2"})
    view = opened.store.state_snapshot(GROUP, 1)
    put(opened.store, {b"a": None, b"b": b"3", b"c": b"4"})
    seen: list[object] = []

    def read() -> None:
        seen.append((view.get(b"a"), view.get(b"b"), view.get(b"c")))
        seen.append(list(view.scan(b"", None)))

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert seen == [(b"1", b"2", None), [(b"a", b"1"), (b"b", b"2")]]
    assert list(opened.store.state(GROUP, 1).scan(b"", None)) == [(b"b", b"3"), (b"c", b"4")]


def test_scans_and_reads_of_one_snapshot_do_not_disturb_each_other(opened: Opened) -> None:
    put(opened.store, {b"%02d" % number: b"v%d" % number for number in range(20)})
    view = opened.store.state_snapshot(GROUP, 1)
    put(opened.store, {b"%02d" % number: None for number in range(0, 20, 2)})
    up, down = view.scan(b"03", b"15"), view.scan(b"03", b"15", reverse=True)
    rising, falling = [], []
    for _ in range(12):
        rising.append(next(up)[0])
        assert view.get(b"19") == b"v19"
        falling.append(next(down)[0])
    assert rising == falling[::-1] == [b"%02d" % number for number in range(3, 15)]
    assert (list(up), list(down)) == ([], [])


def test_close_releases_the_database_under_live_scans_and_snapshots(tmp_path: Path) -> None:
    opened = Opened(tmp_path / "data")
    put(opened.store, {b"a": b"1", b"b": b"2"})
    state = opened.store.state(GROUP, 1)
    view = opened.store.state_snapshot(GROUP, 1)
    begun = [state.scan(b"", None), view.scan(b"", None), view.scan(b"", None, reverse=True)]
    for rows in begun:
        next(rows)
    opened.close()
    again = Opened(tmp_path / "data")
    assert again.store.state(GROUP, 1).get(b"a") == b"1"
    for rows in begun:
        with pytest.raises(StoreFailed):
            next(rows)
    with pytest.raises(StoreFailed):
        view.get(b"a")
    with pytest.raises(StoreFailed):
        state.get(b"a")
    again.close()
    again.close()


def test_refused_batch_is_written_whole_when_tried_again(tmp_path: Path) -> None:
    directory = StoreDirectory.open(tmp_path / "data", "n1")
    store = RocksStore.open(directory, StoreSettings(write_buffer_bytes=64 << 10, background_jobs=1))
    create(store, 7)
    batch = store.batch(2)
    # Full buffers follow each other faster than they can be flushed, so RocksDB must refuse at some time.
    for _ in range(2000):
        log = store.log(GROUP)
        batch = store.batch(store.last_round + 1)
        index = log.last_index() + 1
        entry = Entry(Term(1), Index(index), EntryKind.NORMAL, bytes(200_000))
        batch.append(GROUP, [entry], log.last_index())
        batch.put_state(GROUP, 1, b"last", b"%d" % index)
        if not store.write(batch):
            break
    else:
        pytest.fail("no write was refused")
    refused = store.last_round + 1
    assert log.last_index() == index - 1
    assert store.state(GROUP, 1).get(b"last") == b"%d" % (index - 1)
    with pytest.raises(InvariantViolation, match="before the refused one"):
        store.write(store.batch(refused))
    patience = threading.Event()
    while not store.write(batch):
        assert store.last_round == refused - 1
        patience.wait(0.005)
    assert store.last_round == refused
    assert log.term(Index(index)) == 1
    assert store.state(GROUP, 1).get(b"last") == b"%d" % index
    store.close()
    directory.close()


def test_pressure_of_an_idle_store_is_low(opened: Opened) -> None:
    pressure = opened.store.pressure()
    assert pressure.level0_files == 0
    assert pressure.compaction_bytes == 0
    assert pressure.delayed_write_rate == 0
    assert not pressure.is_stopped
    assert pressure.buffered_bytes < 1 << 20


def test_failing_sync_is_reported_as_failure(opened: Opened) -> None:
    class Broken:
        def flush_wal(self, sync: bool) -> None:
            raise OSError("IO error: sync: Input/output error")

    whole = opened.store._database
    opened.store._database = Broken()  # type: ignore[misc, assignment]  # fails where the disk would
    try:
        with pytest.raises(StoreFailed, match="Input/output error"):
            opened.store.sync()
    finally:
        opened.store._database = whole  # type: ignore[misc]  # so that it can be closed


def test_closing_twice_does_nothing(opened: Opened) -> None:
    opened.store.close()
    opened.store.close()


def _applied(store: RocksStore, index: int, cut: tuple[int, int] | None = None) -> None:
    batch = store.batch(store.last_round + 1)
    batch.applied(GROUP, Index(index), MEMBERS)
    if cut is not None:
        batch.cut_log(GROUP, Index(cut[0]), Term(cut[1]))
    assert store.write(batch)


def test_a_log_that_was_cut_begins_behind_a_term_that_stays_known(opened: Opened) -> None:
    store = opened.store
    create(store, GROUP)
    append(store, GROUP, entries(3, *range(1, 101)), 0)
    _applied(store, 90, (80, 3))
    _applied(store, 90, (85, 3))
    opened.reopen()
    log = opened.store.log(GROUP)
    assert (log.first_index(), log.last_index()) == (86, 100)
    assert (log.term(Index(85)), log.term(Index(86))) == (3, 3)
    assert [entry.index for entry in log.entries(Index(86), Index(90), 1 << 20)] == [86, 87, 88, 89]
    with pytest.raises(InvariantViolation):
        log.term(Index(84))
    append(opened.store, GROUP, entries(4, 96), 100)
    assert (log.last_index(), log.term(Index(96)), log.term(Index(95))) == (96, 4, 3)


def test_a_log_may_be_cut_down_to_nothing_and_goes_on_from_there(opened: Opened) -> None:
    create(opened.store, GROUP)
    append(opened.store, GROUP, entries(3, 1, 2, 3), 0)
    _applied(opened.store, 3, (3, 3))
    opened.reopen()
    log = opened.store.log(GROUP)
    assert (log.first_index(), log.last_index(), log.term(Index(3))) == (4, 3, 3)
    append(opened.store, GROUP, entries(3, 4), 3)
    assert [entry.index for entry in log.entries(Index(4), Index(5), 100)] == [4]


def test_the_rows_of_an_epoch_go_in_the_write_that_makes_another_one_valid(opened: Opened) -> None:
    store = opened.store
    create(store, GROUP)
    append(store, GROUP, entries(3, 1, 2, 3), 0)
    put(store, {b"a": b"old", b"b": b"old"})
    batch = store.batch(store.last_round + 1)
    batch.use_epoch(GROUP, 2)
    batch.put_state(GROUP, 2, b"a", b"new")
    assert store.write(batch)
    cursor = store.state_snapshot(GROUP, 1)
    batch = store.batch(store.last_round + 1)
    batch.drop_state(GROUP, 1)
    identity = ReplicaIdentity(GROUP, ReplicaId(17))
    batch.switch(StoredReplica(identity, MEMBERS, HardState(Term(9), ReplicaId(1), Index(50)), Index(50), 2))
    batch.cut_log(GROUP, Index(50), Term(8), keep=False)
    assert store.write(batch)
    assert list(cursor.scan(b"", None)) == [(b"a", b"old"), (b"b", b"old")]
    del cursor
    opened.reopen()
    [stored] = opened.store.replicas()
    assert (stored.applied, stored.epoch, stored.epoch_used, stored.hard_state.commit) == (50, 2, 2, 50)
    assert list(opened.store.state(GROUP, 1).scan(b"", None)) == []
    assert list(opened.store.state(GROUP, 2).scan(b"", None)) == [(b"a", b"new")]
    log = opened.store.log(GROUP)
    assert (log.first_index(), log.last_index(), log.term(Index(50))) == (51, 50, 8)
