"""Where the processor time of one write goes: of the client, the leading node and the others, step by step.

``python -m bench.budget`` starts three nodes, loads them with 16, 64 and 256 callers, and prints a table;
``--report`` makes a page with bars, ``--flame`` one with a flame graph for each process and load. The steps
within the program need a profiler: py-spy, or perf where the core is compiled.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from typing import Final

from rich.console import Console

from bench.budget.flame import flame
from bench.budget.measuring import measure
from bench.budget.profilers import PROFILERS, CannotProfile, Profiler, choose
from bench.budget.results import CLIENT, Budget
from bench.budget.shown import flame_name, section
from bench.budget.stacks import Profile, collapsed
from bench.runs.arguments import count, counts, directory, new_file, option, seconds
from bench.runs.ending import end_by_term
from bench.runs.loader import first_cause
from bench.runs.machine import describe
from bench.runs.quorate_subject import product
from bench.runs.results import Shape, keep_json
from bench.runs.runner import StepFailed
from bench.runs.scratch import a_cluster, a_directory, say
from bench.runs.sections import page, show
from bench.runs.summary import WIDTH
from primitives.errors import QuorateError

FAILURES: Final = (CannotProfile, StepFailed, QuorateError, RuntimeError, OSError)


def main(given: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = _parser()
    arguments = parser.parse_args(given)
    profiler, why = _profiler(arguments.profiler)
    if profiler is None:
        say(f"without a profiler the program's own time is not told apart: {why}")
        if arguments.flame is not None:
            parser.error(f"--flame needs a profiler: {why}")
    try:
        budget = _measured(arguments, profiler)
    except KeyboardInterrupt:
        sys.stderr.write("bench.budget: interrupted\n")
        return 130
    except Exception as error:
        cause = first_cause(error)
        if not isinstance(cause, FAILURES):
            raise
        sys.stderr.write(f"bench.budget: {' '.join(str(cause).split())}\n")
        return 1
    found = section(budget)
    if arguments.json is not None:
        keep_json(arguments.json, budget)
    if arguments.report is not None:
        about = f"{budget.product}. One machine, three nodes and the client on it."
        text = page("One write", about, [found], budget.began, budget.machine, budget.command)
        arguments.report.write_text(text, encoding="utf-8")
        say(f"the page is in {arguments.report}")
    show(found, Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH))
    return 0


def _profiler(name: str) -> tuple[Profiler | None, str]:
    """The one that was asked for, and why there is none."""
    if name == "auto":
        return choose()
    if name == "none":
        return None, "none was asked for"
    made: Profiler = PROFILERS[name]()
    reason = made.missing()
    return (made, "") if reason is None else (None, reason)


def _measured(arguments: argparse.Namespace, profiler: Profiler | None) -> Budget:
    nodes, groups, data = arguments.nodes, arguments.groups, arguments.data
    where = Path(gettempdir()) if data is None else data
    budget = Budget(
        began=datetime.now(UTC).isoformat(timespec="seconds"), machine=describe(where), product=product(),
        command=shlex.join(["python", "-m", "bench.budget", *sys.argv[1:]]),
        profiler="" if profiler is None else profiler.name,
    )  # fmt: skip
    if arguments.flame is not None:
        arguments.flame.mkdir(parents=True, exist_ok=True)
    with a_directory(data) as temporary, a_cluster(temporary, nodes, groups) as cluster:
        for callers in arguments.callers:
            say(f"{callers} callers for {arguments.seconds:g} s" + (", twice" if profiler else ""))
            shape = Shape(workload="write", callers=callers, groups=groups, nodes=nodes)
            drawn = _flames(arguments.flame, callers, budget.product)
            budget.loads.append(measure(cluster, shape, arguments.seconds, profiler, temporary, drawn))
    return budget


def _flames(directory: Path | None, callers: int, product: str) -> Callable[[str, Profile], None]:
    """What writes the flame graphs of a load, if they are wanted."""

    def drawn(process: str, profile: Profile) -> None:
        if directory is None:
            return
        file = directory / flame_name(callers, process)
        title = f"{process}, {callers} callers"
        text = flame(title, f"The first thread. {product}.", profile, client=process == CLIENT)
        file.with_suffix(".html").write_text(text, encoding="utf-8")
        file.with_suffix(".txt").write_text(collapsed(profile), encoding="utf-8")
        say(f"a flame graph is in {file.with_suffix('.html')}")

    return drawn


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m bench.budget", description=__doc__)
    add = partial(option, made)
    add("--callers", "of each load, by commas", type=counts, default="16,64,256")
    add("--seconds", "of each load, which is made twice if there is a profiler", type=seconds, default=5.0)
    add("--groups", "of the cluster", type=count, default=16)
    add("--nodes", "of the cluster", type=count, default=3)
    add("--profiler", "of the program's own time", choices=("auto", *PROFILERS, "none"), default="auto")
    add("--data", "where nodes have their data, in a fresh directory", type=directory, metavar="DIR")
    add("--json", "keep the figures", type=new_file, metavar="FILE")
    add("--report", "one page with the bars", type=new_file, metavar="PAGE.html")
    add("--flame", "flame graphs, and collapsed stacks", type=Path, metavar="DIR")
    return made


if __name__ == "__main__":
    end_by_term()
    sys.exit(main())
