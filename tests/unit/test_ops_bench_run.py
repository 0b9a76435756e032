"""``quorate bench run`` as a command: what it refuses, what it says, what it leaves in the file."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.runs.registry import SUBJECTS
from bench.runs.results import Load, Machine, Measurement, Shape, read
from bench.runs.runner import Runner
from bench.runs.workloads import WORKLOADS
from ops import bench_run, runner

Ran = Callable[..., tuple[int, str, str]]
LOAD = Load(operations=100, seconds=1.0, p50_ms=1.0, p90_ms=2.0, p99_ms=3.0, longest_ms=4.0)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ran:
    monkeypatch.chdir(tmp_path)

    def call(*tokens: str) -> tuple[int, str, str]:
        code = runner.run(["bench", "run", *tokens])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Nothing is started: each measurement has the same figures, or the failure that is put in here."""
    raised: list[Any] = []

    def batch(self: Runner, batch: Any) -> None:
        for step in batch.steps:
            if raised:
                raised.pop()()
            measurement = Measurement(
                subject=step.subject.name, shape=step.shape, repeat=step.repeat, load=LOAD
            )
            self._keep(step, measurement)

    monkeypatch.setattr(Runner, "_batch", batch)
    yield raised


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--subjects", "quorate,nonsense"], "there is no subject 'nonsense'; there are quorate"),
        (["--workloads", "write,nonsense"], "there is no workload 'nonsense'; there are write, read, "),
        (["--workloads", ""], "expected names, with commas between them"),
        (["--callers", "0"], "0: expected a number above 0"),
        (["--callers", "1,10001"], "--callers 10001: at most 10,000"),
        (["--value-bytes", "2000000"], "--value-bytes 2000000: at most 1,048,576"),
        (["--groups", "5000"], "--groups 5000: at most 1,024"),
        (["--rate", "fast"], "fast: expected calls a second, above 0"),
        (["--rate", "nan"], "nan: expected calls a second, above 0"),
        (["--rate", "10", "--workloads", "election"], "calls of election cannot be begun at a rate"),
        (["--seconds", "0"], "'0' is not a duration above 0"),
        (["--output", "no/r.json"], "the file for the results cannot be written: no/r.json: no such file"),
        (["--output", "."], "the file for the results cannot be written: .: is a directory"),
        (["--data", "nowhere"], "--data nowhere: there is no such directory"),
        (["--data", "/proc"], "/proc cannot have the data: "),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line_before_anything_starts(
    run: Ran, options: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Runner, "execute", lambda self: pytest.fail("it was started"))
    code, out, err = run(*options)
    assert (code, out) == (2, "")
    assert said in err
    assert err.startswith("quorate: ")
    assert err.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_without_histograms_it_says_what_installs_them(run: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_run, "find_spec", lambda name: None)
    assert run() == (
        1, "", "quorate: quorate bench run needs the package hdrhistogram: make install-bench installs it\n"
    )  # fmt: skip


def test_without_more_words_it_takes_less_than_five_minutes(run: Ran, pretended: list[Any]) -> None:
    code, _, err = run()
    assert code == 0
    about = err.splitlines()[-2].rpartition("about ")[2]
    amount, unit = float(about[:-1]), about[-1]
    assert unit == "s" or (unit == "m" and amount < 5), err


def test_a_run_is_kept_and_shown_and_its_command_asks_for_the_same(run: Ran, pretended: list[Any]) -> None:
    options = ["--subjects", "quorate-one,quorate", "--workloads", "write,counter", "--callers", "1,2"]
    code, out, err = run(*options, "--repeats", "2", "--groups", "4", "--seconds", "1.5s", "-o", "first.json")
    assert code == 0, err
    assert "16 measurements of quorate-one, quorate: about " in err
    assert err.endswith("quorate: the results are in first.json\n")
    assert "100/s" in out
    first = read(Path("first.json"))
    assert len(first.measurements) == 16
    assert {one.name: one.missing for one in first.subjects} == {"quorate-one": None, "quorate": None}
    assert first.machine.cores >= 1
    assert "µs a sync" in first.machine.disk
    program, *words = first.command.split()
    assert (program, words[:2]) == ("quorate", ["bench", "run"])
    assert run(*words[2:], "-o", "second.json")[0] == 0
    second = read(Path("second.json"))
    assert second.command == first.command
    shapes = [[(one.subject, one.shape, one.repeat) for one in run.measurements] for run in (first, second)]
    assert shapes[0] == shapes[1]


def test_a_file_of_its_own_is_named_after_the_time(run: Ran, pretended: list[Any]) -> None:
    assert run("--subjects", "quorate")[0] == 0
    [file] = Path().iterdir()
    assert msgspec.json.decode(file.read_bytes())["format"] == "quorate-bench"
    assert file.name.startswith("bench-20")


def test_a_system_that_is_missing_is_named_with_the_reason_and_left_out(
    run: Ran, pretended: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(SUBJECTS["quorate"]), "missing", lambda self: _lacks(self.name))
    code, _, err = run("--subjects", "quorate,quorate-one", "-o", "r.json")
    assert code == 0
    assert err.startswith("quorate: quorate is left out: it is not installed: make it\n")
    found = read(Path("r.json"))
    assert [(one.name, one.missing) for one in found.subjects] == [
        ("quorate", "it is not installed: make it"), ("quorate-one", None),
    ]  # fmt: skip
    assert {one.subject for one in found.measurements} == {"quorate-one"}
    code, _, err = run("--subjects", "quorate")
    assert (code, err.splitlines()[-1]) == (1, "quorate: none of the systems is installed here")


def _lacks(name: str) -> str | None:
    return "it is not installed: make it" if name == "quorate" else None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_found_before_an_interrupt_is_kept_and_said(
    run: Ran, pretended: list[Any], number: signal.Signals
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    pretended += [lambda: os.kill(os.getpid(), number), lambda: None]
    # Ignored where the tests are a job in the background, which a shell's interrupt is not meant for.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code, _, err = run("--subjects", "quorate", "--callers", "1", "-o", "r.json")
    finally:
        signal.signal(signal.SIGINT, inherited)
    assert code == 130
    assert "interrupted; 1 of 2 measurements are in r.json" in err
    assert [one.shape for one in read(Path("r.json")).measurements] == [Shape(workload="write", callers=1)]
    assert signal.getsignal(signal.SIGTERM) is before


def test_data_in_memory_are_warned_of(
    run: Ran, pretended: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(cpu="", cores=2, memory_gb=1, system="", python="", disk="tmpfs on tmpfs, 1 µs a sync")
    monkeypatch.setattr(bench_run, "describe", lambda directory: machine)
    code, _, err = run("--subjects", "quorate", "--data", ".")
    assert code == 0
    assert err.startswith("quorate: . is in memory: the figures will be those of no disk; --data names")


def test_help_names_every_workload(run: Ran) -> None:
    code, out, _ = run("--help")
    assert code == 0
    words = set(out.replace(",", " ").replace(".", " ").split())
    assert WORKLOADS.keys() <= words
