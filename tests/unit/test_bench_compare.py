"""Medians and spreads of a run's repeats, verdicts on their changes, and ``quorate bench compare``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import msgspec
import pytest
from bench_runs import MACHINE, measurement, run

from bench.runs.compare import Verdict, compare_runs, compare_subjects, judge
from bench.runs.medians import FAILED, P50, SERVER_CPU, SYNCS, THROUGHPUT, Medians, Spread, group
from bench.runs.results import Load, Measurement, Run, Shape, SubjectInfo, read, write
from ops import runner

Ran = Callable[..., tuple[int, str, str]]
WRITE = Shape(workload="write", callers=64)


@pytest.fixture
def ran(capsys: pytest.CaptureFixture[str]) -> Ran:
    def call(*tokens: str) -> tuple[int, str, str]:
        code = runner.run(["bench", "compare", *tokens])
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


def spread(*values: float) -> Spread:
    return Spread(tuple(sorted(values)))


def of_rates(*rates: float, subject: str = "quorate", shape: Shape = WRITE) -> list[Measurement]:
    return [measurement(subject, shape, at, rate) for at, rate in enumerate(rates)]


def a_run(*measurements: Measurement, version: str = "1") -> Run:
    subjects = [SubjectInfo(name="quorate", title="Quorate", version=version)]
    return Run(
        began="", command="", machine=MACHINE, subjects=subjects, measurements=list(measurements)
    )


def saved(folder: Path, name: str, kept: Run) -> str:
    write(kept, folder / name)
    return str(folder / name)


def only(measurements: list[Measurement]) -> Medians:
    (found,) = group(measurements)
    return found


# --- Medians ------------------------------------------------------------------------------------------


def test_repeats_of_equal_subject_and_shape_are_one_group() -> None:
    other = Shape(workload="write", callers=16)
    mine = [*of_rates(100, 300), *of_rates(5, shape=other), *of_rates(200)]
    found = group([*mine, *of_rates(7, subject="etcd")])
    assert [(one.subject, one.shape.callers, len(one.measurements)) for one in found] == [
        ("quorate", 64, 3), ("quorate", 16, 1), ("etcd", 64, 1),
    ]  # fmt: skip
    rates = found[0].figures[THROUGHPUT.name]
    assert (rates.median, rates.low, rates.high, rates.relative) == (200, 100, 300, 1.0)


def test_the_median_of_two_repeats_is_their_mean_and_of_nothing_but_zeros_the_spread_is_none() -> None:
    assert spread(10, 20).median == 15
    assert spread(0, 0).relative == 0


def test_costs_count_for_each_operation() -> None:
    one = of_rates(1000)[0]
    figures = only([one]).figures
    assert one.cost is not None and one.cost.syncs is not None
    assert figures[SERVER_CPU.name].median == pytest.approx(one.cost.cpu_seconds * 1e6 / 4000)
    assert figures[SYNCS.name].median == one.cost.syncs / 4000


def test_what_was_not_measured_is_no_figure() -> None:
    load = Load(operations=0, seconds=2.0, errors=3, p50_ms=0, p90_ms=0, p99_ms=0, longest_ms=0)
    found = only([Measurement(subject="a", shape=WRITE, repeat=0, load=load)])
    assert set(found.figures) == {"ops/s", "p50 ms", "p99 ms", "failed %"}
    assert found.median(THROUGHPUT) == 0
    assert found.median(FAILED) == 100
    assert found.median(SERVER_CPU) is None


# --- Verdicts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "old", "new", "verdict"),
    [
        ("ops/s", (100, 101, 102), (80, 81, 82), Verdict.WORSE),
        ("ops/s", (100, 101, 102), (120, 121, 122), Verdict.BETTER),
        ("p99 ms", (100, 101, 102), (80, 81, 82), Verdict.BETTER),
        ("gap_s", (1.0, 1.01, 1.02), (2.0, 2.01, 2.02), Verdict.WORSE),
        ("events_per_s", (1.0, 1.01, 1.02), (2.0, 2.01, 2.02), Verdict.BETTER),
        ("ops/s", (100, 101, 102), (97, 98, 99), Verdict.SAME),
        ("ops/s", (60, 100, 140), (70, 80, 90), Verdict.SAME),
        ("ops/s", (90, 100, 110), (70, 80, 89), Verdict.SAME),
        ("ops/s", (100, 100), (10, 10, 10, 10), Verdict.TOO_FEW),
        ("ops/s", (100, 101, 102), (10,), Verdict.TOO_FEW),
        ("failed %", (0, 0, 0), (1, 1, 2), Verdict.WORSE),
        ("failed %", (1, 1, 2), (0, 0, 0), Verdict.BETTER),
        ("syncs/op", (1, 1, 1), (1, 1, 1), Verdict.SAME),
    ],
)
def test_a_change_is_one_if_it_is_above_the_threshold_and_the_repeats_lie_apart(
    name: str, old: tuple[float, ...], new: tuple[float, ...], verdict: Verdict
) -> None:
    assert judge(name, spread(*old), spread(*new)) is verdict


def test_the_threshold_is_what_was_asked() -> None:
    old, new = spread(100, 101, 102), spread(90, 91, 92)
    assert judge("ops/s", old, new, 0.05) is Verdict.WORSE
    assert judge("ops/s", old, new, 0.2) is Verdict.SAME


@pytest.mark.parametrize(("repeats", "most"), [(3, 0.045), (4, 0.012), (5, 0.004)])
def test_of_figures_that_did_not_change_few_are_told_to_have(repeats: int, most: float) -> None:
    draw = Random(repeats)
    trials = 4000

    def taken() -> Spread:
        return spread(*(draw.gauss(100, 20) for _ in range(repeats)))

    false = sum(judge("ops/s", taken(), taken(), 0.0) is not Verdict.SAME for _ in range(trials))
    assert false / trials < most


def test_a_change_of_five_times_the_noise_is_found() -> None:
    draw = Random(1)
    found = 0
    for _ in range(300):
        old, new = (spread(*(draw.gauss(mean, 2) for _ in range(3))) for mean in (100, 90))
        found += judge("ops/s", old, new) is Verdict.WORSE
    assert found / 300 > 0.9


# --- Two runs, and the systems of one -----------------------------------------------------------------


def test_what_only_one_run_has_is_listed_and_not_judged() -> None:
    lonely = Shape(workload="read", callers=1)
    old = a_run(*of_rates(100, 101, 102), *of_rates(5, shape=lonely))
    bare = [msgspec.structs.replace(one, cost=None) for one in of_rates(100, 101, 102)]
    found = compare_runs(old, a_run(*bare, *of_rates(7, subject="etcd")))
    assert {line.shape for line in found.lines} == {WRITE}
    told = {(one.subject, one.shape.workload, one.side): one.figures for one in found.alone}
    assert set(told) == {("quorate", "read", "old"), ("etcd", "write", "new"), ("quorate", "write", "old")}
    assert SYNCS.name in told["quorate", "write", "old"]
    assert THROUGHPUT.name not in told["quorate", "write", "old"]


def test_what_only_says_how_much_was_done_is_not_judged() -> None:
    def having(writes: float) -> Run:
        extra = {"writes": writes, "gap_s": 1.0}
        return a_run(*(measurement("quorate", WRITE, at, 100.0, extra=extra) for at in range(3)))

    found = compare_runs(having(100), having(1))
    assert "gap_s" in {line.figure for line in found.lines}
    assert "writes" not in {line.figure for line in found.lines}
    assert found.alone == []


def test_other_machines_and_versions_and_failures_are_noted() -> None:
    new = msgspec.structs.replace(
        run(repeats=1), machine=msgspec.structs.replace(MACHINE, cores=8),
        subjects=[SubjectInfo(name="quorate", title="Quorate", version="2")],
    )  # fmt: skip
    notes = compare_runs(a_run(), new).notes
    assert notes == [
        "the machines differ: cores was 2, now 8", "quorate: version 1 before, 2 now",
        "new: measurements of nats, lock that failed: 1",
    ]  # fmt: skip


def test_within_a_run_the_base_is_judged_beside_each_other_system() -> None:
    slower, faster = of_rates(50, 51, 52, subject="a"), of_rates(200, 201, 202, subject="b")
    kept = a_run(*of_rates(100, 101, 102), *slower, *faster)
    found = compare_subjects(kept, "quorate")
    rates = {line.subject: line for line in found.lines if line.figure == THROUGHPUT.name}
    assert rates["a"].verdict is Verdict.BETTER
    assert rates["b"].verdict is Verdict.WORSE
    assert rates["b"].change == pytest.approx(101 / 201 - 1)


# --- The command --------------------------------------------------------------------------------------


def test_a_figure_that_is_worse_exits_1_and_is_named(ran: Ran, tmp_path: Path) -> None:
    old, new = (saved(tmp_path, f"{factor}", run(factor=factor)) for factor in (1.0, 0.8))
    code, out, err = ran(old, new, "--changed")
    assert code == 1
    assert err.startswith("quorate: 45 of ")
    assert "figures are worse: quorate, read, 1 caller: ops/s -" in err
    assert err.count("\n") == 1
    assert "same within noise" not in out.replace(out.splitlines()[-1], "")
    assert ran(new, old)[0] == 0
    assert ran(old, new, "--threshold", "40%")[0] == 0


def test_nothing_worse_exits_0_and_too_few_repeats_are_said(ran: Ran, tmp_path: Path) -> None:
    old = saved(tmp_path, "old", run())
    assert ran(old, old)[::2] == (0, "")
    once = saved(tmp_path, "once", run(repeats=1, factor=0.5))
    code, out, err = ran(old, once)
    assert code == 0
    assert "too few repeats" in out
    assert "no verdict with fewer than 3 repeats on each side" in err


def test_json_holds_every_figure_with_its_spreads(ran: Ran, tmp_path: Path) -> None:
    old, new = (saved(tmp_path, f"{factor}", run(factor=factor)) for factor in (1.0, 1.5))
    code, out, _ = ran(old, new, "-w", "json")
    told = json.loads(out)
    assert code == 0
    assert sum(told["verdicts"].values()) == len(told["figures"])
    (line,) = (
        one for one in told["figures"]
        if (one["subject"], one["figure"]) == ("quorate", P50.name)
        and one["shape"] == msgspec.to_builtins(Shape(workload="read", callers=64))
    )  # fmt: skip
    assert line["verdict"] == "better"
    assert line["old"]["repeats"] == 3
    assert line["old"]["low"] <= line["old"]["median"] <= line["old"]["high"]
    assert line["change"] == line["new"]["median"] / line["old"]["median"] - 1


def test_systems_of_one_run_are_compared(ran: Ran, tmp_path: Path) -> None:
    kept = saved(tmp_path, "run", run())
    code, out, err = ran(kept, "--base", "quorate")
    assert code == 1
    assert "quorate beside etcd-native, write, 16 callers" in err
    assert "peer" in out.splitlines()[0]
    assert "nats: does not sync <each> write" in out
    assert "only quorate: nats, read: 1 caller; 16 callers; 64 callers; 256 callers: all figures" in out


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [
        (["RUN"], "either a second run is needed, or --base SUBJECT"),
        (["RUN", "RUN", "--base", "quorate"], "either a second run is needed, or --base SUBJECT"),
        (["RUN", "--base", "consul"], "--base consul: there are no figures of it, only of quorate, etcd"),
        (["RUN", "RUN", "--threshold", "5"], "5: expected a percentage, like 5%"),
        (["RUN", "RUN", "--threshold=-1%"], "-1%: expected a percentage, like 5%"),
        (["RUN", "RUN", "--threshold", "nan%"], "nan%: expected a percentage, like 5%"),
        (["RUN", "/nowhere"], "/nowhere: no such file or directory"),
    ],
)
def test_a_command_line_that_cannot_be_meant_is_told_so(
    ran: Ran, tmp_path: Path, tokens: list[str], reason: str
) -> None:
    kept = saved(tmp_path, "run", run(repeats=1))
    code, out, err = ran(*(kept if token == "RUN" else token for token in tokens))
    assert (code, out) == (2, "")
    assert reason in err
    assert err.count("\n") == 1


def test_runs_with_nothing_in_common_fail(ran: Ran, tmp_path: Path) -> None:
    old = saved(tmp_path, "old", a_run(*of_rates(5)))
    new = saved(tmp_path, "new", a_run(*of_rates(5, subject="etcd")))
    code, _, err = ran(old, new)
    assert (code, err) == (1, "quorate: nothing could be compared: no figure is on both sides\n")


# --- Files --------------------------------------------------------------------------------------------


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    kept = run(repeats=1)
    assert read(Path(saved(tmp_path, "run", kept))) == kept


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is no file of quorate bench run: Input data was truncated"),
        (b"\xff\xfe", "is no file of quorate bench run: JSON is malformed"),
        (b"[1]", "is no file of quorate bench run"),
        (b'{"format": "quorate-history", "version": 1}', "is no file of quorate bench run"),
        (b'{"format": "quorate-bench", "version": 9}', "is of version 9; this program reads 1"),
        (b'{"format": "quorate-bench", "version": 1}', "missing required field `began`"),
    ],
)
def test_a_file_that_is_no_run_is_told_in_one_line(
    ran: Ran, tmp_path: Path, data: bytes, reason: str
) -> None:
    file = tmp_path / "run.json"
    file.write_bytes(data)
    code, out, err = ran(str(file), "--base", "quorate")
    assert (code, out) == (2, "")
    assert reason in err
    assert str(file) in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("seconds", 0), ("operations", -1), ("errors", -1), ("p50_ms", -0.5), ("p99_ms", "3")],
)
def test_figures_that_cannot_be_are_refused(ran: Ran, tmp_path: Path, field: str, value: object) -> None:
    plain = msgspec.to_builtins(a_run(*of_rates(5)))
    plain["measurements"][0]["load"][field] = value
    file = tmp_path / "run.json"
    file.write_bytes(msgspec.json.encode(plain))
    code, _, err = ran(str(file), "--base", "quorate")
    assert code == 2
    assert f"at `$.measurements[0].load.{field}`" in err
