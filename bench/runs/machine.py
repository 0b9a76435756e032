"""The machine that a benchmark runs on, in words: figures without it say nothing."""

from __future__ import annotations

import os
import platform
import re
import statistics
import time
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from bench.runs.results import Machine

SYNCS: Final = 50
"""So many are timed."""
_PAGE: Final = b"x" * 4096


def describe(directory: Path) -> Machine:
    """This machine, with the disk of a directory that is there. Blocks for some syncs. Raises OSError if
    nothing can be written there."""
    return Machine(
        cpu=_cpu(), cores=len(os.sched_getaffinity(0)), memory_gb=round(_memory_gb(), 1),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        disk=f"{_disk(directory)}, {_sync_us(directory):.0f} µs a sync",
    )  # fmt: skip


def _cpu() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _disk(directory: Path) -> str:
    """The file system that a directory is on: its type, and the device."""
    best, found = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        device, point, kind = line.split()[:3]
        point = point.encode().decode("unicode_escape")
        if Path(point) in (directory.resolve(), *directory.resolve().parents) and len(point) >= len(best):
            best, found = point, f"{kind} on {device}"
    return found


def _sync_us(directory: Path) -> float:
    """Median time of an append and the sync of its data."""
    taken = []
    with TemporaryFile(dir=directory, buffering=0) as file:
        for _ in range(SYNCS):
            began = time.perf_counter()
            file.write(_PAGE)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e6
