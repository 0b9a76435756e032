"""Runs a plan: clusters are started, loaded, watched over and stopped, and what was found is kept at once."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Final, Protocol

import msgspec

from bench.processes.nodes import environment
from bench.runs.plan import START_S, Batch, Plan, Step
from bench.runs.recording import BEGUN
from bench.runs.results import Cost, Failed, Load, Measurement, Run, Shape, SubjectInfo, write
from bench.runs.sampling import Meter
from bench.runs.subjects import Cluster, CountsSyncs, Subject

OVERTIME_SECONDS: Final = 180.0
"""A loader that takes longer beyond its time is ended."""
_RECEIVE_BYTES: Final = 1 << 16
_REASON_CHARACTERS: Final = 300


class Follower(Protocol):
    """Who is told how it goes."""

    def begins(self, what: str, left_s: float) -> None:
        """Something begins that takes a while; about so long is left of all of it."""

    def ended(self, result: Measurement | Failed) -> None:
        """A measurement was made, or not."""


class StepFailed(Exception):
    """A measurement did not come about; the text says why."""


class Watcher(Protocol):
    """Who looks at processes while a load is measured."""

    def begin(self, loader: int) -> None:
        """The loader, a process, has begun; called again when its warm-up is over."""

    def end(self) -> None:
        """The measurement may be over; the last call counts."""


class Costs:
    """What a cluster spends."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster: Final = cluster
        self._meter = _meter(cluster)
        self.found: Cost | None = None

    def begin(self, loader: int) -> None:
        """From here on."""
        self._meter = _meter(self._cluster)

    def end(self) -> None:
        """Until here."""
        self.found = self._meter.read(self._cluster.pids)


@dataclass(slots=True)
class Clock:
    """How long the rest takes: as was expected, times how wrong that was so far."""

    total_s: float
    expected_s: float = 0.0
    """Of what was done so far."""
    began: float = 0.0

    def left_s(self) -> float:
        """About, from here."""
        taken = time.monotonic() - self.began
        factor = taken / self.expected_s if self.expected_s > START_S else 1.0
        return max(self.total_s - self.expected_s, 0.0) * factor


class Runner:
    """One run of a plan."""

    def __init__(self, plan: Plan, run: Run, path: Path, data: Path | None, follower: Follower) -> None:
        """``run``: what is known before the first measurement; kept at ``path`` with what is found. Clusters
        have their data in fresh directories under ``data``, or where temporary files are."""
        self._plan: Final = plan
        self._path: Final = path
        self._data: Final = data
        self._follower: Final = follower
        self._clock: Final = Clock(plan.total_s)
        self._broken: Final[dict[tuple[str, int, int], str]] = {}
        """Clusters that could not be started, with why."""
        self.run: Final = run

    def execute(self) -> None:
        """All of it. What a system cannot do is noted and the rest done; raises OSError if the results cannot
        be written."""
        self._clock.began = time.monotonic()
        write(self.run, self._path)
        for batch in self._plan.batches():
            self._batch(batch)

    def _batch(self, batch: Batch) -> None:
        key = (batch.server.server, batch.nodes, batch.groups)
        left = deque(batch.steps)
        while left and key not in self._broken:
            self._follower.begins(f"{batch.server.server} is started", self._clock.left_s())
            with _directory(self._data) as directory:
                try:
                    cluster = batch.server.start(directory, batch.nodes, batch.groups)
                except (RuntimeError, OSError) as error:
                    self._broken[key] = f"it did not start: {error}"
                else:
                    self._use(cluster, left)
        self._clock.expected_s += START_S
        for step in left:
            self._keep(step, _failed(step, step.shape, self._broken[key]))

    def _use(self, cluster: Cluster, left: deque[Step]) -> None:
        """Measures what is left, until something fails: who knows what state the cluster is in then."""
        try:
            while left:
                step = left.popleft()
                result = self._measure(step, cluster)
                self._keep(step, result)
                if isinstance(result, Failed):
                    return
        finally:
            cluster.stop()

    def _keep(self, step: Step, result: Measurement | Failed) -> None:
        self._clock.expected_s += self._plan.expected_s(step)
        if isinstance(result, Failed):
            self.run.failed.append(result)
        else:
            self.run.measurements.append(result)
        write(self.run, self._path)
        self._follower.ended(result)

    def _measure(self, step: Step, cluster: Cluster) -> Measurement | Failed:
        self._follower.begins(describe(step), self._clock.left_s())
        # A system that always has one node is not to be taken for one of three.
        shape = msgspec.structs.replace(step.shape, nodes=len(cluster.pids) or 1)
        plan = self._plan
        try:
            command = step.subject.load(cluster, shape, plan.seconds, plan.warm_up)
            limit_s = plan.expected_s(step) + OVERTIME_SECONDS
            costs = Costs(cluster)
            load = run_load(command, limit_s, costs)
            cost = costs.found
            if cost is None and cluster.pids and shape.workload != "recovery":
                raise StepFailed("a server ended meanwhile")
        except ProcessLookupError:
            return _failed(step, shape, "a server ended meanwhile")
        except (StepFailed, RuntimeError, OSError) as error:
            return _failed(step, shape, str(error))
        return Measurement(
            subject=step.subject.name, shape=shape, repeat=step.repeat, load=load, cost=cost
        )


@contextmanager
def _directory(parent: Path | None) -> Iterator[Path]:
    """A fresh directory, which is removed in the end."""
    with TemporaryDirectory(prefix="quorate-bench-", dir=parent, ignore_cleanup_errors=True) as name:
        yield Path(name)


def describe(step: Step) -> str:
    """A measurement for people."""
    shape = step.shape
    parts = [f"{step.subject.name}: {shape.workload}, {shape.callers} callers"]
    if shape.rate is not None:
        parts.append(f"{shape.rate:g} a second")
    parts.append(f"{shape.value_bytes} bytes, {shape.groups} groups, repeat {step.repeat + 1}")
    return ", ".join(parts)


def info(subject: Subject) -> SubjectInfo:
    """What is said of a system beside its figures."""
    missing = subject.missing()
    version = "" if missing else subject.version()
    return SubjectInfo(
        name=subject.name, title=subject.title, version=version, note=subject.note, missing=missing
    )


def _failed(step: Step, shape: Shape, reason: str) -> Failed:
    words = " ".join(reason.split())
    return Failed(
        subject=step.subject.name, shape=shape, repeat=step.repeat, reason=words[:_REASON_CHARACTERS]
    )


# --- One loader ---------------------------------------------------------------------------------------


def run_load(command: list[str], limit_s: float, watcher: Watcher) -> Load:
    """Runs a loader to its end. Raises StepFailed if there is no figure, and whatever the watcher does."""
    with TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=environment(),
            process_group=0,
        )  # fmt: skip
        try:
            watcher.begin(process.pid)
            last = b""
            for line in _lines(process, limit_s):
                if line.strip() == BEGUN.encode():
                    watcher.begin(process.pid)
                elif line.strip():
                    last = line
                    watcher.end()
            code = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if code != 0:
            raise StepFailed(_last_words(errors) or f"the load ended with code {code}")
    try:
        return msgspec.json.decode(last, type=Load)
    except msgspec.DecodeError:
        raise StepFailed("the load told no figures") from None


def _lines(process: subprocess.Popen[bytes], limit_s: float) -> Iterator[bytes]:
    """What a process says, line by line, as it comes. Raises StepFailed when the time is over."""
    if process.stdout is None:
        return
    deadline, rest = time.monotonic() + limit_s, b""
    with process.stdout as stdout:
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stdout], [], [], left)[0]:
                raise StepFailed(f"the load was not done after {limit_s:.0f} s")
            data = os.read(stdout.fileno(), _RECEIVE_BYTES)
            *lines, rest = (rest + data).split(b"\n")
            yield from lines
            if not data:
                yield rest
                return


def _meter(cluster: Cluster) -> Meter:
    return Meter(cluster.pids, cluster.syncs if isinstance(cluster, CountsSyncs) else None)


def _last_words(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
