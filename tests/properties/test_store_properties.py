"""The store against a model, and against every single flipped bit."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from primitives.ids import GroupId
from raftgroup.types import Entry, EntryKind, HardState, Index, Membership, ReplicaId, Term
from shards.identity import StoreDirectory
from shards.layout import decode_applied, decode_hard_state, encode_applied, hard_state_key, hard_state_row
from shards.ports import ReplicaIdentity, StateView, StoreDamaged, StoredReplica
from shards.rocks import RocksStore
from shards.wal import WalBatch, judge, read_wal, wal_files

GROUPS = [GroupId(0), GroupId(1), GroupId(300)]
KEYS = st.sampled_from([b"", b"a", b"b", b"b\x00", b"c", b"\xff", b"\xff\xff"])
replica_ids = st.lists(st.integers(1, 2**64 - 1).map(ReplicaId), max_size=5).map(tuple)


@given(st.integers(0, 2**64 - 1), st.tuples(replica_ids, replica_ids, replica_ids, replica_ids))
def test_applied_row_gives_back_what_it_was_made_of(
    index: int, sets: tuple[tuple[ReplicaId, ...], ...]
) -> None:
    found = decode_applied(GroupId(5), encode_applied(GroupId(5), Index(index), Membership(*sets)))
    assert found == (index, Membership(*sets))


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_hard_state_row_gives_back_the_hard_state(term: int, vote: int, commit: int) -> None:
    state = HardState(Term(term), ReplicaId(vote), Index(commit))
    key, row = hard_state_row(GroupId(5), state)
    assert key == hard_state_key(GroupId(5))
    assert decode_hard_state(GroupId(5), row) == state


class StoreModel(RuleBasedStateMachine):
    """Batches of everything, snapshots, restarts and kills (a copy of the files as they stand)."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="store-model-"))
        self.lives = 0
        self.logs: dict[GroupId, list[tuple[int, bytes]]] = {group: [] for group in GROUPS}
        self.rows: dict[GroupId, dict[bytes, bytes]] = {group: {} for group in GROUPS}
        self.snapshots: list[tuple[GroupId, StateView, dict[bytes, bytes]]] = []
        self._open(self.base / "0")
        batch = self.store.batch(1)
        for group in GROUPS:
            identity = ReplicaIdentity(group, ReplicaId(1))
            members = Membership((ReplicaId(1),))
            batch.create(StoredReplica(identity, members, HardState(Term(1 << 40)), Index(0), 1))
        assert self.store.write(batch)

    def _open(self, path: Path) -> None:
        self.path = path
        self.directory = StoreDirectory.open(path, "n1")
        self.store = RocksStore.open(self.directory)

    def _close(self) -> None:
        self.snapshots.clear()
        self.store.close()
        self.directory.close()

    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        batch = self.store.batch(self.store.last_round + 1)
        for group in data.draw(st.lists(st.sampled_from(GROUPS), min_size=1, max_size=3)):
            log = self.logs[group]
            first = data.draw(st.integers(max(1, len(log) - 3), len(log) + 1))
            count = data.draw(st.integers(1, 3))
            body = b"%d" % data.draw(st.integers(0, 99))
            term = Term(self.store.last_round)
            new = [Entry(term, Index(first + step), EntryKind.NORMAL, body) for step in range(count)]
            batch.append(group, new, Index(len(log)))
            log[first - 1 :] = [(term, body)] * count
            for key, value in data.draw(st.dictionaries(KEYS, st.none() | st.binary(max_size=3))).items():
                if value is None:
                    batch.delete_state(group, 1, key)
                    self.rows[group].pop(key, None)
                else:
                    batch.put_state(group, 1, key, value)
                    self.rows[group][key] = value
                if data.draw(st.integers(0, 3)) == 0:
                    first, last = sorted((data.draw(KEYS), data.draw(KEYS)))
                    batch.drop_rows(group, 1, first, last)
                    for gone in [at for at in self.rows[group] if first <= at <= last]:
                        del self.rows[group][gone]
        assert self.store.write(batch)

    @rule()
    def sync(self) -> None:
        self.store.sync()
        self.store.synced(self.store.last_round)

    @precondition(lambda self: len(self.snapshots) < 3)
    @rule(group=st.sampled_from(GROUPS))
    def snapshot(self, group: GroupId) -> None:
        self.snapshots.append((group, self.store.state_snapshot(group, 1), dict(self.rows[group])))

    @rule(family=st.integers(0, 2))
    def flush(self, family: int) -> None:
        self.store._families[family].flush(True)

    @rule()
    def restart(self) -> None:
        last = self.store.last_round
        self._close()
        self._open(self.path)
        assert self.store.last_round == last

    @rule()
    def kill(self) -> None:
        last = self.store.last_round
        self.lives += 1
        path = self.base / str(self.lives)
        shutil.copytree(self.path, path)
        self._close()
        self._open(path)
        assert self.store.last_round == last

    @rule(group=st.sampled_from(GROUPS), bounds=st.tuples(KEYS, st.none() | KEYS), reverse=st.booleans())
    def scan(self, group: GroupId, bounds: tuple[bytes, bytes | None], reverse: bool) -> None:
        start, end = bounds
        views: list[tuple[StateView, dict[bytes, bytes]]] = [
            (self.store.state(group, 1), self.rows[group]),
            *((view, rows) for of_group, view, rows in self.snapshots if of_group == group),
        ]
        for view, rows in views:
            expected = [
                (key, value)
                for key, value in sorted(rows.items(), reverse=reverse)
                if start <= key and (end is None or key < end)
            ]
            assert list(view.scan(start, end, reverse=reverse)) == expected
            assert view.get(start) == rows.get(start)

    @invariant()
    def logs_are_as_written(self) -> None:
        for group, expected in self.logs.items():
            log = self.store.log(group)
            assert log.last_index() == len(expected)
            if expected:
                found = log.entries(Index(1), Index(len(expected) + 1), 1 << 30)
                assert [(entry.term, entry.data) for entry in found] == expected
                assert log.term(log.last_index()) == expected[-1][0]

    def teardown(self) -> None:
        self._close()
        shutil.rmtree(self.base)


TestStoreModel = StoreModel.TestCase
TestStoreModel.settings = settings(max_examples=6, stateful_step_count=15, deadline=None)


SYNCED = 6
ROUNDS = 9


def written(path: Path) -> None:
    """A killed node's store: rounds 1 to SYNCED are synced, the batch behind each says so."""
    directory = StoreDirectory.open(path.with_name("origin"), "n1")
    store = RocksStore.open(directory)
    for number in range(1, ROUNDS + 1):
        batch = store.batch(number)
        if number == 1:
            identity = ReplicaIdentity(GROUPS[1], ReplicaId(1))
            batch.create(
                StoredReplica(identity, Membership((ReplicaId(1),)), HardState(Term(1)), Index(0), 1)
            )
        batch.append(GROUPS[1], [Entry(Term(1), Index(number), 0, b"%d" % number)], Index(number - 1))
        assert store.write(batch)
        if number <= SYNCED:
            store.sync()
            store.synced(number)
    shutil.copytree(path.with_name("origin"), path)
    store.close()
    directory.close()


def test_no_flipped_bit_of_the_log_hides_a_synced_round(tmp_path: Path) -> None:
    written(tmp_path / "data")
    (wal,) = wal_files(tmp_path / "data" / "rocks")
    content = wal.read_bytes()
    outcomes = {"damage": 0, "cut": 0}
    # Every 11th, so that all bits of a byte and all bytes of a record come up in turn.
    for bit in range(0, len(content) * 8, 11):
        altered = bytearray(content)
        altered[bit // 8] ^= 1 << bit % 8
        wal.write_bytes(altered)
        verdict = judge(wal.parent)
        assert verdict.fault is not None, f"bit {bit}"
        if not verdict.is_damage:
            assert verdict.last is not None
            assert verdict.last >= SYNCED, f"bit {bit}"
        outcomes["damage" if verdict.is_damage else "cut"] += 1
    assert outcomes["damage"] > outcomes["cut"] > 0


faults = st.tuples(st.sampled_from(["flip", "zero", "cut", "garbage"]), st.floats(0, 1), st.integers(1, 200))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(faults, min_size=1, max_size=2))
def test_store_with_any_fault_in_its_log_refuses_or_holds_a_prefix(found: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as base:
        path = Path(base) / "data"
        written(path)
        (wal,) = wal_files(path / "rocks")
        content = bytearray(wal.read_bytes())
        for kind, where, size in found:
            begin = int(where * (len(content) - 1))
            if kind == "flip":
                content[begin] ^= 1 << size % 8
            elif kind == "zero":
                content[begin : begin + size] = bytes(len(content[begin : begin + size]))
            elif kind == "garbage":
                content[begin : begin + size] = bytes(range(1, 201))[: len(content[begin : begin + size])]
            else:
                del content[max(begin, 1) :]
        wal.write_bytes(content)
        try:
            directory = StoreDirectory.open(path, "n1")
            try:
                store = RocksStore.open(directory)
            finally:
                directory.close()
        except StoreDamaged:
            return
        last = store.last_round
        # A log that ends early is a valid prefix, which only peers can contradict.
        rows = [item.row for item in read_wal(bytes(content), int(wal.stem)) if isinstance(item, WalBatch)]
        assert all(row.synced <= last for row in rows)
        entries = store.log(GROUPS[1]).entries(Index(1), Index(last + 1), 1 << 20) if last else ()
        assert [entry.data for entry in entries] == [b"%d" % number for number in range(1, last + 1)]
        store.close()

