"""Which groups a tick may pass by: all but few have nothing to do at most ticks.

A group that is not at rest takes part in every round. Whatever else comes, a message, a client's operation, a
sync that is done, brings it into the next round by itself. Rest lasts a tick and is this node's own affair; a
sleep that a group's members agree on, without heartbeats, would stand here, too.
"""

from __future__ import annotations

from typing import Protocol

from primitives.applier import Applier
from raftgroup.replica import Replica
from raftgroup.types import Role, Term
from shards.applying import Applying
from shards.leases import LeaderLeases
from shards.localreads import LocalReads
from shards.opening import Openings


class Group(Protocol):
    """What a group's driver shows."""

    @property
    def replica(self) -> Replica:
        """Its consensus."""

    @property
    def applying(self) -> Applying:
        """What is to be applied, and who waits for it."""

    @property
    def applier(self) -> Applier:
        """Its state."""

    @property
    def openings(self) -> Openings:
        """Partitions that open."""

    @property
    def leases(self) -> LeaderLeases:
        """The leader's view of leases."""

    @property
    def local(self) -> LocalReads:
        """Queries that any replica may answer."""


def at_rest(driver: Group, led_term: Term, now_ms: int) -> bool:
    """Whether nothing of what the group shows waits for a round. ``led_term``: the term in which the driver
    takes itself for the leader, 0 if it does not."""
    replica = driver.replica
    if replica.has_ready or led_term != (replica.term if replica.role == Role.LEADER else 0):
        return False
    applying, openings = driver.applying, driver.openings
    return not (
        driver.local.has_waiting or openings.parked or openings.questions or driver.applier.deletions
        or applying.may_apply or applying.must_flush or driver.leases.is_due(now_ms)
    )  # fmt: skip
