"""All planted bugs together, and how a test plants one."""

from __future__ import annotations

from tests.mutations import (
    bursts,
    elections,
    freshness,
    machines,
    replication,
    sessions_and_leases,
    storing,
)
from tests.mutations.registry import MUTATIONS, Mutation, Patch, planted

__all__ = ["MUTATIONS", "PARTS", "Mutation", "Patch", "plant", "planted"]

PARTS = (elections, replication, storing, sessions_and_leases, machines, freshness, bursts)
"""Where the definitions stand."""


def plant(patch: Patch, name: str) -> None:
    """Plants a bug until ``patch``, a test's ``monkeypatch`` for instance, takes it back."""
    MUTATIONS[name].plant(patch)
