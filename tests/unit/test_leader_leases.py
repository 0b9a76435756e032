"""A leader's own count of its group's leases, and of log time: late at the worst, never early."""

from __future__ import annotations

from raftgroup.types import Term
from shards.leases import LeaderLeases
from shards.logtime import LogTime

SESSION = (7, b"s" * 16, 1000)


def elected(now_ms: int = 0) -> LeaderLeases:
    leases = LeaderLeases()
    leases.elected(now_ms, [SESSION])
    return leases


def test_a_new_leader_counts_all_leases_anew() -> None:
    leases = elected()
    assert leases.expired(999) == []
    leases.deposed()
    leases.elected(5000, [SESSION])
    assert leases.expired(5999) == []
    assert leases.expired(6000) == [7]


def test_a_lease_counts_from_the_arrival_of_the_last_keepalive() -> None:
    leases = elected()
    leases.arrived(600, 7)
    assert leases.expired(1599) == []
    assert leases.expired(1600) == [7]


def test_an_expiry_is_proposed_once_and_shows_from_then_on() -> None:
    leases = elected()
    assert not leases.is_expiring(7)
    assert leases.expired(1000) == [7]
    assert leases.is_expiring(7)
    assert leases.expired(9000) == []
    leases.ended(7)
    assert not leases.is_expiring(7)


def test_time_in_which_the_process_stood_still_counts_against_nobody() -> None:
    leases = elected()
    leases.registered(100, 8, 1000)
    leases.paused(5000)
    assert leases.expired(5999) == []
    assert leases.expired(6000) == [7]
    assert leases.expired(6100) == [8]


def test_log_time_goes_on_from_the_log_or_what_the_last_entrys_leader_said() -> None:
    clock = LogTime()
    clock.heard(Term(3), 500)
    clock.heard(Term(3), 400)
    clock.elected(10_000, Term(3), 300)
    assert clock.now_ms(10_050) == 550
    clock.elected(20_000, Term(3), 700)
    assert clock.now_ms(20_000) == 700


def test_log_time_told_in_another_term_than_the_last_entrys_does_not_count() -> None:
    clock = LogTime()
    clock.heard(Term(4), 9000)
    clock.elected(0, Term(3), 300)
    assert clock.now_ms(0) == 300
