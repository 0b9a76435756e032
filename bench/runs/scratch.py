"""Clusters that are measured and thrown away, and how it is told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.runs.quorate_subject import QUORATE, DevCluster


def say(text: str) -> None:
    """Tells how it goes."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


@contextmanager
def a_directory(parent: Path | None) -> Iterator[Path]:
    """A fresh directory, which is removed in the end."""
    with TemporaryDirectory(prefix="quorate-bench-", dir=parent, ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def a_cluster(directory: Path, nodes: int, groups: int) -> Iterator[DevCluster]:
    """A fresh ``quorate dev``. Its data stays in the directory, under ``data/``. Raises RuntimeError if it
    does not serve."""
    cluster = QUORATE.start(directory, nodes, groups)
    try:
        yield cluster
    finally:
        cluster.stop()
