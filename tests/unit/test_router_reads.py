"""Reads from replicas, by a client's core against a model cluster."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from local_group import Group
from local_port import LocalPort
from router_driver import Driver, counter, home, spread_map
from router_model import ModelCluster

from primitives import counter as counters
from primitives.codec import encode_key
from primitives.counter import ADD, GET
from primitives.errors import BadPosition
from primitives.handle import SEQUENTIAL, Causal, ReadLevel, Reference, Stale
from primitives.ids import GroupId, NodeId
from primitives.mapops import Ask, Op
from primitives.records import Answer


def connected(cluster: ModelCluster, *, seed: int = 0) -> Driver:
    """A client that is connected to every node."""
    driver = Driver(cluster, seed=seed, addresses=("node1:1", "node2:1", "node3:1"))
    for at in range(12):
        driver.wait(driver.command(counter(f"warm{at}"), ADD, [1]))
    return driver


def read(driver: Driver, ref: Reference, level: ReadLevel, limit_ms: int = 60_000) -> int:
    call = driver.query(ref, GET, [], read=level)
    (answer,) = driver.wait(call, limit_ms=limit_ms)
    assert answer is not None
    return int.from_bytes(answer.result, "big", signed=True)


def test_sequential_reads_of_a_client_go_to_one_replica_and_of_many_clients_to_all() -> None:
    cluster = ModelCluster(groups=1)
    served: set[int] = set()
    for seed in range(12):
        driver = connected(cluster, seed=seed)
        read(driver, counter("warm0"), SEQUENTIAL)
        driver.pass_ms(500)
        cluster.served.clear()
        for _ in range(20):
            read(driver, counter("warm0"), SEQUENTIAL)
        assert len(cluster.served) <= 1
        served |= set(cluster.served)
    assert served == {2, 3}  # The others asked the leader's own.


def test_clients_reads_are_spread_evenly_over_replicas() -> None:
    cluster = ModelCluster(groups=1)
    driver = connected(cluster)
    reads, rng = driver.core._reads, random.Random(1)
    count: Counter[int] = Counter()
    for _ in range(3000):
        reads._shared.session_id = rng.randbytes(16)  # type: ignore[misc]
        count[min((NodeId(1), NodeId(2), NodeId(3)), key=reads._rank)] += 1
    assert all(900 < clients < 1100 for clients in count.values())


def follower_of(driver: Driver, ref: Reference) -> int:
    """The follower that serves the client's reads of a group; another one leads if it did."""
    cluster, group = driver.cluster, home(driver, ref)
    while True:
        cluster.served.clear()
        read(driver, ref, SEQUENTIAL)
        if cluster.served:
            return next(iter(cluster.served))
        cluster.lead(group, cluster.groups[group].leader % 3 + 1)
        driver.pass_ms(500)


@pytest.mark.parametrize("level", [SEQUENTIAL, Causal(None), Stale(10.0)])
def test_a_lagging_replica_is_passed_over_and_the_answer_is_no_older_than_what_was_seen(
    level: ReadLevel,
) -> None:
    cluster = ModelCluster()
    driver = connected(cluster)
    ref = counter("c")
    driver.wait(driver.command(ref, ADD, [1]))
    follower = follower_of(driver, ref)
    cluster.lag(home(driver, ref), follower)
    driver.wait(driver.command(ref, ADD, [1]))
    assert read(driver, ref, level) == 2


def test_what_another_client_wrote_may_be_missing_unless_its_position_is_asked_for() -> None:
    cluster = ModelCluster()
    one, other = connected(cluster), connected(cluster, seed=1)
    ref = counter("c")
    theirs = counter("c")
    one.wait(one.command(ref, ADD, [1]))
    assert read(other, theirs, SEQUENTIAL) == 1
    follower = follower_of(other, theirs)
    cluster.lag(home(other, theirs), follower)
    one.wait(one.command(ref, ADD, [1]))
    assert read(other, theirs, SEQUENTIAL) == 1
    position = one.core.position(ref)
    assert position is not None
    assert read(other, theirs, Causal(position)) == 2
    assert read(other, theirs, SEQUENTIAL) == 2


def test_a_position_of_another_primitive_is_an_error_for_its_caller() -> None:
    driver = connected(ModelCluster())
    one, other = counter("c"), counter("d")
    driver.wait(driver.command(one, ADD, [1]), driver.command(other, ADD, [1]))
    position = driver.core.position(one)
    with pytest.raises(BadPosition):
        read(driver, other, Causal(position))


def test_a_stale_read_that_cannot_be_proven_goes_to_the_leader() -> None:
    cluster = ModelCluster()
    driver = connected(cluster)
    ref = counter("c")
    driver.wait(driver.command(ref, ADD, [1]))
    follower = follower_of(driver, ref)
    cluster.lag(home(driver, ref), follower)
    assert read(driver, ref, Stale(0.1)) == 1


def test_a_replica_that_does_not_answer_is_passed_over() -> None:
    cluster = ModelCluster()
    driver = connected(cluster)
    ref = counter("c")
    driver.wait(driver.command(ref, ADD, [1]))
    follower = follower_of(driver, ref)
    driver.deaf.add(follower)
    assert read(driver, ref, SEQUENTIAL, limit_ms=2500) == 1
    begun_ms = driver.now_ms
    assert read(driver, ref, SEQUENTIAL) == 1
    assert driver.now_ms < begun_ms + 50


def test_reads_go_on_without_a_leader_while_replicas_know_enough() -> None:
    cluster = ModelCluster()
    driver = connected(cluster)
    ref = counter("c")
    driver.wait(driver.command(ref, ADD, [1]))
    follower_of(driver, ref)
    cluster.lead(home(driver, ref), 0)
    assert read(driver, ref, SEQUENTIAL, limit_ms=500) == 1


def test_a_read_that_was_called_off_is_forgotten() -> None:
    cluster = ModelCluster()
    driver = connected(cluster)
    ref = counter("c")
    driver.wait(driver.command(ref, ADD, [1]))
    for delay_ms in (0, 1, 2, 5):
        call = driver.query(ref, GET, [], read=SEQUENTIAL)
        driver.pass_ms(delay_ms)
        driver.core.cancel(driver.now_ms, call)
        driver.pass_ms(50)
        assert call not in driver.outcomes or call.answer is not None
    assert read(driver, ref, SEQUENTIAL) == 1


def test_a_name_that_means_nothing_is_not_created_by_a_read() -> None:
    driver = connected(ModelCluster())
    assert driver.wait(driver.query(counter("nobody"), GET, [], read=SEQUENTIAL)) == [None]


@pytest.mark.parametrize("seed", range(60))
def test_time_never_goes_back_whichever_replica_answers(seed: int) -> None:
    """Two clients: positions are handed from one to the other, leaders change, replicas lag, links break."""
    cluster = ModelCluster(groups=2)
    rng = random.Random(seed)
    drivers = [connected(cluster, seed=seed + 1000 * at) for at in range(2)]
    refs = [spread_map("m") for _ in drivers]
    keys = [encode_key(f"k{at}") for at in range(4)]
    for key in keys:
        drivers[0].wait(drivers[0].command(refs[0], Op.PUT, [key], b"\x00", key=key))
    told: list[dict[bytes, int]] = [dict.fromkeys(keys, 0) for _ in drivers]
    reads = 0
    while reads < 60:
        at = rng.randrange(2)
        driver, ref, key = drivers[at], refs[at], rng.choice(keys)
        driver.now_ms = max(one.now_ms for one in drivers)
        kind = rng.randrange(20)
        if kind < 4:
            (answer,) = driver.wait(driver.command(ref, Op.PUT, [key], b"\x00", key=key))
            assert answer is not None
            told[at][key] = answer.revision
        elif kind == 4:
            cluster.lead(rng.randrange(1, 3), rng.randrange(1, 4))
        elif kind == 5:
            cluster.lag(rng.randrange(1, 3), rng.randrange(1, 4), rng.randrange(2) == 0)
        elif kind == 6:
            driver.cut(rng.randrange(1, 4))
        else:
            level: ReadLevel = rng.choice((SEQUENTIAL, Stale(5.0)))
            floor = dict(told[at])
            if kind < 10:
                other = 1 - at
                position = drivers[other].core.position(refs[other])
                if position is not None:
                    level = Causal(position)
                    floor = {key: max(told[0][key], told[1][key]) for key in keys}
            (found,) = driver.wait(driver.query(ref, Ask.GET, [key], key=key, read=level))
            reads += 1
            revision = value_revision(found)
            assert revision >= floor[key]
            told[at][key] = max(told[at][key], revision)


def value_revision(answer: Answer | None) -> int:
    assert answer is not None
    return int.from_bytes(answer.result[:8], "big")


def test_what_was_seen_of_a_slot_holds_when_it_is_with_another_group() -> None:
    cluster = ModelCluster(groups=2)
    driver = connected(cluster)
    ref = counter("c")
    for _ in range(5):
        driver.wait(driver.command(ref, ADD, [1]))
    before = driver.core.position(ref)
    assert before is not None
    owners: Any = [3 - group for group in cluster.map.owners]
    map_ = cluster.map
    moved = type(map_)(
        2, map_.cluster_id, map_.salt, map_.nodes, map_.groups, owners, [2] * len(owners), map_.leaders
    )
    driver.core._cluster.on_map(driver.now_ms, moved.encode())
    after = driver.core.position(ref)
    assert after is not None
    assert after.covers(before)
    assert driver.core.groups[GroupId(1)].seen == driver.core.groups[GroupId(2)].seen


@pytest.mark.parametrize("level", ["sequential", 1, Stale, Causal, ReadLevel])
def test_a_read_level_that_is_none_is_refused_at_once_and_harms_no_other_call(level: Any) -> None:
    driver = connected(ModelCluster(groups=1))
    with pytest.raises(TypeError, match="read is LINEARIZABLE"):
        driver.query(counter("warm0"), GET, [], read=level)
    with pytest.raises(TypeError, match="read is LINEARIZABLE"):
        counters.Counter(LocalPort(Group()), "", "warm0", read=level)
    assert read(driver, counter("warm0"), SEQUENTIAL) == 1
