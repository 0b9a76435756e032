"""What a run measures, in which order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.runs.plan import Plan, shapes
from bench.runs.results import Shape
from bench.runs.subjects import Cluster
from bench.runs.workloads import OPEN_CALLERS, WORKLOADS


@dataclass(frozen=True)
class Named:
    """A system that is never started."""

    name: str
    server: str
    workloads: frozenset[str] = frozenset({"write", "read"})
    title: str = ""
    note: str = ""

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return ""

    def start(self, directory: Path, nodes: int, groups: int) -> Cluster:
        raise NotImplementedError

    def load(self, cluster: Cluster, shape: Shape, seconds: float, warm_up: float) -> list[str]:
        raise NotImplementedError


def test_all_combinations_are_measured_once() -> None:
    found = shapes(["write", "read", "write"], callers=[1, 16], groups=[4, 8], value_bytes=[16, 64])
    assert len(found) == len(set(found)) == 16
    assert {(one.workload, one.callers, one.groups, one.value_bytes) for one in found} == {
        (workload, callers, groups, size)
        for workload in ("write", "read") for callers in (1, 16) for groups in (4, 8) for size in (16, 64)
    }  # fmt: skip


def test_a_sweep_of_values_is_the_write_of_each_size_and_none_is_measured_twice() -> None:
    found = shapes(["values", "write"], callers=[64])
    assert {one.workload for one in found} == {"write"}
    assert [one.value_bytes for one in found] == [16, 128, 1024, 4096, 16384, 65536]


def test_what_belongs_to_a_workload_is_not_asked_for() -> None:
    assert [one.callers for one in shapes(["lock-contended"], callers=[1, 64])] == [16]
    assert {one.value_bytes for one in shapes(["counter"], value_bytes=[16, 1024])} == {128}


def test_recovery_comes_last_for_what_it_leaves_behind() -> None:
    found = shapes(["recovery", "read", "values"], callers=[1], value_bytes=[16])
    assert [one.workload for one in found] == ["read", "write", "recovery"]


def test_at_a_rate_many_calls_may_be_under_way_unless_said_otherwise() -> None:
    assert [one.callers for one in shapes(["write"], rate=100.0)] == [OPEN_CALLERS]
    assert [one.callers for one in shapes(["write"], rate=100.0, callers=[8])] == [8]


@pytest.mark.parametrize("name", [name for name, kind in WORKLOADS.items() if not kind.at_rate])
def test_what_cannot_be_begun_at_a_rate_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"calls of {name} cannot be begun at a rate"):
        shapes([name], rate=100.0)


def test_servers_take_turns_forwards_and_backwards_and_share_a_cluster_by_server() -> None:
    subjects = [Named("a", "one"), Named("b", "two"), Named("b-native", "two", frozenset({"write"}))]
    plan = Plan(
        subjects=subjects, shapes=shapes(["write", "read"], callers=[1]), repeats=2, seconds=1.0, warm_up=1.0
    )
    order = [
        (batch.server.server, [(step.subject.name, step.shape.workload, step.repeat) for step in batch.steps])
        for batch in plan.batches()
    ]
    assert order == [
        ("one", [("a", "write", 0), ("a", "read", 0)]),
        ("two", [("b", "write", 0), ("b-native", "write", 0), ("b", "read", 0)]),
        ("two", [("b-native", "write", 1), ("b", "write", 1), ("b", "read", 1)]),
        ("one", [("a", "write", 1), ("a", "read", 1)]),
    ]
    assert plan.count == 10


def test_each_number_of_groups_has_a_cluster_of_its_own() -> None:
    plan = Plan(
        subjects=[Named("a", "one")], shapes=shapes(["write", "read"], callers=[1, 2], groups=[1, 16]),
        repeats=1, seconds=1.0, warm_up=1.0,
    )  # fmt: skip
    assert [(batch.groups, len(batch.steps)) for batch in plan.batches()] == [(1, 4), (16, 4)]
