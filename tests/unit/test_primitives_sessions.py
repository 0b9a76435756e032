"""Sessions in apply: who has one, that each command takes effect once, what is stored and for how long."""

from __future__ import annotations

from typing import Any

import pytest
from probe import Op, Probe, probed
from support_machine import SLOT, Drive, Who

from primitives.applier import ApplierLimits
from primitives.errors import Code
from primitives.ids import GROUP_SLOT, PrimitiveId
from primitives.layout import HostTable, host_prefix
from primitives.limits import SESSION_TIMEOUT_MS_MAX, SESSION_TIMEOUT_MS_MIN
from primitives.records import Answer, Expire, Register, encode_expire, encode_register
from primitives.sessions import SESSION_FORMER_KEPT_MS

PROBE = Probe.TYPE


def _put(group: Drive, who: Who, probe: PrimitiveId, key: bytes, value: bytes, **rest: Any) -> Answer | None:
    return group.command(who, probe, Op.PUT, [key, value], type=PROBE, **rest)


def _get(group: Drive, probe: PrimitiveId, key: bytes) -> bytes | None:
    answer = group.query(probe, Op.GET, [key], type=PROBE)
    return answer.result if answer.code == Code.OK else None


def test_a_sessions_number_is_the_revision_of_its_registration() -> None:
    group = Drive({})
    answer = group.register(b"a" * 16)
    assert answer == (Code.OK, group.applier.revision, b"")
    assert group.applier.session(answer.revision) == (answer.revision, b"a" * 16, 10_000)


def test_an_equal_count_finds_the_session_a_higher_one_ends_it_a_lower_one_is_refused() -> None:
    group = Drive({})
    first = group.register(b"a" * 16, count=2)
    assert group.register(b"a" * 16, count=2) == first
    assert group.register(b"a" * 16, count=1).code == Code.REGISTRATION_OLD
    second = group.register(b"a" * 16, count=3)
    assert second.code == Code.OK
    assert second.revision > first.revision
    assert group.ended == [first.revision]
    assert [info.number for info in group.applier.sessions] == [second.revision]


@pytest.mark.parametrize("reload", [False, True])
def test_a_repeated_registration_does_not_bring_an_ended_session_back(reload: bool) -> None:
    group = Drive({})
    who = group.session(count=2)
    group.expire(who)
    if reload:
        group.reload()
    assert group.register(who.session_id, count=2).code == Code.SESSION_LOST
    assert group.register(who.session_id, count=1).code == Code.REGISTRATION_OLD
    assert group.applier.sessions == []
    assert group.register(who.session_id, count=3).code == Code.OK


def test_the_count_of_an_ended_session_is_forgotten_after_a_while() -> None:
    group = Drive({})
    who = group.session()
    empty = len(group.state())
    group.end(who)
    group.wait(SESSION_FORMER_KEPT_MS - 1)
    group.settle()
    assert group.register(who.session_id, count=1).code == Code.SESSION_LOST
    group.wait(1)
    group.settle()
    assert group.register(who.session_id, count=1).code == Code.OK
    assert len(group.state()) == empty


def test_the_count_of_a_later_end_is_not_forgotten_by_an_earlier_timer() -> None:
    group = Drive({})
    group.end(group.session(count=1))
    group.wait(SESSION_FORMER_KEPT_MS // 2)
    group.end(group.session(count=2))
    group.wait(SESSION_FORMER_KEPT_MS // 2)
    group.settle()
    assert group.register(b"client..........", count=2).code == Code.SESSION_LOST


def test_at_the_cap_registrations_are_refused_and_nobody_is_evicted() -> None:
    group = Drive({}, limits=ApplierLimits(sessions_max=2))
    numbers = [group.session(name).number for name in ("one", "two")]
    assert group.register(b"three".ljust(16)).code == Code.OVERLOADED
    assert group.register(b"one".ljust(16, b".")).revision == numbers[0]
    assert [info.number for info in group.applier.sessions] == numbers
    assert group.register(b"one".ljust(16, b"."), count=2).code == Code.OK


@pytest.mark.parametrize("timeout_ms", [0, SESSION_TIMEOUT_MS_MIN - 1, SESSION_TIMEOUT_MS_MAX + 1])
def test_a_timeout_out_of_range_is_refused(timeout_ms: int) -> None:
    group = Drive({})
    assert group.register(b"a" * 16, timeout_ms=timeout_ms).code == Code.BAD_REQUEST
    assert group.applier.sessions == []


def test_an_unknown_pair_of_id_and_number_is_lost() -> None:
    group, who, probe = probed()
    for other in (Who(who.session_id, who.number + 1), Who(b"b" * 16, who.number)):
        answer = _put(group, other, probe, b"k", b"v")
        assert answer is not None
        assert answer.code == Code.SESSION_LOST
        assert group.end(other) is not None
        assert group.last.ended == []
    assert group.applier.session(who.number) is not None


@pytest.mark.parametrize("reload", [False, True])
def test_a_retry_gets_the_stored_answer_and_takes_no_effect(reload: bool) -> None:
    group, who, probe = probed()
    record = group.record(who, probe, Op.PUT, [b"k", b"1"], type=PROBE)
    answer = group.one(record)
    _put(group, who, probe, b"k", b"2", acknowledged=0)
    if reload:
        group.reload()
    assert group.one(record) == answer
    assert _get(group, probe, b"k") == b"2"


def test_a_retry_within_one_entry_gets_the_stored_answer() -> None:
    group, who, probe = probed()
    record = group.record(who, probe, Op.PUT, [b"k", b"1"], type=PROBE)
    first, second = group.entry(record, record)
    assert first == second


def test_a_command_out_of_order_changes_nothing() -> None:
    group, who, probe = probed()
    other = group.session("other")
    meta = host_prefix(GROUP_SLOT, HostTable.META)
    before = group.state()
    for asker, sequence in ((who, 3), (other, 2), (other, 0)):
        answer = _put(group, asker, probe, b"k", b"v", sequence=sequence)
        assert answer is not None
        assert answer.code == Code.OUT_OF_ORDER
    after = group.state()
    assert before.pop(meta) != after.pop(meta)
    assert before == after


def test_numbers_are_counted_for_each_slot() -> None:
    group = Drive({PROBE: Probe()}, slots=(1, 2))
    who = group.session()
    one, two = (group.create(who, "probe", PROBE, slot=slot) for slot in (1, 2))
    assert who.sequences == {1: 1, 2: 1}
    for slot, probe in ((1, one), (2, two), (2, two)):
        answer = _put(group, who, probe, b"k", b"v", slot=slot)
        assert answer is not None
        assert answer.code == Code.OK


def test_an_acknowledged_answer_is_dropped_and_a_retry_is_told_so() -> None:
    group, who, probe = probed()
    record = group.record(who, probe, Op.PUT, [b"k", b"1"], type=PROBE)
    group.one(record)
    _put(group, who, probe, b"k", b"2", acknowledged=2)
    answer = group.one(record)
    assert answer is not None
    assert answer.code == Code.FORGOTTEN
    assert _get(group, probe, b"k") == b"2"


@pytest.mark.parametrize("reload", [False, True])
def test_exceptions_keep_answers_below_the_floor_until_they_are_acknowledged(reload: bool) -> None:
    group, who, probe = probed()
    kept = group.record(who, probe, Op.PUT, [b"k", b"1"], type=PROBE, acknowledged=0)
    answer = group.one(kept)
    for at in range(3, 6):
        _put(group, who, probe, b"k", b"x", acknowledged=at - 1, exceptions=(2,))
        if reload:
            group.reload()
        assert group.one(kept) == answer
    _put(group, who, probe, b"k", b"x", acknowledged=5)
    assert group.one(kept) == (Code.FORGOTTEN, group.applier.revision, b"")


def test_an_old_acknowledgement_in_a_later_command_brings_nothing_back_and_drops_nothing_more() -> None:
    group, who, probe = probed()
    second = group.record(who, probe, Op.PUT, [b"k", b"2"], type=PROBE, acknowledged=1)
    answer = group.one(second)
    _put(group, who, probe, b"k", b"3", acknowledged=2, exceptions=(2,))
    _put(group, who, probe, b"k", b"4", acknowledged=1)
    assert group.one(second) == answer


def test_at_the_cap_commands_are_refused_without_taking_the_number_and_nothing_is_evicted() -> None:
    group, who, probe = probed(limits=ApplierLimits(answers_stored_max=3))
    records = [group.record(who, probe, Op.PUT, [b"k", b"%d" % at], type=PROBE, acknowledged=0)
               for at in range(2)]  # fmt: skip
    answers = group.entry(*records)
    full = group.record(who, probe, Op.PUT, [b"k", b"9"], type=PROBE, acknowledged=0)
    for _ in range(2):
        refused = group.one(full)
        assert refused is not None
        assert refused.code == Code.ANSWERS_FULL
    assert group.entry(*records) == answers
    assert _get(group, probe, b"k") == b"1"
    again = group.command(who, probe, Op.PUT, [b"k", b"9"], type=PROBE, sequence=4, acknowledged=1)
    assert again is not None
    assert again.code == Code.OK


def test_at_the_cap_the_acknowledgements_of_a_refused_command_count() -> None:
    group, who, probe = probed(limits=ApplierLimits(answers_stored_max=2))
    _put(group, who, probe, b"k", b"1", acknowledged=0)
    _put(group, who, probe, b"k", b"2", acknowledged=0, sequence=3)
    answer = _put(group, who, probe, b"k", b"2", acknowledged=2, sequence=3)
    assert answer is not None
    assert answer.code == Code.OK


def test_waiting_commands_do_not_count_towards_the_cap() -> None:
    group, who, probe = probed(limits=ApplierLimits(answers_stored_max=2))
    for _ in range(10):
        assert group.command(who, probe, Op.WAIT, type=PROBE, acknowledged=1) is None


@pytest.mark.parametrize("reload", [False, True])
def test_a_late_answer_is_stored_under_the_commands_number_with_the_grants_revision(reload: bool) -> None:
    group, who, probe = probed()
    wait = group.record(who, probe, Op.WAIT, type=PROBE)
    assert group.one(wait) is None
    assert group.one(wait) is None
    if reload:
        group.reload()
    other = group.session("other")
    waker = group.command(other, probe, Op.WAKE, [1], type=PROBE)
    assert waker is not None
    assert group.late == {(who.number, SLOT, 2): (Code.OK, waker.revision, b"woken")}
    if reload:
        group.reload()
    assert group.one(wait) == (Code.OK, waker.revision, b"woken")


def test_a_late_answer_below_the_floor_stays_until_it_is_acknowledged() -> None:
    group, who, probe = probed()
    wait = group.record(who, probe, Op.WAIT, type=PROBE)
    group.one(wait)
    _put(group, who, probe, b"k", b"1", acknowledged=2, exceptions=(2,))
    group.command(who, probe, Op.WAKE, [1], type=PROBE, acknowledged=3, exceptions=(2,))
    _put(group, who, probe, b"k", b"2", acknowledged=4, exceptions=(2,))
    answer = group.one(wait)
    assert answer is not None
    assert answer.result == b"woken"
    _put(group, who, probe, b"k", b"3", acknowledged=5)
    forgotten = group.one(wait)
    assert forgotten is not None
    assert forgotten.code == Code.FORGOTTEN


def test_what_waits_is_kept_even_if_it_is_acknowledged_by_mistake() -> None:
    group, who, probe = probed()
    wait = group.record(who, probe, Op.WAIT, type=PROBE)
    group.one(wait)
    _put(group, who, probe, b"k", b"1", acknowledged=2)
    assert group.one(wait) is None


def test_a_no_op_takes_a_number_that_never_arrived_and_the_command_comes_too_late() -> None:
    group, who, probe = probed()
    record = group.record(who, probe, Op.PUT, [b"k", b"1"], type=PROBE)
    answer = group.noop(who, 2)
    assert answer is not None
    assert answer.code == Code.OK
    assert group.one(record) == answer
    assert _get(group, probe, b"k") is None


def test_a_no_op_of_a_command_that_arrived_gets_its_answer() -> None:
    group, who, probe = probed()
    answer = _put(group, who, probe, b"k", b"1")
    assert group.noop(who, 2) == answer


def test_withdraw_removes_the_waiter_and_its_answer_says_so() -> None:
    group, who, probe = probed()
    wait = group.record(who, probe, Op.WAIT, type=PROBE)
    group.one(wait)
    answer = group.withdraw(who, 2)
    assert answer is not None
    assert answer.code == Code.OK
    assert group.late[who.number, SLOT, 2].code == Code.WITHDRAWN
    group.command(who, probe, Op.WAKE, [1], type=PROBE, acknowledged=1)
    assert len(group.late) == 1
    assert group.one(wait) == group.late[who.number, SLOT, 2]


@pytest.mark.parametrize("reload", [False, True])
def test_withdraw_gives_back_a_grant_that_came_first_and_only_once(reload: bool) -> None:
    group, who, probe = probed()
    group.command(who, probe, Op.WAIT, type=PROBE)
    group.command(group.session("other"), probe, Op.WAKE, [1], type=PROBE)
    if reload:
        group.reload()
    for _ in range(2):
        answer = group.withdraw(who, 2)
        assert answer is not None
        assert answer.code == Code.OK
    assert group.query(probe, Op.EVENTS, type=PROBE).result == b"back:woken"


@pytest.mark.parametrize(
    ("number", "code"),
    [(0, Code.BAD_REQUEST), (-1, Code.BAD_REQUEST), (9, Code.BAD_REQUEST), (1, Code.FORGOTTEN)],
)
def test_withdraw_of_what_is_not_there_is_refused(number: int, code: int) -> None:
    group, who, probe = probed()
    _put(group, who, probe, b"k", b"v")
    answer = group.withdraw(who, number, acknowledged=2)
    assert answer is not None
    assert answer.code == code


def test_an_end_is_repeatable_and_ends_once() -> None:
    group, who, _ = probed()
    first, second = group.end(who), group.expire(who)
    assert first is not None
    assert second is not None
    assert (first.code, second.code) == (Code.OK, Code.SESSION_LOST)
    assert group.ended == [who.number]


def test_an_expiry_of_another_number_ends_nothing() -> None:
    group, who, _ = probed()
    group.one(encode_expire(Expire(who.session_id, who.number + 1)))
    assert group.ended == []


def test_within_the_entry_that_ends_a_session_it_is_void_for_all_that_follows() -> None:
    group, who, probe = probed()
    other = group.session("other")
    ended, lost = group.entry(
        encode_expire(Expire(who.session_id, who.number)),
        group.record(who, probe, Op.PUT, [b"k", b"v"], type=PROBE),
    )
    assert ended is not None
    assert lost is not None
    assert lost.code == Code.SESSION_LOST
    assert group.query(probe, Op.ALIVE, [who.number], type=PROBE).result == b"no"
    assert group.query(probe, Op.ALIVE, [other.number], type=PROBE).result == b"yes"


def test_a_registration_in_the_same_entry_as_its_successor_leaves_one_session() -> None:
    group = Drive({})
    records = [encode_register(Register(b"a" * 16, count, 1000)) for count in (1, 2, 1)]
    first, second, third = group.entry(*records)
    assert first is not None
    assert second is not None
    assert third is not None
    assert third.code == Code.REGISTRATION_OLD
    assert [info.number for info in group.applier.sessions] == [second.revision]
    assert group.ended == [first.revision]


def test_sessions_numbers_and_answers_survive_a_reload() -> None:
    group, who, probe = probed()
    record = group.record(who, probe, Op.PUT, [b"k", b"1"], type=PROBE)
    answer = group.one(record)
    before = (group.applier.sessions, group.applier.revision, group.applier.log_time_ms)
    group.reload()
    assert (group.applier.sessions, group.applier.revision, group.applier.log_time_ms) == before
    assert group.one(record) == answer


def test_an_answer_acknowledged_before_the_flush_costs_no_row() -> None:
    group, who, probe = probed()
    rows = len(group.state())
    for at in range(100):
        _put(group, who, probe, b"k", b"%d" % at)
    assert len(group.state()) <= rows + 1
