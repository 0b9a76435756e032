"""The node's log, which is the user's structlog.

A node may run inside a program that knows nothing of structlog, whose unconfigured default prints everything
to standard output. Nothing is configured for such a program: it is told warnings and errors, on standard
error, and nothing else.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import structlog


class _Log:
    """What the node's parts log to."""

    __slots__ = ("_users",)

    def __init__(self) -> None:
        self._users: Final = structlog.get_logger()

    def info(self, event: str, **fields: Any) -> None:
        """Something that is as it should be."""
        if structlog.is_configured():
            self._users.info(event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something that somebody may have to look at."""
        if structlog.is_configured():
            self._users.warning(event, **fields)
        else:
            shown = "".join(f" {name}={value!r}" for name, value in fields.items())
            sys.stderr.write(f"quorate: {event}{shown}\n")


log: Final = _Log()
