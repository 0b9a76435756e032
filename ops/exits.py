"""Exit codes, and how an exception becomes one of them and one line for people.

This is the boundary: whatever a command raises ends here, so that no traceback ever reaches a user.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Final

import trio

from primitives.errors import (
    InvariantViolation,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    QuorateError,
    SessionLost,
    TooLarge,
    Unavailable,
)

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
CONDITION: Final = 4
"""A condition was not met, or a lock was not obtained."""
UNAVAILABLE: Final = 5
UNKNOWN: Final = 6
"""The time limit passed, or an answer was lost: the outcome is unknown."""
DENIED: Final = 7
LOST: Final = 8
"""The session was lost while a child ran."""
NO_EXECUTION: Final = 126
NO_COMMAND: Final = 127
BROKEN_PIPE: Final = 141
INTERRUPTED: Final = 130


class Failure(Exception):
    """Ends the command with ``code`` and, if ``text`` is not empty, the line ``quorate: text``."""

    def __init__(self, text: str, code: int = FAILED) -> None:
        super().__init__(text)
        self.code: Final = code


class UsageError(Failure):
    """The command line itself cannot be meant."""

    def __init__(self, text: str) -> None:
        super().__init__(text, USAGE)


_CODES: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (Unavailable, UNAVAILABLE),
    (Overloaded, UNAVAILABLE),
    (OutcomeUnknown, UNKNOWN),
    (SessionLost, UNKNOWN),
    (trio.TooSlowError, UNKNOWN),
    (PermissionDenied, DENIED),
    (TooLarge, USAGE),
    (QuorateError, FAILED),
    (KeyboardInterrupt, INTERRUPTED),
    (BrokenPipeError, BROKEN_PIPE),
)


def leaf(error: BaseException) -> BaseException:
    """The exception that matters in a group of them: our own mistakes first, then an interrupt, else the
    first that is not a mere cancellation."""
    found: list[BaseException] = []
    pending: list[BaseException] = [error]
    while pending:
        one = pending.pop(0)
        if isinstance(one, BaseExceptionGroup):
            pending[:0] = one.exceptions
        else:
            found.append(one)
    for kind in (InvariantViolation, KeyboardInterrupt):
        for one in found:
            if isinstance(one, kind):
                return one
    return next((one for one in found if not isinstance(one, trio.Cancelled)), error)


def explain(error: BaseException) -> tuple[int, str]:
    """The exit code for ``error`` and its line, without the program's name; an empty line says nothing."""
    error = leaf(error)
    if isinstance(error, Failure):
        return error.code, str(error)
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else FAILED, ""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code, "" if code in (INTERRUPTED, BROKEN_PIPE) else one_line(error)
    if isinstance(error, OSError):
        return FAILED, one_line(error)
    return FAILED, f"internal error: {type(error).__name__}: {one_line(error)}"


def one_line(error: BaseException) -> str:
    """What ``error`` says, on one line; its type's name if it says nothing."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror[:1].lower()}{error.strerror[1:]}"
    return " ".join(str(error).split()) or type(error).__name__


def report(error: BaseException) -> int:
    """Says on standard error what went wrong and gives the exit code. With ``QUORATE_DEBUG`` in the
    environment the traceback follows."""
    code, text = explain(error)
    if text:
        sys.stderr.write(f"quorate: {text}\n")
    if os.environ.get("QUORATE_DEBUG"):
        traceback.print_exception(error)
    if code == BROKEN_PIPE:
        # Nobody reads any more: keep the interpreter from complaining when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
