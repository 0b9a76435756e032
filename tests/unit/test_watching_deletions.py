"""What a node's watches tell of a primitive that is deleted, and how they end."""

from __future__ import annotations

from watch_stage import Stage, number

from primitives.errors import Code
from primitives.ids import PrimitiveId, Revision
from primitives.mapops import MapMachine
from primitives.records import Open, encode_answer, encode_open
from primitives.watch import EventKind
from router.watchframes import WatchFlag


def test_a_deletion_ends_streams_that_lag_and_calls_them_complete_in_nothing() -> None:
    """What they lack is gone with the primitive."""
    stage = Stage()
    slow, other = stage.client(5), stage.client(6)
    slow.watch(1, credit=1)
    other.watch(1)
    stage.rounds()
    revisions = [stage.put(number(n), b"0123456789") for n in range(5)]
    stage.rounds()
    assert slow.marked[1] < revisions[1]
    stage.delete()
    slow.allow(1, 100)
    stage.rounds()
    assert slow.marked[1] < revisions[1]
    assert [client.ended for client in (slow, other)] == 2 * [{1: Code.UNKNOWN_PRIMITIVE}]
    assert [event.revision for event in other.events[1]][:-1] == revisions


def test_a_watch_that_resumes_behind_a_deletion_is_complete_in_nothing_before_it_ends() -> None:
    stage = Stage()
    before = stage.put(b"a")
    stage.put(b"b")
    stage.delete()
    deleted = stage.group.applier.revision
    client = stage.client(5)
    client.watch(1, after=before)
    client.watch(2, after=deleted)
    assert stage.rounds() == 1, "it waits, without a round of its own"
    assert client.marked == {1: before, 2: deleted}
    assert client.covered == {2}, "what had the deletion lacks nothing"
    [(origin, _)] = stage.routed
    stage.watching.answered(origin, encode_answer(Code.UNKNOWN_PRIMITIVE, 0))
    stage.rounds()
    assert client.ended == {1: Code.UNKNOWN_PRIMITIVE, 2: Code.UNKNOWN_PRIMITIVE}
    assert client.marked[1] == before
    assert stage.watching.streams == 0


def test_a_watch_in_doubt_goes_on_when_its_partition_opens() -> None:
    """Something else of the slot was deleted."""
    stage = Stage()
    before = stage.put(b"a")
    stage.delete()
    client = stage.client(5)
    primitive = PrimitiveId(stage.slot, Revision(stage.group.applier.revision + 50))
    client.watch(1, after=before, primitive_revision=primitive.revision)
    stage.rounds()
    assert client.covered == set()
    opening = Open(stage.slot, primitive, 0, MapMachine.TYPE, stage.group.applier.revision, b"")
    stage.group.apply(encode_open(opening))
    stage.primitive = primitive
    revision = stage.put(b"k")
    stage.rounds()
    assert client.told() == [(revision, b"k", b"v")]
    assert client.covered == {1}


def test_values_replaced_in_the_round_of_the_deletion_are_told() -> None:
    stage = Stage()
    stage.put(b"k", b"one")
    client = stage.client(5)
    client.watch(1, flags=WatchFlag.PREVIOUS)
    stage.rounds()
    stage.put(b"k", b"two")
    stage.delete()
    stage.rounds()
    told = [(event.kind, event.previous) for event in client.events[1]]
    assert told == [(EventKind.PUT, b"one"), (EventKind.DELETED, None)]
    assert client.ended == {1: Code.UNKNOWN_PRIMITIVE}


def test_events_whose_replaced_values_are_gone_are_not_told_as_if_there_had_been_none() -> None:
    """A replica that catches up applies the deletion and the dropping of rows in one round."""
    stage = Stage()
    start = stage.put(b"k", b"one")
    client = stage.client(5)
    client.watch(1, flags=WatchFlag.PREVIOUS)
    client.watch(2)
    stage.rounds()
    stage.put(b"k", b"two")
    stage.delete()
    stage.group.settle()
    stage.rounds()
    assert client.events[1] == []
    assert client.marked[1] == start
    assert [event.kind for event in client.events[2]] == [EventKind.PUT, EventKind.DELETED]
    assert client.ended == {1: Code.UNKNOWN_PRIMITIVE, 2: Code.UNKNOWN_PRIMITIVE}
