"""Which faults come in which episode, how gaps are found, and how a broken history shows."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest

from bench.processes.__main__ import parser, run
from bench.processes.episode import Happened, Outcome
from bench.processes.faults import REGISTRY
from bench.processes.faults_all import LOADED
from bench.processes.gap import Trial, _analyse
from bench.processes.gaps import gaps_of
from bench.processes.judging import judge
from bench.processes.network import CannotRun
from bench.processes.planning import plans
from bench.processes.report import Run, page

ALL = [REGISTRY[name] for name in LOADED]


def test_every_fault_comes_by_turns_and_the_seed_decides_the_order() -> None:
    episodes = list(islice(plans(7, [3, 5], ALL, ["map"]), 40))
    times = {kind.NAME: sum(plan.faults.count(kind) for plan in episodes) for kind in ALL}
    assert min(times.values()) >= max(times.values()) / 3 > 1, times
    assert [plan.nodes for plan in episodes[:4]] == [3, 5, 3, 5]
    assert [plan.faults for plan in episodes] == [
        plan.faults for plan in islice(plans(7, [3, 5], ALL, ["map"]), 40)
    ]
    assert episodes[0].faults != next(plans(8, [3, 5], ALL, ["map"])).faults


def test_faults_of_one_episode_can_be_together() -> None:
    for plan in islice(plans(3, [3], ALL, ["map"]), 200):
        assert len({kind.STORE for kind in plan.faults} - {None}) <= 1
        assert [kind.IS_LAST for kind in plan.faults[:-1]] == [False] * (len(plan.faults) - 1)


def test_the_gap_of_a_killed_leader_is_the_longest_time_without_an_answer() -> None:
    acks = [["ack", 1, 10.0 + number * 0.01] for number in range(100)]
    acks += [["ack", 1, 11.4 + number * 0.01] for number in range(400)]
    acks += [["ack", 2, 10.0 + number * 0.01] for number in range(600)]
    looks = [["leaders", {"0": 1, "1": 1, "2": 2}, 10.5], ["leaders", {"0": 3, "1": 3, "2": 2}, 11.3]]
    trial = Trial("n1", 11.0)
    _analyse([trial], [*acks, *looks])
    assert trial.gaps == {1: pytest.approx(0.41)}
    assert trial.led == {1: pytest.approx(0.3)}


def test_a_history_that_cannot_be_makes_its_episode_fail(tmp_path: Path) -> None:
    call = {"type": "invoke", "process": "a", "kind": "counter", "name": "c"}
    events = [
        {"format": "quorate-history", "version": 1},
        {**call, "time_us": 1, "op": "add", "args": [2]},
        {"type": "ok", "process": "a", "time_us": 2, "result": 2},
        {**call, "time_us": 3, "op": "get", "args": []},
        {"type": "ok", "process": "a", "time_us": 4, "result": 0},
    ]
    (tmp_path / "counter.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    outcome = Outcome(1, "1/1", 3, ["counter", "map"])
    judge(outcome, tmp_path)
    assert outcome.verdicts["counter"]["verdict"] == "violation"
    assert outcome.verdicts["map"]["text"] == "there is no history"
    assert "counter c" in (tmp_path / "counter.html").read_text()
    assert len(outcome.problems) == 2
    assert not outcome.is_good


def test_the_report_shows_faults_gaps_and_verdicts() -> None:
    outcome = Outcome(4, "1/4", 3, ["map"], begin=100.0, end=130.0, healed=120.0, progress_seconds=0.5)
    outcome.faults = [Happened("kill", 105.0, "n2 <the leader>", 110.0), Happened("loss", 104.0, "5%", 111.0)]
    gaps = [["all", 105.0, 107.5], ["map", 104.0, 108.0]]
    outcome.samples = [
        {"at": 103.0, "writes": 50, "reads": 10, "failed": 0, "unknown": 0, "gaps": []},
        {"at": 108.0, "writes": 5, "reads": 1, "failed": 0, "unknown": 1, "gaps": gaps},
    ]
    outcome.verdicts = {"map": {"verdict": "valid", "calls": 66, "unknown": 1, "seconds": 0.1, "text": ""}}
    gap, of_map = gaps_of(outcome)
    assert (of_map.whose, of_map.seconds) == ("map", 4.0)
    assert (gap.episode, gap.at, gap.seconds) == (4, 5.0, 2.5)
    assert [one.name for one in gap.faults] == ["kill", "loss"]
    run = Run.begin(seed=1, minutes=1.0)
    run.outcomes.append(outcome)
    shown = page(run)
    texts = ("n2 &lt;the leader&gt;", "No violation, no hang", "1 ✓", 'id="e4"', "no write for 2.50 s")
    for text in texts:
        assert text in shown
    outcome.problems.append("map: a violation")
    assert "Failed episodes: 1" in page(run)


def test_a_report_that_can_go_nowhere_is_told_before_any_node_starts(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    arguments = parser().parse_args(["--report", str(tmp_path / "taken" / "report")])
    with pytest.raises(CannotRun, match="taken/report: Not a directory"):
        run(arguments)
