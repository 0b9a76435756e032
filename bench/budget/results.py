"""Where the processor time of one write goes, as it was found."""

from __future__ import annotations

import msgspec

from bench.budget.accounts import Account
from bench.budget.steps import KERNEL, REST, ROCKSDB, STEPS, SYNC
from bench.runs.results import Machine


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One process under one load."""

    process: str
    """client, leading node, or other node: the mean of those."""
    account: Account
    """Microseconds a write."""
    samples: dict[str, int] = {}
    """By step: how often a profiler saw the first thread in it. Empty without one."""

    def steps(self) -> dict[str, float]:
        """Microseconds a write of each step: time in the system and of other threads as the system accounts
        for it, the program's by its samples."""
        found = dict.fromkeys(STEPS, 0.0)
        inside = {name: count for name, count in self.samples.items() if name != KERNEL}
        total = sum(inside.values())
        for name, count in inside.items():
            found[name] += self.account.user * count / total
        if not total:
            found[REST] += self.account.user
        found[KERNEL] += self.account.system
        found[SYNC] += self.account.sync
        found[ROCKSDB] += self.account.rocksdb
        return found


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """One load."""

    callers: int
    operations_per_second: float
    p50_ms: float
    parts: list[Part]
    nodes: int

    @property
    def whole(self) -> float:
        """Microseconds a write of all processes together."""
        return sum(
            part.account.total * (self.nodes - 1 if part.process == OTHER else 1) for part in self.parts
        )


CLIENT = "client"
LEADER = "leading node"
OTHER = "other node"


class Budget(msgspec.Struct, kw_only=True):
    """All loads."""

    began: str
    command: str
    machine: Machine
    product: str
    profiler: str
    """Empty: there was none."""
    loads: list[Loaded] = []
