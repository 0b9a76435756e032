"""Timers fire in order, by commands; the end of a session is told to machines in slices."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from probe import Op, Probe, code_of, events, probed
from support_machine import SLOT, Drive, Who

from primitives.applier import ROWS_A_FIRE_MAX, ApplierLimits
from primitives.errors import Code
from primitives.history import AGE_SLACK_MS, TRIM_EVENTS, HistoryLimits
from primitives.ids import PrimitiveId
from primitives.machine import Context
from primitives.records import Fire, encode_fire

PROBE = Probe.TYPE


class Slow(Probe):
    """Takes three calls to end a session, and gives its holding back in the first."""

    slices = 3

    def session_ended(self, ctx: Context, session: int) -> bool:
        ctx.unhold(session)
        return super().session_ended(ctx, session)


def _arm(group: Drive, who: Who, probe: PrimitiveId, deadline_ms: int, payload: bytes) -> bytes:
    answer = group.command(who, probe, Op.ARM, [deadline_ms, payload], type=PROBE)
    assert answer is not None
    assert answer.code == Code.OK
    return answer.result


@pytest.mark.parametrize("reload", [False, True])
def test_due_timers_fire_in_order_of_deadline_and_creation(reload: bool) -> None:
    group, who, probe = probed()
    start = group.now_ms
    for deadline_ms, payload in ((50, b"e"), (30, b"b"), (10, b"a"), (30, b"c"), (40, b"d"), (90, b"f")):
        _arm(group, who, probe, start + deadline_ms, payload)
        if reload:
            group.reload()
    assert group.applier.next_deadline_ms == start + 10
    group.wait(60)
    assert group.applier.next_deadline_ms == 0
    assert [group.fire(2), group.fire(2), group.fire(2), group.fire(2)] == [2, 2, 1, 0]
    assert events(group, probe) == [b"a", b"b", b"c", b"d", b"e"]
    assert group.applier.next_deadline_ms == start + 90


def test_a_timer_fires_at_its_deadline_and_not_before() -> None:
    group, who, probe = probed()
    _arm(group, who, probe, group.now_ms + 100, b"x")
    group.wait(99)
    assert group.fire() == 0
    group.wait(1)
    assert group.fire() == 1


def test_what_is_due_is_not_seen_as_fired_until_a_command_fires_it() -> None:
    group, who, probe = probed()
    _arm(group, who, probe, group.now_ms + 100, b"x")
    group.wait(1000)
    assert events(group, probe) == []
    group.fire()
    assert events(group, probe) == [b"x"]


def test_a_timer_armed_by_a_timer_waits_for_the_next_command() -> None:
    group, who, probe = probed()
    _arm(group, who, probe, 0, b"again")
    assert group.applier.next_deadline_ms == 0
    assert group.fire() == 1
    assert events(group, probe) == [b"again"]
    assert group.fire() == 1
    assert events(group, probe) == [b"again", b"second"]
    assert group.applier.next_deadline_ms is None


def test_slices_take_turns_with_timers_that_were_due_before() -> None:
    group, who, probe = probed()
    _arm(group, who, probe, group.now_ms + 10, b"x")
    group.wait(20)
    _arm(group, who, probe, 0, b"again")
    for expected in ([b"x"], [b"x", b"again"], [b"x", b"again", b"second"]):
        assert group.fire(1) == 1
        assert events(group, probe) == expected


def test_a_disarmed_timer_does_not_fire_even_if_an_earlier_one_of_the_command_disarms_it() -> None:
    group, who, probe = probed()
    gone = _arm(group, who, probe, group.now_ms + 10, b"gone")
    later = _arm(group, who, probe, group.now_ms + 20, b"later")
    _arm(group, who, probe, group.now_ms + 15, b"disarm" + later)
    assert code_of(group, who, probe, Op.DISARM, [gone]) == Code.OK
    assert code_of(group, who, probe, Op.DISARM, [gone]) == Code.OK
    assert code_of(group, who, probe, Op.DISARM, [b"short"]) == Code.MACHINE_FAILED
    group.wait(100)
    assert group.fire() == 1
    assert events(group, probe) == [b"disarm" + later]


def test_a_timer_that_raises_is_undone_and_gone_and_the_others_go_on() -> None:
    group, who, probe = probed()
    for payload in (b"raise", b"good"):
        _arm(group, who, probe, 0, payload)
    assert group.fire() == 2
    assert events(group, probe) == [b"good"]
    assert group.applier.next_deadline_ms is None


def test_grants_of_one_firing_have_revisions_of_their_own() -> None:
    group, who, probe = probed()
    for _ in range(3):
        group.command(who, probe, Op.WAIT, type=PROBE, acknowledged=0)
    for _ in range(3):
        _arm(group, who, probe, 0, b"wake")
    group.fire()
    revisions = [answer.revision for answer in group.late.values()]
    assert revisions == sorted(set(revisions))
    assert len(revisions) == 3
    assert revisions[-1] == group.applier.revision


def test_an_early_timer_made_after_later_ones_fired_still_fires() -> None:
    group, who, probe = probed()
    _arm(group, who, probe, group.now_ms + 10, b"first")
    group.wait(50)
    group.fire()
    _arm(group, who, probe, 1, b"past")
    assert group.applier.next_deadline_ms == 0
    group.fire()
    assert events(group, probe) == [b"first", b"past"]


def test_a_failed_command_does_not_show_in_the_next_deadline() -> None:
    group, who, probe = probed()
    for armed in (None, group.now_ms + 50):
        if armed is not None:
            _arm(group, who, probe, armed, b"x")
        assert group.applier.next_deadline_ms == armed
        assert code_of(group, who, probe, Op.RAISE, [1, "value"]) == Code.MACHINE_FAILED
        assert group.applier.next_deadline_ms == armed


# -- the end of a session ------------------------------------------------------------------------------------


def test_an_ended_sessions_holdings_are_told_to_their_machine_by_a_later_command() -> None:
    group, who, probe = probed()
    code_of(group, who, probe, Op.HOLD, [2])
    group.expire(who)
    assert events(group, probe) == []
    assert group.query(probe, Op.ALIVE, [who.number], type=PROBE).result == b"no"
    group.settle()
    assert events(group, probe) == [b"ended"]


@pytest.mark.parametrize("reload", [False, True])
def test_a_machine_is_told_again_until_it_is_done(reload: bool) -> None:
    group, who, probe = probed(Slow())
    code_of(group, who, probe, Op.HOLD, [1])
    group.end(who)
    for told in (1, 2, 3):
        assert group.applier.next_deadline_ms == 0
        if reload:
            group.reload()
        group.fire()
        assert events(group, probe) == [b"ended"] * told
    group.settle()
    assert events(group, probe) == [b"ended"] * 3


def test_restarts_in_the_midst_of_a_sessions_end_do_not_bring_it_back() -> None:
    group, who, probe = probed(limits=ApplierLimits(rows_a_command_max=20))
    for _ in range(40):
        group.command(who, probe, Op.PUT, [b"k", b"v"], type=PROBE, acknowledged=0)
    group.end(who)
    left = 0
    while group.applier.next_deadline_ms == 0:
        group.reload()
        group.fire(1)
        assert group.applier.sessions == []
        left += 1
    assert left > 2
    answer = group.register(who.session_id)
    assert answer.code == Code.SESSION_LOST


def test_a_session_without_holdings_is_told_to_no_machine() -> None:
    group, who, probe = probed()
    code_of(group, who, probe, Op.PUT, [b"k", b"v"])
    group.end(who)
    group.settle()
    assert events(group, probe) == []


def test_nothing_of_an_ended_session_stays_but_its_count_for_a_while() -> None:
    group = Drive({PROBE: Probe()}, slots=(1, 2))
    owner = group.session("owner")
    probes = {slot: group.create(owner, "probe", PROBE, slot=slot) for slot in (1, 2)}
    for slot, probe in probes.items():  # The history's sums stay, once there are any.
        group.command(owner, probe, Op.EMIT, [b"k", False], type=PROBE, slot=slot)
    before = group.state().keys()
    who = group.session()
    for slot, probe in probes.items():
        for op in (Op.PUT, Op.WAIT, Op.HOLD):
            args: list[Any] = [b"opened", b"x"] if op == Op.PUT else [1]
            group.command(who, probe, op, args, type=PROBE, slot=slot, acknowledged=0)
    group.flush()
    group.end(who)
    group.settle()
    group.wait(10**9)
    group.settle()
    left = [key for key in group.state() if key not in before and key[2:4] == b"\xff\xff"]
    assert left == []


def test_the_rows_of_an_ended_session_go_in_slices() -> None:
    group, who, probe = probed(limits=ApplierLimits(rows_a_command_max=20))
    for _ in range(100):
        group.command(who, probe, Op.RESULT, ["long"], type=PROBE, acknowledged=0)
    full = len(group.state())
    group.end(who)
    sizes = [len(group.state())]
    while group.applier.next_deadline_ms == 0:
        group.fire(1)
        sizes.append(len(group.state()))
    assert all(before - after <= 25 for before, after in pairwise(sizes))
    assert sizes[-1] <= full - 100


def test_many_holdings_are_told_in_slices() -> None:
    group = Drive({PROBE: Probe()}, limits=ApplierLimits(rows_a_command_max=100))
    who = group.session()
    probes = [group.create(who, f"probe{at}", PROBE) for at in range(50)]
    for probe in probes:
        code_of(group, who, probe, Op.HOLD, [1])
    group.end(who)
    told: list[int] = []
    while group.applier.next_deadline_ms == 0:
        group.fire(1)
        told.append(sum(len(events(group, probe)) for probe in probes))
    assert told[-1] == 50
    assert told[0] <= 10
    assert all(after - before <= 10 for before, after in pairwise(told))


def test_who_waited_is_not_answered_once_its_session_ended() -> None:
    group, who, probe = probed()
    group.command(who, probe, Op.WAIT, type=PROBE)
    group.expire(who)
    group.command(group.session("other"), probe, Op.WAKE, [1], type=PROBE)
    group.settle()
    assert group.late == {}


def test_flushing_does_not_show_in_the_rows_of_an_ending_session() -> None:
    states = []
    for flushing in (False, True):
        group, who, probe = probed(limits=ApplierLimits(rows_a_command_max=20))
        for _ in range(30):
            group.command(who, probe, Op.PUT, [b"k", b"v"], type=PROBE, acknowledged=0)
            if flushing:
                group.flush()
        group.end(who)
        group.fire(1)
        states.append(group.state())
    assert states[0] == states[1]


def test_a_firing_of_nothing_is_answered() -> None:
    group, _, _ = probed()
    answer = group.one(encode_fire(Fire(5)))
    assert answer == (Code.OK, group.applier.revision, bytes(4))


def test_slices_that_are_due_together_are_spread_over_commands() -> None:
    """However many histories have grown old at once, one command drops a bounded number of rows."""
    history = HistoryLimits(age_ms=1000)
    group = Drive({PROBE: Probe()}, limits=ApplierLimits(history=history))
    owner = group.session("owner")
    probes = [group.create(owner, f"probe{at}", PROBE) for at in range(20)]
    for probe in probes:
        for _ in range(TRIM_EVENTS):
            group.command(owner, probe, Op.EMIT, [b"k", False], type=PROBE)
    group.wait(history.age_ms + AGE_SLACK_MS)
    fires = []
    while group.applier.next_deadline_ms == 0:
        fires.append(group.fire(100))
    assert len(fires) >= 20 * TRIM_EVENTS // (ROWS_A_FIRE_MAX + TRIM_EVENTS)
    assert fires[0] <= ROWS_A_FIRE_MAX // TRIM_EVENTS + 2
    for probe in probes:
        kept = group.applier.history(SLOT, probe, 0)
        assert kept is not None
        assert kept.count == 0
