"""The lock's handle over a group in the process: blocks, grants, cancellation and lost leases."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
from local_group import Group
from local_port import LocalPort
from trio.testing import MockClock, wait_all_tasks_blocked

from primitives.errors import SessionLost, Unavailable
from primitives.holding import RELEASE_SECONDS
from primitives.lock import Grant, Lock


class Pair:
    """Two clients of one lock."""

    def __init__(self) -> None:
        self.group = Group()
        self.near = LocalPort(self.group)
        self.far = LocalPort(self.group)
        self.lock = Lock(self.near, "", "l")
        self.other = Lock(self.far, "", "l")

    async def assert_untouched(self) -> None:
        """Nobody holds the lock or waits for it: it is granted at once."""
        self.group.settle()
        assert await self.other.holder() is None
        grant = await self.other.try_acquire()
        assert grant is not None
        assert await grant.release()


@pytest.fixture
def pair() -> Pair:
    return Pair()


async def test_a_block_holds_the_lock_with_a_token_and_leaves_it_free(pair: Pair) -> None:
    assert await pair.lock.holder() is None
    assert not await pair.lock.exists(), "asking creates nothing"
    tokens: list[int] = []
    for _ in range(3):
        async with pair.lock as grant:
            holder = await pair.other.holder()
            assert holder is not None
            assert holder.token == grant.token
            assert holder.session == pair.near.session.number
            assert grant.state == "connected"
            assert grant.remaining() > 0
            assert await pair.other.try_acquire() is None
            tokens.append(grant.token)
        assert grant.state == "released"
        assert grant.remaining() == 0
        assert await pair.other.holder() is None
    assert tokens == sorted(set(tokens))


async def test_blocks_exclude_each_other_even_of_one_handle(pair: Pair) -> None:
    inside = 0
    tokens: list[int] = []

    async def work(lock: Lock) -> None:
        nonlocal inside
        for _ in range(5):
            async with lock as grant:
                inside += 1
                assert inside == 1
                tokens.append(grant.token)
                await trio.lowlevel.checkpoint()
                inside -= 1

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            for lock in (pair.lock, pair.lock, pair.other, Lock(pair.near, "", "l")):
                nursery.start_soon(work, lock)
    assert len(tokens) == 20
    assert tokens == sorted(set(tokens))
    await pair.assert_untouched()


async def test_the_lease_is_held_for_each_grant_from_its_coming_to_its_release(pair: Pair) -> None:
    grant = await pair.lock.acquire()
    lease = pair.near.lease(pair.lock._ref)
    assert lease.holds == 1
    assert await Lock(pair.near, "", "l").try_acquire() is None
    async with Lock(pair.near, "", "another"):
        assert lease.holds == 2
    assert lease.holds == 1
    assert await grant.release()
    assert not await grant.release()
    assert lease.holds == 0


@pytest.mark.parametrize("end", ["cancelled", "failed", "lost"])
async def test_the_lease_is_not_held_for_a_block_that_is_over_however_it_ended(pair: Pair, end: str) -> None:
    with trio.CancelScope() as scope, suppress(Unavailable, SessionLost):
        async with pair.lock:
            lease = pair.near.lease(pair.lock._ref)
            assert lease.holds == 1
            if end == "cancelled":
                scope.cancel()
                await trio.sleep_forever()
            elif end == "failed":
                pair.near.refuses = Unavailable("nobody there")
            else:
                pair.near.lose()
    assert lease.holds == 0


async def test_the_lease_is_held_while_a_release_failed_and_can_be_repeated(pair: Pair) -> None:
    grant = await pair.lock.acquire()
    lease = pair.near.lease(pair.lock._ref)
    pair.near.refuses = Unavailable("nobody there")
    with pytest.raises(Unavailable):
        await grant.release()
    assert lease.holds == 1
    pair.near.refuses = None
    assert await grant.release()
    assert lease.holds == 0


async def test_waiters_come_in_the_order_they_asked(pair: Pair) -> None:
    order: list[int] = []

    async def wait(number: int) -> None:
        grant = await (pair.lock if number % 2 else pair.other).acquire()
        order.append(number)
        await grant.release()

    async with trio.open_nursery() as nursery, pair.lock:
        for number in range(6):
            nursery.start_soon(wait, number)
            await wait_all_tasks_blocked()
    assert order == [0, 1, 2, 3, 4, 5]


async def test_a_grant_is_released_once_and_only_by_itself(pair: Pair) -> None:
    first = await pair.lock.acquire()
    assert await first.release()
    second = await pair.lock.acquire()
    assert not await first.release()
    assert (await pair.lock.holder() or ()) == (pair.near.session.number, second.token)
    stranger = Grant(pair.near, pair.lock._ref, first.token, pair.near.lease(pair.lock._ref))
    assert not await stranger.release(), "another instance of the same session"
    assert await pair.other.holder() is not None
    assert await second.release()


async def test_a_cancelled_wait_leaves_no_waiter(pair: Pair) -> None:
    grant = await pair.other.acquire()
    with trio.move_on_after(0) as scope:
        await pair.lock.acquire()
    assert scope.cancelled_caught
    await grant.release()
    await pair.assert_untouched()


async def test_a_grant_on_its_way_to_a_cancelled_caller_is_given_back(pair: Pair) -> None:
    pair.near.delivers = False
    for attempt in (pair.lock.acquire, pair.lock.try_acquire):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(attempt)
            await wait_all_tasks_blocked()
            assert await pair.other.holder() is not None
            nursery.cancel_scope.cancel()
        await pair.assert_untouched()


async def test_a_grant_that_came_while_waiting_and_was_not_delivered_is_given_back(pair: Pair) -> None:
    grant = await pair.other.acquire()
    pair.near.delivers = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.lock.acquire)
        await wait_all_tasks_blocked()
        await grant.release()
        assert (await pair.other.holder() or ())[0] == pair.near.session.number
        nursery.cancel_scope.cancel()
    await pair.assert_untouched()


async def test_an_attempt_cancelled_before_it_left_takes_no_effect(pair: Pair) -> None:
    pair.near.sends = False
    with trio.move_on_after(0):
        await pair.lock.acquire()
    pair.near.open()
    await pair.assert_untouched()


async def test_a_block_is_cancelled_when_its_lease_is_lost(pair: Pair) -> None:
    reached = cleaned = False
    with pytest.raises(SessionLost):
        async with pair.lock as grant:
            pair.near.suspend()
            assert grant.state == "suspended"
            reached = True
            pair.near.lose()
            try:
                await trio.sleep_forever()
            finally:
                cleaned = True
    assert reached
    assert cleaned
    assert grant.state == "lost"
    assert grant.remaining() == 0
    assert not await grant.release()
    await pair.assert_untouched()
    async with pair.lock as again:
        assert again.token > grant.token


async def test_a_block_that_ended_after_its_lease_was_lost_says_so(pair: Pair) -> None:
    with pytest.raises(SessionLost):
        async with pair.lock:
            pair.near.lose(expire=False)


async def test_a_lost_lease_does_not_take_the_place_of_the_blocks_own_error(pair: Pair) -> None:
    with pytest.raises(ZeroDivisionError):
        async with pair.lock:
            pair.near.lose()
            try:
                await trio.sleep_forever()
            finally:
                1 / 0  # noqa: B018  # the error


async def test_a_cancellation_from_outside_is_not_swallowed_with_the_lease(pair: Pair) -> None:
    with trio.CancelScope() as scope:
        async with pair.lock:
            pair.near.lose()
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_block_keeps_its_own_error_though_the_release_fails(pair: Pair) -> None:
    with pytest.raises(ZeroDivisionError):
        async with pair.lock:
            pair.near.refuses = Unavailable("nobody there")
            raise ZeroDivisionError
    pair.near.refuses = None
    pair.near.lose()
    with pytest.raises(ZeroDivisionError):
        async with pair.lock:
            pair.near.session.expire()
            raise ZeroDivisionError
    await pair.assert_untouched()


async def test_a_release_that_failed_can_be_repeated(pair: Pair) -> None:
    grant = await pair.lock.acquire()
    pair.near.refuses = Unavailable("nobody there")
    with pytest.raises(Unavailable):
        await grant.release()
    assert grant.state == "connected"
    pair.near.refuses = None
    assert await grant.release()
    await pair.assert_untouched()


async def test_errors_in_groups_come_through_unchanged(pair: Pair) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        async with pair.lock, trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(fail)
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]
    await pair.assert_untouched()


async def test_leaving_a_cancelled_block_releases_all_the_same(pair: Pair) -> None:
    with trio.CancelScope() as scope:
        async with pair.lock:
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    await pair.assert_untouched()


async def test_leaving_holds_up_a_cancellation_for_a_bounded_time_and_releases_later(
    pair: Pair, autojump_clock: MockClock
) -> None:
    with trio.CancelScope() as scope:
        async with pair.lock:
            pair.near.sends = False
            scope.cancel()
            started = trio.current_time()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() - started == pytest.approx(RELEASE_SECONDS)
    assert await pair.other.holder() is not None
    pair.near.open()
    await pair.assert_untouched()
    with trio.CancelScope() as scope:
        async with pair.lock:
            pair.near.sends = False
            scope.cancel()
            started = trio.current_time()
    assert scope.cancelled_caught
    assert trio.current_time() - started == pytest.approx(RELEASE_SECONDS)
    pair.near.open()
    await pair.assert_untouched()


async def test_a_block_that_ended_well_is_left_only_once_the_lock_is_free(
    pair: Pair, autojump_clock: MockClock
) -> None:
    async def recover() -> None:
        await trio.sleep(5)
        pair.near.open()

    async with trio.open_nursery() as nursery:
        async with pair.lock:
            pair.near.sends = False
            nursery.start_soon(recover)
            started = trio.current_time()
        assert trio.current_time() - started == pytest.approx(5)
        await pair.assert_untouched()


async def test_a_cancelled_release_is_completed_in_the_background(pair: Pair) -> None:
    grant = await pair.lock.acquire()
    pair.near.sends = False
    with trio.move_on_after(0):
        await grant.release()
    assert grant.state == "released"
    pair.near.open()
    await pair.assert_untouched()


async def test_a_lease_lost_while_waiting_ends_the_wait(pair: Pair) -> None:
    grant = await pair.other.acquire()

    async def lose() -> None:
        await wait_all_tasks_blocked()
        pair.near.lose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lose)
        with pytest.raises(SessionLost):
            await pair.lock.acquire()
    await grant.release()
    await pair.assert_untouched()


async def test_no_grant_is_accepted_under_a_lease_that_was_lost_before_it_came(pair: Pair) -> None:
    pair.near.delivers = False

    async def lose() -> None:
        await wait_all_tasks_blocked()
        pair.near.lose()
        pair.near.open()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lose)
        with pytest.raises(SessionLost):
            await pair.lock.acquire()
    await pair.assert_untouched()


async def test_a_grant_got_by_trying_can_run_a_block(pair: Pair) -> None:
    grant = await pair.lock.try_acquire()
    assert grant is not None
    with pytest.raises(SessionLost):
        async with grant:
            pair.near.lose()
            await trio.sleep_forever()
    with pytest.raises(RuntimeError, match="one block"):
        async with grant:
            pass


async def test_a_block_that_released_early_goes_on_without_its_lease(pair: Pair) -> None:
    async with pair.lock as grant:
        assert await grant.release()
        pair.near.lose()
        await trio.lowlevel.checkpoint()
        async with pair.lock as second:
            assert second.token > grant.token
            assert second.state == "connected"
    await pair.assert_untouched()


async def test_opening_a_block_when_cancelled_leaves_nothing(pair: Pair) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        async with pair.lock:
            raise AssertionError("not entered")
    assert scope.cancelled_caught
    await pair.assert_untouched()


def test_a_grant_says_what_it_is(pair: Pair) -> None:
    grant = Grant(pair.near, pair.lock._ref, 7, pair.near.lease(pair.lock._ref))
    assert repr(grant) == "<grant 7 of 'l', connected>"
