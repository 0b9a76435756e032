"""``python -m tests.mutations.quick``: plants each bug that was noticed quickly, and tries what noticed it.

It reads the table of docs/testing.md: what ``python -m tests.mutations`` found. Each try is a fork of one
process, so that nothing but the tests themselves is imported anew. A line for each: name, and 1 if noticed.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.mutations.bugs import planted
from tests.mutations.seeds import first_failure
from tests.mutations.suites import SUITES, Seeds

PAGE: Final = Path(__file__).parents[2] / "docs" / "testing.md"
BEGIN: Final = "<!-- planted bugs -->"
END: Final = "<!-- end of planted bugs -->"
QUICK_SECONDS: Final = 5.0
"""What took longer is left to the command that tries all."""
SEEDS_TRIED: Final = 20
"""Seeds mean other runs once the simulated world has changed."""
_ROW: Final = re.compile(r"\| ([\w-]+) \| .+ \| .+ \| (?:([\w-]+), (.+)|\*\*nothing\*\*) \| ([\d.]+) \|")
_TEST: Final = re.compile(r"`(?:.*::)?(test_\w+)")


class Row(NamedTuple):
    """A planted bug, and what noticed it."""

    name: str
    suite: str
    what: str
    """A test in backquotes, or a seed."""
    seconds: float


def rows() -> list[Row]:
    """The page's table."""
    table = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    return [Row(name, suite, what, float(took)) for name, suite, what, took in _ROW.findall(table)]


def quick_rows() -> list[Row]:
    """Those that were noticed quickly."""
    return [row for row in rows() if row.suite and row.seconds <= QUICK_SECONDS]


def is_noticed(row: Row) -> bool:
    """Whether that suite notices the bug now, by that test, or by one of its first seeds."""
    suite = SUITES[row.suite]
    if isinstance(suite, Seeds):
        with planted(row.name):
            return first_failure(suite, SEEDS_TRIED) is not None
    test = _TEST.search(row.what)
    if test is None:
        return False
    code = pytest.main([
        "-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-p", "tests.mutations.plugin",
        "--mutation", row.name, "-k", f"{test[1]} and ({suite.words})", *suite.paths,
    ])  # fmt: skip
    return code == pytest.ExitCode.TESTS_FAILED


def main() -> int:
    """The command line."""
    for row in quick_rows():
        child = os.fork()
        if not child:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            os._exit(1 if is_noticed(row) else 0)
        _, status = os.waitpid(child, 0)
        print(row.name, os.waitstatus_to_exitcode(status), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
