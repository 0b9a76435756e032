"""``python -m tests.mutations.seeds SUITE [--mutation NAME]``: runs a suite's seeds until one fails.

Exits with 3 after a seed that fails, the last line telling which and why, and with 0 if none does.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Final

from bench.world.run import VIOLATIONS
from tests.mutations.bugs import MUTATIONS, planted
from tests.mutations.suites import SUITES, Seeds

TEXT_CHARS_MAX: Final = 160
NOTICED: Final = 3


def first_failure(suite: Seeds, count: int, seconds: float = float("inf"), first: int | None = None) -> (
    tuple[int, str] | None
):  # fmt: skip
    """The first of ``count`` seeds that fails, and what it says; None if none does in that processor time."""
    start = suite.first if first is None else first
    deadline = time.process_time() + seconds
    for number in range(start, start + count):
        if time.process_time() > deadline:
            return None
        said = failure_of(suite.run, number)
        if said is not None:
            return number, said
    return None


def failure_of(run: Callable[[int], object], number: int) -> str | None:
    """What a seed's failure says. Whatever is raised is one: a planted bug may break anything."""
    try:
        run(number)
    except (Exception, *VIOLATIONS) as error:
        text = str(error).splitlines()
        return f"{type(error).__name__}: {text[0] if text else ''}"
    return None


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations.seeds")
    names = sorted(name for name, suite in SUITES.items() if isinstance(suite, Seeds))
    parser.add_argument("suite", choices=names)
    parser.add_argument("--mutation", choices=sorted(MUTATIONS))
    parser.add_argument("--first", type=int, help="begin with this seed")
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=600, help="processor time after which to stop")
    options = parser.parse_args()
    suite = SUITES[options.suite]
    assert isinstance(suite, Seeds)
    with planted(options.mutation) if options.mutation else nullcontext():
        found = first_failure(suite, options.count, options.seconds, options.first)
    if found is None:
        return 0
    number, said = found
    print(f"{number} {said[:TEXT_CHARS_MAX]}")
    return NOTICED


if __name__ == "__main__":
    sys.exit(main())
