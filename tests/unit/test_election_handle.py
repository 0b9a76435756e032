"""The election's handle over a group in the process: blocks, terms, cancellation, lost leases."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
from local_group import Group
from local_port import LocalPort
from trio.testing import wait_all_tasks_blocked

from primitives.election import Deposed, Election, Term
from primitives.errors import SessionLost, TooLarge, Unavailable


class Pair:
    """Two clients of one election."""

    def __init__(self) -> None:
        self.group = Group()
        self.near = LocalPort(self.group)
        self.far = LocalPort(self.group)
        self.election = Election(self.near, "", "e")
        self.other = Election(self.far, "", "e")

    async def assert_untouched(self) -> None:
        """Nobody leads or stands."""
        self.group.settle()
        leadership = await self.other.leadership()
        assert leadership.leader is None
        assert leadership.candidates == ()


@pytest.fixture
def pair() -> Pair:
    return Pair()


async def test_a_block_leads_with_a_term_and_leaves_nobody(pair: Pair) -> None:
    assert await pair.election.leader() is None
    assert (await pair.election.leadership()).term == 0
    assert not await pair.election.exists(), "asking creates nothing"
    terms: list[int] = []
    for _ in range(3):
        async with pair.election.campaign({"host": "near"}) as term:
            leadership = await pair.other.leader()
            assert leadership is not None
            assert leadership.leader is not None
            assert leadership.term == term.term == term.token
            assert leadership.leader.data == {"host": "near"}
            assert leadership.leader.session == pair.near.session.number
            assert leadership.leader.id == term.id
            assert term.state == "connected"
            terms.append(term.term)
        assert term.state == "released"
        assert await pair.other.leader() is None
    assert terms == sorted(set(terms))
    await pair.assert_untouched()
    assert pair.near.lease(pair.election._ref).holds == 0


async def test_candidates_lead_one_after_the_other_in_order(pair: Pair) -> None:
    order: list[int] = []
    leading = 0

    async def work(number: int) -> None:
        nonlocal leading
        async with (pair.election if number % 2 else pair.other).campaign(number):
            leading += 1
            assert leading == 1
            order.append(number)
            await trio.lowlevel.checkpoint()
            leading -= 1

    async with trio.open_nursery() as nursery, pair.election.campaign("first"):
        for number in range(6):
            nursery.start_soon(work, number)
            await wait_all_tasks_blocked()
        leadership = await pair.other.leadership()
        assert [candidate.data for candidate in leadership.candidates] == [0, 1, 2, 3, 4, 5]
    assert order == [0, 1, 2, 3, 4, 5]
    await pair.assert_untouched()


async def test_many_candidates_with_much_data_are_shown_in_order(pair: Pair) -> None:
    data = [str(number) * 5000 for number in range(8)] * 8

    async with trio.open_nursery() as nursery:
        term = await pair.election.stand("first")
        for each in data:
            nursery.start_soon(pair.other.stand, each)
            await wait_all_tasks_blocked()
        leadership = await pair.election.leadership()
        assert [candidate.data for candidate in leadership.candidates] == data
        assert leadership.term == term.term
        nursery.cancel_scope.cancel()
    assert (await pair.other.leadership()).candidates == ()


async def test_a_lost_lease_cancels_the_block_with_session_lost(pair: Pair) -> None:
    with pytest.raises(SessionLost, match="the leadership of 'e'"):
        async with pair.election.campaign():
            pair.near.lose()
            await trio.sleep_forever()
    await pair.assert_untouched()


async def test_what_the_block_raises_comes_out_as_it_is(pair: Pair) -> None:
    with pytest.raises(KeyError) as raised:
        async with pair.election.campaign():
            raise KeyError("mine")
    assert raised.value.args == ("mine",)
    await pair.assert_untouched()


@pytest.mark.parametrize("how", ["anoint", "demote", "evict"])
async def test_a_leader_that_is_deposed_is_told_at_once(pair: Pair, how: str) -> None:
    async with trio.open_nursery() as nursery:
        terms: list[Term] = []

        async def follow() -> None:
            terms.append(await pair.other.stand("far"))

        with pytest.raises(Deposed, match="ended by somebody else"):
            async with pair.election.campaign("near") as term:
                nursery.start_soon(follow)
                await wait_all_tasks_blocked()
                leadership = await pair.other.leadership()
                assert leadership.leader is not None
                if how == "anoint":
                    assert await pair.other.anoint(leadership.candidates[0])
                elif how == "demote":
                    assert await pair.other.demote(leadership.leader)
                else:
                    assert await pair.other.evict(term.id)
                await trio.sleep_forever()
        assert terms[0].term > term.term
        leader = await pair.election.leader()
        assert leader is not None
        assert leader.term == terms[0].term
        assert await terms[0].resign()
    await pair.assert_untouched()
    assert pair.near.lease(pair.election._ref).holds == 0


async def test_a_block_with_tasks_of_its_own_is_told_too_that_it_is_deposed(pair: Pair) -> None:
    raised: BaseException | None = None
    try:
        async with pair.election.campaign() as term, trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await wait_all_tasks_blocked()
            assert await pair.other.evict(term.id)
            await trio.sleep_forever()
    except BaseException as error:  # a cancellation that got out would end the test as if it had passed
        raised = error
    assert isinstance(raised, Deposed)
    await pair.assert_untouched()


async def test_an_evicted_candidate_is_told(pair: Pair) -> None:
    async def evict() -> None:
        await wait_all_tasks_blocked()
        (candidate,) = (await pair.other.leadership()).candidates
        assert await pair.other.promote(candidate)
        assert await pair.other.evict(candidate)
        assert not await pair.other.evict(candidate)

    async with pair.other.campaign(), trio.open_nursery() as nursery:
        nursery.start_soon(evict)
        with pytest.raises(Deposed, match="evicted"):
            async with pair.election.campaign():
                pytest.fail("it leads")
    await pair.assert_untouched()


async def test_a_block_that_resigns_by_itself_goes_on(pair: Pair) -> None:
    async with pair.election.campaign() as term:
        assert await term.resign()
        assert not await term.resign()
        await wait_all_tasks_blocked()
        assert await pair.other.leader() is None
        async with pair.other.campaign():
            await trio.lowlevel.checkpoint()
    await pair.assert_untouched()


async def test_resigning_by_the_handle_ends_whatever_is_held_through_it(pair: Pair) -> None:
    assert not await pair.election.resign()
    term = await pair.election.stand()
    assert not await pair.other.resign()
    assert await pair.election.resign()
    assert term.state == "released"
    assert not await pair.election.resign()
    await pair.assert_untouched()


@pytest.mark.parametrize("arrived", [True, False])
async def test_a_cancelled_campaign_leaves_nothing(pair: Pair, arrived: bool) -> None:
    pair.near.delivers = False
    pair.near.sends = arrived
    for leads in (False, True):
        other = await pair.other.stand() if not leads else None
        with trio.move_on_after(0.01) as scope:
            async with pair.election.campaign():
                pytest.fail("it leads")
        assert scope.cancelled_caught
        if other is not None:
            assert (await pair.other.leadership()).candidates == ()
            await other.resign()
        await pair.assert_untouched()


async def test_a_cancelled_block_resigns(pair: Pair) -> None:
    with trio.CancelScope() as scope:
        async with pair.election.campaign():
            scope.cancel()
            await trio.sleep_forever()
    await pair.assert_untouched()


async def test_the_lease_is_not_held_for_a_block_that_is_over_though_resigning_failed(pair: Pair) -> None:
    with suppress(Unavailable):
        async with pair.election.campaign():
            pair.near.refuses = Unavailable("nobody there")
    assert pair.near.lease(pair.election._ref).holds == 0


async def test_data_that_cannot_be_carried_is_refused_at_the_call(pair: Pair) -> None:
    with pytest.raises(TypeError):
        pair.election.campaign({1, 2})
    with pytest.raises(TooLarge):
        pair.election.campaign("x" * 70_000)
    for call in (pair.election.anoint, pair.election.promote, pair.election.demote, pair.election.evict):
        with pytest.raises(TypeError, match="candidate is an int, not str"):
            await call("1")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="negative"):
            await call(-1)
    assert not await pair.election.exists()
