"""Stale reads at a replica that hears its leader late: as fresh as their bound says, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from bench.histories import HistoryViolation
from bench.world.clock import Heap, Seed, Trace
from bench.world.cluster import Cluster
from bench.world.network import Endpoint, Network
from bench.world.run import Setting, run_seed
from primitives.catalog import CatalogOp
from primitives.ids import CATALOG_ID, GroupId, NodeId, SlotId
from primitives.records import Query, Read, Type
from raftgroup.types import Index
from shards.localreads import ROUND_MS
from shards.ports import Origin
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


def test_no_boot_of_a_node_asks_for_proofs_under_the_numbers_of_another_one() -> None:
    """What a former boot asked for may be answered to the next one, and proves nothing to it."""
    heap = Heap()
    cluster = Cluster(heap, Trace(heap), Seed(1), nodes=3, groups=1, replicas=3)
    for node in cluster.nodes:
        cluster.restart(node)
    asked: list[int] = []
    for _ in range(3):
        assert heap.run_until(heap.now_ms + 60_000, cluster.has_formed)
        local = cluster.up[FAR].engine.groups[GroupId(1)].local
        query = Query(SlotId(1), 1, CATALOG_ID, 0, Type.CATALOG, CatalogOp.LOOKUP, Read.STALE, 0, [], b"")
        local.add(Origin(FAR, 5, 1), query)
        assert not list(local.due(1000, Index(0), 0, leads=False))
        asked += [local.begin(at_ms) or 0 for at_ms in (1000, 1000 + ROUND_MS, 1000 + 2 * ROUND_MS)]
        cluster.crash(FAR)
        cluster.restart(FAR)
    assert all(asked)
    assert len(set(asked)) == len(asked)


def test_planted_ages_that_count_from_the_arrival_of_the_proof_are_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch, "age-from-the-proofs-arrival")
    with pytest.raises(HistoryViolation, match="though it must hold"):
        for seed in range(10):
            run_seed(seed, READS)
