"""``quorate bench run``: systems are started, loaded in turn, and what was measured is kept."""

from __future__ import annotations

import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final

from cyclopts import Parameter

from bench.runs.machine import describe
from bench.runs.plan import Plan, shapes
from bench.runs.registry import SUBJECTS
from bench.runs.results import Failed, Machine, Measurement, Run, Shape
from bench.runs.runner import Runner, info
from bench.runs.subjects import Subject
from bench.runs.workloads import WORKLOADS
from ops.arguments import Counts, Positive, Rate, Seconds, Words
from ops.exits import DONE, FAILED, Failure, UsageError, one_line
from ops.output import printable
from ops.pages import check_writable
from ops.progress import Progress
from ops.values import show_seconds

MOST: Final = {"callers": 10_000, "groups": 1024, "value_bytes": 1 << 20, "keys": 1_000_000, "nodes": 9}
"""What loaders and servers take."""
_HISTOGRAMS: Final = "hdrh"
_IN_MEMORY: Final = ("tmpfs", "ramfs")
"""File systems."""

def _by_commas(words: Any) -> str:
    return ",".join(map(str, words))


Workloads = Annotated[Words, Parameter(show_default=_by_commas)]
Groups = Annotated[Counts, Parameter(show_default=_by_commas)]
Output = Annotated[Path | None, Parameter(name=["--output", "-o"])]


def run(
    *, subjects: Words | None = None, workloads: Workloads = ("write", "read"), callers: Counts | None = None,
    rate: Rate | None = None, seconds: Seconds = 2.0, warm_up: Seconds = 1.0, repeats: Positive = 1,
    groups: Groups = (16,), value_bytes: Counts | None = None, keys: Positive = 1000, nodes: Positive = 3,
    data: Path | None = None, output: Output = None,
) -> int:  # fmt: skip
    """Measure systems side by side: each is started, loaded and stopped, in turn.

    Everything that is given by commas is measured in all combinations, on a cluster that is fresh for each
    number of groups and each repeat. Only one cluster runs at a time. The results are written after every
    measurement. Exit code 1 if a measurement did not come about.

    Parameters
    ----------
    subjects
        Systems to measure; else all that are installed here.
    workloads
        What callers do: write, read, read-sequential, mixed, counter, lock, lock-contended, election, queue,
        fanout, sessions, recovery or values.
    callers
        How many calls are under way at once; else as is usual for the workload.
    rate
        Begin so many calls a second, whether earlier ones are answered or not: latencies count from when a
        call was due, and callers are the most calls under way, 1,024 unless said. Else each caller calls
        again when it is answered.
    seconds
        How long each measurement takes.
    warm_up
        How long the same load is made before it.
    repeats
        How often all of it is done.
    groups
        Data groups, of systems that have them.
    value_bytes
        Sizes of values.
    keys
        Entries that are written and read.
    nodes
        Nodes of each cluster.
    data
        Where clusters keep their data meanwhile; else where temporary files are.
    output
        The file for the results; else one that is named after the time.
    """
    if find_spec(_HISTOGRAMS) is None:
        raise Failure("quorate bench run needs the package hdrhistogram: make install-bench installs it")
    _check(
        callers=callers or (), groups=groups, value_bytes=value_bytes or (), keys=(keys,), nodes=(nodes,)
    )
    _check_names("workload", workloads, WORKLOADS)
    _check_names("subject", subjects or (), SUBJECTS)
    try:
        wanted = shapes(
            workloads, callers=callers, groups=groups, value_bytes=value_bytes, rate=rate, nodes=nodes,
            keys=keys,
        )  # fmt: skip
    except ValueError as error:
        raise UsageError(str(error)) from None
    asked = [SUBJECTS[name] for name in dict.fromkeys(subjects or SUBJECTS)]
    began = datetime.now(UTC)
    path = output or Path(f"bench-{began:%Y%m%d-%H%M%S}.json")
    check_writable(path, "the file for the results")
    known = Run(
        began=began.isoformat(timespec="seconds"), machine=_machine(data),
        subjects=[info(subject) for subject in asked], measurements=[],
        command=_command(
            subjects=[subject.name for subject in asked], workloads=workloads, callers=callers, rate=rate,
            seconds=seconds, warm_up=warm_up, repeats=repeats, groups=groups, value_bytes=value_bytes,
            keys=keys, nodes=nodes, data=data,
        ),
    )  # fmt: skip
    plan = _plan(asked, known, wanted, Plan(repeats=repeats, seconds=seconds, warm_up=warm_up))
    _execute(plan, known, path, data)
    return _tell(known, path)


def _check(**numbers: Sequence[int]) -> None:
    for name, given in numbers.items():
        for number in given:
            if number > MOST[name]:
                raise UsageError(f"--{name.replace('_', '-')} {number}: at most {MOST[name]:,}")


def _check_names(what: str, given: Sequence[str], known: Mapping[str, object]) -> None:
    for name in given:
        if name not in known:
            raise UsageError(printable(f"there is no {what} {name!r}; there are {', '.join(known)}"))


def _machine(data: Path | None) -> Machine:
    """With the disk where clusters will have their data."""
    if data is not None and not data.is_dir():
        raise UsageError(printable(f"--data {data}: there is no such directory"))
    directory = data or Path(tempfile.gettempdir())
    try:
        found = describe(directory)
    except OSError as error:
        raise UsageError(printable(f"{directory} cannot have the data: {one_line(error)}")) from None
    if found.disk.startswith(_IN_MEMORY):
        hint = "the figures will be those of no disk; --data names a directory on one"
        sys.stderr.write(printable(f"quorate: {directory} is in memory: {hint}") + "\n")
    return found


def _command(**options: Any) -> str:
    """The command line that asks for the same."""
    words = ["quorate", "bench", "run"]
    for name, value in options.items():
        if value is not None:
            texts = [f"{one:g}" if isinstance(one, float) else f"{one}" for one in _several(value)]
            words += [f"--{name.replace('_', '-')}", ",".join(texts)]
    return shlex.join(words)


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _plan(asked: Sequence[Subject], known: Run, wanted: Sequence[Shape], how: Plan) -> Plan:
    """Of the systems that are here, which others are said to be missing."""
    missing = {told.name: told.missing for told in known.subjects if told.missing}
    for name, why in missing.items():
        sys.stderr.write(printable(f"quorate: {name} is left out: {why}") + "\n")
    able = [subject for subject in asked if subject.name not in missing]
    if not able:
        raise Failure("none of the systems is installed here")
    plan = replace(how, subjects=able, shapes=wanted)
    if not plan.count:
        raise UsageError("none of the systems can do what is asked for")
    return plan


# --- As it runs ---------------------------------------------------------------------------------------


def _execute(plan: Plan, known: Run, path: Path, data: Path | None) -> None:
    """Runs it. What is found goes into ``known`` and the file, also if it is interrupted."""
    subjects = ", ".join(subject.name for subject in plan.subjects)
    about = show_seconds(plan.total_s)
    sys.stderr.write(f"quorate: {plan.count} measurements of {subjects}: about {about}\n")
    with _ending(), Progress("measurements", plan.count, guesses=False) as progress:
        try:
            Runner(plan, known, path, data, _Shown(progress)).execute()
        except KeyboardInterrupt:
            done = f"{len(known.measurements)} of {plan.count} measurements"
            progress.say(printable(f"quorate: interrupted; {done} are in {path}"))
            raise


class _Shown:
    """Shows how it goes."""

    def __init__(self, progress: Progress) -> None:
        self._progress: Final = progress
        self._text = ""

    def begins(self, what: str, left_s: float) -> None:
        """Something begins that takes a while."""
        self._text = f"{what}; about {show_seconds(max(left_s, 1.0))} left"
        self._progress.doing(self._text)

    def ended(self, result: Measurement | Failed) -> None:
        """A measurement was made, or not."""
        if isinstance(result, Failed):
            where = f"{result.subject}, {result.shape.workload}, {result.shape.callers} callers"
            self._progress.say(printable(f"quorate: {where}: {result.reason}"))
        self._progress.advance(self._text)


@contextmanager
def _ending() -> Iterator[None]:
    """Within, a request to end is an interrupt, so that all that was started is stopped."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(known: Run, path: Path) -> int:
    """Shows what was found; the exit code."""
    if known.measurements:
        from bench.runs.summary import show_here  # Which needs what was only now seen to be installed.

        show_here([known], known.measurements[0].subject)
    sys.stderr.write(printable(f"quorate: the results are in {path}") + "\n")
    return FAILED if known.failed else DONE
