"""The session core against a model cluster: each call takes effect exactly once, in order, whatever happens
to connections and leaders."""

from __future__ import annotations

import struct

import pytest
from router_driver import Driver, counter, home, lock, number, spread_map
from router_model import ModelCluster, ModelGroup, RandomFaults

from primitives.codec import encode_key, encode_value
from primitives.counter import ADD, GET
from primitives.errors import (
    Code,
    Overloaded,
    ProtocolError,
    SessionLost,
    TooLarge,
    TypeMismatch,
)
from primitives.handle import Reference
from primitives.ids import SLOTS, GroupId, NodeId
from primitives.lock import ACQUIRE, HOLDER, RELEASE
from primitives.mapops import Ask, Op
from router.session_groups import Standing
from router.session_settings import SessionSettings
from router.shardmap import ShardMap

_NUMBER = struct.Struct(">q")
_U64 = struct.Struct(">Q")


@pytest.mark.parametrize("seed", range(12))
def test_each_call_counts_once_though_connections_and_leaders_come_and_go(seed: int) -> None:
    cluster = ModelCluster(nodes=3, groups=3)
    faults = RandomFaults(seed, 0.08, ("refused", "lost_before", "lost_after", "silent"))
    cluster.fault = faults
    cluster.forwards = seed % 2 == 0
    addresses = ("node1:1", "node2:1", "node3:1")[: 1 + seed % 3]
    driver = Driver(cluster, seed=seed, addresses=addresses, delay_ms=(1, 20))
    refs = [counter(f"c{at}") for at in range(4)]
    sums: dict[Reference, list[int]] = {ref: [] for ref in refs}
    left = dict.fromkeys(refs, 120)

    def again(ref: Reference) -> None:
        if left[ref]:
            left[ref] -= 1
            call = driver.command(ref, ADD, [1])
            driver.waiters[call] = lambda done: (
                sums[ref].append(_NUMBER.unpack(done.answer.result)[0]), again(ref)
            )

    def disturb() -> None:
        if not faults.on:
            return
        what = driver.random.random()
        if what < 0.5:
            driver.cut(driver.random.randrange(1, 4))
        elif what < 0.9:
            driver.cluster.lead(driver.random.randrange(1, 4), driver.random.randrange(0, 4))
        driver.at(driver.random.randrange(10, 300), disturb)

    def heal() -> None:
        faults.on = False
        for group in cluster.groups:
            cluster.lead(group, 1 + (group + seed) % 3)

    for ref in refs:
        for _ in range(6):
            again(ref)
    driver.at(20, disturb)
    driver.at(4000, heal)
    driver.run(lambda: all(len(found) == 120 for found in sums.values()), 120_000)
    assert not [call for call in driver.outcomes if call.error]
    for ref in refs:
        assert sorted(sums[ref]) == list(range(1, 121))
        assert number(driver, ref) == 120


@pytest.mark.parametrize("seed", range(4))
def test_calls_of_one_slot_take_effect_in_the_order_made(seed: int) -> None:
    cluster = ModelCluster()
    cluster.fault = RandomFaults(seed, 0.05, ("refused", "lost_before", "lost_after", "silent"))
    driver = Driver(cluster, seed=seed, settings=SessionSettings(window=16))
    ref = counter("c")
    calls = [driver.command(ref, ADD, [1]) for _ in range(300)]
    driver.at(15, driver.cut)
    driver.at(200, lambda: [cluster.lead(group, 2) for group in cluster.groups])
    answers = driver.wait(*calls)
    assert [_NUMBER.unpack(answer.result)[0] for answer in answers if answer] == list(range(1, 301))


def test_a_query_does_not_create_and_a_command_does() -> None:
    driver = Driver(ModelCluster())
    ref = counter("c")
    before, command = driver.query(ref, GET, []), driver.command(ref, ADD, [5])
    none, five = driver.wait(before, command)
    assert none is None
    assert five is not None and five.result == _NUMBER.pack(5)
    assert number(driver, ref) == 5


def test_a_name_of_another_type_is_refused_for_its_caller_alone() -> None:
    driver = Driver(ModelCluster())
    driver.wait(driver.command(counter("x"), ADD, [1]))
    wrong, right = driver.command(lock("x"), ACQUIRE, []), driver.command(counter("x"), ADD, [1])
    driver.run(lambda: wrong.done and right.done)
    assert isinstance(wrong.error, TypeMismatch)
    assert right.error is None


def test_entries_of_a_spread_map_are_found_again_through_any_node() -> None:
    cluster = ModelCluster(nodes=5, groups=8, replicas=3)
    driver = Driver(cluster, addresses=("node5:1",))
    ref = spread_map("m")
    keys = [encode_key(f"key{at}") for at in range(100)]
    calls = [driver.command(ref, Op.PUT, [key], encode_value(at), key=key) for at, key in enumerate(keys)]
    driver.wait(*calls)
    assert len({call.group for call in calls}) > 4
    other = Driver(cluster, seed=1, addresses=("node3:1",))
    answers = other.wait(*[other.query(spread_map("m"), Ask.GET, [key], key=key) for key in keys])
    assert all(answer is not None and answer.code == Code.OK for answer in answers)


def test_leaders_are_dialed_when_needed_and_then_asked_directly() -> None:
    cluster = ModelCluster(nodes=3, groups=1)
    cluster.lead(1, 3)
    driver = Driver(cluster)
    driver.pass_ms(100)
    assert {connection.node for connection in cluster.connections} == {1}
    driver.wait(driver.command(counter("c"), ADD, [1]))
    driver.pass_ms(100)
    assert {connection.node for connection in cluster.connections} == {1, 3}
    driver.wait(driver.command(counter("c"), ADD, [1]))
    group = driver.core.groups[GroupId(1)]
    assert group.link is not None and group.link.node_id == 3


def test_a_connection_that_was_idle_for_long_is_used_again_and_not_given_up() -> None:
    cluster = ModelCluster(nodes=3, groups=1)
    cluster.lead(1, 3)
    driver = Driver(cluster)
    ref = counter("c")
    driver.wait(driver.command(ref, ADD, [1]))
    driver.pass_ms(10_000)
    idle = driver.core._routes.nodes[NodeId(1)]
    cluster.lead(1, 1)
    for _ in range(2):  # After the first one it is known who leads now.
        driver.wait(driver.command(ref, ADD, [1]))
        driver.pass_ms(1000)
    assert driver.core.groups[GroupId(1)].link is idle
    assert idle.is_up


def test_a_leader_that_cannot_be_dialed_is_reached_through_another_node() -> None:
    cluster = ModelCluster(nodes=3, groups=1)
    cluster.lead(1, 2)
    driver = Driver(cluster)
    driver.unreachable = {2, 3}
    ref = counter("c")
    driver.wait(*[driver.command(ref, ADD, [1]) for _ in range(20)], limit_ms=1000)
    assert number(driver, ref) == 20


def test_a_client_told_of_one_node_goes_on_with_the_others_when_that_one_is_gone() -> None:
    cluster = ModelCluster(nodes=3, groups=1)
    cluster.lead(1, 1)
    driver = Driver(cluster)
    ref = counter("c")
    driver.wait(driver.command(ref, ADD, [1]))
    assert {connection.node for connection in cluster.connections} == {1}
    cluster.lead(1, 2)
    driver.unreachable = {1}
    for connection in cluster.connections:
        connection.close()
    driver.wait(driver.command(ref, ADD, [1]), limit_ms=3000)
    assert number(driver, ref) == 2


def test_calls_wait_while_no_node_is_in_reach() -> None:
    driver = Driver(ModelCluster(), addresses=("node1:1", "node2:1"))
    driver.unreachable = {1, 2, 3}
    call = driver.command(counter("c"), ADD, [1])
    driver.pass_ms(20_000)
    assert not call.done
    driver.unreachable = set()
    driver.wait(call, limit_ms=3000)


def test_a_group_that_answers_nothing_is_tried_through_another_node() -> None:
    cluster = ModelCluster(nodes=3, groups=1)
    driver = Driver(cluster)
    ref = counter("c")
    driver.wait(driver.command(ref, ADD, [1]))
    cluster.lead(1, 2)
    stopped = [True]
    cluster.fault = lambda: "silent" if stopped else None
    call = driver.command(ref, ADD, [1])
    driver.at(1000, stopped.clear)
    driver.wait(call, limit_ms=5000)
    assert number(driver, ref) == 2


# --- Called-off calls ---------------------------------------------------------------------------------


def failing(seed: int = 0) -> tuple[ModelCluster, Driver]:
    """A cluster of one group of which no node could serve the client lately, each connected to it."""
    cluster = ModelCluster(groups=1)
    driver = Driver(cluster, seed=seed, addresses=("node1:1",))
    driver.wait(driver.command(counter("c"), ADD, [1]))
    routes = driver.core._routes
    for node in (2, 3):
        driver.core._network.dial_node(driver.now_ms, NodeId(node))
    driver.run(lambda: len(routes.nodes) == 3)
    for node in (2, 3, 1):
        driver.pass_ms(10)
        routes.avoid(driver.now_ms, GroupId(1), routes.nodes[NodeId(node)])
    return cluster, driver


@pytest.mark.parametrize("seed", range(6))
def test_calls_under_a_lost_lease_are_not_sent_again_and_again_though_every_node_failed(seed: int) -> None:
    cluster, driver = failing(seed)
    ref, group = counter("c"), driver.core.groups[GroupId(1)]
    cluster.lead(1, 0)
    calls = [driver.command(ref, ADD, [1]) for _ in range(40)]
    driver.run(lambda: group.standing is Standing.LAPSED)
    cluster.lead(1, 1)
    routes = driver.core._routes
    for link in routes.nodes.values():
        routes.avoid(driver.now_ms, GroupId(1), link)
    before = cluster.operations
    driver.run(lambda: all(call.done for call in calls) or cluster.operations > before + 2000)
    # Those on their way when another leader is told are sent there again.
    assert cluster.operations - before <= 3 * len(calls)
    assert not [call for call in calls if call.error]
    assert number(driver, ref) == 41


def test_of_nodes_that_all_failed_the_told_leader_is_tried_and_then_the_one_that_failed_first() -> None:
    _, driver = failing()
    routes, group, now_ms = driver.core._routes, GroupId(1), driver.now_ms
    links = {node: routes.nodes[NodeId(node)] for node in (1, 2, 3)}
    present, tried = links[1], []
    for after_ms in range(1, 7):
        routes.avoid(now_ms + after_ms, group, present)
        picked = {routes.pick(now_ms + after_ms, group, present) for _ in range(20)}
        assert len(picked) == 1
        (link,) = picked
        assert link is not None and {routes.pick(now_ms + after_ms, group, link) for _ in range(20)} == picked
        present = link
        tried.append(link.node_id)
    assert tried == [2, 3, 1, 2, 3, 1]
    routes.leaders[group] = NodeId(3)
    assert routes.pick(now_ms + 7, group, links[2]) is links[3]


def test_a_call_that_was_never_sent_is_dropped() -> None:
    driver = Driver(ModelCluster())
    driver.unreachable = {1, 2, 3}
    ref = counter("c")
    dropped, kept = driver.command(ref, ADD, [1]), driver.command(ref, ADD, [10])
    assert driver.core.cancel(driver.now_ms, dropped) is None
    driver.unreachable = set()
    driver.wait(kept)
    assert number(driver, ref) == 10


def test_cancelled_calls_leave_nothing_behind_while_no_node_is_in_reach() -> None:
    driver = Driver(ModelCluster(), settings=SessionSettings(calls_max=10))
    driver.unreachable = {1, 2, 3}
    ref = counter("c")
    for _ in range(1000):
        driver.core.cancel(driver.now_ms, driver.command(ref, ADD, [1]))
    kept = driver.command(ref, ADD, [1])
    driver.unreachable = set()
    driver.wait(kept)
    assert number(driver, ref) == 1


@pytest.mark.parametrize("fault", ["silent", "lost_after", None])
def test_a_call_that_was_sent_and_called_off_keeps_up_the_numbering(fault: str | None) -> None:
    cluster = ModelCluster()
    driver = Driver(cluster)
    ref = counter("c")
    driver.wait(driver.command(ref, ADD, [100]))
    faults = [fault]
    cluster.fault = lambda: faults.pop() if faults else None
    call = driver.command(ref, ADD, [1])
    driver.poll()
    assert call.sends == 1
    driver.core.cancel(driver.now_ms, call)
    driver.wait(*[driver.command(ref, ADD, [10]) for _ in range(5)])
    assert number(driver, ref) == (150 if fault == "silent" else 151)


def test_a_call_that_carries_on_is_completed_without_its_caller() -> None:
    driver = Driver(ModelCluster())
    ref = counter("c")
    call = driver.command(ref, ADD, [1], carry_on=True)
    driver.core.cancel(driver.now_ms, call)
    driver.wait(call)
    assert number(driver, ref) == 1


def test_a_cancelled_acquire_leaves_neither_waiter_nor_grant() -> None:
    cluster = ModelCluster()
    holder, waiter = Driver(cluster), Driver(cluster, seed=1)
    (grant,) = holder.wait(holder.command(lock("l"), ACQUIRE, [], late=True))
    assert grant is not None
    waiting = waiter.command(lock("l"), ACQUIRE, [], late=True)
    waiter.pass_ms(100)
    assert not waiting.done
    withdrawal = waiter.core.cancel(waiter.now_ms, waiting)
    assert withdrawal is not None
    waiter.wait(withdrawal)
    holder.now_ms = waiter.now_ms
    token = _U64.unpack(grant.result)[0]
    holder.wait(holder.command(lock("l"), RELEASE, [token]))
    (free,) = holder.wait(holder.query(lock("l"), HOLDER, []))
    assert free is not None and free.code == Code.CONDITION


@pytest.mark.parametrize("seed", range(6))
def test_a_grant_that_comes_while_it_is_withdrawn_is_given_back(seed: int) -> None:
    cluster = ModelCluster()
    cluster.fault = RandomFaults(seed, 0.2, ("refused", "lost_before", "lost_after", "silent"))
    driver = Driver(cluster, seed=seed, delay_ms=(1, 30))
    ref = lock("l")
    driver.wait(driver.query(ref, HOLDER, []))
    for _ in range(10):
        call = driver.command(ref, ACQUIRE, [], late=True)
        driver.pass_ms(driver.random.randrange(0, 90))
        if not call.done:
            withdrawal = driver.core.cancel(driver.now_ms, call)
            if withdrawal is not None:
                driver.wait(withdrawal)
        else:
            assert call.answer is not None
            driver.wait(driver.command(ref, RELEASE, [_U64.unpack(call.answer.result)[0]]))
    (free,) = driver.wait(driver.query(ref, HOLDER, []))
    assert free is None or free.code == Code.CONDITION


def test_late_calls_hold_up_no_others_and_are_all_granted() -> None:
    cluster = ModelCluster(groups=1)
    driver = Driver(cluster, settings=SessionSettings(window=8))
    ref = lock("l")
    granted: list[int] = []
    for _ in range(100):
        call = driver.command(ref, ACQUIRE, [], late=True)
        driver.waiters[call] = lambda done: granted.append(_U64.unpack(done.answer.result)[0])
    for turn in range(100):
        driver.run(lambda turn=turn: len(granted) > turn)
        if turn % 10 == 3:
            driver.cut()
        driver.wait(driver.command(ref, RELEASE, [granted[turn]]))
    assert granted == sorted(granted) and len(set(granted)) == 100
    group = cluster.groups[GroupId(1)]
    driver.wait(*[driver.command(ref, RELEASE, [1]) for _ in range(2)])
    session = next(iter(group.applier._sessions.alive.values()))
    assert all(numbering.held <= 2 for numbering in session.numberings.values())


# --- Bounds and mistakes ------------------------------------------------------------------------------


def test_too_much_under_way_is_an_error_that_the_caller_sees() -> None:
    driver = Driver(ModelCluster(), settings=SessionSettings(calls_max=5))
    ref = counter("c")
    calls = [driver.command(ref, ADD, [1]) for _ in range(5)]
    with pytest.raises(Overloaded):
        driver.command(ref, ADD, [1])
    driver.wait(*calls)
    driver.wait(driver.command(ref, ADD, [1]))


def test_arguments_over_their_limit_are_refused_at_the_call() -> None:
    with pytest.raises(TooLarge):
        Driver(ModelCluster()).command(counter("c"), ADD, [b"x" * 20_000])


def test_a_command_that_the_group_refuses_uses_up_its_number() -> None:
    driver = Driver(ModelCluster())
    ref = counter("c")
    driver.wait(driver.command(ref, ADD, [1]))
    bad, good = driver.command(ref, 99, []), driver.command(ref, ADD, [1])
    driver.run(lambda: bad.done and good.done)
    assert isinstance(bad.error, ProtocolError)
    assert number(driver, ref) == 2


def test_addresses_that_speak_something_else_are_an_error_for_calls_that_wait() -> None:
    driver = Driver(ModelCluster())
    call = driver.command(counter("c"), ADD, [1])
    out = driver.core.poll(driver.now_ms)
    (connection, _), = out.dial
    driver.core.connected(driver.now_ms, connection)
    driver.core.received(driver.now_ms, connection, b"HTTP/1.1 400 Bad Request\r\n\r\n")
    out = driver.core.poll(driver.now_ms)
    assert out.close == [connection]
    assert isinstance(call.error, ProtocolError)


def test_large_values_and_many_of_them_go_through_in_bounded_frames() -> None:
    cluster = ModelCluster(groups=1)
    driver = Driver(cluster, settings=SessionSettings(link_bytes_max=1 << 20))
    ref = spread_map("m")
    keys = [encode_key(at) for at in range(12)]
    calls = [driver.command(ref, Op.PUT, [key], encode_value(b"x" * 900_000), key=key) for key in keys]
    driver.wait(*calls)
    group = driver.core.groups[GroupId(1)]
    assert group.link is not None and group.link.inflight_bytes == 0


def test_large_values_for_several_groups_of_one_node_go_through_in_bounded_frames() -> None:
    driver = Driver(ModelCluster(nodes=1, groups=4))
    ref = spread_map("m")
    keys = [encode_key(at) for at in range(16)]
    driver.wait(*[driver.command(ref, Op.PUT, [key], encode_value(0), key=key) for key in keys])
    large = encode_value(b"x" * 200_000)
    calls = [driver.command(ref, Op.PUT, [key], large, key=key) for key in keys]
    driver.wait(*calls)
    assert len({call.group for call in calls}) == 4


def test_a_newer_map_is_fetched_and_calls_not_yet_sent_go_where_their_slot_went() -> None:
    cluster = ModelCluster(groups=2)
    driver = Driver(cluster, settings=SessionSettings(window=1))
    ref = next(ref for ref in map(counter, "abcdefgh") if _lives_in(driver, ref, 1))
    cluster.lead(1, 0)
    sent, unsent, query = (
        driver.command(ref, ADD, [1]), driver.command(ref, ADD, [1]), driver.query(ref, GET, []),
    )  # fmt: skip
    driver.pass_ms(50)
    assert sent.sends and not unsent.sends
    leader = cluster.groups[GroupId(2)].leader
    cluster.groups[GroupId(2)] = ModelGroup(GroupId(2), list(range(SLOTS)), [1, 2, 3])
    cluster.groups[GroupId(2)].leader = leader
    old = cluster.map
    cluster.map = ShardMap(
        2, old.cluster_id, old.salt, old.nodes, old.groups, [2] * SLOTS, old.epochs
    )
    driver.run(lambda: sent.done and unsent.done and query.done)
    assert isinstance(sent.error, SessionLost)  # What became of it, only the former owner knows.
    assert unsent.error is None and query.error is None
    assert number(driver, ref) == 1


def _lives_in(driver: Driver, ref: Reference, group: int) -> bool:
    driver.wait(driver.command(ref, ADD, [1]))
    return home(driver, ref) == group
