"""Our figures beside those of a bare pipeline."""

from __future__ import annotations

import io

from rich.console import Console

from bench.floor_compare import parse_floor, table
from bench.runs.recording import Latencies
from bench.runs.results import Load

OUTPUT = """N=1 ops/s=553 p50=1.15ms p99=2.50ms
noise
N=64 ops/s=31100 p50=1.90ms p99=3.10ms
"""


def load(operations: int) -> Load:
    latencies = Latencies()
    latencies.record(0.003)
    return latencies.load(operations, 1.0)


def test_figures_of_the_bare_pipeline_are_read_by_callers_and_compared_as_ratios() -> None:
    floor = parse_floor(OUTPUT)
    assert sorted(floor) == [1, 64]
    assert floor[64].operations_per_second == 31100
    ours = {("write", 64): load(15550), ("read", 64): load(20000)}
    shown = io.StringIO()
    Console(width=200, file=shown).print(table(floor, ours, "title"))
    text = shown.getvalue()
    assert "0.50" in text
    assert "31,100" in text
