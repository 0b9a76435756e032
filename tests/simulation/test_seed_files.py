"""Seeds are kept in files, played again, and made smaller; whatever cannot be meant is told in one line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.world.outcomes import play
from bench.world.run import Setting
from bench.world.seedfile import SeedFile, SeedFileError, decode
from bench.world.shrinking import shrink
from bench.world.target import Fault
from ops.runner import run
from primitives.lock import LockMachine
from tests.devprocess import ROOT

BUGGY = Setting(workloads=("lock",), groups=1, fault_ms=5000, heal_ms=10_000, faults=("client", "weather"))


@pytest.fixture
def deaf_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks that nobody is granted once their holder's session has ended."""
    monkeypatch.setattr(LockMachine, "session_ended", lambda self, ctx, session: True)


def failing_seed() -> int:
    for number in range(40):
        outcome = play(number, BUGGY)
        if outcome.violation is not None and len(outcome.plan) >= 6:
            return number
    pytest.fail("no seed noticed")


@pytest.mark.usefixtures("deaf_locks")
def test_a_planted_bug_is_shrunk_to_the_faults_that_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    number, file = failing_seed(), tmp_path / "seed.json"
    options = ["--groups", "1", "--workloads", "lock", "--fault-ms", "5000", "--heal-ms", "10000",
               "--faults", "client,weather", "--nodes", "3", "--replicas", "3", "--clients", "3",
               "--callers", "2"]  # fmt: skip
    assert run(["simulate", "--seed", str(number), *options, "--shrink", "--record", str(file)]) == 1
    told = capsys.readouterr()
    assert f"repeat it with: quorate simulate --replay {file}" in told.err
    assert "faults are needed:" in told.out
    kept = decode(file.read_text())
    assert 1 <= len(kept.plan or ()) <= 3
    assert any(fault.details.get("how") in ("die", "pause", "isolate") for fault in kept.plan or ())
    again = play(kept.number, kept.setting, plan=kept.plan)
    assert again.violation == kept.violation
    assert again.digest == kept.digest
    assert run(["simulate", "--replay", str(file)]) == 1
    assert f"repeat it with: quorate simulate --replay {file}" in capsys.readouterr().err
    monkeypatch.undo()
    assert play(kept.number, kept.setting, plan=kept.plan).violation is None


def faults(count: int) -> tuple[Fault, ...]:
    return tuple(Fault(at, "crash", 10, {"node": 1}) for at in range(count))


@pytest.mark.parametrize("needed", [set(), {0}, {19}, {3, 4}, {0, 7, 19}, set(range(20))])
def test_what_is_left_of_a_plan_fails_and_nothing_in_it_can_be_left_out(needed: set[int]) -> None:
    tried = 0

    def fails(plan: tuple[Fault, ...]) -> bool:
        nonlocal tried
        tried += 1
        return needed <= {fault.at_ms for fault in plan}

    left = shrink(faults(20), fails)
    assert {fault.at_ms for fault in left} == needed
    assert tried < 200


def test_shrinking_ends_when_it_was_told_to() -> None:
    tried = 0

    def fails(plan: tuple[Fault, ...]) -> bool:
        nonlocal tried
        tried += 1
        return len(plan) >= 50

    assert len(shrink(faults(100), fails, tries_max=10)) >= 50
    assert tried <= 12


def test_a_recorded_seed_is_the_same_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "kept.json"
    options = ["--fault-ms", "2000", "--workloads", "counter"]
    assert run(["simulate", "--seed", "11", *options, "--record", str(file)]) == 0
    first = capsys.readouterr().out
    kept = decode(file.read_text())
    assert decode(kept.encode()) == kept
    assert run(["simulate", "--replay", str(file)]) == 0
    assert capsys.readouterr().out == first


def test_a_replay_that_takes_another_course_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "kept.json"
    assert run(["simulate", "--seed", "11", "--fault-ms", "1000", "--record", str(file)]) == 0
    kept = decode(file.read_text())
    file.write_text(replace(kept, digest="0" * 32).encode())
    assert run(["simulate", "--replay", str(file)]) == 1
    assert "something outside of the seed has changed" in capsys.readouterr().err


WELL = SeedFile("0.1.0", 3, BUGGY, faults(1), "").encode()


@pytest.mark.parametrize(("change", "said"), [
    ({"version": 2}, "it is of version 2; this program reads version 1"),
    ({"format": "other"}, "it is no seed file"),
    ({"product": "9.9"}, "it is of quorate 9.9; this is "),
    ({"product": 7}, "product is 7"),
    ({"seed": "x"}, "seed is 'x'"),
    ({"setting": {"nodes": 77}}, "nodes is 1 to 9, not 77"),
    ({"setting": {"colour": 1}}, "a setting has no 'colour'"),
    ({"setting": []}, "malformed"),
    ({"faults": [{"at_ms": 1, "last_ms": 1, "kind": "rain"}]}, "there is no fault 'rain'"),
    ({"faults": [{"at_ms": -1, "last_ms": 1, "kind": "crash", "node": 1}]}, "a fault is at -1"),
    ({"faults": [{"at_ms": 1, "last_ms": 1, "kind": "crash", "node": 8}]}, "a fault is on node 8"),
    ({"faults": [{"at_ms": 1, "last_ms": 1, "kind": "crash"}]}, "a crash lacks 'node'"),
    ({"faults": [{"kind": "crash"}]}, "it lacks 'at_ms'"),
    ({"faults": 3}, "faults is 3"),
    ({"faults": "a"}, "faults is 'a'"),
    ({"faults": ["a"]}, "a fault is an object, not 'a'"),
])  # fmt: skip
def test_a_seed_file_that_cannot_be_played_says_why(
    change: dict[str, object], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "seed.json"
    file.write_text(json.dumps({**json.loads(WELL), **change}))
    assert run(["simulate", "--replay", str(file)]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.startswith(f"quorate: {file}: ")
    assert told.count("\n") == 1


def test_a_file_that_is_no_json_or_not_there_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "seed.json"
    for text in ("{", "[]", "3", '{"format":', "[" * 100_000):
        file.write_text(text)
        with pytest.raises(SeedFileError):
            decode(text)
        assert run(["simulate", "--replay", str(file)]) == 2
    assert run(["simulate", "--replay", str(tmp_path / "none.json")]) == 2
    assert "No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "said"), [
    ([], "one of --seed, --seeds and --replay is needed"),
    (["--seed", "1", "--seeds", "3"], "one of --seed, --seeds and --replay is needed"),
    (["--seeds", "0"], "expected how many seeds, or FIRST-LAST"),
    (["--seeds", "9-3"], "expected how many seeds, or FIRST-LAST"),
    (["--seeds", "a"], "expected how many seeds, or FIRST-LAST"),
    (["--seed", "-1"], "expected a number from 0"),
    (["--seed", "1", "--jobs", "2"], "--jobs and --write are for many seeds"),
    (["--seed", "1", "-w", "json"], "--jobs and --write are for many seeds"),
    (["--seeds", "2", "--shrink"], "are for one seed"),
    (["--seed", "1", "--faults", "rain"], "there is no fault 'rain'; there are bridge, burst, "),
    (["--seed", "1", "--workloads", "rain"], "there is no workload 'rain'; there are bounded, "),
    (["--seed", "1", "--nodes", "10"], "nodes is 1 to 9, not 10"),
    (["--seed", "1", "--nodes", "3", "--replicas", "5"], "5 replicas do not fit on 3 nodes"),
    (["--seed", "1", "--record", "nowhere/x"], "nowhere/x: there is no directory nowhere"),
    (["--seed", "1", "--history", "nowhere/x"], "nowhere/x: there is no directory nowhere"),
    (["--seed", "1", "--nodes", "1"], "faults need two nodes at least"),
])  # fmt: skip
def test_a_command_line_that_cannot_be_meant_says_why(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["simulate", *words]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.count("\n") == 1
    assert not told.out


def test_many_seeds_are_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--workloads", "counter", "--faults", "crash,split", "--fault-ms", "3000", "-w", "jsonl"]
    assert run(["simulate", "--seeds", "4-6", *words]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = {(row["what"], row["name"]): row["count"] for row in rows}
    assert found["run", "seeds"] == 3
    assert found["run", "failures"] == 0
    assert found["run", "seeds an hour"] > 0
    assert found["workload", "counter"] == found["run", "calls"] > 0
    assert {name for what, name in found if what == "fault"} <= {"crash", "split"}


@pytest.mark.usefixtures("deaf_locks")
def test_many_seeds_tell_each_failure_with_the_command_that_repeats_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--workloads", "lock", "--faults", "client", "--heal-ms", "5000", "--fault-ms", "5000"]
    assert run(["simulate", "--seeds", "8", *words, "-w", "jsonl"]) == 1
    told = capsys.readouterr()
    lines = [line for line in told.err.splitlines() if line.startswith("repeat it with: ")]
    found = {row["name"]: row["count"] for row in map(json.loads, told.out.splitlines())}
    assert found["failures"] == len(lines) > 0
    again = lines[0].removeprefix("repeat it with: quorate ").split()
    assert run(again) == 1
    assert "no progress" in capsys.readouterr().err


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_interrupt_ends_a_run_of_many_with_what_was_seen(jobs: str) -> None:
    command = [sys.executable, "-m", "ops.main", "simulate", "--seeds", "5000", "--jobs", jobs, "-w", "json"]
    with subprocess.Popen(
        [*command, "--fault-ms", "100", "--workloads", "counter"], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as running:  # fmt: skip
        assert running.stderr is not None
        assert "of 5000 seeds" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        told, said = running.communicate(timeout=60)
    rows = {row["name"]: row["count"] for row in json.loads(told) if row["what"] == "run"}
    assert running.returncode == 130
    assert rows["seeds"] > 0
    assert f"interrupted after {rows['seeds']} of 5000 seeds" in said
    assert "Traceback" not in said
