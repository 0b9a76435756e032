"""A session whose end somebody asked for: no leader renews it, and it expires a full timeout later."""

from __future__ import annotations

from local_group import Group, Session
from test_group_waiters import NODE, SESSION_ID, Led

from primitives.applier import Applier
from primitives.errors import Code
from primitives.ids import GroupId
from primitives.records import Close, Register, decode_answer, encode_close, encode_entry, encode_register
from primitives.registry import machines
from raftgroup.types import Entry, EntryKind, Index, Term
from shards.leases import LeaderLeases
from shards.reads import Confirm


def test_nothing_renews_a_lease_that_is_to_end_and_asking_again_does_not_put_it_off() -> None:
    leases = LeaderLeases()
    leases.elected(0, [(7, b"s", 1000), (8, b"t", 1000)])
    leases.arrived(400, 7)
    leases.closing(500, 7)
    assert leases.is_expiring(7)
    leases.arrived(900, 7)
    leases.arrived(900, 8)
    assert leases.heard_ms(7) == 500
    assert leases.expired(1499) == []
    assert leases.expired(1500) == [7]


def test_the_mark_is_replicated_state_and_the_session_lives_until_it_expires() -> None:
    group = Group()
    who = Session(group)
    (answer,) = group.apply(encode_close(Close(who.id, who.number)))
    assert answer is not None
    assert decode_answer(answer).code == Code.OK
    assert group.applier.closed == [who.number]
    group.apply(encode_close(Close(who.id, who.number)))
    assert group.applier.closed == [who.number], "again it does nothing"
    group.applier.flush(group.rows)
    again = Applier(GroupId(1), group.rows, machines())
    assert again.closing == [who.number]
    assert again.session(who.number) is not None
    (answer,) = group.apply(encode_register(Register(who.id, 1, 10_000)))
    assert answer is not None
    assert decode_answer(answer).code == Code.SESSION_LOST, "a registration again is no renewal"
    (answer,) = group.apply(encode_close(Close(who.id, 99)))
    assert answer is not None
    assert decode_answer(answer).code == Code.SESSION_LOST


def test_a_leader_confirms_no_lease_from_the_mark_on() -> None:
    led = Led()
    led.driver.leases.elected(0, [])
    _, number = led.commit(1, 3, proposed_in=3)
    assert led.keepalive(number) == [[[1, number, 1]], []]
    data = encode_entry(0, [encode_close(Close(SESSION_ID, number))])
    led.driver.applying.take([Entry(Term(3), Index(2), EntryKind.NORMAL, data)])
    led.driver.apply(700, led.out)
    led.driver.confirm(Confirm(NODE, 5, 77, SESSION_ID, number), 800)
    assert led.keepalive(number) == [[], []]
    assert led.driver.leases.expired(1699) == []
    assert led.driver.leases.expired(1700) == [number]


def test_a_new_leader_knows_who_is_to_end() -> None:
    led = Led()
    _, number = led.commit(1, 3, proposed_in=3)
    led.driver.applier.apply(encode_entry(0, [encode_close(Close(SESSION_ID, number))]))
    assert led.driver.applier.closing == [number]
