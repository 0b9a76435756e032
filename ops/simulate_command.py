"""``quorate simulate``: whole clusters under a simulated clock, network and disk, from seeds."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter

from bench.world.outcomes import Outcome, play, play_many
from bench.world.seedfile import SeedFile, SeedFileError, decode
from bench.world.setting import Setting, repeat_command
from bench.world.shrinking import shrink
from ops.arguments import Flag, Numbers, Positive, read_by
from ops.exits import DONE, FAILED, Failure, UsageError
from ops.output import Format, Row, Rows, write_result
from ops.progress import Progress
from ops.values import parse_whole
from ops.versions import product_version

FAILURES_MAX: Final = 10
"""So many failing seeds end a run of many."""
TAIL_SHOWN: Final = 40
"""Lines of the trace, after a failure."""
_UNREADABLE: Final = re.compile(r" hears (n\d|on )")
"""Lines of frames, which people are told only on request."""


def _names(text: str) -> tuple[str, ...]:
    return () if text == "none" else tuple(text.split(","))


def _count(text: str) -> int:
    number = parse_whole(text)
    if number < 0:
        raise ValueError(f"{text}: expected a number from 0")
    return number


def _range(text: str) -> range:
    first, dash, last = text.partition("-")
    try:
        numbers = range(int(first), int(last) + 1) if dash else range(int(first))
    except ValueError:
        numbers = range(0)
    if not numbers:
        raise ValueError(f"{text}: expected how many seeds, or FIRST-LAST")
    return numbers


Count = Annotated[int, read_by(_count, "N")]
Names = Annotated[tuple[str, ...], read_by(_names, "NAME,…"), Parameter(negative="")]
Seeds = Annotated[range, read_by(_range, "COUNT|FIRST-LAST")]
Written = Annotated[Format, Parameter(name=["--write", "-w"])]


async def simulate(
    *, seed: Count | None = None, seeds: Seeds | None = None, replay: Path | None = None,
    nodes: Positive | None = None, groups: Positive | None = None, replicas: Positive | None = None,
    clients: Count | None = None, callers: Count | None = None, workloads: Names | None = None,
    faults: Names | None = None, fault_ms: Count | None = None, heal_ms: Positive | None = None,
    sessions_ms: Numbers | None = None, jobs: Positive = 1, twice: Flag = False, verbose: Flag = False,
    record: Path | None = None, history: Path | None = None, shrink: Flag = False, write: Written = "table",
) -> int:  # fmt: skip
    """Run whole clusters, nodes and clients, under a simulated clock, network and disk with faults.

    All of a run comes from its seed: the same seed is the same run, to the byte. What is not said of the
    cluster and its faults the seed draws too. After the faults everything is healed, and all calls must end.

    Parameters
    ----------
    seed
        Run this one and print its trace.
    seeds
        Run so many, from 0, or from the first to the last, and print a summary.
    replay
        Run what a seed file holds.
    nodes
        Nodes of the cluster.
    groups
        Data groups.
    replicas
        Copies of each data group.
    clients
        Clients, each with a session of its own.
    callers
        Callers of each client.
    workloads
        What they do, by commas.
    faults
        Kinds of faults to draw from, by commas, or none.
    fault_ms
        How long faults come, in simulated milliseconds.
    heal_ms
        Within so long after that everything must be done.
    sessions_ms
        Session timeouts to draw from, by commas.
    jobs
        Processes, for many seeds.
    twice
        Run each seed twice and compare the traces.
    verbose
        Print every line of the trace, those of frames too.
    record
        Write the run of one seed to this file, for --replay.
    history
        Write what callers were told in the run of one seed to this file, for quorate check history.
    shrink
        Leave out of a failing seed the faults that it does not need, print the rest, and record it.
    write
        Format of the summary.
    """
    named = {
        "nodes": nodes, "groups": groups, "replicas": replicas, "clients": clients, "callers": callers,
        "workloads": workloads, "faults": faults, "fault_ms": fault_ms, "heal_ms": heal_ms,
        "sessions_ms": sessions_ms,
    }  # fmt: skip
    given = {name: value for name, value in named.items() if value is not None}
    if sum(one is not None for one in (seed, seeds, replay)) != 1:
        raise UsageError("one of --seed, --seeds and --replay is needed")
    if seeds is not None:
        if record is not None or history is not None or shrink or verbose:
            raise UsageError("--record, --history, --shrink and --verbose are for one seed")
        _setting(seeds[0], given)
        return await _many(seeds, given, jobs, twice, write)
    if jobs != 1:
        raise UsageError("--jobs is for many seeds")
    for file_or_none in (record, history):
        if file_or_none is not None and not file_or_none.absolute().parent.is_dir():
            raise UsageError(f"{file_or_none}: there is no directory {file_or_none.parent}")
    if replay is not None:
        if given:
            raise UsageError("a seed file has its setting: --replay takes none")
        file = _read(replay)
    else:
        number = seed or 0
        file = SeedFile(product_version(), number, _setting(number, given), None, "")
    return _one(file, replay, twice, verbose, record, history, shrink)


def _setting(number: int, given: dict[str, Any]) -> Setting:
    """What the seed draws, but for what was given."""
    drawn = Setting.draw(number)
    if "nodes" in given and "replicas" not in given:
        drawn = replace(drawn, replicas=min(drawn.replicas, given["nodes"]))
    if "replicas" in given and "nodes" not in given:
        drawn = replace(drawn, nodes=max(drawn.nodes, given["replicas"]))
    setting = replace(drawn, **given)
    try:
        setting.check()
    except ValueError as error:
        raise UsageError(str(error)) from None
    return setting


# --- One seed -----------------------------------------------------------------------------------------


def _one(
    file: SeedFile, replayed: Path | None, twice: bool, verbose: bool, record: Path | None,
    history: Path | None, shrinks: bool,
) -> int:  # fmt: skip
    lines: list[str] = []
    outcome = play(
        file.number, file.setting, plan=file.plan, twice=twice, echo=_echo(verbose), history=lines
    )
    _tell(outcome)
    sys.stdout.write(f"{outcome.violation}\n" if outcome.violation else "")
    if history is not None:
        _write(history, "".join(lines))
    if file.digest and outcome.digest != file.digest and outcome.violation is None:
        raise Failure(f"the file's trace was {file.digest}: something outside of the seed has changed")
    if outcome.violation is None and shrinks:
        raise Failure("there is nothing to shrink: the seed holds")
    if shrinks:
        outcome = _shrunk(outcome)
        record = record or Path(f"seed-{outcome.number}.json")
    if record is not None:
        _record(record, outcome)
    if outcome.violation is None:
        return DONE
    kept = record or replayed
    again = f"quorate simulate --replay {kept}" if kept else repeat_command(file.number, file.setting)
    raise Failure(f"seed {file.number} failed: {_first_line(outcome)}; repeat it with: {again}")


def _echo(verbose: bool) -> Callable[[str], None]:
    def echo(line: str) -> None:
        if verbose or not _UNREADABLE.search(line):
            sys.stdout.write(f"{line}\n")

    return echo


def _tell(outcome: Outcome) -> None:
    sys.stdout.write(
        f"seed {outcome.number}: {outcome.calls.total()} calls, {outcome.steps} steps,"
        f" {len(outcome.plan)} faults, {_judged(outcome)}, trace {outcome.digest}\n"
    )


def _judged(outcome: Outcome) -> str:
    parts = [f"{count} {verdict}" for verdict, count in sorted(outcome.judged.items())]
    return f"parts of the history: {', '.join(parts) or 'none judged'}"


def _first_line(outcome: Outcome) -> str:
    return (outcome.violation or "").partition("\n")[0]


def _shrunk(outcome: Outcome) -> Outcome:
    """The same failure with as few faults as will do."""
    failing = outcome
    with Progress("smaller plans tried") as progress:

        def fails(plan: Sequence[Any]) -> bool:
            nonlocal failing
            found = play(outcome.number, outcome.setting, plan=tuple(plan))
            same = found.violation is not None and found.sort == outcome.sort
            if same:
                failing = found
            progress.advance(f"{len(failing.plan)} faults")
            return same

        shrink(outcome.plan, fails)
    sys.stdout.write(f"{len(failing.plan)} of {len(outcome.plan)} faults are needed:\n")
    sys.stdout.writelines(f"{fault}\n" for fault in failing.plan)
    return failing


def _read(path: Path) -> SeedFile:
    try:
        file = decode(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except (SeedFileError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None
    if file.product != product_version():
        raise UsageError(
            f"{path}: it is of quorate {file.product}; this is {product_version()}, whose runs differ"
        )
    return file


def _record(path: Path, outcome: Outcome) -> None:
    file = SeedFile(
        product_version(), outcome.number, outcome.setting, outcome.plan, outcome.digest, outcome.violation
    )
    _write(path, file.encode())


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None


# --- Many seeds ---------------------------------------------------------------------------------------


async def _many(seeds: range, given: dict[str, Any], jobs: int, twice: bool, write: Format) -> int:
    totals = Totals()
    with Progress("seeds", len(seeds)) as progress:
        outcomes = play_many(seeds, _Settings(given), jobs=jobs, twice=twice)
        for outcome in outcomes:
            totals.add(outcome)
            if outcome.violation is not None:
                progress.say(_failure(outcome))
            progress.advance(f"{progress.an_hour(totals.seeds)} an hour, {totals.failures} failed")
            if totals.failures >= FAILURES_MAX:
                progress.say(f"quorate: {FAILURES_MAX} seeds have failed: the rest is not run")
                break
        seconds = progress.seconds
    result = Rows(("what", "name", "count"), list(totals.rows(seconds)), FAILED if totals.failures else DONE)
    return await write_result(write, result)


class _Settings:
    """The setting of each seed; it goes to other processes."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given

    def __call__(self, number: int) -> Setting:
        return _setting(number, self._given)


def _failure(outcome: Outcome) -> str:
    tail = [line for line in outcome.tail if not _UNREADABLE.search(line)][-TAIL_SHOWN:]
    return "\n".join([
        *tail, f"quorate: seed {outcome.number} failed: {_first_line(outcome)}",
        f"repeat it with: {repeat_command(outcome.number, outcome.setting)}",
    ])  # fmt: skip


class Totals:
    """Sums over many seeds."""

    def __init__(self) -> None:
        self.seeds = 0
        self.failures = 0
        self._sums: Counter[str] = Counter()
        self._named: dict[str, Counter[str]] = {
            what: Counter() for what in ("workload", "history", "fault", "point")
        }

    def add(self, outcome: Outcome) -> None:
        """One seed more."""
        self.seeds += 1
        self.failures += outcome.violation is not None
        self._sums["calls"] += outcome.calls.total()
        self._sums["steps"] += outcome.steps
        self._sums["simulated seconds"] += outcome.simulated_ms // 1000
        self._named["workload"] += outcome.calls
        self._named["history"] += outcome.judged
        self._named["fault"] += outcome.faults
        self._named["point"] += outcome.points

    def rows(self, seconds: float) -> Iterator[Row]:
        """As the summary shows them."""
        sums = {
            "seeds": self.seeds, "failures": self.failures, **self._sums, "seconds": round(seconds, 1),
            "seeds an hour": round(self.seeds * 3600 / seconds),
        }  # fmt: skip
        for name, count in sums.items():
            yield {"what": "run", "name": name, "count": count}
        for what, counts in self._named.items():
            for name, count in sorted(counts.items()):
                yield {"what": what, "name": name, "count": count}
