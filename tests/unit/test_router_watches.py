"""Watches by a client's core against a model cluster: each event once and in order, whatever happens."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from router_driver import Driver, counter, spread_map
from router_model import ModelCluster

from primitives.codec import encode_key, encode_value
from primitives.counter import ADD
from primitives.errors import BadPosition, Code, Compacted, Deleted, Overloaded, TypeMismatch, WatchOverflow
from primitives.handle import Reference
from primitives.history import MARK
from primitives.ids import GroupId, Revision
from primitives.mapops import Op
from primitives.position import WHOLE, Position
from primitives.watch import PROGRESS, StreamEvent
from router.session_streams import Watch
from router.shardmap import ShardMap

SMALL = 64 * 1024


def pinned_map(name: str) -> Reference:
    return Reference("", name, 16, 0, None)


def connected(cluster: ModelCluster, **options: Any) -> Driver:
    """A client that is connected to every node."""
    driver = Driver(cluster, addresses=("node1:1", "node2:1", "node3:1"), **options)
    for at in range(12):
        driver.wait(driver.command(counter(f"warm{at}"), ADD, [1]))
    return driver


def put(driver: Driver, ref: Reference, key: str, value: Any = 1) -> Any:
    data = encode_key(key)
    return driver.command(ref, Op.PUT, [data], encode_value(value), key=data)


def watch(driver: Driver, ref: Reference, **options: Any) -> Watch:
    """A watch that stands."""
    made = driver.core.watches.begin(driver.now_ms, ref, **options)
    driver.run(lambda: made.is_standing or made.error is not None)
    return made


def events(driver: Driver, made: Watch) -> list[StreamEvent]:
    """What is in its buffer."""
    found = []
    while (event := driver.core.watches.pop(made)) is not None:
        found.append(event)
    return found


def told(driver: Driver, made: Watch, count: int) -> list[StreamEvent]:
    """The next ``count`` events."""
    found: list[StreamEvent] = []

    def enough() -> bool:
        found.extend(events(driver, made))
        return len(found) >= count

    driver.run(enough)
    assert len(found) == count
    return found


def keys(found: list[StreamEvent]) -> list[str]:
    return [event.key[1:].decode() for event in found]


def group_of(driver: Driver, ref: Reference) -> GroupId:
    assert ref.primitive is not None
    return driver.cluster.map.group(ref.primitive.slot)


def test_events_come_once_and_in_order_and_before_the_answers_they_led_to() -> None:
    driver = connected(ModelCluster())
    ref = spread_map("m")
    driver.wait(put(driver, ref, "before"))
    made = watch(driver, ref)
    for at in range(40):
        driver.wait(put(driver, ref, f"k{at}"))
        assert keys(events(driver, made)) == [f"k{at}"]
    driver.core.watches.end(driver.now_ms, made)
    driver.pass_ms(50)
    assert not driver.cluster.streams.streams


def test_an_answer_waits_for_the_events_of_a_replica_that_lags_and_the_stream_moves_to_who_answered() -> None:
    cluster = ModelCluster(groups=1)
    driver = connected(cluster)
    ref = pinned_map("m")
    driver.wait(put(driver, ref, "a"))
    made = watch(driver, ref)
    (stream,) = cluster.streams.streams
    assert stream.connection.node == cluster.groups[GroupId(1)].leader
    cluster.lead(1, stream.connection.node % 3 + 1)
    cluster.lag(1, stream.connection.node)
    begun_ms = driver.now_ms
    driver.wait(put(driver, ref, "b"))
    assert keys(events(driver, made)) == ["b"]
    assert driver.now_ms - begun_ms >= 20
    assert cluster.streams.streams[0].connection.node == cluster.groups[GroupId(1)].leader
    begun_ms = driver.now_ms
    driver.wait(put(driver, ref, "c"))
    assert driver.now_ms - begun_ms < 50


def test_a_query_s_answer_waits_for_events_too() -> None:
    cluster = ModelCluster(groups=1)
    driver, other = connected(cluster), connected(cluster, seed=1)
    ref = pinned_map("m")
    driver.wait(put(driver, ref, "a"))
    made = watch(driver, ref)
    node = cluster.streams.streams[0].connection.node
    cluster.lead(1, node % 3 + 1)
    cluster.lag(1, node)
    other.now_ms = driver.now_ms
    other.wait(put(other, pinned_map("m"), "b"))
    driver.now_ms = other.now_ms
    driver.wait(driver.query(ref, 1, [encode_key("a")]))
    assert keys(events(driver, made)) == ["b"]


def test_a_watch_whose_buffer_is_full_ends_when_an_answer_waits_for_it() -> None:
    driver = connected(ModelCluster(groups=1))
    ref = pinned_map("m")
    driver.wait(put(driver, ref, "a"))
    made = watch(driver, ref, buffer_bytes=SMALL)
    calls = [put(driver, ref, f"k{at}", b"x" * 5000) for at in range(30)]
    driver.wait(*calls)
    assert made.error is not None
    found = []
    with pytest.raises(WatchOverflow, match="faster"):
        while True:
            event = driver.core.watches.pop(made)
            assert event is not None
            found.append(event)
    position = made.position
    assert keys(found) == [f"k{at}" for at in range(len(found))]
    assert 10 <= len(found) < 30
    again = watch(driver, ref, after=position)
    assert keys(told(driver, again, 30 - len(found))) == [f"k{at}" for at in range(len(found), 30)]


def test_a_slow_consumer_holds_up_nobody_else_and_misses_nothing() -> None:
    cluster = ModelCluster(groups=1)
    driver, other = connected(cluster), connected(cluster, seed=1)
    ref = pinned_map("m")
    driver.wait(put(driver, ref, "a"))
    made = watch(driver, ref, buffer_bytes=SMALL)
    other.now_ms = driver.now_ms
    for at in range(60):
        other.wait(put(other, pinned_map("m"), f"k{at}", b"x" * 5000))
    driver.now_ms = other.now_ms
    driver.pass_ms(5000)
    assert made.error is None
    assert sum(stream.buffered for stream in made.streams) <= SMALL + 6000
    assert keys(told(driver, made, 60)) == [f"k{at}" for at in range(60)]


def test_a_watch_waits_for_its_primitive_and_begins_with_the_first_event() -> None:
    driver = connected(ModelCluster())
    ref = spread_map("m")
    made = watch(driver, ref)
    assert made.position is None
    driver.pass_ms(3000)
    begun_ms = driver.now_ms
    driver.wait(*(put(driver, ref, f"k{at}") for at in range(20)))
    assert sorted(keys(told(driver, made, 20))) == sorted(f"k{at}" for at in range(20))
    assert not made.existed
    assert driver.now_ms - begun_ms < 100  # Whoever creates it need not wait to be told.


def test_a_watch_asks_what_its_name_means_though_it_was_known_before() -> None:
    driver = connected(ModelCluster())
    ref = spread_map("m")
    driver.wait(put(driver, ref, "a"))
    entry = driver.core._ledger.directory._entries["", "m"]
    assert entry.found is not None
    entry.found = entry.found._replace(revision=Revision(1))  # As of one that was deleted since.
    made = watch(driver, spread_map("m"))
    assert made.primitive == ref.primitive
    driver.wait(put(driver, ref, "b"))
    assert keys(events(driver, made)) == ["b"]


def test_a_watch_of_a_key_asks_its_partition_alone() -> None:
    cluster = ModelCluster()
    driver = connected(cluster)
    ref = spread_map("m")
    driver.wait(put(driver, ref, "a"))
    made = watch(driver, ref, key=encode_key("a"))
    assert len(cluster.streams.streams) == 1
    driver.wait(*(put(driver, ref, f"a{at}") for at in range(20)), put(driver, ref, "a"))
    assert keys(told(driver, made, 1)) == ["a"]
    position = made.position
    assert position is not None
    assert position.partitions == 16


def test_a_position_resumes_in_another_process() -> None:
    cluster = ModelCluster()
    driver = connected(cluster)
    ref = spread_map("m")
    driver.wait(*(put(driver, ref, f"a{at}") for at in range(30)))
    made = watch(driver, ref)
    driver.wait(*(put(driver, ref, f"b{at}") for at in range(30)))
    first = told(driver, made, 30)[:0]
    position = made.position
    assert position is not None
    driver.wait(*(put(driver, ref, f"c{at}") for at in range(30)))
    other = connected(cluster, seed=1)
    other.now_ms = driver.now_ms
    resumed = watch(other, spread_map("m"), after=Position.parse(str(position)))
    assert sorted(keys(first + told(other, resumed, 30))) == sorted(f"c{at}" for at in range(30))


def test_part_of_a_command_s_events_may_be_taken_before_and_the_rest_after() -> None:
    driver = connected(ModelCluster(groups=1))
    ref = pinned_map("m")
    driver.wait(put(driver, ref, "a"))
    made = watch(driver, ref)
    args: list[Any] = [0]
    for at in range(20):
        args += (encode_key(f"k{at:02}"), 1)
    driver.wait(driver.command(ref, Op.PUT_MANY, args, b"\x01" * 20))
    found = [driver.core.watches.pop(made) for _ in range(7)]
    position = made.position
    assert position is not None
    assert position.marks[0] & WHOLE == 6
    again = watch(driver, ref, after=position)
    first = keys([event for event in found if event is not None])
    assert first + keys(told(driver, again, 13)) == [f"k{at:02}" for at in range(20)]


def test_a_position_within_a_revision_stands_while_the_history_has_what_follows() -> None:
    cluster = ModelCluster(groups=1)
    driver = connected(cluster)
    ref = pinned_map("m")
    driver.wait(put(driver, ref, "a"))
    made = watch(driver, ref)
    args: list[Any] = [0]
    for at in range(20):
        args += (encode_key(f"k{at:02}"), 1)
    driver.wait(driver.command(ref, Op.PUT_MANY, args, b"\x01" * 20))
    found = [driver.core.watches.pop(made) for _ in range(7)]
    last = found[-1]
    assert last is not None
    assert ref.primitive is not None
    history = cluster.groups[GroupId(1)].applier.history(ref.primitive.slot, ref.primitive, 0)
    assert history is not None
    history.floor = MARK.pack(last.revision, last.number)  # As if exactly what was taken had been dropped.
    again = watch(driver, ref, after=made.position)
    assert keys(told(driver, again, 13)) == [f"k{at:02}" for at in range(7, 20)]


def test_what_a_client_did_or_saw_of_what_did_not_exist_is_told_before_it_returns() -> None:
    for seed in range(40):
        cluster = ModelCluster()
        driver, other = connected(cluster, seed=seed), connected(cluster, seed=100 + seed)
        ref = spread_map("m") if seed % 2 else pinned_map("m")
        made = watch(driver, ref)
        driver.pass_ms(random.Random(seed).randrange(300))
        if seed % 4 < 2:  # Somebody else creates it, and this client sees it before it is told.
            other.now_ms = driver.now_ms
            other.wait(put(other, spread_map("m") if seed % 2 else pinned_map("m"), "a"))
            driver.now_ms = other.now_ms
            driver.wait(driver.query(ref, 1, [encode_key("a")], key=encode_key("a")))
            assert keys(events(driver, made)) == ["a"]
        for name in ("b", "c"):
            driver.wait(put(driver, ref, name))
            assert keys(events(driver, made)) == [name]


def test_the_wrong_type_and_the_wrong_position_are_told_at_once() -> None:
    driver = connected(ModelCluster())
    ref, other = spread_map("m"), spread_map("other")
    driver.wait(put(driver, ref, "a"), put(driver, other, "a"))
    position = driver.core.position(other)
    with pytest.raises(BadPosition):
        events(driver, watch(driver, ref, after=position))
    with pytest.raises(TypeMismatch):
        events(driver, watch(driver, Reference("", "m", 17, None, None)))
    with pytest.raises(Deleted):
        events(driver, watch(driver, spread_map("nobody"), after=position))


def test_a_node_without_room_is_passed_over_and_a_cluster_without_room_is_an_error() -> None:
    cluster = ModelCluster(groups=1)
    driver = connected(cluster)
    ref = pinned_map("m")
    driver.wait(put(driver, ref, "a"))
    refusals: list[int | None] = [Code.OVERLOADED, Code.UNAVAILABLE]
    cluster.streams.refuses = lambda: refusals.pop() if refusals else None
    made = watch(driver, ref)
    assert made.error is None
    assert cluster.streams.asked == 3
    cluster.streams.refuses = lambda: Code.OVERLOADED
    with pytest.raises(Overloaded):
        events(driver, watch(driver, ref))


def test_what_is_no_longer_in_the_history_is_an_error() -> None:
    cluster = ModelCluster(groups=1)
    driver = connected(cluster)
    ref = pinned_map("m")
    driver.wait(put(driver, ref, "a"))
    position = driver.core.position(ref)
    cluster.streams.refuses = lambda: Code.COMPACTED
    with pytest.raises(Compacted):
        events(driver, watch(driver, ref, after=position))


def test_progress_is_told_on_quiet_streams_at_most_once_a_second() -> None:
    driver = connected(ModelCluster(groups=1))
    ref = pinned_map("m")
    driver.wait(put(driver, ref, "a"))
    made = watch(driver, ref, key=encode_key("quiet"), progress=True)
    driver.pass_ms(1500)
    events(driver, made)
    marks: list[tuple[int, Position]] = []
    end_ms = driver.now_ms + 10_000
    while driver.now_ms < end_ms:
        driver.wait(put(driver, ref, "loud"))
        driver.pass_ms(50)
        for event in events(driver, made):
            assert event.kind == PROGRESS
            assert made.position is not None
            marks.append((driver.now_ms, made.position))
    assert 8 <= len(marks) <= 11
    for (before, one), (after, other) in pairwise(marks):
        assert other.covers(one)
        assert after - before >= 900


def test_a_node_that_fell_silent_is_noticed_by_who_only_watches() -> None:
    cluster = ModelCluster(groups=1)
    driver, other = connected(cluster), connected(cluster, seed=1)
    ref = pinned_map("m")
    driver.wait(put(driver, ref, "a"))
    made = watch(driver, ref)
    driver.pass_ms(60_000)
    node = cluster.streams.streams[0].connection.node
    for connection, model in list(driver.connections.items()):
        if model.node == node:  # As a partition does it: nothing is lost, nothing arrives.
            model._send = lambda _: None
            driver.silent.add(connection)
    driver.unreachable.add(node)
    cluster.lead(1, node % 3 + 1)
    other.now_ms = driver.now_ms
    other.wait(put(other, pinned_map("m"), "b"))
    driver.now_ms = other.now_ms
    begun_ms = driver.now_ms
    assert keys(told(driver, made, 1)) == ["b"]
    assert driver.now_ms - begun_ms < 15_000


def test_a_client_that_stood_still_does_not_blame_the_leader() -> None:
    driver = connected(ModelCluster(groups=1))
    ref = pinned_map("m")
    driver.wait(put(driver, ref, "a"))
    link = driver.core.groups[GroupId(1)].link
    call = put(driver, ref, "b")
    driver.poll()
    driver.stand_still(3000)
    driver.wait(call)
    driver.wait(put(driver, ref, "c"))
    assert driver.core.groups[GroupId(1)].link is link


def test_a_cancelled_grant_that_waited_for_events_is_given_back() -> None:
    cluster = ModelCluster(groups=1)
    driver = connected(cluster)
    ref, locked = pinned_map("m"), Reference("", "l", 18, 0, None)
    driver.wait(put(driver, ref, "a"))
    watch(driver, ref)
    node = cluster.streams.streams[0].connection.node
    cluster.lead(1, node % 3 + 1)
    driver.pass_ms(100)
    driver.wait(driver.command(locked, 2, []))  # TRY_ACQUIRE, and released below.
    cluster.lag(1, node)
    other = Reference("", "l2", 18, 0, None)
    acquire = driver.command(other, 1, [], late=True)
    driver.run(lambda: bool(driver.core.watches.holds._held))
    assert not acquire.done
    withdrawal = driver.core.cancel(driver.now_ms, acquire)
    assert withdrawal is not None
    cluster.lag(1, node, lags=False)
    driver.run(lambda: withdrawal.done)
    (answer,) = driver.wait(driver.query(other, 1, []))
    assert answer is not None
    assert answer.code == Code.CONDITION  # Nobody holds it.


def test_streams_go_along_with_their_slots() -> None:
    cluster = ModelCluster(groups=2)
    driver = connected(cluster)
    ref = spread_map("m")
    driver.wait(put(driver, ref, "a"))
    made = watch(driver, ref)
    before = {stream.partition: stream.session.group for stream in made.streams if stream.session}
    asked = cluster.streams.asked
    old = cluster.map
    owners = [3 - group for group in old.owners]
    driver.core._cluster.on_map(driver.now_ms, ShardMap(
        2, old.cluster_id, old.salt, old.nodes, old.groups, owners, [2] * len(owners), old.leaders
    ).encode())  # fmt: skip
    driver.pass_ms(10)
    assert {stream.partition: 3 - stream.session.group for stream in made.streams if stream.session} == before
    assert {one.session for group in driver.core.watches.streams.values() for one in group} == {
        driver.core.groups[GroupId(1)], driver.core.groups[GroupId(2)]
    }  # fmt: skip
    assert cluster.streams.asked >= asked + 16
    assert not [one for one in cluster.streams.streams if one.request.epoch == 1]


FAULTS: list[Callable[[random.Random, ModelCluster, Driver], None]] = [
    lambda rng, cluster, driver: driver.cut(rng.randrange(1, 4)),
    lambda rng, cluster, driver: driver.cut(),
    lambda rng, cluster, driver: cluster.lead(rng.randrange(1, 3), rng.randrange(0, 4)),
    lambda rng, cluster, driver: cluster.lag(
        rng.randrange(1, 3), rng.randrange(1, 4), lags=rng.randrange(2) == 0
    ),
    lambda rng, cluster, driver: driver.stand_still(rng.randrange(100, 3000)),
    lambda rng, cluster, driver: [
        cluster.streams.end(stream, rng.choice((Code.UNAVAILABLE, Code.OVERLOADED, Code.WRONG_SLOT)))
        for stream in rng.sample(cluster.streams.streams, min(2, len(cluster.streams.streams)))
    ][:0] and None,
]


@pytest.mark.parametrize("seed", range(50))
def test_under_faults_every_watcher_is_told_each_change_once_and_in_order(seed: int) -> None:
    cluster = ModelCluster(groups=2)
    rng = random.Random(seed)
    driver = connected(cluster, seed=seed)
    ref = spread_map("m") if seed % 2 else pinned_map("m")
    driver.wait(put(driver, ref, "first"))
    begun = [watch(driver, ref), watch(driver, ref, buffer_bytes=SMALL)]
    found: list[list[StreamEvent]] = [[] for _ in begun]
    written: dict[str, int] = {}
    calls: dict[str, Any] = {}
    for at in range(80):
        if rng.random() < 0.25:
            rng.choice(FAULTS)(rng, cluster, driver)
        name = f"k{at}"
        calls[name] = put(driver, ref, name, b"x" * rng.choice((10, 3000)))
        driver.pass_ms(rng.randrange(0, 60))
        for number, made in enumerate(begun):
            if rng.random() < 0.6:
                found[number] += events(driver, made)
            if rng.random() < 0.1:  # Taken up again where it stands, as by another process.
                position = made.position
                driver.core.watches.end(driver.now_ms, made)
                begun[number] = driver.core.watches.begin(driver.now_ms, ref, after=position)
        for done in [name for name, call in calls.items() if call.done]:
            written[done] = calls.pop(done).answer.revision
    for group in (1, 2):
        cluster.lead(group, 1)
        for node in (1, 2, 3):
            cluster.lag(group, node, lags=False)
    driver.wait(*calls.values())
    for number, made in enumerate(begun):
        found[number] += told(driver, made, 80 - len(found[number]))
    for series in found:
        assert sorted(keys(series)) == sorted(f"k{at}" for at in range(80))
        last: dict[int, tuple[int, int]] = {}
        for event in series:
            assert (event.revision, event.number) > last.get(event.partition, (0, -1))
            last[event.partition] = (event.revision, event.number)
        assert {key: event.revision for key, event in zip(keys(series), series, strict=True)}.items() >= (
            written.items()
        )
