"""How results are kept: whole or not at all, and in place of nothing but a file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from bench.runs.results import keep


def test_a_file_is_made_and_made_anew_where_a_link_leads(tmp_path: Path) -> None:
    keep(tmp_path / "kept", b"one")
    (tmp_path / "link").symlink_to("kept")
    keep(tmp_path / "link", b"two")
    assert (tmp_path / "kept").read_bytes() == b"two"
    assert (tmp_path / "link").is_symlink()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["kept", "link"]


def test_a_device_stays_one() -> None:
    keep(Path("/dev/null"), b"gone")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_pipe_gets_what_is_written(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        keep(tmp_path / "pipe", b"through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)


def test_a_directory_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(IsADirectoryError):
        keep(tmp_path / "directory", b"data")
    assert [file.name for file in tmp_path.iterdir()] == ["directory"]
