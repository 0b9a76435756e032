"""A node's watches: each event once, in order, with marks that hold; bounded, however slowly one reads."""

from __future__ import annotations

import pytest
from watch_stage import GROUP, Stage, number

from primitives.applier import ApplierLimits
from primitives.errors import Code, ProtocolError
from primitives.history import MARK, HistoryLimits
from primitives.mapops import MapMachine, Op
from primitives.records import encode_answer
from primitives.watch import EventKind
from router.frames import FrameKind
from router.watchframes import EVENT_OVERHEAD_BYTES, WatchFlag
from shards.ports import Origin
from shards.settings import EngineSettings
from shards.streams import SLICE_BYTES, SLICE_EVENTS
from shards.watching import ASK_TICKS, WATCHED


def test_a_watch_from_now_has_what_comes_and_nothing_before() -> None:
    stage = Stage()
    before = stage.put(b"a")
    client = stage.client(5)
    client.watch(1)
    stage.round()
    assert client.standing == {1: before}
    assert client.told() == []
    revision = stage.put(b"b", b"w")
    stage.round()
    assert client.told() == [(revision, b"b", b"w")]
    assert client.marked[1] == revision


@pytest.mark.parametrize("behind", [0, 1, 2])
def test_a_watch_goes_on_behind_its_revision_exactly(behind: int) -> None:
    stage = Stage()
    revisions = [stage.put(number(n)) for n in range(6)]
    client = stage.client(5)
    client.watch(1, after=revisions[3] - behind)
    stage.rounds()
    wanted = [revision for revision in revisions if revision > revisions[3] - behind]
    assert [event.revision for event in client.events[1]] == wanted
    later = stage.put(b"later")
    stage.round()
    assert [event.revision for event in client.events[1]] == [*wanted, later]


def test_events_and_marks_leave_before_the_answers_of_their_round() -> None:
    stage = Stage()
    client = stage.client(5)
    client.watch(1)
    stage.round()
    client.frames.clear()
    stage.put(b"a")
    stage.round(answering=(5,))
    assert client.frames == [FrameKind.EVENTS, FrameKind.MARKS, FrameKind.ANSWERS]


def test_filters_choose_keys_and_let_pass_what_concerns_all() -> None:
    stage = Stage()
    client = stage.client(5)
    client.watch(1, filter=b"ab")
    client.watch(2, filter=b"ab", flags=WatchFlag.PREFIX)
    client.watch(3, filter=b"zz")
    stage.round()
    for key in (b"a", b"ab", b"abc", b"b"):
        stage.put(key)
    stage.round()
    stage.session.send(stage.slot, stage.primitive, 0, MapMachine.TYPE, Op.CLEAR, [])
    stage.round()
    assert [event.key for event in client.events[1]] == [b"ab", b""]
    assert [event.key for event in client.events[2]] == [b"ab", b"abc", b""]
    assert [event.key for event in client.events[3]] == [b""]
    assert client.events[3][0].kind == EventKind.CLEARED
    later = stage.client(6)
    later.watch(1, after=client.standing[1], filter=b"ab", flags=WatchFlag.PREFIX)
    stage.rounds()
    assert later.events[1] == client.events[2], "from the history as when it happened"


def test_replaced_values_come_where_they_are_asked_for() -> None:
    stage = Stage()
    start = stage.put(b"k", b"one")
    clients = [stage.client(5), stage.client(6)]
    clients[0].watch(1, flags=WatchFlag.PREVIOUS)
    clients[0].watch(2)
    stage.round()
    stage.put(b"k", b"two")
    stage.put(b"new", b"x")
    stage.session.send(stage.slot, stage.primitive, 0, MapMachine.TYPE, Op.REMOVE, [b"k"])
    stage.round()
    clients[1].watch(1, after=start, flags=WatchFlag.PREVIOUS)
    stage.rounds()
    for client in clients:
        assert [(event.kind, event.value, event.previous) for event in client.events[1]] == [
            (EventKind.PUT, b"two", b"one"), (EventKind.PUT, b"x", None), (EventKind.REMOVED, b"", b"two"),
        ]  # fmt: skip
    assert [event.previous for event in clients[0].events[2]] == [None, None, None]


def test_a_thousand_watchers_share_one_encoding() -> None:
    stage = Stage()
    clients = [stage.client(connection) for connection in range(1000)]
    for client in clients:
        client.watch(1)
    stage.rounds()
    stage.put(b"k", b"v" * 1000)
    stage.watching.round(stage.now_ms + 1000, stage.groups)
    frames = [sent[0] for sent in stage.out.take().clients.values()]
    assert len(frames) == 1000
    assert len({id(frame) for frame in frames}) == 1


def test_a_stream_without_credit_stops_and_goes_on_where_it_was() -> None:
    stage = Stage()
    client, other = stage.client(5), stage.client(6)
    size = EVENT_OVERHEAD_BYTES + 8 + 10
    client.watch(1, credit=2 * size)
    other.watch(1)
    stage.round()
    revisions = [stage.put(number(n), b"0123456789") for n in range(5)]
    stage.rounds()
    assert [event.revision for event in client.events[1]] == revisions[:2]
    assert client.covered == set()
    assert client.marked[1] < revisions[2]
    assert other.marked[1] == revisions[-1]
    client.allow(1, 1)
    stage.rounds()
    assert [event.revision for event in client.events[1]] == revisions[:3], "one event may exceed the credit"
    client.allow(1, size - 1)
    stage.rounds()
    assert len(client.events[1]) == 3, "the debt is paid first"
    client.allow(1, 10 * size)
    stage.rounds()
    assert client.events[1] == other.events[1]
    assert client.covered == {1}
    assert client.marked[1] == revisions[-1]


def test_values_that_leave_the_history_in_their_own_round_end_the_streams_that_want_them() -> None:
    stage = Stage(history=HistoryLimits(events_max=10))
    client = stage.client(5)
    client.watch(1, flags=WatchFlag.PREVIOUS)
    stage.rounds()
    for _ in range(50):
        stage.put(b"k")
    stage.group.settle()
    stage.rounds()
    assert client.ended == {1: Code.COMPACTED}


def test_a_watch_from_now_that_comes_between_a_switch_and_the_next_round_has_nothing_from_before() -> None:
    stage = Stage()
    stage.client(6).watch(1)
    stage.rounds()
    first = stage.put(b"a")
    stage.group.state()
    old = stage.driver
    stage.driver = type(old)(stage._applier(stage.rows, ApplierLimits()))
    stage.groups[GROUP] = stage.driver
    client = stage.client(5)
    client.watch(1)
    stage.rounds()
    assert client.standing == {1: first}
    assert client.events[1] == []
    assert client.covered == {1}


def test_an_event_larger_than_all_the_credit_arrives() -> None:
    stage = Stage()
    client = stage.client(5)
    client.watch(1, credit=100)
    stage.round()
    stage.put(b"k", b"v" * 100_000)
    stage.rounds()
    assert [len(event.value) for event in client.events[1]] == [100_000]
    stage.put(b"k", b"w")
    stage.rounds()
    assert len(client.events[1]) == 1
    client.allow(1, 200_000)
    stage.rounds()
    assert len(client.events[1]) == 2


def test_a_long_history_is_read_in_slices_between_which_others_are_served() -> None:
    stage = Stage()
    count = 3 * SLICE_EVENTS
    for n in range(count):
        stage.put(number(n), b"v" * 100)
    slow, fast = stage.client(5), stage.client(6)
    slow.watch(1, after=0)
    fast.watch(1)
    stage.round()
    assert 0 < len(slow.events[1]) < count
    assert slow.bytes[1] <= SLICE_BYTES
    revision = stage.put(b"now")
    stage.round()
    assert fast.told() == [(revision, b"now", b"v")]
    assert stage.rounds() > 3
    assert [event.key for event in slow.events[1]] == [*map(number, range(count)), b"now"]


def test_a_round_of_many_events_is_cut_into_frames() -> None:
    stage = Stage()
    client = stage.client(5)
    client.watch(1)
    stage.round()
    for n in range(40):
        stage.put(number(n), b"v" * 10_000)
    client.frames.clear()
    stage.round()
    assert len(client.events[1]) == 40
    assert client.frames.count(FrameKind.EVENTS) > 5


def test_a_position_that_left_the_history_is_refused_and_the_next_one_stands() -> None:
    stage = Stage(history=HistoryLimits(events_max=100))
    revisions = [stage.put(number(n)) for n in range(300)]
    stage.group.settle()
    history = stage.group.applier.history(stage.slot, stage.primitive, 0)
    assert history is not None
    floor = history.floor_revision
    assert floor in revisions
    client = stage.client(5)
    client.watch(1, after=floor - 1)
    client.watch(2, after=floor)
    stage.rounds()
    assert client.ended == {1: Code.COMPACTED}
    assert [event.revision for event in client.events[2]] == [r for r in revisions if r > floor]


def test_a_position_at_the_history_s_very_end_stands_within_a_revision_too() -> None:
    stage = Stage(history=HistoryLimits(events_max=20))
    args = [0, *(part for n in range(30) for part in (number(n), 1))]
    at = stage.session.send(
        stage.slot, stage.primitive, 0, MapMachine.TYPE, Op.PUT_MANY, args, b"v" * 30
    )
    revision = int(stage.session.answers[stage.slot, at].revision)
    stage.group.settle()
    history = stage.group.applier.history(stage.slot, stage.primitive, 0)
    assert history is not None
    assert MARK.unpack(history.floor) == (revision, 9)
    client = stage.client(5)
    for watch, behind in ((1, 8), (2, 9), (3, 15)):
        client.watch(watch, after=revision, number=behind)
    stage.rounds()
    assert client.ended == {1: Code.COMPACTED}
    assert {watch: client.standing[watch] for watch in (2, 3)} == {2: revision - 1, 3: revision - 1}
    assert [event.number for event in client.events[2]] == list(range(10, 30))
    assert [event.number for event in client.events[3]] == list(range(16, 30))
    assert client.marked[2] >= revision


def test_the_history_may_be_cut_at_a_removal() -> None:
    """The value that a removal named is gone with it; what comes later is whole."""
    stage = Stage(history=HistoryLimits(events_max=10))
    for _ in range(20):
        stage.put(b"k", b"v")
        removed = stage.session.send(stage.slot, stage.primitive, 0, MapMachine.TYPE, Op.REMOVE, [b"k"])
        revision = stage.session.answers[stage.slot, removed].revision
        stage.group.settle()
        client = stage.client(int(revision))
        client.watch(1, after=revision, flags=WatchFlag.PREVIOUS)
        stage.rounds()
        put = stage.put(b"k", b"w")
        stage.round()
        assert [(e.revision, e.kind, e.previous) for e in client.events[1]] == [(put, EventKind.PUT, None)]


def test_a_slow_stream_that_the_history_overtakes_is_told() -> None:
    stage = Stage(history=HistoryLimits(events_max=50))
    client = stage.client(5)
    client.watch(1, credit=1)
    stage.round()
    for n in range(200):
        stage.put(number(n))
    stage.group.settle()
    stage.rounds()
    client.allow(1, 1 << 20)
    stage.rounds()
    assert client.ended == {1: Code.COMPACTED}


def test_a_watch_ahead_of_its_replica_waits_without_a_mark() -> None:
    stage = Stage()
    client = stage.client(5)
    ahead = stage.group.applier.revision + 2
    client.watch(1, after=ahead)
    assert stage.rounds() == 1
    assert client.covered == set()
    revisions = [stage.put(number(n)) for n in range(4)]
    stage.rounds()
    assert [event.revision for event in client.events[1]] == [r for r in revisions if r > ahead]
    assert client.covered == {1}


def test_a_replica_with_a_new_state_goes_on_from_its_history() -> None:
    stage = Stage()
    client = stage.client(5)
    client.watch(1)
    stage.round()
    first = stage.put(b"a")
    stage.round()
    unseen = stage.put(b"b")
    stage.group.state()
    old = stage.driver
    stage.driver = type(old)(stage._applier(stage.rows, ApplierLimits()))
    stage.groups[GROUP] = stage.driver
    client.allow(1, 1000)
    stage.client(6).watch(1)
    stage.rounds()
    assert [event.revision for event in client.events[1]] == [first, unseen]
    assert client.covered == {1}
    assert not old.applier.watched
    assert stage.driver.applier.watched


def test_a_slot_that_moves_away_ends_its_watches() -> None:
    stage = Stage()
    client = stage.client(5)
    client.watch(1)
    client.watch(2, epoch=7)
    stage.round()
    assert client.ended == {2: Code.WRONG_SLOT}
    applier = stage.group.applier
    del applier._owned[stage.slot]
    applier.ownership_version += 1
    stage.round()
    assert client.ended == {1: Code.WRONG_SLOT, 2: Code.WRONG_SLOT}
    assert stage.watching.streams == 0
    assert not applier.watched


def test_a_replica_that_leaves_ends_its_watches() -> None:
    stage = Stage()
    client = stage.client(5)
    client.watch(1)
    stage.round()
    stage.groups.clear()
    stage.watching.tick()
    stage.round()
    assert client.ended == {1: Code.UNAVAILABLE}
    client.watch(2)
    stage.round()
    assert client.ended[2] == Code.UNAVAILABLE


def test_a_connection_takes_its_watches_along() -> None:
    stage = Stage()
    client = stage.client(5)
    for watch in range(10):
        client.watch(watch)
    stage.client(6).watch(1)
    stage.round()
    client.unwatch(3)
    client.unwatch(99)
    client.allow(99, 5)
    assert stage.watching.streams == 10
    stage.watching.closed(5)
    stage.watching.closed(5)
    assert stage.watching.streams == 1
    stage.put(b"k")
    stage.watching.round(stage.now_ms + 1, stage.groups)
    assert list(stage.out.take().clients) == [6]
    stage.watching.closed(6)
    assert not stage.group.applier.watched


def test_caps_are_refusals() -> None:
    stage = Stage(settings=EngineSettings(watches_max=5, watches_a_connection_max=3))
    for connection in (5, 6):
        client = stage.client(connection)
        for watch in range(4):
            client.watch(watch)
    stage.round()
    assert stage.clients[5].ended == {3: Code.OVERLOADED}
    assert stage.clients[6].ended == {2: Code.OVERLOADED, 3: Code.OVERLOADED}
    with pytest.raises(ProtocolError, match="second watch"):
        stage.clients[5].watch(1)


def test_a_partition_that_is_not_open_is_asked_for_and_watched_from_its_first_event_on() -> None:
    stage = Stage()
    client = stage.client(5)
    revision = stage.group.applier.revision
    unknown = {"primitive_revision": 999_999}
    client.watch(1, **unknown)
    client.watch(2, **unknown)
    stage.round()
    assert client.standing == {1: revision, 2: revision}
    [(origin, query)] = stage.routed
    assert origin.connection == WATCHED
    assert query.primitive.revision == 999_999
    stage.watching.answered(origin, encode_answer(Code.UNAVAILABLE, 0))
    for _ in range(ASK_TICKS):
        stage.watching.tick()
    assert len(stage.routed) == 2, "asked again in time"
    stage.watching.answered(stage.routed[1][0], encode_answer(Code.UNKNOWN_PRIMITIVE, 0))
    stage.round()
    assert client.ended == {1: Code.UNKNOWN_PRIMITIVE, 2: Code.UNKNOWN_PRIMITIVE}
    stage.watching.answered(Origin(stage.node, WATCHED, 77), encode_answer(Code.UNKNOWN_PRIMITIVE, 0))


def test_marks_of_many_idle_connections_are_spread_over_time_and_come_at_once_with_an_answer() -> None:
    stage = Stage()
    for connection in range(100):
        stage.client(connection).watch(1, filter=b"never")
    stage.rounds()
    stage.now_ms += 1000
    for client in stage.clients.values():
        client.frames.clear()
    first = stage.put(b"a")
    stage.round()
    assert all(client.marked[1] == first for client in stage.clients.values())
    second = stage.put(b"b")
    stage.round(answering=(7,))
    assert [c for c, client in stage.clients.items() if client.marked[1] == second] == [7]
    assert stage.clients[7].frames[-2:] == [FrameKind.MARKS, FrameKind.ANSWERS]
    stage.now_ms += 10
    stage.round()
    assert all(client.marked[1] == second for client in stage.clients.values())
    assert sum(len(client.frames) for client in stage.clients.values()) <= 203
