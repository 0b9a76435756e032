"""Leaderships go back to where they belong after failures, and away before a planned stop."""

from __future__ import annotations

from by_snapshot import GROUP, Engines

from primitives.ids import NodeId
from raftgroup.membership import encode_membership
from raftgroup.types import EntryKind, Membership


def leading(engines: Engines) -> dict[int, int]:
    """By group: the node that leads it."""
    return {
        group: node for node, engine in engines.up.items() for group, driver in engine.groups.items()
        if driver.leads
    }  # fmt: skip


def settled() -> Engines:
    """Every group is led by node 1, which all of them prefer."""
    engines = Engines()
    engines.run(8000)
    assert set(leading(engines).values()) == {1}
    return engines


def test_a_leadership_goes_back_once_the_preferred_node_has_been_up_for_a_while() -> None:
    engines = settled()
    engines.crash(1)
    engines.run(2000)
    engines.write(10)
    assert 1 not in leading(engines).values()
    engines.start(1)
    engines.run(4000)
    assert 1 not in leading(engines).values()
    engines.run(6000)
    assert set(leading(engines).values()) == {1}


def test_at_most_one_leadership_a_second_is_handed_back() -> None:
    engines = settled()
    engines.crash(1)
    engines.run(2000)
    engines.start(1)
    changes: dict[int, list[int]] = {}
    before = leading(engines)
    for _ in range(120):
        engines.run(100)
        after = leading(engines)
        for group, node in after.items():
            if node == 1 and before.get(group) != 1:
                changes.setdefault(before.get(group, 0), []).append(engines.clock.now_ms)
        before = {**before, **after}
    handed = [times for times in changes.values() if len(times) > 1]
    assert sum(map(len, changes.values())) == 2
    assert all(times[1] - times[0] >= 900 for times in handed)


def test_a_group_whose_leadership_does_not_stay_waits_longer_each_time() -> None:
    engines = settled()
    balancer = engines.up[NodeId(1)]._balancer
    pauses = []
    for times in range(1, 9):
        balancer._handed[GROUP] = (0, times)
        pauses.append(balancer._paused_until_ms(GROUP))
    assert pauses[:4] == [20_000, 40_000, 80_000, 160_000]
    assert pauses[-1] == pauses[4] == 320_000


def test_a_node_that_is_about_to_stop_hands_over_all_that_it_leads_within_a_moment() -> None:
    engines = settled()
    engines.up[NodeId(1)].leave()
    assert engines.up[NodeId(1)].is_leaving
    engines.run(200)
    assert not engines.up[NodeId(1)].is_leaving
    assert 1 not in leading(engines).values()
    assert len(leading(engines)) == 2


def test_nobody_is_waited_for_who_could_not_take_over() -> None:
    engines = settled()
    engines.crash(2)
    engines.crash(3)
    engines.run(20)
    engines.up[NodeId(1)].leave()
    assert not engines.up[NodeId(1)].is_leaving
    engines.run(100)


def test_a_replica_that_lacks_much_is_handed_nothing() -> None:
    engines = settled()
    engines.crash(3)
    engines.run(100)
    driver = engines.up[NodeId(1)].groups[GROUP]
    assert not engines.up[NodeId(2)].groups[GROUP].transfer(NodeId(1))
    engines.write(300)
    assert not driver.transfer(NodeId(3))
    assert driver.transfer(NodeId(2))
    engines.run(200)
    assert leading(engines)[GROUP] == 2


def test_a_joint_membership_is_left_by_itself_and_a_learner_catches_up_by_snapshot() -> None:
    engines = settled()
    leader = engines.up[NodeId(1)].groups[GROUP]
    one, two, three = leader.replica.membership.incoming
    engines.crash(3)
    joint = Membership((one, two), (one, two, three), learners_next=(three,))
    assert leader.replica.propose(encode_membership(joint), EntryKind.MEMBERSHIP)
    engines.run(500)
    engines.write(30)
    final = Membership((one, two), learners=(three,))
    assert [engine.groups[GROUP].replica.membership for engine in engines.up.values()] == [final, final]
    engines.crash(2)
    engines.start(2)
    assert engines.up[NodeId(2)].groups[GROUP].replica.membership == final
    engines.start(3)
    engines.run(2000)
    assert engines.up[NodeId(3)].snapshots.installed
    assert engines.up[NodeId(3)].groups[GROUP].replica.membership == final
    assert engines.have_met()
    assert not leader.transfer(NodeId(3))
