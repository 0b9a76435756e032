"""Runs a command line, and turns how it ends into an exit code and one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cyclopts import CycloptsError

from ops.app import build, hoist
from ops.exits import DONE, USAGE, report


def run(tokens: Sequence[str]) -> int:
    """Runs the command line ``tokens`` (without the program's name) and gives the exit code. Never raises;
    whatever goes wrong is one line on standard error."""
    try:
        code = build()(hoist(tokens))
        sys.stdout.flush()
    except CycloptsError as error:
        sys.stderr.write(f"quorate: {' '.join(str(error).split())}\n")
        return USAGE
    except BaseException as error:  # the boundary: nothing above could tell the user
        return report(error)
    return code if isinstance(code, int) else DONE
