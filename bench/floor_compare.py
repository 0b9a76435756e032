"""Our figures beside those of a bare pipeline on the same machine, in one run, with ratios.

``python -m bench.floor_compare PATH/TO/run --url quorate://127.0.0.1:7400``

The path is a program that takes ``PYTHON SECONDS`` and prints, for each number of callers, a line
``N=64 ops/s=31000 p50=1.90ms p99=3.10ms``. It measures first; our cluster, which has to run already, is idle
meanwhile.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio
from rich.console import Console
from rich.table import Table

from bench.runs.loader import measure
from bench.runs.recording import LoaderArguments, settle_process
from bench.runs.results import Load, Shape

_LINE: Final = re.compile(r"N=(\d+) ops/s=([\d.]+) p50=([\d.]+)ms p99=([\d.]+)ms")


@dataclass(frozen=True, slots=True)
class FloorFigures:
    """One line of the bare pipeline's output."""

    operations_per_second: float
    p50_ms: float
    p99_ms: float


def parse_floor(text: str) -> dict[int, FloorFigures]:
    """The figures in the bare pipeline's output, by the number of callers."""
    return {
        int(found[1]): FloorFigures(float(found[2]), float(found[3]), float(found[4]))
        for found in _LINE.finditer(text)
    }


def run_floor(path: Path, seconds: float) -> dict[int, FloorFigures]:
    """Runs the bare pipeline with this interpreter; raises ``CalledProcessError`` if it fails."""
    done = subprocess.run(
        [path, sys.executable, f"{seconds:g}"], stdout=subprocess.PIPE, text=True, check=True,
        timeout=60 + 20 * seconds,
    )  # fmt: skip
    return parse_floor(done.stdout)


def measure_all(url: str, callers: list[int], seconds: float) -> dict[tuple[str, int], Load]:
    """Ours, by workload and callers."""
    found = {}
    for workload in ("write", "read"):
        for count in callers:
            asked = LoaderArguments(
                target=url, shape=Shape(workload=workload, callers=count), seconds=seconds, warm_up=1.0
            )
            found[workload, count] = trio.run(measure, asked, lambda: None)
    return found


def table(floor: Mapping[int, FloorFigures], ours: Mapping[tuple[str, int], Load], title: str) -> Table:
    """Both, for people; reads have nothing to be compared with."""
    shown = Table(title=title)
    for column in ("workload", "callers", "ops/s", "p50 ms", "p99 ms", "floor ops/s", "floor p50", "ratio"):
        shown.add_column(column, justify="left" if column == "workload" else "right")
    for (workload, callers), load in ours.items():
        below = floor.get(callers) if workload == "write" else None
        rate = load.operations / load.seconds
        shown.add_row(
            workload, f"{callers}", f"{rate:,.0f}", f"{load.p50_ms:.2f}", f"{load.p99_ms:.2f}",
            *((f"{below.operations_per_second:,.0f}", f"{below.p50_ms:.2f}",
               f"{rate / below.operations_per_second:.2f}") if below is not None else ("", "", "")),
        )  # fmt: skip
    return shown


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.floor_compare", description="Our figures beside a bare pipeline's, with ratios."
    )
    parser.add_argument("floor", type=Path, help="the bare pipeline's run script")
    parser.add_argument("--url", required=True, help="the cluster, quorate://host:port[,host:port...]")
    parser.add_argument("--callers", default="1,16,64,256", metavar="N,N,...")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement (4)")
    arguments = parser.parse_args()
    floor = run_floor(arguments.floor.resolve(strict=True), arguments.seconds)
    settle_process()
    ours = measure_all(arguments.url, [int(one) for one in arguments.callers.split(",")], arguments.seconds)
    Console().print(table(floor, ours, f"Beside the bare pipeline, {arguments.seconds:g} s each"))


if __name__ == "__main__":
    main()
