"""The simulated disk loses exactly what was not synced, and refuses what would leave a store broken."""

from __future__ import annotations

from random import Random

import pytest

from bench.world.clock import Heap
from bench.world.disk import Disk, SimStore, SimSyncer
from bench.world.image import Rows
from primitives.errors import InvariantViolation
from primitives.ids import GroupId
from raftgroup.types import Entry, EntryKind, HardState, Index, Membership, ReplicaId, Term
from shards.ports import Batch, ReplicaIdentity, StoredReplica

GROUP = GroupId(1)
MEMBERS = Membership((ReplicaId(1),))


def created(disk: Disk) -> SimStore:
    store = SimStore(disk)
    batch = store.batch(1)
    batch.create(StoredReplica(ReplicaIdentity(GROUP, ReplicaId(1)), MEMBERS, HardState(), Index(0), 1))
    assert store.write(batch)
    disk.sync(disk.written)
    return store


def entries(term: int, *indexes: int) -> list[Entry]:
    return [Entry(Term(term), Index(index), EntryKind.NORMAL, b"%d" % index) for index in indexes]


def round_of(store: SimStore, *appended: Entry) -> Batch:
    batch = store.batch(store.last_round + 1)
    batch.append(GROUP, appended, store.log(GROUP).last_index())
    return batch


def test_crash_keeps_a_prefix_of_whole_batches_and_all_that_was_synced() -> None:
    kept_lengths = set()
    for seed in range(40):
        disk = Disk()
        store = created(disk)
        assert store.write(round_of(store, *entries(1, 1, 2)))
        disk.sync(disk.written)
        for index in (3, 5, 7):
            assert store.write(round_of(store, *entries(1, index, index + 1)))
        kept, count = disk.crash(Random(seed))
        log = SimStore(disk).log(GROUP)
        assert count == 3
        assert log.last_index() == 2 + 2 * kept
        assert SimStore(disk).last_round == 2 + kept
        kept_lengths.add(kept)
    assert kept_lengths == {0, 1, 2, 3}


def test_crash_may_lose_a_truncation_with_its_entries_and_the_former_suffix_is_back() -> None:
    disk = Disk()
    store = created(disk)
    assert store.write(round_of(store, *entries(1, 1, 2, 3)))
    disk.sync(disk.written)
    assert store.write(round_of(store, *entries(2, 2)))
    assert [repr(entry) for entry in store.log(GROUP).stored] == ["1/1", "2/2"]
    kept, _ = disk.crash(Random(3))
    after = [repr(entry) for entry in SimStore(disk).log(GROUP).stored]
    assert after == (["1/1", "2/2"] if kept else ["1/1", "1/2", "1/3"])


def test_batch_that_would_leave_stale_keys_or_a_gap_is_a_violation() -> None:
    store = created(Disk())
    assert store.write(round_of(store, *entries(1, 1, 2, 3)))
    stale = store.batch(store.last_round + 1)
    stale.append(GROUP, entries(2, 2), Index(2))
    with pytest.raises(InvariantViolation, match="last stored"):
        store.write(stale)
    with pytest.raises(InvariantViolation, match="gap"):
        round_after = SimStore(Disk())
        gap = round_after.batch(1)
        gap.append(GROUP, entries(1, 2), Index(0))
        round_after.write(gap)


def test_refused_batch_holds_back_every_later_one() -> None:
    disk = Disk()
    store = created(disk)
    disk.refusing = True
    first = round_of(store, *entries(1, 1))
    assert not store.write(first)
    disk.refusing = False
    with pytest.raises(InvariantViolation, match="refused"):
        store.write(round_of(store, *entries(1, 1)))
    assert store.write(first)
    assert store.log(GROUP).last_index() == 1


def test_second_vote_in_a_term_is_a_violation() -> None:
    store = created(Disk())
    for vote, fails in ((1, False), (2, True)):
        batch = store.batch(store.last_round + 1)
        batch.hard_state(GROUP, HardState(Term(3), ReplicaId(vote)))
        if fails:
            with pytest.raises(InvariantViolation, match="second vote"):
                store.write(batch)
        else:
            assert store.write(batch)


def test_sync_covers_what_was_written_when_it_began_and_later_requests_share_the_next() -> None:
    heap, disk = Heap(), Disk()
    store = created(disk)
    done: list[int] = []
    syncer = SimSyncer(heap, disk, Random(1), done=done.append, failed=lambda: None, delay_ms=(5, 5))
    assert store.write(round_of(store, *entries(1, 1)))
    syncer.request(2)
    for index in (2, 3):
        assert store.write(round_of(store, *entries(1, index)))
        syncer.request(store.last_round)
    heap.run_until(5)
    assert done == [2]
    assert disk.durable.log(GROUP).last_index() == 1
    heap.run_until(10)
    assert done == [2, 4]
    assert disk.durable.log(GROUP).last_index() == 3


def test_sync_of_a_stopped_node_never_completes_and_a_failed_one_says_so_once() -> None:
    heap, disk = Heap(), Disk()
    done: list[int] = []
    failed: list[bool] = []
    stopped = SimSyncer(heap, disk, Random(1), done=done.append, failed=lambda: None, delay_ms=(1, 1))
    stopped.request(1)
    stopped.stop()
    disk.sync_fails = True
    failing = SimSyncer(
        heap, disk, Random(1), done=done.append, failed=lambda: failed.append(True), delay_ms=(2, 2)
    )
    failing.request(1)
    failing.request(2)
    heap.run_until(100)
    assert (done, failed) == ([], [True])


def test_state_hash_depends_on_rows_alone_not_on_how_they_came_to_be() -> None:
    one, other = Rows(), Rows()
    one.set(b"a", b"1")
    one.set(b"b", b"2")
    one.set(b"a", b"3")
    one.set(b"c", None)
    other.set(b"b", b"2")
    other.set(b"c", b"9")
    other.set(b"a", b"3")
    assert one.sum != other.sum
    other.set(b"c", None)
    assert one.sum == other.sum
    assert list(one.scan(b"a", b"b")) == [(b"a", b"3")]
    assert list(one.scan(b"a", None, reverse=True)) == [(b"b", b"2"), (b"a", b"3")]


def test_snapshot_of_a_state_does_not_move() -> None:
    disk = Disk()
    store = created(disk)
    snapshot = store.state_snapshot(GROUP, 1)
    batch = store.batch(store.last_round + 1)
    batch.put_state(GROUP, 1, b"k", b"v")
    assert store.write(batch)
    assert snapshot.get(b"k") is None
    assert store.state(GROUP, 1).get(b"k") == b"v"
