"""How what Quorate costs grows: with its state, with the load, and while RocksDB compacts.

``python -m bench.growth`` measures all sections, each on fresh nodes, and prints tables; ``--report`` makes
one page with plots of them, ``--json`` keeps the figures, and ``--read`` shows kept ones.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from subprocess import SubprocessError
from tempfile import gettempdir
from typing import Final

from rich.console import Console

from bench.growth import compaction, idle, loads, state, written
from bench.growth.asked import Asked, SectionFailed
from bench.growth.results import Growth, read, write
from bench.growth.shown import sections
from bench.runs.arguments import count, counts, directory, new_file, numbers, option, seconds
from bench.runs.ending import end_by_term
from bench.runs.loader import first_cause
from bench.runs.machine import describe
from bench.runs.quorate_subject import product
from bench.runs.runner import StepFailed
from bench.runs.scratch import say
from bench.runs.sections import page, show
from bench.runs.summary import WIDTH
from primitives.errors import QuorateError

SECTIONS: Final[dict[str, Callable[[Asked], Iterator[object]]]] = {
    "state": state.measure, "bytes": written.measure, "snapshot": written.measure_snapshot,
    "compaction": compaction.measure, "load": loads.measure, "idle": idle.measure,
}  # fmt: skip
"""Each gives what stands in the field of its name, one after the other."""
SIZES_GB: Final = (0.1, 0.5, 1.0)
FAILURES: Final = (
    SectionFailed, StepFailed, QuorateError, RuntimeError, OSError, ValueError, SubprocessError,
)  # fmt: skip
ABOUT: Final = "What Quorate costs as its state, its load and its groups grow, all on one machine."


def main(given: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = _parser()
    arguments = parser.parse_args(given)
    try:
        growth, failed = _found(arguments)
        if arguments.json is not None:
            write(growth, arguments.json)
        found = list(sections(growth))
        if arguments.report is not None:
            about = f"{ABOUT} {growth.product}."
            text = page("Growth", about, found, growth.began, growth.machine, growth.command)
            arguments.report.write_text(text, encoding="utf-8")
            say(f"the page is in {arguments.report}")
    except (OSError, ValueError) as error:
        sys.stderr.write(f"bench.growth: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("bench.growth: interrupted\n")
        return 130
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    for one in found:
        show(one, console)
    return 1 if failed else 0


def _found(arguments: argparse.Namespace) -> tuple[Growth, list[str]]:
    """What is kept, or measured now; with the names of the sections that failed."""
    if arguments.read is not None:
        return read(arguments.read), []
    asked = Asked(
        sizes=_sizes(arguments), seconds=arguments.seconds, values=arguments.values,
        compaction_seconds=arguments.compaction_seconds, parts=[one / 100 for one in arguments.percent],
        idle_seconds=arguments.idle_seconds, idle_groups=arguments.idle_groups, groups=arguments.groups,
        nodes=arguments.nodes, port=arguments.port, data=arguments.data, missed=arguments.missed,
        compaction_keys=arguments.compaction_keys,
    )  # fmt: skip
    where = Path(gettempdir()) if asked.data is None else asked.data
    began = datetime.now(UTC).isoformat(timespec="seconds")
    growth = Growth(began=began, command=_command(), machine=describe(where), product=product())
    failed = []
    for name in arguments.only:
        try:
            for one in SECTIONS[name](asked):
                getattr(growth, name).append(one)
                if arguments.json is not None:
                    write(growth, arguments.json)
        except Exception as error:
            cause = first_cause(error)
            if not isinstance(cause, FAILURES):
                raise
            failed.append(name)
            say(f"{name}: not measured: {' '.join(str(cause).split()) or type(cause).__name__}")
    return growth, failed


def _command() -> str:
    return shlex.join(["python", "-m", "bench.growth", *sys.argv[1:]])


def _sizes(arguments: argparse.Namespace) -> list[tuple[int, int]]:
    """Entries and bytes of each value: some of all that was not asked for otherwise."""
    entries, sizes = arguments.entries or [], arguments.sizes or []
    if not entries and not sizes:
        sizes = SIZES_GB
    large = [
        (max(round(size * 1e9 / arguments.value_bytes), 1), arguments.value_bytes) for size in sizes
    ]
    return large + [(round(count * 1e6), arguments.small_bytes) for count in entries]


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    add = partial(option, made)
    add("--only", "sections, by commas", type=_names, default=",".join(SECTIONS), metavar="NAMES")
    add("--sizes", "of states, by commas; 0.1,0.5,1 unless entries are asked for", type=numbers, metavar="GB")
    add("--value-bytes", "of each value of such a state", type=count, default=4000)
    add("--entries", "of states of small entries, by commas", type=numbers, metavar="MILLIONS")
    add("--small-bytes", "of each value of those", type=count, default=100)
    add("--seconds", "of each load", type=seconds, default=10.0)
    add("--values", "sizes for which bytes are counted", type=counts, default="128,4096", metavar="BYTES")
    add("--percent", "of the peak, by commas", type=numbers, default="10,50,80")
    add("--compaction-seconds", "of the load while RocksDB compacts", type=seconds, default=60.0)
    add("--compaction-keys", "that it writes", type=count, default=Asked.compaction_keys)
    add("--idle-seconds", "for which idle nodes are watched", type=seconds, default=20.0)
    add("--idle-groups", "of idle nodes, by commas", type=counts, default="16,200", metavar="GROUPS")
    add("--missed", "by a node that then catches up", type=_missed, default="200000,500,100000,4",
        metavar="PUTS,BYTES,KEYS,GROUPS")  # fmt: skip
    add("--groups", "of all other clusters", type=count, default=16)
    add("--nodes", "of clusters under load, and of idle ones", type=count, default=3)
    add("--port", "of nodes started one by one, the first; else what is free", type=count)
    add("--data", "where nodes have their data, in fresh directories", type=directory, metavar="DIR")
    add("--json", "keep the figures", type=new_file, metavar="FILE")
    add("--report", "one page with plots", type=new_file, metavar="PAGE.html")
    add("--read", "show kept figures, and measure nothing", type=Path, metavar="FILE")
    return made


def _names(text: str) -> list[str]:
    for name in text.split(","):
        if name not in SECTIONS:
            raise argparse.ArgumentTypeError(f"unknown section {name!r}: one of {', '.join(SECTIONS)}")
    return text.split(",")


def _missed(text: str) -> tuple[int, int, int, int]:
    try:
        puts, value_bytes, keys, groups = counts(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected four numbers by commas") from None
    return puts, value_bytes, keys, groups


if __name__ == "__main__":
    end_by_term()
    sys.exit(main())
