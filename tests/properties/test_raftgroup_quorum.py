"""Quorums, computed twice: as the product does it, and by trying out every majority."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from raftgroup.quorum import Vote, joint_index, joint_vote, majority_index, majority_vote
from raftgroup.types import Membership, ReplicaId

VOTERS = st.lists(
    st.integers(1, 9).map(ReplicaId), min_size=1, max_size=7, unique=True
).map(tuple)  # fmt: skip
REACHED = st.dictionaries(st.integers(1, 9).map(ReplicaId), st.integers(0, 12))
VOTES = st.dictionaries(st.integers(1, 9).map(ReplicaId), st.booleans())
MEMBERSHIPS = st.builds(Membership, VOTERS, st.one_of(st.just(()), VOTERS))


def majorities(voters: tuple[ReplicaId, ...]) -> list[tuple[ReplicaId, ...]]:
    """Every set of voters that is more than half of them."""
    sizes = range(len(voters) // 2 + 1, len(voters) + 1)
    return [chosen for size in sizes for chosen in combinations(voters, size)]


def slow_index(membership: Membership, reached: dict[ReplicaId, int]) -> int:
    """The highest number for which some majority of each half has it or more."""
    halves = [half for half in (membership.incoming, membership.outgoing) if half]
    return max(
        number
        for number in range(13)
        if all(
            any(all(reached.get(voter, 0) >= number for voter in chosen) for chosen in majorities(half))
            for half in halves
        )
    )


def slow_vote(membership: Membership, votes: dict[ReplicaId, bool]) -> int:
    """Won if some majority of each half granted; lost if in some half no majority can any more."""
    halves = [half for half in (membership.incoming, membership.outgoing) if half]
    if all(any(all(votes.get(v) is True for v in m) for m in majorities(half)) for half in halves):
        return Vote.WON
    if any(all(any(votes.get(v) is False for v in m) for m in majorities(half)) for half in halves):
        return Vote.LOST
    return Vote.PENDING


@given(MEMBERSHIPS, REACHED)
def test_joint_index_is_what_some_majority_of_both_halves_reached(
    membership: Membership, reached: dict[ReplicaId, int]
) -> None:
    index = joint_index(
        [reached.get(voter, 0) for voter in membership.incoming],
        [reached.get(voter, 0) for voter in membership.outgoing],
    )
    assert index == slow_index(membership, reached)


@given(VOTERS, REACHED)
def test_simple_quorum_equals_the_joint_one_of_twice_the_same(
    voters: tuple[ReplicaId, ...], reached: dict[ReplicaId, int]
) -> None:
    numbers = [reached.get(voter, 0) for voter in voters]
    assert majority_index(list(numbers)) == joint_index(list(numbers), list(numbers))


@given(MEMBERSHIPS, VOTES)
def test_joint_vote_is_what_majorities_of_both_halves_decide(
    membership: Membership, votes: dict[ReplicaId, bool]
) -> None:
    assert joint_vote(membership, votes) == slow_vote(membership, votes)


@given(VOTERS, VOTES)
def test_majority_vote_equals_the_joint_one_of_twice_the_same(
    voters: tuple[ReplicaId, ...], votes: dict[ReplicaId, bool]
) -> None:
    assert majority_vote(voters, votes) == joint_vote(Membership(voters, voters), votes)
