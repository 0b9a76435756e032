"""Each transcript of a replica group still plays as written."""

from __future__ import annotations

from pathlib import Path

import pytest
from raft_transcript import play

TRANSCRIPTS = sorted(Path(__file__).parent.glob("raft_*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=[path.stem for path in TRANSCRIPTS])
def test_transcript_plays_as_written(path: Path) -> None:
    text = path.read_text()
    assert play(text) == text


def test_there_are_transcripts() -> None:
    assert TRANSCRIPTS
