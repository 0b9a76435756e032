"""Stale reads at a replica that hears its leader late: as fresh as their bound says, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from bench.histories import HistoryViolation
from bench.world.network import Endpoint, Network
from bench.world.run import Setting, run_seed
from primitives.ids import NodeId
from tests.mutations.bugs import plant

FAR: NodeId = NodeId(3)
LATE_MS = 120
READS = Setting(workloads=("reads",), callers=4, clients=5, groups=1, faults=())


@pytest.fixture(autouse=True)
def _far_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is sent to one node takes its time."""
    send = Network.send

    def slow(self: Network[Any], sender: Endpoint[Any], to: NodeId, sections: Sequence[Any]) -> bool:
        weather = self.weather
        if to == FAR:
            self.weather = replace(weather, delay_ms=(LATE_MS, LATE_MS))
        try:
            return send(self, sender, to, sections)
        finally:
            self.weather = weather

    monkeypatch.setattr(Network, "send", slow)


def test_bounds_hold_at_a_replica_that_hears_late() -> None:
    for seed in range(3):
        run_seed(seed, READS)


def test_planted_ages_that_count_from_the_arrival_of_the_proof_are_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch, "age-from-the-proofs-arrival")
    with pytest.raises(HistoryViolation, match="though it must hold"):
        for seed in range(10):
            run_seed(seed, READS)
