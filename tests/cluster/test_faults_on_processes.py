"""Short episodes of faults on real nodes in namespaces; the long ones are ``python -m bench.processes``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from bench.processes.episode import Plan, play
from bench.processes.faults import REGISTRY
from bench.processes.faults_all import LOADED
from bench.processes.judging import judge
from bench.processes.network import CannotRun, Network, a_network
from bench.processes.report import Run, page

pytestmark = pytest.mark.cluster
NAMES = ("n1", "n2", "n3")
WORKLOADS = ("register", "map", "counter", "set", "queue", "lock", "election", "watch")
LONGEST = 3.0
"""Of a fault, in seconds."""


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    try:
        with a_network(NAMES) as made:
            yield made
    except CannotRun as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    "faults",
    [("halves", "kill-minority"), ("disk-full", "one-way"), ("loss", "freeze")],
    ids=" and ".join,
)
def test_histories_hold_under_faults_and_all_goes_on_after_healing(
    network: Network, tmp_path: Path, faults: tuple[str, ...]
) -> None:
    assert set(faults) <= set(LOADED)
    kinds = [REGISTRY[name] for name in faults]
    plan = Plan(1, f"short {' '.join(faults)}", len(NAMES), kinds, WORKLOADS, 10.0, LONGEST)
    outcome = trio.run(play, plan, network, tmp_path)
    judge(outcome, tmp_path)
    assert outcome.problems == []
    assert {one.name for one in outcome.faults} == set(faults)
    found = {name: verdict["verdict"] for name, verdict in outcome.verdicts.items()}
    assert found == dict.fromkeys(WORKLOADS, "valid")
    assert sum(sample["writes"] for sample in outcome.samples) > 200
    run = Run.begin(seed=1, minutes=1.0)
    run.outcomes.append(outcome)
    assert str(tmp_path) not in page(run)
