"""What seeds say of a bug that was planted."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from bench.world.run import VIOLATIONS


def first_said(run: Callable[[int], object], seeds: Iterable[int]) -> str:
    """What the first seed says that does not hold; fails the test if all of them do."""
    for seed in seeds:
        try:
            run(seed)
        except VIOLATIONS as violation:
            return str(violation)
    pytest.fail("no seed noticed")
