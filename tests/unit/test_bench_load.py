"""The load generator's parts that need no cluster."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bench.floor_compare import parse_floor, table
from bench.load import Figures, numbers

OUTPUT = """N=1 ops/s=553 p50=1.15ms p99=2.50ms
noise
N=64 ops/s=31100 p50=1.90ms p99=3.10ms
"""


def test_figures_of_the_bare_pipeline_are_read_by_callers_and_compared_as_ratios() -> None:
    floor = parse_floor(OUTPUT)
    assert sorted(floor) == [1, 64]
    assert floor[64].operations_per_second == 31100
    ours = [Figures("write", 64, 15550.0, 3.0, 6.0, 9.0), Figures("read", 64, 20000.0, 3.0, 6.0, 9.0)]
    shown = io.StringIO()
    Console(width=200, file=shown).print(table(floor, ours, "title"))
    text = shown.getvalue()
    assert "0.50" in text
    assert "31,100" in text


def test_callers_out_of_range_are_refused() -> None:
    assert numbers("1,16") == [1, 16]
    for wrong in ("0", "20000", "x", ""):
        with pytest.raises(ValueError):
            numbers(wrong)
