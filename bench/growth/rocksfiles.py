"""What RocksDB's own files tell from outside: how much write-ahead logs grew, and which jobs ran when."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

LOOK_SECONDS: Final = 0.02
"""A write-ahead log stays for longer than this after its last byte: until its rows are flushed to tables."""
_EVENT: Final = re.compile(r"EVENT_LOG_v1 (\{.*\})")
KINDS: Final = ("flush", "compaction")


class WalGrowth:
    """Follows the write-ahead logs of databases, in a thread."""

    def __init__(self, databases: Sequence[Path]) -> None:
        self._databases: Final = databases
        self._sizes: Final[dict[Path, int]] = {}
        self._is_over: Final = threading.Event()
        self._look()
        self._first: Final = dict(self._sizes)
        self._thread: Final = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._is_over.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        for database in self._databases:
            for file in database.glob("*.log"):
                try:
                    self._sizes[file] = file.stat().st_size
                except FileNotFoundError:
                    continue  # Deleted since it was listed; its size is that of the look before.

    def stop(self) -> int:
        """Ends it; returns the bytes by which all logs grew."""
        self._is_over.set()
        self._thread.join()
        self._look()
        return sum(size - self._first.get(file, 0) for file, size in self._sizes.items())


class Job(NamedTuple):
    """Something that RocksDB did in the background. Times are of ``time.time``."""

    kind: str
    """One of ``KINDS``."""
    began: float
    ended: float
    written_bytes: int


def jobs(database: Path, since: float) -> list[Job]:
    """Those that ended from ``since`` on. Read it when the database is closed, which writes out what it has
    to tell. Raises ValueError if the files do not reach so far back."""
    files = sorted(database.glob("LOG.old.*"), key=lambda file: int(file.suffix[1:]))
    files.append(database / "LOG")
    if _began(files[0]) > since:
        raise ValueError(f"{files[0]} and later ones do not reach back to the beginning")
    return [job for job in _jobs(_events(files)) if job.ended >= since]


def _began(file: Path) -> float:
    """When the first line was written. Raises ValueError if it does not tell."""
    with file.open(errors="replace") as lines:
        return datetime.strptime(lines.readline().partition(" ")[0], "%Y/%m/%d-%H:%M:%S.%f").timestamp()


def _jobs(events: Iterable[Mapping[str, Any]]) -> list[Job]:
    """All that ended."""
    found = []
    open_jobs: dict[int, tuple[str, float, int]] = {}
    for event in events:
        at, name, number = event["time_micros"] / 1e6, event["event"], event.get("job", 0)
        kind, _, what = name.partition("_")
        if kind in KINDS and what == "started":
            open_jobs[number] = (kind, at, 0)
        elif name == "table_file_creation" and number in open_jobs:
            of, began, written = open_jobs[number]
            open_jobs[number] = (of, began, written + event["file_size"])
        elif kind in KINDS and what == "finished" and number in open_jobs:
            found.append(Job(open_jobs[number][0], open_jobs[number][1], at, open_jobs.pop(number)[2]))
    return found


def _events(files: Iterable[Path]) -> Iterator[Mapping[str, Any]]:
    """Of a database's own logs, from the oldest on."""
    for file in files:
        for line in file.read_text(errors="replace").splitlines():
            if event := _EVENT.search(line):
                yield msgspec.json.decode(event[1], type=dict[str, Any])


def clipped(job: Job, began: float, ended: float) -> tuple[float, float] | None:
    """The part of a job that lies between two moments, in seconds from the first."""
    low, high = max(job.began, began), min(job.ended, ended)
    return (low - began, high - began) if low < high else None


def now() -> float:
    """By the clock of the jobs."""
    return time.time()
