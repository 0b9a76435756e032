"""Files that commands write on request."""

from __future__ import annotations

import os
from pathlib import Path

from ops.exits import USAGE, Failure, one_line


def check_writable(file: Path, what: str = "the page") -> None:
    """Whether it can be written is found out before long work is done for it; what is there stays as
    yet, and what is not is not left behind. Raises Failure."""
    is_there = os.path.lexists(file)
    try:
        with file.open("ab"):
            pass
        if not is_there:
            file.unlink()
    except OSError as error:
        raise Failure(f"{what} cannot be written: {one_line(error)}", USAGE) from None


def save(file: Path, page: str) -> None:
    """Writes it; raises OSError."""
    file.write_text(page, encoding="utf-8", errors="backslashreplace")
