"""Damage on the disk: nothing that was synced is lost without a word, and a torn tail is no damage."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from primitives.ids import GroupId
from raftgroup.types import Entry, EntryKind, HardState, Index, Membership, ReplicaId, Term
from shards.identity import StoreDirectory
from shards.ports import ReplicaIdentity, StoreDamaged, StoredReplica
from shards.rocks import RocksStore
from shards.wal import WalBatch, judge, read_wal, wal_files

GROUP = GroupId(7)
SYNCED = 30
ROUNDS = 40
"""Rounds 1 to SYNCED are synced, with the fact in the batches behind; the others are not."""


def write_rounds(store: RocksStore, rounds: int, synced: int, size: int = 300) -> None:
    for number in range(store.last_round + 1, rounds + 1):
        batch = store.batch(number)
        if number == 1:
            members = Membership((ReplicaId(1),))
            identity = ReplicaIdentity(GROUP, ReplicaId(1))
            batch.create(StoredReplica(identity, members, HardState(Term(1)), Index(0), 1))
        batch.append(GROUP, [Entry(Term(1), Index(number), EntryKind.NORMAL, bytes(size))], Index(number - 1))
        batch.put_state(GROUP, 1, b"last", b"%d" % number)
        assert store.write(batch)
        if number <= synced:
            store.sync()
            store.synced(number)


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a node that was killed leaves behind: its files, copied while it runs."""
    path = tmp_path_factory.mktemp("origin") / "data"
    directory = StoreDirectory.open(path, "n1")
    store = RocksStore.open(directory)
    write_rounds(store, ROUNDS, SYNCED)
    copy = path.with_name("crashed")
    shutil.copytree(path, copy)
    store.close()
    directory.close()
    return copy


@pytest.fixture
def data(crashed: Path, tmp_path: Path) -> Path:
    shutil.copytree(crashed, tmp_path / "data")
    return tmp_path / "data"


def reopen(path: Path) -> int:
    """Opens the store; how many rounds, which are entries too, it holds."""
    directory = StoreDirectory.open(path, "n1")
    try:
        store = RocksStore.open(directory)
        last = store.log(GROUP).last_index()
        assert store.last_round == last
        if last:
            assert len(store.log(GROUP).entries(Index(1), Index(last + 1), 1 << 30)) == last
        store.close()
    finally:
        directory.close()
    return last


def refused(path: Path) -> str:
    """Asserts that the store is refused as damaged, then and for ever; what is said."""
    with pytest.raises(StoreDamaged):
        reopen(path)
    with pytest.raises(StoreDamaged) as caught:
        StoreDirectory.open(path, "n1")
    return str(caught.value)


def alter_wal(path: Path, change: Callable[[bytearray], bytearray]) -> None:
    (wal,) = wal_files(path / "rocks")
    wal.write_bytes(change(bytearray(wal.read_bytes())))


def ends(path: Path) -> list[int]:
    """Where each batch ends, the store's first one (round 0) included."""
    (wal,) = wal_files(path / "rocks")
    return [item.end for item in read_wal(wal.read_bytes(), int(wal.stem)) if isinstance(item, WalBatch)]


def flip(offset: int, mask: int = 1) -> Callable[[bytearray], bytearray]:
    def change(content: bytearray) -> bytearray:
        content[offset] ^= mask
        return content

    return change


def zero(begin: int, end: int) -> Callable[[bytearray], bytearray]:
    def change(content: bytearray) -> bytearray:
        content[begin:end] = bytes(end - begin)
        return content

    return change


def test_killed_node_finds_every_round_again(data: Path) -> None:
    verdict = judge(data / "rocks")
    assert (verdict.fault, verdict.last, verdict.synced) == (None, ROUNDS, SYNCED)
    assert reopen(data) == ROUNDS
    assert reopen(data) == ROUNDS


@pytest.mark.parametrize("number", [1, 15, SYNCED])
def test_bit_flipped_in_a_synced_batch_is_damage(data: Path, number: int) -> None:
    alter_wal(data, flip(ends(data)[number] - 100))
    text = refused(data)
    assert f"round {number} was synced and is not in the log" in text
    assert "admit this node anew" in text


@pytest.mark.parametrize("number", [SYNCED + 1, SYNCED + 5, ROUNDS])
def test_bit_flipped_behind_what_was_synced_cuts_there(data: Path, number: int) -> None:
    alter_wal(data, flip(ends(data)[number] - 100))
    assert reopen(data) == number - 1
    assert reopen(data) == number - 1
    assert not (data / "recovering").exists()


def test_first_batch_that_reads_as_one_of_a_former_log_is_damage(data: Path) -> None:
    # RocksDB itself opens such a log in every mode, and finds it empty.
    alter_wal(data, flip(6, 4))
    assert "round 0 was synced" in refused(data)


def test_later_batch_that_reads_as_one_of_a_former_log_is_damage(data: Path) -> None:
    # RocksDB's own recovery does not return from this one.
    alter_wal(data, flip(ends(data)[4] + 6, 4))
    assert "round 5 was synced" in refused(data)


@pytest.mark.parametrize("missing", [1, 100, 361])
def test_truncated_last_batch_is_a_torn_tail(data: Path, missing: int) -> None:
    alter_wal(data, lambda content: content[: ends(data)[ROUNDS] - missing])
    assert reopen(data) == ROUNDS - 1


def test_log_truncated_within_what_was_synced_without_proof_opens_at_what_is_whole(data: Path) -> None:
    # The disk lost acknowledged data and left a valid prefix: only peers can contradict it.
    alter_wal(data, lambda content: content[: ends(data)[10] + 5])
    assert reopen(data) == 10


def test_zeros_behind_the_end_are_no_fault(data: Path) -> None:
    alter_wal(data, lambda content: content[: ends(data)[ROUNDS]] + bytes(70_000))
    assert judge(data / "rocks").fault is None
    assert reopen(data) == ROUNDS


def test_garbage_behind_the_end_is_a_torn_tail(data: Path) -> None:
    alter_wal(data, lambda content: content[: ends(data)[ROUNDS]] + bytearray(range(1, 256)) * 8)
    assert reopen(data) == ROUNDS


def test_zeroed_page_is_damage_within_and_torn_behind_what_was_synced(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "other")
    marks = ends(data)
    alter_wal(data, zero(marks[9], marks[12]))
    assert "round 10 was synced" in refused(data)
    alter_wal(tmp_path / "other", zero(marks[SYNCED + 1], marks[SYNCED + 3]))
    assert reopen(tmp_path / "other") == SYNCED + 1


def several_logs(path: Path, synced: int) -> list[Path]:
    """A crashed store in ``path`` with rounds 1 to 10, 11 to 20 and 21 to 30 in a log file each; rounds 1
    to ``synced`` are synced."""
    origin = path.with_name(f"origin-{path.name}")
    directory = StoreDirectory.open(origin, "n1")
    store = RocksStore.open(directory)
    for rounds in (10, 20, 30):
        write_rounds(store, rounds, synced)
        if rounds < 30:
            # Flushing the state alone begins a new file and keeps the old one for the log's sake.
            store._families[2].flush(True)
    shutil.copytree(origin, path)
    store.close()
    directory.close()
    return wal_files(path / "rocks")


def test_several_logs_are_read_on_into_each_other(tmp_path: Path) -> None:
    assert len(several_logs(tmp_path / "data", 20)) == 3
    assert reopen(tmp_path / "data") == 30


@pytest.mark.parametrize("lost", [0, 1])
def test_lost_log_file_is_damage_if_it_was_synced(tmp_path: Path, lost: int) -> None:
    several_logs(tmp_path / "data", 20)[lost].unlink()
    refused(tmp_path / "data")


@pytest.mark.parametrize("synced", [12, 20])
def test_hole_between_logs_is_damage_if_it_was_synced_and_else_their_end(tmp_path: Path, synced: int) -> None:
    # The power failed when the last file was on the disk and the end of the one before was not.
    middle = several_logs(tmp_path / "data", synced)[1]
    content = middle.read_bytes()
    marks = [item.end for item in read_wal(content, int(middle.stem)) if isinstance(item, WalBatch)]
    middle.write_bytes(content[: marks[4]])
    if synced == 20:
        assert "round 16 was synced" in refused(tmp_path / "data")
    else:
        assert reopen(tmp_path / "data") == 15
        assert reopen(tmp_path / "data") == 15


def test_obsolete_log_left_over_by_a_kill_does_not_count(tmp_path: Path) -> None:
    directory = StoreDirectory.open(tmp_path / "origin", "n1")
    store = RocksStore.open(directory)
    write_rounds(store, 10, 10)
    (first,) = wal_files(tmp_path / "origin" / "rocks")
    obsolete = first.read_bytes()
    for rounds in (20, 30):
        for family in store._families:
            family.flush(True)
        write_rounds(store, rounds, rounds)
    shutil.copytree(tmp_path / "origin", tmp_path / "data")
    store.close()
    directory.close()
    # The logs of rounds 1 to 20 were to be deleted, and only the second was.
    assert not (tmp_path / "data" / "rocks" / first.name).exists()
    (tmp_path / "data" / "rocks" / first.name).write_bytes(obsolete)
    assert reopen(tmp_path / "data") == 30


def test_damaged_row_of_state_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    directory = StoreDirectory.open(tmp_path / "data", "n1")
    store = RocksStore.open(directory)
    write_rounds(store, 5, 5)
    batch = store.batch(6)
    for number in range(5_000):
        batch.put_state(GROUP, 1, b"%06d" % number, b"value %d" % number * 20)
    batch.applied(GROUP, Index(5), Membership((ReplicaId(1),)))
    assert store.write(batch)
    store._families[2].flush(True)
    store.close()
    directory.close()
    table = max((tmp_path / "data" / "rocks").glob("*.sst"), key=lambda path: path.stat().st_size)
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 1
    table.write_bytes(content)
    directory = StoreDirectory.open(tmp_path / "data", "n1")
    store = RocksStore.open(directory)
    state = store.state(GROUP, 1)
    snapshot = store.state_snapshot(GROUP, 1)
    assert state.get(b"000001") == b"value 1" * 20
    assert not directory.is_damaged
    for view in (state, snapshot):
        for reverse in (False, True):
            with pytest.raises(StoreDamaged, match="checksum"):
                list(view.scan(b"", None, reverse=reverse))
    assert directory.is_damaged
    for view in (state, snapshot):
        with pytest.raises(StoreDamaged):
            for number in range(5_000):
                view.get(b"%06d" % number)
    store.close()
    directory.close()
    assert "checksum" in refused(tmp_path / "data")


def test_deleted_log_is_refused_when_the_recovery_had_to_bring_a_round(data: Path) -> None:
    # An earlier opening found a torn tail, recorded what must survive it, and was killed.
    directory = StoreDirectory.open(data, "n1")
    directory.require_round(SYNCED)
    directory.close()
    alter_wal(data, lambda content: content[: ends(data)[10]])
    assert f"ends at round 10, and round {SYNCED} was synced" in refused(data)


def test_lost_database_under_a_kept_identity_is_damage(data: Path) -> None:
    shutil.rmtree(data / "rocks")
    assert "its database is gone" in refused(data)


@pytest.mark.parametrize("pattern", ["CURRENT", "MANIFEST-*"])
def test_lost_file_of_the_database_is_damage(data: Path, pattern: str) -> None:
    (found,) = (data / "rocks").glob(pattern)
    found.unlink()
    refused(data)


def test_cut_manifest_is_damage(data: Path) -> None:
    (manifest,) = (data / "rocks").glob("MANIFEST-*")
    manifest.write_bytes(manifest.read_bytes()[:-3])
    refused(data)


def test_database_of_another_store_is_damage(data: Path, tmp_path: Path) -> None:
    other = StoreDirectory.open(tmp_path / "other", "n1")
    RocksStore.open(other).close()
    other.close()
    shutil.rmtree(data / "rocks")
    shutil.copytree(tmp_path / "other" / "rocks", data / "rocks")
    assert "another store" in refused(data)


def test_interrupted_first_opening_begins_anew(tmp_path: Path) -> None:
    directory = StoreDirectory.open(tmp_path / "data", "n1")
    store_id = directory.store_id
    directory.close()
    (tmp_path / "data" / "rocks").mkdir()
    (tmp_path / "data" / "rocks" / "CURRENT").write_bytes(b"half")
    directory = StoreDirectory.open(tmp_path / "data", "n1")
    assert directory.store_id == store_id
    store = RocksStore.open(directory)
    assert store.last_round == 0
    store.close()
    directory.close()


@pytest.mark.parametrize("table", range(2))
def test_damaged_table_is_noticed_and_marked(data: Path, table: int) -> None:
    directory = StoreDirectory.open(data, "n1")
    store = RocksStore.open(directory)
    for family in store._families:
        family.flush(True)
    store.close()
    directory.close()
    tables = sorted((data / "rocks").glob("*.sst"), key=lambda path: path.stat().st_size)
    assert len(tables) >= 2
    victim = tables[table]
    content = bytearray(victim.read_bytes())
    content[len(content) // 3] ^= 1
    victim.write_bytes(content)
    refused(data)


def test_damage_found_behind_the_scenes_and_told_at_the_close_marks_the_store(data: Path) -> None:
    class Part:
        """Tells at its close what a compaction found."""

        def __init__(self, part: Any) -> None:
            self._part = part

        def close(self) -> None:
            self._part.close()
            raise RuntimeError("Corruption: block checksum mismatch: stored = 1, computed = 2")

    directory = StoreDirectory.open(data, "n1")
    store = RocksStore.open(directory)
    store._families[0] = cast(Any, Part(store._families[0]))
    with pytest.raises(StoreDamaged, match="cannot be closed: Corruption: block checksum mismatch"):
        store.close()
    directory.close()
    assert "block checksum mismatch" in refused(data)


def test_damage_found_by_a_read_marks_the_store(data: Path) -> None:
    directory = StoreDirectory.open(data, "n1")
    store = RocksStore.open(directory)
    batch = store.batch(ROUNDS + 1)
    batch.applied(GROUP, Index(ROUNDS), Membership((ReplicaId(1),)))
    assert store.write(batch)
    store.close()
    directory.close()
    directory = StoreDirectory.open(data, "n1")
    store = RocksStore.open(directory)
    log = store.log(GROUP)
    raw = store._families[0]
    key = next(iter(raw.keys()))
    record = bytearray(raw[key] or b"")
    record[-1] ^= 1
    raw[key] = bytes(record)
    with pytest.raises(StoreDamaged, match="fails its checksum"):
        log.term(Index(1))
    store.close()
    directory.close()
    assert "fails its checksum" in refused(data)


@pytest.mark.parametrize("index", [1, 5, ROUNDS - 10])
def test_missing_entry_behind_a_cut_is_found_at_the_opening(data: Path, index: int) -> None:
    directory = StoreDirectory.open(data, "n1")
    store = RocksStore.open(directory)
    batch = store.batch(ROUNDS + 1)
    batch.applied(GROUP, Index(ROUNDS), Membership((ReplicaId(1),)))
    batch.cut_log(GROUP, Index(10), store.log(GROUP).term(Index(10)))
    assert store.write(batch)
    keys = list(store._families[0].keys())
    assert len(keys) == ROUNDS - 10
    del store._families[0][keys[index - 1]]
    store.close()
    directory.close()
    text = refused(data)
    assert "goes from entry" in text or "its log ends at" in text


def test_cut_beyond_what_was_applied_is_damage(data: Path) -> None:
    directory = StoreDirectory.open(data, "n1")
    store = RocksStore.open(directory)
    batch = store.batch(ROUNDS + 1)
    batch.cut_log(GROUP, Index(10), store.log(GROUP).term(Index(10)))
    assert store.write(batch)
    store.close()
    directory.close()
    assert "its log was cut at 10" in refused(data)


@pytest.mark.parametrize("index", [1, 20, ROUNDS])
def test_missing_entry_is_found_at_the_opening(data: Path, index: int) -> None:
    directory = StoreDirectory.open(data, "n1")
    store = RocksStore.open(directory)
    batch = store.batch(ROUNDS + 1)
    batch.applied(GROUP, Index(ROUNDS), Membership((ReplicaId(1),)))
    assert store.write(batch)
    keys = list(store._families[0].keys())
    del store._families[0][keys[index - 1]]
    store.close()
    directory.close()
    text = refused(data)
    assert "goes from entry" in text or "its log ends at" in text
