"""The registry of planted bugs: each changes the product, is taken back, and is noticed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.mutations.__main__ import main
from tests.mutations.bugs import MUTATIONS, planted
from tests.mutations.quick import BEGIN, END, quick_rows, rows
from tests.mutations.suites import SUITES, Files

ROOT = Path(__file__).parents[2]
QUICK = [row.name for row in quick_rows()]


class Recorder:
    """Carries changes out and keeps what was there before."""

    def __init__(self) -> None:
        self.changes: list[tuple[Any, str, Any, Any]] = []
        self._patch = pytest.MonkeyPatch()

    def setattr(self, target: Any, name: str, value: Any) -> None:
        self.changes.append((target, name, vars(target)[name], value))
        self._patch.setattr(target, name, value)

    def setitem(self, dic: dict[Any, Any], name: Any, value: Any) -> None:
        self._patch.setitem(dic, name, value)

    def undo(self) -> None:
        self._patch.undo()


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_changes_what_is_there_and_is_taken_back(name: str) -> None:
    recorder = Recorder()
    try:
        MUTATIONS[name].plant(recorder)
        assert recorder.changes
        for target, attribute, former, value in recorder.changes:
            assert vars(target)[attribute] is value is not former, attribute
    finally:
        recorder.undo()
    for target, attribute, former, _ in recorder.changes:
        assert vars(target)[attribute] is former, attribute


def test_a_mutation_ends_with_its_context() -> None:
    from raftgroup import election

    before = election._up_to_date
    with planted("votes-for-shorter-logs"):
        assert election._up_to_date is not before
    assert election._up_to_date is before


def test_mutations_name_a_rule_and_suites_that_there_are() -> None:
    assert len(MUTATIONS) >= 24
    for mutation in MUTATIONS.values():
        pitfall = re.fullmatch(r"pitfall (\d+)", mutation.rule)
        assert pitfall is None or 1 <= int(pitfall[1]) <= 44
        assert mutation.breaks.endswith(".")
        assert mutation.suites
        assert set(mutation.suites) <= set(SUITES)


def test_files_of_suites_are_there() -> None:
    for suite in SUITES.values():
        if isinstance(suite, Files):
            assert all((ROOT / path).exists() for path in suite.paths), suite


def test_the_page_tells_of_each_planted_bug_what_noticed_it() -> None:
    told = rows()
    assert [row.name for row in told] == list(MUTATIONS)
    assert all(row.suite in MUTATIONS[row.name].suites for row in told)


def test_the_command_tells_what_noticed_a_bug_and_goes_on_where_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "one-host-applies-differently"
    results, page = tmp_path / "results", tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    arguments = ["--only", name, "--results", str(results), "--markdown", str(page)]
    assert main(arguments) == 0
    assert "bare, seed 0: InvariantViolation" in capsys.readouterr().out
    before = results.read_text()
    assert main(arguments) == 0
    assert results.read_text() == before
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert f"| {name} | " in text
    assert "old" not in text


def test_the_command_fails_for_a_bug_that_nothing_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "failed-sync-tried-again", "--suites", "counter", "--minutes", "0"]) == 1
    assert "not noticed: failed-sync-tried-again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "no-such"], "no mutation is named no-such"), (["--suites", "x"], "no suite is named x"),
        (["--results", "RESULTS"], "line 1: not a result of this command"),
        (["--results", "nowhere/results"], "nowhere/results: there is no directory nowhere"),
        (["--markdown", "nowhere/page.md"], "nowhere/page.md: there is no directory nowhere"),
    ],
)  # fmt: skip
def test_bad_arguments_give_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    results = tmp_path / "results"
    results.write_text("{}\n")
    with pytest.raises(SystemExit):
        main([str(results) if word == "RESULTS" else word for word in arguments])
    assert said in capsys.readouterr().err


@pytest.fixture(scope="module")
def noticed() -> dict[str, str]:
    """By name, for all that are quickly noticed: 1 if it was."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutations.quick"], cwd=ROOT, check=True, stdout=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONHASHSEED": "0"},
    )  # fmt: skip
    return dict(line.split() for line in done.stdout.splitlines())  # type: ignore[misc]  # two words each


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_that_is_quickly_noticed_is_noticed(name: str, noticed: dict[str, str]) -> None:
    assert noticed[name] == "1"
