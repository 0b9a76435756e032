"""When events have reached all watchers."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from bench.runs.fanout import Board, allow_files
from bench.runs.recording import LoadFailed


@given(st.integers(1, 5), st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4)), max_size=40))
def test_an_event_has_arrived_when_the_last_watcher_has_it(
    watchers: int, packets: list[tuple[int, int]]
) -> None:
    board, had = Board(watchers), [0] * watchers
    for number, events in packets:
        at = number % watchers
        before, had[at] = had[at], had[at] + events
        began = time.perf_counter()
        known = len(board.arrived)
        board.move(before, had[at])
        assert len(board.arrived) == min(had)
        assert all(moment >= began for moment in board.arrived[known:])
    assert list(board.arrived) == sorted(board.arrived)


async def test_whoever_waits_for_events_goes_on_when_all_have_them() -> None:
    board = Board(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(board.until, 2)
        await trio.testing.wait_all_tasks_blocked()
        board.move(0, 3)
        board.move(0, 1)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        board.move(1, 2)
    with trio.fail_after(5):
        await board.until(2)


def test_more_open_files_than_there_may_be_are_refused_in_words() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("there may be any number here")
    allow_files(10)
    most = int(Path("/proc/sys/fs/nr_open").read_text())
    with pytest.raises(LoadFailed, match=rf"{most + 1} files are to be open at once, and {hard} may be"):
        allow_files(most + 1)
