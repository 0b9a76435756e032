"""The lock's machine in a real applier, command by command."""

from __future__ import annotations

from typing import Any

import pytest
from local_group import OnePrimitive, Session

from primitives import locking
from primitives.errors import Code
from primitives.line import SLICE_WAITERS
from primitives.lock import ACQUIRE, HOLDER, RELEASE, TRY_ACQUIRE, LockMachine

TYPE = LockMachine.TYPE


class OneLock(OnePrimitive):
    """A lock in a group, spoken to in bytes."""

    def __init__(self) -> None:
        super().__init__("l", TYPE, kept=(ACQUIRE, TRY_ACQUIRE))

    def token(self, session: Session, at: int) -> int | None:
        """What the command of that number was granted so far."""
        answer = session.answers.get((self.slot, at))
        if answer is None or answer.code != Code.OK:
            return None
        assert int.from_bytes(answer.result, "big") == answer.revision, "the revision of what granted it"
        return answer.revision

    def holder(self) -> tuple[int, int] | None:
        answer = self.group.query(self.slot, self.primitive, 0, TYPE, HOLDER, [])
        if answer.code == Code.CONDITION:
            return None
        return int.from_bytes(answer.result[:8], "big"), int.from_bytes(answer.result[8:], "big")


@pytest.fixture
def one() -> OneLock:
    return OneLock()


def test_a_free_lock_is_granted_with_the_revision_of_the_command_that_asked(one: OneLock) -> None:
    (a,) = one.sessions(1)
    assert one.holder() is None
    answer = one.do(a, ACQUIRE)
    assert one.holder() == (a.number, answer.revision)
    assert int.from_bytes(answer.result, "big") == answer.revision


def test_waiters_are_granted_in_the_order_asked_by_the_command_that_released(one: OneLock) -> None:
    crowd = one.sessions(4)
    places = [one.send(session, ACQUIRE) for session in crowd]
    tokens: list[int] = []
    for session, place in zip(crowd, places, strict=True):
        token = one.token(session, place)
        assert token is not None
        if tokens:
            assert token == one.group.applier.revision, "the release granted it"
            assert token > tokens[-1]
        tokens.append(token)
        assert one.holder() == (session.number, token)
        granted = [s for s, p in zip(crowd, places, strict=True) if one.token(s, p) is not None]
        assert granted == crowd[: len(tokens)]
        assert one.do(session, RELEASE, token).code == Code.OK
    assert one.holder() is None


def test_only_the_grant_that_holds_the_lock_releases_it(one: OneLock) -> None:
    a, b = one.sessions(2)
    first = one.do(a, ACQUIRE).revision
    second_place = one.send(a, ACQUIRE)
    assert one.do(b, RELEASE, first).code == Code.CONDITION, "another session's"
    assert one.do(a, RELEASE, first + 1).code == Code.CONDITION, "another instance's"
    assert one.holder() == (a.number, first)
    assert one.do(a, RELEASE, first).code == Code.OK
    second = one.token(a, second_place)
    assert second is not None
    assert second > first
    assert one.do(a, RELEASE, first).code == Code.CONDITION, "released before"
    assert one.holder() == (a.number, second)


def test_trying_neither_waits_nor_overtakes(one: OneLock) -> None:
    a, b, c = one.sessions(3)
    token = one.do(a, TRY_ACQUIRE).revision
    assert one.do(b, TRY_ACQUIRE).code == Code.CONDITION
    place = one.send(b, ACQUIRE)
    a.expire()
    assert one.holder() is None
    assert one.do(c, TRY_ACQUIRE).code == Code.CONDITION, "b was first"
    assert one.token(b, place) is None
    one.group.settle()
    granted = one.token(b, place)
    assert granted is not None
    assert granted > token
    assert one.holder() == (b.number, granted)


def test_a_dead_holder_is_void_from_the_entry_that_ended_it(one: OneLock) -> None:
    a, b, c = one.sessions(3)
    first = one.do(a, ACQUIRE).revision
    a.expire()
    assert one.holder() is None
    second = one.do(b, ACQUIRE).revision
    assert one.holder() == (b.number, second)
    place = one.send(c, ACQUIRE)
    one.group.settle()
    assert one.holder() == (b.number, second), "what is left to do for the dead session changes nothing"
    assert one.token(c, place) is None
    assert second > first


def test_who_waits_behind_a_dead_holder_gets_a_later_token_than_it_asked_at(one: OneLock) -> None:
    a, b = one.sessions(2)
    one.do(a, ACQUIRE)
    place = one.send(b, ACQUIRE)
    asked = one.group.applier.revision
    a.expire()
    expired = one.group.applier.revision
    one.group.settle()
    token = one.token(b, place)
    assert token is not None
    assert token > expired > asked


def test_a_dead_session_leaves_the_queue_while_the_lock_is_held(one: OneLock) -> None:
    a, b, c = one.sessions(3)
    token = one.do(a, ACQUIRE).revision
    for _ in range(SLICE_WAITERS * 2 + 5):
        one.send(b, ACQUIRE)
    place = one.send(c, ACQUIRE)
    rows = len(one.group.state())
    b.expire()
    assert one.group.settle() >= 3, "in slices"
    assert len(one.group.state()) <= rows - 3 * (SLICE_WAITERS * 2 + 5), "queue, index and numbers"
    assert one.holder() == (a.number, token)
    assert one.do(a, RELEASE, token).code == Code.OK
    assert one.token(c, place) is not None


def test_a_release_grants_at_once_to_the_first_who_lives(one: OneLock) -> None:
    a, b, c = one.sessions(3)
    token = one.do(a, ACQUIRE).revision
    one.send(b, ACQUIRE)
    place = one.send(c, ACQUIRE)
    b.expire()
    released = one.do(a, RELEASE, token)
    assert one.token(c, place) == released.revision
    assert one.holder() == (c.number, released.revision)


def test_dead_waiters_are_skipped_in_slices_and_the_first_living_one_is_granted(one: OneLock) -> None:
    a, *crowd, last = one.sessions(3 * SLICE_WAITERS)
    token = one.do(a, ACQUIRE).revision
    for session in crowd:
        one.send(session, ACQUIRE)
    place = one.send(last, ACQUIRE)
    for session in crowd:
        session.expire()
    assert one.do(a, RELEASE, token).code == Code.OK
    assert one.token(last, place) is None, "more than one command's work"
    (late,) = one.sessions(1)
    late_place = one.send(late, ACQUIRE)
    assert one.do(late, TRY_ACQUIRE).code == Code.CONDITION
    one.group.settle()
    granted = one.token(last, place)
    assert granted is not None
    assert one.token(late, late_place) is None
    assert one.do(last, RELEASE, granted).code == Code.OK
    assert one.token(late, late_place) is not None


def test_a_withdrawn_waiter_is_passed_over(one: OneLock) -> None:
    a, b, c = one.sessions(3)
    token = one.do(a, ACQUIRE).revision
    b_place, c_place = one.send(b, ACQUIRE), one.send(c, ACQUIRE)
    assert b.withdraw(one.slot, b_place).code == Code.OK
    assert b.answers[one.slot, b_place].code == Code.WITHDRAWN
    one.do(a, RELEASE, token)
    assert one.token(c, c_place) is not None
    assert one.token(b, b_place) is None


def test_a_withdrawn_grant_goes_to_the_next_with_a_later_token(one: OneLock) -> None:
    a, b, c = one.sessions(3)
    token = one.do(a, ACQUIRE).revision
    b_place, c_place = one.send(b, ACQUIRE), one.send(c, ACQUIRE)
    one.do(a, RELEASE, token)
    b_token = one.token(b, b_place)
    assert b_token is not None
    assert b.withdraw(one.slot, b_place).code == Code.OK
    c_token = one.token(c, c_place)
    assert c_token is not None
    assert c_token > b_token > token
    assert one.holder() == (c.number, c_token)
    assert one.do(b, RELEASE, b_token).code == Code.CONDITION


def test_withdrawing_what_was_refused_or_released_takes_nothing_from_the_holder(one: OneLock) -> None:
    a, b = one.sessions(2)
    first_place = one.send(a, ACQUIRE)
    first = one.token(a, first_place)
    assert one.do(a, RELEASE, first).code == Code.OK
    second = one.do(b, ACQUIRE).revision
    refused_place = one.send(a, TRY_ACQUIRE)
    a.withdraw(one.slot, first_place)
    a.withdraw(one.slot, refused_place)
    assert one.holder() == (b.number, second)


def test_a_lock_that_everybody_left_keeps_nothing_of_them(one: OneLock) -> None:
    crowd = one.sessions(5)
    for _ in range(3):
        places = [one.send(session, ACQUIRE) for session in crowd]
        for session, place in reversed(list(zip(crowd, places, strict=True))[1:4]):
            session.withdraw(one.slot, place)
        one.do(crowd[0], RELEASE, one.token(crowd[0], places[0]))
        one.do(crowd[4], RELEASE, one.token(crowd[4], places[4]))
        for session in crowd:
            one.do(session, TRY_ACQUIRE)
            session.withdraw(one.slot, session.last[one.slot])
        one.group.settle()
        held = {key for key in one.group.state() if key[2:12] == one.primitive.to_bytes()}
        assert not held
    for session in crowd:
        session.expire()
    one.group.settle()
    assert one.holder() is None


def test_too_many_waiters_are_refused(one: OneLock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "WAITERS_MAX", 2)
    a, b = one.sessions(2)
    for _ in range(3):
        one.send(a, ACQUIRE)
    assert one.do(b, ACQUIRE).code == Code.OVERLOADED
    assert one.do(b, TRY_ACQUIRE).code == Code.CONDITION
    b.expire()
    one.group.settle()


BAD: list[tuple[int, list[Any], bytes]] = [
    (0, [], b""), (9, [], b""), (ACQUIRE, [1], b""), (ACQUIRE, [], b"x"), (TRY_ACQUIRE, [None], b""),
    (TRY_ACQUIRE, [], b"x"), (RELEASE, [], b""), (RELEASE, [1, 2], b""), (RELEASE, [b"1"], b""),
    (RELEASE, [None], b""), (RELEASE, [1.0], b""), (RELEASE, [True], b""), (RELEASE, [1], b"x"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "args", "body"), BAD)
def test_a_malformed_command_is_refused_with_a_text(
    one: OneLock, op: int, args: list[Any], body: bytes
) -> None:
    (a,) = one.sessions(1)
    at = a.send(one.slot, one.primitive, 0, TYPE, op, args, body)
    answer = a.answers[one.slot, at]
    assert (answer.code, bool(answer.result.decode())) == (Code.BAD_REQUEST, True)
    assert one.holder() is None


def test_a_token_of_any_size_is_compared_and_a_malformed_query_refused(one: OneLock) -> None:
    (a,) = one.sessions(1)
    for token in (-1, 0, 2**64 - 1, -(2**64)):
        at = a.send(one.slot, one.primitive, 0, TYPE, RELEASE, [token])
        assert a.answers[one.slot, at].code == Code.CONDITION
    for op, args in ((HOLDER, [1]), (0, []), (2, [])):
        assert one.group.query(one.slot, one.primitive, 0, TYPE, op, args).code == Code.BAD_REQUEST
