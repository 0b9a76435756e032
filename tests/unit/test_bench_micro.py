"""The micro-benchmarks' steps: each one runs, and its preparation fails loudly if it is not what it says."""

from __future__ import annotations

import pytest

from bench.micro import STEPS, microseconds


@pytest.mark.parametrize("step", STEPS)
def test_every_step_runs_and_has_a_cost(step: str) -> None:
    assert microseconds(step, 64, 1) > 0
