"""``quorate check history``: verdicts as exit codes, bad files as one line, and the page with its picture."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
from checker_story import UNKNOWN, Story

from ops import runner

HEAD = '{"format": "quorate-history", "version": 1}'
Ran = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Ran:
    def call(*tokens: str) -> tuple[int, str, str]:
        code = runner.run(["check", "history", *tokens])
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


def saved(folder: Path, story: Story) -> str:
    file = folder / "history.jsonl"
    file.write_text("".join(story.lines), encoding="utf-8")
    return str(file)


def stale() -> Story:
    story = Story("map", "names & <places>")
    story.call("a", "put", "k", 1, gives=4)
    story.begin("b", "put", "k", 3)
    story.end("b", UNKNOWN)
    story.call("a", "put", "k", 2, gives=5)
    story.call("c", "get", "k", gives=1)
    return story


def test_a_valid_history_exits_0(run: Ran, tmp_path: Path) -> None:
    story = Story("counter")
    story.call("a", "increment", gives=1)
    code, out, err = run(saved(tmp_path, story))
    assert (code, err) == (0, "")
    assert "valid: 1 calls" in out


def test_a_violation_exits_1_and_is_told_in_one_line(run: Ran, tmp_path: Path) -> None:
    code, out, err = run(saved(tmp_path, stale()), "-w", "json")
    assert code == 1
    assert re.fullmatch(r'quorate: violation: map names & <places> at "k": c: get\("k"\) → 1 fits .*\n', err)
    told = json.loads(out)
    assert told["outcome"] == "violation"
    assert told["parts"][0]["line"] == 8
    code, out, _ = run(saved(tmp_path, stale()), "-w", "simple")
    assert out.split("\t")[:3] == ["linearizable", 'map names & <places> at "k"', "violation"]


def test_what_is_undecided_exits_1_and_says_so(run: Ran, tmp_path: Path) -> None:
    story = Story("list")
    for number in range(12):
        story.begin(f"p{number}", "append", number % 3)
    for number in range(12):
        story.end(f"p{number}")
    story.call("a", "slice", gives=[9])
    code, out, err = run(saved(tmp_path, story), "--seconds", "0.001")
    assert code == 1
    assert "undecided" in out
    assert err.startswith("quorate: undecided: list x: the time bound was reached")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1: the history is empty"),
        ("no\n", "line 1: not JSON"),
        (f'{HEAD}\n{{"type": "ok", "process": "a", "time_us": 1}}\n', "line 2: process"),
    ],
)
def test_a_bad_file_exits_2_with_line_and_reason(run: Ran, tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(text)
    code, out, err = run(str(file))
    assert (code, out) == (2, "")
    assert err.startswith(f"quorate: {file}: {reason}")
    assert err.count("\n") == 1


def test_a_file_that_is_not_there_exits_2(run: Ran, tmp_path: Path) -> None:
    code, _, err = run(str(tmp_path / "none.jsonl"))
    assert code == 2
    assert err.endswith("no such file or directory\n")


def test_the_page_shows_the_violation_and_needs_nothing_else(run: Ran, tmp_path: Path) -> None:
    html = tmp_path / "page.html"
    run(saved(tmp_path, stale()), "--html", str(html))
    text = html.read_text(encoding="utf-8")
    assert text.count('<g class="call bad">') == 1
    assert text.count('<g class="call unknown">') == 1
    assert "names &amp; &lt;places&gt;" in text
    assert re.search(r"<title>c: map .*\nget\(&quot;k&quot;\) → 1\n\d+ µs – \d+ µs; line 8</title>", text)
    assert not re.search(r"src=|href=|url\(|@import|<script", text)
    assert "prefers-color-scheme: dark" in text


def test_a_page_that_cannot_be_written_is_found_out_before_anything_is_judged(
    run: Ran, tmp_path: Path
) -> None:
    code, out, err = run(saved(tmp_path, stale()), "--html", str(tmp_path / "none" / "page.html"))
    assert (code, out) == (2, "")
    assert err.startswith("quorate: the page cannot be written: ")
    assert err.count("\n") == 1


def test_a_page_that_fails_to_be_written_in_the_end_does_not_hide_the_verdict(
    run: Ran, tmp_path: Path
) -> None:
    code, out, err = run(saved(tmp_path, stale()), "--html", "/dev/full")
    assert code == 1
    assert "violation: 4 calls" in out
    assert re.fullmatch(r"quorate: violation: map .* fits nowhere.*; but the page could not be .*\n", err)
    story = Story("counter")
    story.call("a", "increment", gives=1)
    code, _, err = run(saved(tmp_path, story), "--html", "/dev/full")
    assert code == 1
    assert err.startswith("quorate: valid; but the page could not be written to /dev/full: ")


def test_names_reach_the_terminal_without_control_characters(run: Ran, tmp_path: Path) -> None:
    story = Story("register", "n\x1b[2J\x9bm\n")
    story.call("a\x1b[31m", "set", 1, gives=1)
    story.call("b\x1b[31m", "get", gives=2)
    for format in ("table", "simple"):
        code, out, err = run(saved(tmp_path, story), "-w", format)
        assert code == 1
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", out + err)
        assert "n\\x1b[2J\\x9bm\\n" in out


def test_labels_of_the_picture_have_room_to_the_right_edge(run: Ran, tmp_path: Path) -> None:
    """A character of the font takes 0.602 of its size of 12 pixels, a wide one twice as much."""
    html = tmp_path / "page.html"
    for value in ("x" * 60, "字" * 40, "x"):
        story = Story("register")
        story.call("a", "set", 1, gives=1)
        story.call("b", "get", gives=value)
        run(saved(tmp_path, story), "--html", str(html))
        text = html.read_text(encoding="utf-8")
        width = int(re.findall(r'<svg [^>]* width="(\d+)"', text)[0])
        labels = re.findall(r'<text x="(\d+)" y="\d+">([^<]*)</text></g>', text)
        assert len(labels) == 2
        for x, label in labels:
            columns = sum(2 if ord(character) > 0x2E80 else 1 for character in unescape(label))
            assert int(x) + columns * 0.602 * 12 <= width
