"""Which suite notices a planted bug, and in how much time of one processor core."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.mutations.registry import Mutation
from tests.mutations.seeds import NOTICED
from tests.mutations.suites import SUITES, Files, Seeds

ROOT: Final = Path(__file__).parents[2]
FILES_SECONDS_MAX: Final = 120
"""Processor time of one suite of files."""
WALL_PARTS: Final = 6
"""A process that takes so many times its processor time by the clock hangs, or waits for nothing."""
_FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)


class SuiteBroken(Exception):
    """A suite fails though nothing is planted, or does not run at all: it proves nothing."""


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a hunt."""

    name: str
    suite: str | None
    """That noticed; None: none did."""
    what: str
    """The test or the seed, or what was tried."""
    seconds: float
    """Processor time from the first suite's beginning on."""


@dataclass(frozen=True, slots=True)
class _Ran:
    failed: str | None
    seconds: float


class Hunt:
    """Looks for what notices; remembers which suites are sound."""

    def __init__(
        self, seconds: float, tell: Callable[[str], object], suites: Container[str] = SUITES
    ) -> None:
        self._seconds: Final = seconds
        self._suites: Final = suites
        self._tell: Final = tell
        self._sound: Final[set[str]] = set()
        self._lock: Final = threading.Lock()

    def hunt(self, mutation: Mutation) -> Found:
        """Tries the mutation's suites in their order. Raises :class:`SuiteBroken`."""
        spent = 0.0
        tried = [suite for suite in mutation.suites if suite in self._suites]
        for suite in tried:
            left = self._seconds - spent
            if left <= 0:
                break
            self._tell(f"{mutation.name}: {suite}")
            ran = _run(suite, mutation.name, left)
            spent += ran.seconds
            if ran.failed is not None:
                self._check_without(suite, ran.failed)
                return Found(mutation.name, suite, ran.failed, spent)
        return Found(mutation.name, None, ", ".join(tried), spent)

    def _check_without(self, suite: str, failed: str) -> None:
        """What noticed must hold without the mutation: a suite of files as a whole, once; else the seed."""
        kind = SUITES[suite]
        if isinstance(kind, Seeds):
            number = int(failed.split()[1].rstrip(":"))
            if _run(suite, None, self._seconds, number).failed is not None:
                raise SuiteBroken(f"seed {number} of {suite} fails though nothing is planted")
            return
        with self._lock:
            if suite in self._sound:
                return
            self._tell(f"without a mutation: {suite}")
            broken = _run(suite, None, self._seconds).failed
            if broken is not None:
                raise SuiteBroken(f"{broken} of {suite} fails though nothing is planted")
            self._sound.add(suite)


def _run(suite: str, mutation: str | None, seconds: float, seed: int | None = None) -> _Ran:
    """Runs a suite in a process of its own."""
    kind = SUITES[suite]
    planted = [] if mutation is None else ["--mutation", mutation]
    if isinstance(kind, Files):
        limit = min(int(seconds) + 1, FILES_SECONDS_MAX)
        command = [
            sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider",
            "-p", "tests.mutations.plugin", "--mutation-seconds", str(limit), "-k", kind.words, *planted,
            *kind.paths,
        ]  # fmt: skip
    else:
        limit = int(seconds) + 1
        only = [] if seed is None else ["--first", str(seed), "--count", "1"]
        command = [
            sys.executable, "-m", "tests.mutations.seeds", suite, "--seconds", str(limit), *planted, *only,
        ]  # fmt: skip
    code, printed, spent = _measured(command, limit * WALL_PARTS)
    if code == 0 or code in (-signal.SIGXCPU, -signal.SIGKILL):
        return _Ran(None, spent)
    if code != (NOTICED if isinstance(kind, Seeds) else 1):
        raise SuiteBroken(f"{suite} does not run (exit code {code}):\n{printed[-2000:]}")
    if isinstance(kind, Seeds):
        return _Ran("seed {}: {}".format(*printed.splitlines()[-1].split(" ", 1)), spent)
    failed = _FAILED.search(printed)
    if failed is None:
        raise SuiteBroken(f"{suite} names no failed test:\n{printed[-2000:]}")
    return _Ran(failed[1].partition("::")[2] or failed[1], spent)


def _measured(command: list[str], wall_s: float) -> tuple[int, str, float]:
    """Exit code, output and processor time of a command; it is killed after so long by the clock."""
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )  # fmt: skip
    killer = threading.Timer(wall_s, process.kill)
    killer.start()
    try:
        assert process.stdout is not None
        printed = process.stdout.read()
        process.stdout.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        killer.cancel()
    return process.returncode, printed, usage.ru_utime + usage.ru_stime
