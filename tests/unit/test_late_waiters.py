"""A late answer reaches its client by whichever way the client now waits, in whatever order copies came."""

from __future__ import annotations

from typing import Any

from primitives.ids import NodeId
from shards.ports import Origin
from shards.waiters import WAYS_MAX, Waiters


class _Acquire:
    number, slot, sequence = 7, 3, 1


ACQUIRE: Any = _Acquire()


def test_an_older_copy_that_another_node_passes_on_late_does_not_take_the_newer_ones_place() -> None:
    waiters = Waiters()
    direct = Origin(NodeId(2), 5, 30)
    stale = Origin(NodeId(1), 9, 20)
    waiters.add_late(ACQUIRE, direct)
    waiters.add_late(ACQUIRE, stale)
    assert set(waiters.pop_late(7, 3, 1)) == {direct, stale}
    assert waiters.pop_late(7, 3, 1) == ()


def test_over_one_connection_the_last_copy_counts() -> None:
    waiters = Waiters()
    for request in (10, 11, 12):
        waiters.add_late(ACQUIRE, Origin(NodeId(1), 5, request))
    assert waiters.pop_late(7, 3, 1) == (Origin(NodeId(1), 5, 12),)


def test_ways_are_bounded_and_all_of_them_hear_of_an_end() -> None:
    waiters = Waiters()
    origins = [Origin(NodeId(1), connection, 1) for connection in range(WAYS_MAX + 3)]
    for end in (lambda: list(waiters.pop_session(7)), waiters.clear):
        for origin in origins:
            waiters.add_late(ACQUIRE, origin)
        assert end() == origins[3:]
        assert end() == []
