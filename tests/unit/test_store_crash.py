"""A process killed with -9 in the middle of its writes loses nothing that it had synced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from primitives.ids import GroupId
from raftgroup.types import Index
from shards.identity import StoreDirectory
from shards.rocks import RocksStore
from shards.wal import judge

WRITER = """
import sys
from pathlib import Path
from primitives.ids import GroupId
from raftgroup.types import Entry, EntryKind, HardState, Index, Membership, ReplicaId, Term
from shards.identity import StoreDirectory
from shards.ports import ReplicaIdentity, StoredReplica
from shards.rocks import RocksStore, StoreSettings

GROUPS = [GroupId(number) for number in range(1, 5)]
directory = StoreDirectory.open(Path(sys.argv[1]), "n1")
# Small buffers, so that flushes and new log files come in between.
store = RocksStore.open(directory, StoreSettings(write_buffer_bytes=128 << 10))
while True:
    number = store.last_round + 1
    batch = store.batch(number)
    for group in GROUPS:
        last = store.log(group).last_index()
        if number == 1:
            identity, members = ReplicaIdentity(group, ReplicaId(1)), Membership((ReplicaId(1),))
            batch.create(StoredReplica(identity, members, HardState(Term(1)), Index(0), 1))
        # Every seventh round rewrites a suffix, in a higher term.
        first = last - 2 if number % 7 == 0 and last > 3 else last + 1
        term = Term(number)
        batch.hard_state(group, HardState(term, ReplicaId(1), Index(max(first - 1, 0))))
        batch.append(group, [Entry(term, Index(first), EntryKind.NORMAL, b"%d " % number * 200)], last)
        batch.put_state(group, 1, b"round", b"%d" % number)
        batch.put_state(group, 1, b"last", b"%d" % first)
    while not store.write(batch):
        pass
    if number % 3 == 0:
        store.sync()
        store.synced(number)
        print(number, flush=True)
"""


def run_and_kill(path: Path, rounds: int) -> int:
    """Lets a writer go on until it told that ``rounds`` more are synced, kills it; the last round told."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        told = int(child.stdout.readline())
        goal = told + rounds
        while told < goal:
            told = int(child.stdout.readline())
        os.kill(child.pid, signal.SIGKILL)
        for line in child.stdout:
            if line.endswith(b"\n"):
                told = int(line)
    return told


def check(path: Path, told: int) -> int:
    """Everything told is there, groups and their rows agree with each other; the rounds found."""
    directory = StoreDirectory.open(path, "n1")
    store = RocksStore.open(directory)
    assert store.last_round >= told
    for number in range(1, 5):
        group = GroupId(number)
        log, state = store.log(group), store.state(group, 1)
        assert state.get(b"round") == b"%d" % store.last_round
        assert state.get(b"last") == b"%d" % log.last_index()
        assert log.term(log.last_index()) == store.last_round
        found = log.entries(Index(1), Index(log.last_index() + 1), 1 << 30)
        assert [entry.index for entry in found] == list(range(1, log.last_index() + 1))
        assert all(before.term < after.term for before, after in pairwise(found))
        assert all(entry.data == b"%d " % entry.term * 200 for entry in found)
    last = store.last_round
    store.close()
    directory.close()
    return last


def test_killed_writer_finds_all_that_was_synced_time_and_again(tmp_path: Path) -> None:
    found = 0
    for rounds in (1, 200, 17, 90):
        told = run_and_kill(tmp_path / "data", rounds)
        assert told > found
        found = check(tmp_path / "data", told)


def test_log_of_a_killed_writer_is_sound_but_for_a_last_write_cut_short(tmp_path: Path) -> None:
    run_and_kill(tmp_path / "data", 30)
    verdict = judge(tmp_path / "data" / "rocks")
    # A kill may stop the kernel within the copying of a write: then the last batch is cut short.
    assert verdict.fault is None or (verdict.resumed is None and not verdict.beyond)
    assert verdict.synced > 0
    assert verdict.last is not None
    assert verdict.last >= verdict.synced
