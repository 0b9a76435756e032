"""Tests and transcripts that the pages name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEST = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)
DEFINED = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in (path.stem, *TEST.findall(path.read_text(encoding="utf-8")))
}
TRANSCRIPTS = {path.stem for path in (ROOT / "tests" / "transcripts").glob("raft_*.txt")}


@pytest.mark.parametrize("page", ["divergence.md", "testing.md", "architecture.md"])
def test_what_a_page_names_exists(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    named = set(re.findall(r"\btest_\w+", text)) - {"test_planted_"}
    assert named
    assert named - DEFINED == set()
    assert set(re.findall(r"\braft_\w+", text)) - TRANSCRIPTS - {"raft_", "raft_transcript"} == set()


def test_every_pitfall_has_its_row() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \|", (ROOT / "docs" / "testing.md").read_text(encoding="utf-8"), re.M)
    assert [int(number) for row in rows for number in row.split(",")] == list(range(1, 45))
