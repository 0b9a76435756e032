"""What a majority has reached or decided, in a simple or a joint configuration (thesis, section 4.3).

A joint configuration decides only what the majorities of both its halves decide. The outgoing half of a
simple one is empty and decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from raftgroup.types import Membership, ReplicaId


class Vote:
    """The state of an election."""

    PENDING: Final = 0
    WON: Final = 1
    LOST: Final = 2


def majority_index(reached: list[int]) -> int:
    """The highest number that a majority of voters has reached; ``reached`` has one number for each voter,
    at least one, and is left sorted."""
    reached.sort()
    return reached[(len(reached) - 1) >> 1]


def joint_index(incoming: list[int], outgoing: list[int]) -> int:
    """The highest number that a majority of both halves has reached. Both lists are left sorted."""
    incoming.sort()
    index = incoming[(len(incoming) - 1) >> 1]
    if outgoing:
        return min(index, majority_index(outgoing))
    return index


def majority_vote(voters: tuple[ReplicaId, ...], votes: Mapping[ReplicaId, bool]) -> int:
    """A :class:`Vote` of one half; a voter that is not in ``votes`` has not answered."""
    granted = rejected = 0
    for voter in voters:
        answer = votes.get(voter)
        if answer:
            granted += 1
        elif answer is not None:
            rejected += 1
    needed = (len(voters) >> 1) + 1
    if granted >= needed:
        return Vote.WON
    return Vote.LOST if len(voters) - rejected < needed else Vote.PENDING


def joint_vote(membership: Membership, votes: Mapping[ReplicaId, bool]) -> int:
    """A :class:`Vote` of the whole configuration: won in both halves, or lost in one. Answers of who is no
    voter do not count."""
    incoming = majority_vote(membership.incoming, votes)
    if not membership.outgoing:
        return incoming
    outgoing = majority_vote(membership.outgoing, votes)
    if incoming == outgoing:
        return incoming
    return Vote.LOST if Vote.LOST in (incoming, outgoing) else Vote.PENDING
