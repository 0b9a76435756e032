"""Profilers of running processes: py-spy, which sees interpreted and compiled frames, and perf, which stops
nothing and sees into the system, but no interpreted frames."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from bench.budget.stacks import Profile, of_perf, of_spy

SPY_RATE: Final = 199
"""Samples a second of each process: for each it is stopped for some hundred microseconds."""
PERF_RATE: Final = 799
STACK_BYTES: Final = 24576
"""Of each sample of perf, from which it finds the calls."""
END_SECONDS: Final = 120.0
"""For a profiler to write what it has."""


class CannotProfile(Exception):
    """The profiler did not do it, and the text says why."""


class Profiler(Protocol):
    """Looks at processes for a while."""

    @property
    def name(self) -> str:
        """Of the program."""

    def missing(self) -> str | None:
        """Why it cannot be used, and what to do about it."""

    def start(self, pids: Sequence[int], seconds: float, directory: Path) -> None:
        """Begins."""

    def finish(self) -> Mapping[int, Profile]:
        """What the first threads of the processes did, once the time is over. Raises CannotProfile."""

    def abandon(self) -> None:
        """Ends it without a result, if it runs."""


def core_is_compiled() -> bool:
    """Whether nodes of this program have a compiled core."""
    core = importlib.util.find_spec("raftgroup.replica")
    return core is not None and core.origin is not None and not core.origin.endswith(".py")


class _Runs:
    """Processes of a profiler."""

    def __init__(self) -> None:
        self._running: dict[int, tuple[subprocess.Popen[str], Path]] = {}

    def _begin(self, pid: int, command: Sequence[str], file: Path) -> None:
        self._running[pid] = (
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                text=True,
            ),
            file,
        )  # fmt: skip

    def _ended(self) -> dict[int, Path]:
        """Their files, by what they were begun for."""
        found = {}
        for pid, (process, file) in list(self._running.items()):
            try:
                _, errors = process.communicate(timeout=END_SECONDS)
            except subprocess.TimeoutExpired:
                self.abandon()
                raise CannotProfile(f"{process.args!r} did not end") from None
            del self._running[pid]
            if process.returncode != 0 or not file.is_file():
                said = errors.strip().splitlines()
                raise CannotProfile(said[-1] if said else f"it ended with code {process.returncode}")
            found[pid] = file
        return found

    def abandon(self) -> None:
        """Ends them without a result."""
        for process, _ in self._running.values():
            process.send_signal(signal.SIGINT)
            process.communicate()
        self._running.clear()


class Spy(_Runs):
    """py-spy."""

    name: Final = "py-spy"

    def missing(self) -> str | None:
        """See :class:`Profiler`."""
        if self._program() is None:
            return "py-spy is missing: make install-bench brings it"
        return None

    def _program(self) -> str | None:
        beside = Path(sys.executable).with_name("py-spy")
        return str(beside) if beside.is_file() else shutil.which("py-spy")

    def start(self, pids: Sequence[int], seconds: float, directory: Path) -> None:
        """See :class:`Profiler`."""
        for pid in pids:
            file = directory / f"{pid}.raw"
            self._begin(pid, [
                self._program() or "py-spy", "record", "--native", "--pid", f"{pid}",
                "--duration", f"{max(round(seconds), 1)}", "--rate", f"{SPY_RATE}", "--format", "raw",
                "--threads", "--output", str(file),
            ], file)  # fmt: skip

    def finish(self) -> Mapping[int, Profile]:
        """See :class:`Profiler`."""
        return {pid: _main_thread(of_spy(file.read_text())) for pid, file in self._ended().items()}


class Perf(_Runs):
    """perf, of Linux."""

    name: Final = "perf"

    def missing(self) -> str | None:
        """See :class:`Profiler`."""
        if shutil.which("perf") is None:
            return "perf is missing: install linux-perf"
        if os.geteuid() != 0:
            return "perf shows the system's part only to root"
        return None

    def start(self, pids: Sequence[int], seconds: float, directory: Path) -> None:
        """See :class:`Profiler`."""
        file = directory / "perf.data"
        self._begin(0, [
            "perf", "record", "--event", "cpu-clock", "--freq", f"{PERF_RATE}",
            "--call-graph", f"dwarf,{STACK_BYTES}", "--pid", ",".join(map(str, pids)),
            "--output", str(file), "--", "sleep", f"{seconds:g}",
        ], file)  # fmt: skip

    def finish(self) -> Mapping[int, Profile]:
        """See :class:`Profiler`."""
        file = self._ended()[0]
        done = subprocess.run(
            ["perf", "script", "--no-inline", "--fields", "comm,pid,tid,ip,sym,dso", "--input", str(file)],
            capture_output=True, text=True, timeout=END_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise CannotProfile(done.stderr.strip().splitlines()[-1])
        return {pid: threads.get(pid, Counter()) for pid, threads in of_perf(done.stdout).items()}


PROFILERS: Final[Mapping[str, type[Spy | Perf]]] = {"perf": Perf, "py-spy": Spy}


def choose() -> tuple[Profiler | None, str]:
    """The one that shows most of this program, and why if there is none: perf sees a compiled core, and of
    an interpreted one nothing."""
    order: list[Profiler] = [Spy(), Perf()] if core_is_compiled() else [Spy()]
    reasons = []
    for one in order:
        reason = one.missing()
        if reason is None:
            return one, ""
        reasons.append(reason)
    return None, "; ".join(reasons)


def _main_thread(profile: Profile) -> Profile:
    """With ``--threads`` the outermost frame names the thread."""
    found: Profile = Counter()
    for stack, count in profile.items():
        if "MainThread" in stack[0].name:
            found[stack[1:]] += count
    return found
