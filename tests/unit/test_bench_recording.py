"""What all loaders share: latencies, the pace of calls, the command line."""

from __future__ import annotations

import pytest
from hdrh.histogram import HdrHistogram

from bench.runs.recording import LATE_SECONDS, OPERATIONS_MAX, Latencies, LoaderArguments, Pace
from bench.runs.results import Shape


def test_percentiles_and_the_histogram_are_of_every_latency_that_was_recorded() -> None:
    latencies = Latencies()
    for number in range(1, 1001):
        latencies.record(number / 1000)
    load = latencies.load(1000, 2.0, errors=3, cpu_seconds=0.5, extra={"gap_s": 1.5})
    assert (load.operations, load.seconds, load.errors, load.cpu_seconds) == (1000, 2.0, 3, 0.5)
    assert load.p50_ms == pytest.approx(500, rel=0.001)
    assert load.p90_ms == pytest.approx(900, rel=0.001)
    assert load.p99_ms == pytest.approx(990, rel=0.001)
    assert load.p999_ms == pytest.approx(999, rel=0.001)
    assert load.longest_ms == 1000.0
    assert load.extra == {"gap_s": 1.5}
    assert load.latencies is not None
    assert HdrHistogram.decode(load.latencies).get_total_count() == 1000


def test_a_load_without_an_answer_is_no_figure() -> None:
    with pytest.raises(ValueError, match="no call was answered, and 7 failed"):
        Latencies().load(0, 1.0, errors=7)


def test_in_a_closed_loop_calls_are_due_at_once_until_the_end() -> None:
    pace = Pace(None, 100.0, 2.0)
    assert [pace.next(now) for now in (100.0, 101.9, 102.0, 101.0)] == [100.0, 101.9, None, 101.0]


def test_at_a_rate_calls_are_due_by_the_schedule_however_late_it_is() -> None:
    pace = Pace(4.0, 100.0, 1.0)
    due = [pace.next(now) for now in (100.0, 100.0, 250.0, 0.0, 100.0)]
    assert due == [100.0, 100.25, 100.5, 100.75, None]


def test_calls_that_were_due_long_ago_are_given_up_and_counted() -> None:
    pace = Pace(4.0, 100.0, 1.0)
    assert not pace.gives_up(101.0 + LATE_SECONDS - 0.1)
    assert pace.given_up == 0
    assert all(pace.gives_up(101.0 + LATE_SECONDS) for _ in range(3))
    assert pace.given_up == 3


def test_the_number_of_calls_is_bounded_whatever_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.runs.recording.OPERATIONS_MAX", 3)
    assert OPERATIONS_MAX == 4_000_000
    pace = Pace(None, 0.0, 1e9)
    assert [pace.next(1.0) for _ in range(4)] == [1.0, 1.0, 1.0, None]


@pytest.mark.parametrize("rate", [None, 250.5])
def test_a_loader_reads_what_the_command_line_of_it_says(rate: float | None) -> None:
    shape = Shape(workload="write", callers=16, groups=4, nodes=1, value_bytes=64, keys=10, rate=rate)
    asked = LoaderArguments(target="x:1,y:2", shape=shape, seconds=1.5, warm_up=0.5, pids=(7, 8))
    command = asked.command("bench.some.loader")
    assert command[1:4] == ["-P", "-m", "bench.some.loader"]
    assert LoaderArguments.parse("bench.some.loader", "", ["write", "read"], command[4:]) == asked


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--workload", "nonsense"], "invalid choice: 'nonsense'"),
        (["--workload", "write", "--callers", "0"], "--callers 0: expected 1 to 10,000"),
        (["--workload", "write", "--value-bytes", "-1"], "--value-bytes -1: expected a number above 0"),
        (["--workload", "write", "--pids", "1,x"], "argument --pids: invalid"),
        (["--workload", "write", "--rate", "0"], "--rate 0.0: expected a number above 0"),
    ],
)
def test_a_wrong_command_line_of_a_loader_is_refused_in_words(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        LoaderArguments.parse("bench.some.loader", "", ["write"], ["--target", "x", *options])
    assert said in capsys.readouterr().err
