"""The log syncer: one sync at a time, shared by what is asked for meanwhile; a failure is final."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from primitives.ids import GroupId
from shards.identity import StoreDirectory
from shards.ports import StoreFailed
from shards.rocks import RocksStore
from shards.syncer import BEGIN_S, SyncThread


class Disk:
    """Syncs that last until they are let go."""

    def __init__(self) -> None:
        self.begun: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.outcomes: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self.threads: set[int] = set()

    def sync(self) -> None:
        self.threads.add(threading.get_ident())
        self.begun.put(None)
        outcome = self.outcomes.get(timeout=5)
        if outcome is not None:
            raise outcome


class Door:
    """Keeps what it is given, for the test's own thread."""

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[tuple[Callable[..., object], Any]] = queue.SimpleQueue()

    def run_sync_soon(self, call: Callable[..., object], *args: Any) -> None:
        self.calls.put((call, args))

    def answer(self) -> Any:
        call, args = self.calls.get(timeout=5)
        return call(*args)


def test_requests_during_a_sync_share_the_next() -> None:
    disk, door = Disk(), Door()
    syncer = SyncThread(disk, door, lambda number: ("done", number), lambda error: ("failed", error))
    syncer.request(1)
    disk.begun.get(timeout=5)
    for number in (2, 3, 4):
        syncer.request(number)
    disk.outcomes.put(None)
    assert door.answer() == ("done", 1)
    disk.begun.get(timeout=5)
    disk.outcomes.put(None)
    assert door.answer() == ("done", 4)
    syncer.close()
    assert disk.begun.empty()
    assert len(disk.threads) == 1
    assert disk.threads != {threading.get_ident()}


def test_failed_sync_is_reported_once_and_never_tried_again() -> None:
    disk, door = Disk(), Door()
    syncer = SyncThread(disk, door, lambda number: ("done", number), lambda error: ("failed", str(error)))
    syncer.request(1)
    disk.begun.get(timeout=5)
    syncer.request(2)
    disk.outcomes.put(StoreFailed("no medium"))
    assert door.answer() == ("failed", "no medium")
    syncer.request(3)
    syncer.close()
    assert disk.begun.empty()
    assert door.calls.empty()


def test_who_asked_may_wait_until_the_sync_begins_and_waits_for_no_other() -> None:
    disk, door = Disk(), Door()
    syncer = SyncThread(disk, door, lambda number: ("done", number), lambda error: ("failed", error))
    for number in (1, 3):
        began = time.perf_counter()
        syncer.request(number)
        syncer.begin()
        if time.perf_counter() - began < BEGIN_S:
            disk.begun.get(timeout=BEGIN_S)
        else:  # The machine was too busy, and nobody was kept any longer.
            disk.begun.get(timeout=5)
        syncer.begin()  # It was waited for.
        syncer.request(number + 1)
        syncer.begin()  # Another one is under way: this one begins behind it.
        assert disk.begun.empty()
        disk.outcomes.put(None)
        assert door.answer() == ("done", number)
        disk.begun.get(timeout=5)
        disk.outcomes.put(None)
        assert door.answer() == ("done", number + 1)
    syncer.close()


def test_a_sync_that_does_not_begin_keeps_nobody() -> None:
    door = Door()
    entered, let_go = threading.Event(), threading.Event()

    class Held(Door):
        def run_sync_soon(self, call: Callable[..., object], *args: Any) -> None:
            entered.set()
            let_go.wait(5)
            door.run_sync_soon(call, *args)

    disk = Disk()
    disk.outcomes.put(None)
    syncer = SyncThread(disk, Held(), lambda number: number, lambda error: error)
    syncer.request(1)
    assert entered.wait(5)
    syncer._finish(1)  # The loop knows already, and the thread is not back at its queue.
    syncer.request(2)
    syncer.begin()
    let_go.set()
    disk.outcomes.put(None)
    assert door.answer() == 1
    assert door.answer() == 2
    syncer.close()


def test_close_syncs_what_was_asked_for_and_ends_the_thread() -> None:
    disk, door = Disk(), Door()
    syncer = SyncThread(disk, door, lambda number: ("done", number), lambda error: ("failed", error))
    for number in (1, 2, 3):
        syncer.request(number)
        disk.outcomes.put(None)
    syncer.close()
    answers = []
    while not door.calls.empty():
        answers.append(door.answer())
    assert answers[-1] == ("done", 3)
    assert "log syncer" not in {thread.name for thread in threading.enumerate()}


def test_close_without_a_request_ends_the_thread() -> None:
    SyncThread(Disk(), Door(), lambda _: None, lambda _: None).close()
    assert "log syncer" not in {thread.name for thread in threading.enumerate()}


async def test_written_rounds_are_synced_off_the_loop_and_answered_on_it(tmp_path: Path) -> None:
    directory = StoreDirectory.open(tmp_path / "data", "n1")
    store = RocksStore.open(directory)
    send, receive = trio.open_memory_channel[int](10)
    threads: set[int] = set()

    def done(number: int) -> None:
        threads.add(threading.get_ident())
        store.synced(number)
        send.send_nowait(number)

    def failed(error: Exception) -> None:
        pytest.fail(str(error))

    syncer = SyncThread(store, trio.lowlevel.current_trio_token(), done, failed)
    for number in (1, 2, 3):
        batch = store.batch(number)
        batch.put_state(GroupId(1), 1, b"k", b"%d" % number)
        assert store.write(batch)
        syncer.request(number)
    with trio.fail_after(5):
        while await receive.receive() != 3:
            pass
    syncer.close()
    assert threads == {threading.get_ident()}
    store.close()
    directory.close()
