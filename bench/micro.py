"""What single steps of a command cost, without the network, the disk and consensus: time, or instructions.

``python -m bench.micro`` prints microseconds of processor time for each command, the best of some runs;
``--instructions`` what the processor executes, counted by valgrind, which does not depend on what else the
machine does.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import shutil
import subprocess
import sys
import time
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.micro_rounds import ROUNDS
from bench.micro_steps import STEPS as SINGLE
from bench.runs.arguments import count
from bench.runs.recording import settle_process

STEPS: Final = {**SINGLE, **ROUNDS}
COUNTED: Final = (500, 1500)
"""Commands of the two runs under valgrind, whose difference leaves out the start."""
_EXECUTED: Final = re.compile(r"I\s+refs:\s+([\d,]+)")


def microseconds(step: str, count: int, repeats: int) -> float:
    """Processor time for each command: the least of ``repeats``, each prepared anew."""
    found = []
    for _ in range(repeats):
        sample = STEPS[step](count)
        gc.collect()
        began = time.process_time()
        sample.run()
        found.append((time.process_time() - began) / sample.commands)
        sample.close()
    return min(found) * 1e6


def instructions(step: str) -> float:
    """Instructions for each command."""
    few, many = (_executed(step, count, run=True) - _executed(step, count, run=False) for count in COUNTED)
    return (many - few) / (COUNTED[1] - COUNTED[0])


def _executed(step: str, count: int, *, run: bool) -> int:
    """Instructions of a process that prepares a step and, if to ``run``, does it."""
    command = [
        "valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null",
        sys.executable, "-m", "bench.micro", "--only", step, "--count", str(count), "--once",
    ]  # fmt: skip
    if not run:
        command.append("--prepare-only")
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    counted = _EXECUTED.search(done.stderr)
    if counted is None:
        raise SystemExit(f"valgrind did not say what it counted: {done.stderr[-500:]}")
    return int(counted[1].replace(",", ""))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.micro", description="Costs of a command's steps.")
    parser.add_argument("--only", choices=list(STEPS), action="append", help="a step; may be repeated")
    parser.add_argument("--count", type=count, default=20_000, help="commands of a run (default 20,000)")
    parser.add_argument("--repeats", type=count, default=5, help="runs of which the best counts (default 5)")
    parser.add_argument("--instructions", action="store_true", help="count instructions, by valgrind")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--prepare-only", action="store_true", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """The command line."""
    parser = _parser()
    arguments = parser.parse_args()
    steps = arguments.only or list(STEPS)
    if arguments.once:
        sample = STEPS[steps[0]](arguments.count)
        if not arguments.prepare_only:
            sample.run()
        sample.close()
        return
    if arguments.instructions and shutil.which("valgrind") is None:
        parser.error("--instructions needs valgrind, which is not installed")
    settle_process()
    unit = "instructions" if arguments.instructions else "µs"
    shown = Table("step", unit, title="each command")
    shown.columns[1].justify = "right"
    for step in steps:
        cost = (
            f"{instructions(step):,.0f}" if arguments.instructions
            else f"{microseconds(step, arguments.count, arguments.repeats):.2f}"
        )  # fmt: skip
        shown.add_row(step, cost)
    Console().print(shown)


if __name__ == "__main__":
    main()
