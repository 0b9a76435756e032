"""What every process that makes a load has in common, whatever runs its calls: trio, asyncio or threads.

A loader reads its command line by :class:`LoaderArguments`, asks a :class:`Pace` when each call is due, notes
by :class:`Latencies` how long each took, and prints the :class:`~bench.runs.results.Load`::

    pace, latencies = Pace(arguments.shape.rate, perf_counter(), arguments.seconds), Latencies()
    print_begun()
    # each caller, or at a rate each of as many as may be under way:
    while (due := pace.next(perf_counter())) is not None:
        wait until due                # has passed already in a closed loop
        call
        latencies.record(perf_counter() - due)
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any, Final

import msgspec

from bench.runs.results import Load, Shape
from bench.runs.workloads import WORKLOADS

OPERATIONS_MAX: Final = 4_000_000
"""A measurement ends at so many calls, however long it was to take."""
LATENCY_US_MAX: Final = 3_600_000_000
LATE_SECONDS: Final = 5.0
"""Calls at a rate that are not begun so long after the last was due are given up."""
CALLERS_MAX: Final = 10_000
BEGUN: Final = "measuring"
"""The line by which a loader says so."""


def key_name(number: int) -> str:
    """``key000007``."""
    return f"key{number:06}"


@lru_cache(1)
def key_names(count: int) -> Sequence[str]:
    """The names of so many keys: made once, since what is measured is not how they are spelt."""
    return [key_name(number) for number in range(count)]


class LoadFailed(ValueError):
    """There is no figure, and the text says why."""


class Latencies:
    """How long calls took. Noting one is cheap; they are counted up only in the end. Threads may share it."""

    def __init__(self) -> None:
        self.seconds: Final = array("d")
        self.record: Final = self.seconds.append
        """Notes one call, in seconds."""

    def __len__(self) -> int:
        return len(self.seconds)

    def load(
        self, operations: int, seconds: float, errors: int = 0, cpu_seconds: float | None = None,
        extra: Mapping[str, float] | None = None,
    ) -> Load:  # fmt: skip
        """What the process saw. ``operations`` may be another number than that of the latencies, where one
        call does many. Raises LoadFailed if no call was answered."""
        if not self.seconds:
            raise LoadFailed(f"no call was answered, and {errors} failed")
        from hdrh.histogram import HdrHistogram  # Which whoever only plans a run need not have.

        histogram: Any = HdrHistogram(1, LATENCY_US_MAX, 3)
        for latency_us, calls in Counter(round(one * 1e6) for one in self.seconds).items():
            histogram.record_value(min(max(latency_us, 1), LATENCY_US_MAX), calls)
        p50, p90, p99, p999 = (histogram.get_value_at_percentile(at) / 1e3 for at in (50, 90, 99, 99.9))
        return Load(
            operations=operations, seconds=seconds, errors=errors, latencies=histogram.encode().decode(),
            p50_ms=p50, p90_ms=p90, p99_ms=p99, p999_ms=p999, longest_ms=max(self.seconds) * 1e3,
            cpu_seconds=cpu_seconds, peak_mb=peak_mb(), extra=dict(extra or {}),
        )  # fmt: skip


class Pace:
    """When calls are due: at once in a closed loop, else at a rate, from ``began`` on and for ``seconds``.
    Times are of ``time.perf_counter``. Threads may share it."""

    def __init__(self, rate: float | None, began: float, seconds: float) -> None:
        self._rate: Final = rate
        self._began: Final = began
        self.end: Final = began + seconds
        """No call is due from here on."""
        self.turns: Final = iter(range(OPERATIONS_MAX))
        """The numbers of calls, each taken once, before the call is made; a closed loop needs no more."""
        self._given_up: Final = count()
        self.given_up = 0
        """Calls that were due and never begun, as everyone was busy with earlier ones."""

    def next(self, now: float) -> float | None:
        """When the next call is due, each asked for once; None if there is no further one. In a closed loop
        that is ``now``. At a rate it may be later, and the caller waits, or in the past, and the call counts
        from then."""
        number = next(self.turns, None)
        if number is None:
            return None
        if self._rate is None:
            return now if now < self.end else None
        due = self._began + number / self._rate
        return due if due < self.end else None

    def gives_up(self, now: float) -> bool:
        """Whether it is too late to begin a call that was due, which is counted then."""
        if now < self.end + LATE_SECONDS:
            return False
        self.given_up = next(self._given_up) + 1
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderArguments:
    """What a loader is asked for. ``shape.callers`` call at once in a closed loop; at a rate they are the
    most calls that may be under way."""

    target: str
    """In the system's own spelling."""
    shape: Shape
    seconds: float
    warm_up: float
    """Seconds of the same load before the measurement."""
    pids: tuple[int, ...] = ()
    """The servers' processes, in the order of the nodes, for loads that harm one."""

    def command(self, module: str) -> list[str]:
        """The command line that asks ``python -m module`` for it."""
        shape = self.shape
        found = [
            sys.executable, "-P", "-m", module, "--target", self.target, "--workload", shape.workload,
            "--callers", f"{shape.callers}", "--groups", f"{shape.groups}", "--nodes", f"{shape.nodes}",
            "--value-bytes", f"{shape.value_bytes}", "--keys", f"{shape.keys}",
            "--seconds", f"{self.seconds}", "--warm-up", f"{self.warm_up}",
        ]  # fmt: skip
        if shape.rate is not None:
            found += ["--rate", f"{shape.rate}"]
        if self.pids:
            found += ["--pids", ",".join(map(str, self.pids))]
        return found

    @classmethod
    def parse(
        cls, module: str, description: str, workloads: Sequence[str], arguments: Sequence[str] | None = None
    ) -> LoaderArguments:
        """Reads the command line of ``python -m module``, which does ``workloads``; exits if it is wrong."""
        parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
        parser.add_argument("--target", required=True, help="where the system is")
        parser.add_argument("--workload", required=True, choices=sorted(workloads))
        parser.add_argument("--callers", type=int, default=None, help="default: as is usual for the workload")
        parser.add_argument("--groups", type=int, default=16, help="data groups that the system has (16)")
        parser.add_argument("--nodes", type=int, default=3, help="nodes that the system has (3)")
        parser.add_argument("--value-bytes", type=int, default=128)
        parser.add_argument("--keys", type=int, default=1000)
        parser.add_argument("--rate", type=float, default=None, help="calls a second; default: a closed loop")
        parser.add_argument("--seconds", type=float, default=4.0, help="of the measurement (4)")
        parser.add_argument("--warm-up", type=float, default=1.0, help="seconds before it (1)")
        parser.add_argument(
            "--pids", type=_numbers, default=(), help="of the servers, by commas, in the order of the nodes"
        )
        given = parser.parse_args(arguments)
        callers = given.callers if given.callers is not None else WORKLOADS[given.workload].callers[-1]
        if not 1 <= callers <= CALLERS_MAX:
            parser.error(f"--callers {callers}: expected 1 to {CALLERS_MAX:,}")
        for name in ("groups", "nodes", "value_bytes", "keys", "rate", "seconds"):
            number = getattr(given, name)
            if number is not None and number <= 0:
                parser.error(f"--{name.replace('_', '-')} {number}: expected a number above 0")
        shape = Shape(
            workload=given.workload, callers=callers, groups=given.groups, nodes=given.nodes,
            value_bytes=given.value_bytes, keys=given.keys, rate=given.rate,
        )  # fmt: skip
        return cls(
            target=given.target, shape=shape, seconds=given.seconds, warm_up=max(given.warm_up, 0.0),
            pids=given.pids,
        )  # fmt: skip


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def peak_mb() -> float:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def print_begun() -> None:
    """Says that the measurement begins: what the servers spend counts from here on."""
    sys.stdout.write(f"{BEGUN}\n")
    sys.stdout.flush()


def print_load(load: Load) -> None:
    """Says what was seen, as the last line of standard output."""
    sys.stdout.write(msgspec.json.encode(load).decode() + "\n")
    sys.stdout.flush()


def settle_process() -> None:
    """Settings of the interpreter that matter for the tail: a short switch interval, rare collections."""
    sys.setswitchinterval(0.0005)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
