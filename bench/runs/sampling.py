"""What processes spend, by the accounts of the Linux kernel in ``/proc``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from bench.runs.results import Cost

_PROC: Final = Path("/proc")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_STATE, _USER, _SYSTEM, _STARTED = 0, 11, 12, 19
"""Fields of ``stat``, counted behind the name of the program."""


@dataclass(frozen=True, slots=True)
class Spent:
    """By one process since it began."""

    cpu_seconds: float
    written_bytes: int | None
    """That were to go to a disk; None where the kernel does not tell us."""


def spent(pid: int) -> Spent:
    """What a process spent so far. Raises ProcessLookupError if there is none, or it has ended and only its
    parent has not noticed."""
    try:
        fields = _stat(_PROC / str(pid))
        written = _written_bytes(pid)
    except FileNotFoundError:
        fields, written = ["X"], None
    if fields[_STATE] in "ZX":
        raise ProcessLookupError(f"there is no process {pid}")
    return Spent((int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS, written)


class ThreadTimes(NamedTuple):
    """Processor time of one thread, in seconds."""

    name: str
    user: float
    system: float


def threads(pid: int) -> dict[int, ThreadTimes]:
    """What each thread of a process spent so far, the first one by the number of the process. Raises
    ProcessLookupError if there is no such process."""
    found = {}
    try:
        for entry in (_PROC / str(pid) / "task").iterdir():
            try:
                fields, name = _stat(entry), (entry / "comm").read_text().strip()
            except (FileNotFoundError, ProcessLookupError):
                continue  # A thread that has ended.
            user, system = int(fields[_USER]) / _TICKS, int(fields[_SYSTEM]) / _TICKS
            found[int(entry.name)] = ThreadTimes(name, user, system)
    except FileNotFoundError:
        raise ProcessLookupError(f"there is no process {pid}") from None
    return found


def resident_mb(pid: int) -> float:
    """Memory of a process that is in use. Raises ProcessLookupError if there is none."""
    try:
        pages = int((_PROC / str(pid) / "statm").read_text().split()[1])
    except FileNotFoundError:
        raise ProcessLookupError(f"there is no process {pid}") from None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def age_s(pid: int) -> float:
    """Seconds since a process was started. Raises FileNotFoundError if there is none."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(_stat(_PROC / str(pid))[_STARTED]) / _TICKS


def command_line(pid: int) -> bytes:
    """With which a process was started. Raises OSError if there is none, or it may not be seen."""
    return (_PROC / str(pid) / "cmdline").read_bytes()


def processes_of(command: bytes) -> list[int]:
    """Those of a command line."""
    found = []
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if command_line(int(entry.name)) == command:
                found.append(int(entry.name))
        except OSError:
            continue  # It has ended meanwhile, or is none of ours.
    return found


def _stat(process: Path) -> list[str]:
    """Of a process or a thread, by its directory."""
    return (process / "stat").read_text().rpartition(")")[2].split()


def _written_bytes(pid: int) -> int | None:
    try:
        lines = (_PROC / str(pid) / "io").read_text().splitlines()
    except PermissionError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("write_bytes:")), None)


class Meter:
    """What a cluster spends from here on."""

    def __init__(self, pids: Sequence[int], syncs: Callable[[], int] | None = None) -> None:
        """``syncs`` tells those so far, if somebody counts them: what that takes is not counted. Raises
        ProcessLookupError."""
        self._count: Final = syncs
        self._syncs: Final = 0 if syncs is None else syncs()
        self._first: Final = {pid: spent(pid) for pid in pids}

    def read(self, pids: Sequence[int]) -> Cost | None:
        """What all processes spent since; None if there are none, or they are others now, of which one died
        with its accounts. Raises ProcessLookupError."""
        if not pids or set(pids) != self._first.keys():
            return None
        last = {pid: spent(pid) for pid in pids}
        written: int | None = 0
        for pid, now in last.items():
            before = self._first[pid].written_bytes
            if written is None or now.written_bytes is None or before is None:
                written = None
            else:
                written += now.written_bytes - before
        return Cost(
            cpu_seconds=sum(now.cpu_seconds - self._first[pid].cpu_seconds for pid, now in last.items()),
            resident_mb=[round(resident_mb(pid), 1) for pid in pids], written_bytes=written,
            syncs=None if self._count is None else self._count() - self._syncs,
        )  # fmt: skip
