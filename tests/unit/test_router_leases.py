"""Leases of the session core, against a model cluster: judged by the client's own clock, kept while something
is held, let go after."""

from __future__ import annotations

import struct

import pytest
from router_driver import Driver, counter, home, lock, number
from router_model import ModelCluster, RandomFaults

from primitives.counter import ADD
from primitives.errors import Code, InvariantViolation, SessionLost
from primitives.handle import LeaseState
from primitives.ids import GroupId
from primitives.lock import ACQUIRE, RELEASE, TRY_ACQUIRE
from router.frames import HEADER_BYTES, decode_control
from router.session_groups import Standing
from router.session_keepalives import Keepalives
from router.session_leases import LeaseClock
from router.session_settings import SessionSettings

_NUMBER = struct.Struct(">q")
_U64 = struct.Struct(">Q")


def test_keepalives_keep_what_is_held() -> None:
    cluster = ModelCluster()
    driver = Driver(cluster, settings=SessionSettings(timeout_ms=1000))
    ref = lock("l")
    driver.wait(driver.command(ref, ACQUIRE, [], late=True))
    driver.pass_ms(10_000)
    lease = driver.core.lease(home(driver, ref))
    assert lease is not None and lease.state(driver.now_ms) == LeaseState.CONNECTED
    assert driver.core.state(driver.now_ms) == LeaseState.CONNECTED
    assert not driver.lost


def test_a_lease_is_suspended_then_lost_by_the_clients_own_clock_before_the_group_ends_it() -> None:
    cluster = ModelCluster()
    driver = Driver(cluster, settings=SessionSettings(timeout_ms=1000))
    ref = lock("l")
    driver.wait(driver.command(ref, ACQUIRE, [], late=True))
    lease = driver.core.lease(home(driver, ref))
    assert lease is not None
    waiting = driver.command(ref, ACQUIRE, [], late=True)
    driver.pass_ms(50)
    driver.unreachable = {1, 2, 3}
    driver.cut()
    driver.run(lambda: lease.state(driver.now_ms) == LeaseState.SUSPENDED, 1000)
    assert driver.core.state(driver.now_ms) == LeaseState.SUSPENDED
    driver.run(lambda: bool(driver.lost), 1000)
    applier = cluster.groups[home(driver, ref)].applier
    assert applier.session(lease.number) is not None
    assert isinstance(waiting.error, SessionLost)
    assert driver.core.state(driver.now_ms) in (LeaseState.LOST, LeaseState.SUSPENDED)
    driver.unreachable = set()
    again = driver.command(ref, ACQUIRE, [], late=True)
    driver.wait(again)
    assert again.number != lease.number
    assert lease.state(driver.now_ms) == LeaseState.LOST


def test_a_lost_lease_stays_lost_whatever_is_confirmed_later() -> None:
    settings = SessionSettings(timeout_ms=1000)
    lease = LeaseClock(settings, group=1, number=7, sent_ms=0)
    lease.confirm(500, 400)
    assert lease.deadline_ms == 400 + settings.lease_ms
    lost_ms = lease.deadline_ms
    lease.confirm(lost_ms, lost_ms - 1)
    assert not lease.judge(lost_ms)
    lease.confirm(lost_ms + 1, lost_ms)
    assert lease.state(lost_ms + 1) == LeaseState.LOST
    assert lease.remaining_ms(lost_ms + 1) == 0


def test_a_process_that_was_stopped_finds_its_lease_lost_before_it_believes_a_grant() -> None:
    driver = Driver(ModelCluster(), settings=SessionSettings(timeout_ms=1000))
    ref = lock("l")
    call = driver.command(ref, ACQUIRE, [], late=True)
    driver.run(lambda: call.sends > 0)
    driver.now_ms += 5000  # Stopped: the answer is in the socket, keepalives were not sent.
    driver.cluster.now_ms = driver.now_ms
    driver.run(lambda: call.done)
    assert isinstance(call.error, SessionLost)


def test_commands_sent_before_an_outage_longer_than_the_lease_are_settled_by_the_group() -> None:
    cluster = ModelCluster(groups=1)
    driver = Driver(cluster, settings=SessionSettings(timeout_ms=1000))
    ref = counter("c")
    driver.wait(driver.command(ref, ADD, [1]))
    cluster.fault = RandomFaults(1, 1.0, ("lost_after",))
    sent = [driver.command(ref, ADD, [1]) for _ in range(3)]
    driver.run(lambda: cluster.groups[GroupId(1)].applied > 4)
    cluster.lead(1, 0)  # No leader: nobody ends the session meanwhile.
    fresh = driver.command(ref, ADD, [1])
    driver.pass_ms(5000)
    assert driver.lost
    cluster.fault = lambda: None
    cluster.lead(1, 2)
    driver.wait(*sent, fresh)
    assert number(driver, ref) == 5


def test_an_expired_session_is_made_anew_for_calls_that_surely_took_no_effect() -> None:
    cluster = ModelCluster(groups=1)
    driver = Driver(cluster, settings=SessionSettings(timeout_ms=1000))
    ref = counter("c")
    driver.wait(driver.command(ref, ADD, [1]))
    first = driver.core.groups[GroupId(1)].number
    cluster.now_ms += 3000  # The group's clock ran ahead.
    cluster.tick()
    calls = [driver.command(ref, ADD, [1]) for _ in range(10)]
    answers = driver.wait(*calls)
    assert [_NUMBER.unpack(a.result)[0] for a in answers if a] == list(range(2, 12))
    assert driver.core.groups[GroupId(1)].number != first


def test_a_lease_is_let_go_after_a_while_without_use_and_made_anew_when_needed() -> None:
    cluster = ModelCluster(groups=1)
    driver = Driver(cluster, settings=SessionSettings(timeout_ms=1000, idle_ms=3000))
    ref = counter("c")
    driver.wait(driver.command(ref, ADD, [1]))
    driver.pass_ms(5000)
    applier = cluster.groups[GroupId(1)].applier
    assert not applier.sessions
    assert driver.core.groups[GroupId(1)].standing is Standing.NONE
    driver.wait(driver.command(ref, ADD, [1]))
    assert number(driver, ref) == 2
    assert not driver.lost


def test_a_lease_is_kept_while_something_is_held_and_let_go_a_while_after() -> None:
    cluster = ModelCluster(groups=1)
    driver = Driver(cluster, settings=SessionSettings(timeout_ms=1000, idle_ms=2000))
    group, ref = GroupId(1), lock("l")
    for _ in range(2):
        (answer,) = driver.wait(driver.command(ref, TRY_ACQUIRE, [], late=True))
        assert answer is not None and answer.code == Code.OK
        lease = driver.core.lease(group)
        assert lease is not None
        lease.hold()
        driver.pass_ms(8000)
        assert driver.core.groups[group].standing is Standing.READY
        assert driver.core.lease(group) is lease and not lease.is_lost
        driver.wait(driver.command(ref, RELEASE, [_U64.unpack(answer.result)[0]]))
        lease.let_go()
        driver.pass_ms(1500)
        assert driver.core.groups[group].standing is Standing.READY, "for a while"
        driver.pass_ms(1500)
        assert driver.core.groups[group].standing is Standing.NONE
        assert not cluster.groups[group].applier.sessions, "the group was told"
        assert not driver.lost, "nobody lost anything"


def test_a_lease_that_two_hold_is_kept_until_both_let_go() -> None:
    driver = Driver(ModelCluster(groups=1), settings=SessionSettings(timeout_ms=1000, idle_ms=2000))
    driver.wait(driver.command(counter("c"), ADD, [1]))
    lease = driver.core.lease(GroupId(1))
    assert lease is not None
    lease.hold()
    lease.hold()
    lease.let_go()
    driver.pass_ms(4000)
    assert not lease.is_lost
    lease.let_go()
    driver.pass_ms(4000)
    assert lease.is_lost
    with pytest.raises(InvariantViolation):
        lease.let_go()


def test_leaving_ends_the_session_in_every_group() -> None:
    cluster = ModelCluster(groups=4)
    driver = Driver(cluster)
    driver.wait(*[driver.command(counter(name), ADD, [1]) for name in "abcdefgh"])
    driver.core.let_go(driver.now_ms)
    driver.run(lambda: driver.core.let_go(driver.now_ms), 1000)
    assert not any(group.applier.sessions for group in cluster.groups.values())


def test_each_answer_to_a_keepalive_confirms_what_it_names() -> None:
    driver = Driver(ModelCluster(), settings=SessionSettings(timeout_ms=1000, idle_ms=60_000))
    driver.unreachable = {2, 3}
    driver.wait(*[driver.command(counter(name), ADD, [1]) for name in "abcdefgh"])
    core, sent = driver.core, driver.now_ms
    settings, groups = core.settings, dict(core.groups)
    assert len(groups) > 1 and all(group.link is not None for group in groups.values())
    keepalives = Keepalives(core.session_id, settings)
    for group in groups.values():
        group.keepalive_ms = sent
    frames = list(keepalives.due(sent, groups))
    assert len(frames) == 1, "one frame for the one node in reach"
    [number, _, asked], _ = decode_control(frames[0][1][HEADER_BYTES:])
    assert [group for group, _ in asked] == list(groups)
    for at, (group, session) in enumerate(asked):
        keepalives.replied(sent + 10, [number, [[group, session, 1]], []], groups, {})
        confirmed = [groups[GroupId(other)].lease.confirmed_ms == sent for other, _ in asked]
        assert confirmed == [other <= at for other in range(len(asked))]
