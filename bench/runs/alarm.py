"""A moment to wait for to within tens of microseconds: event loops round theirs up to whole milliseconds,
which would add to each latency of calls that begin by a schedule."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Final

_CLOCK_MONOTONIC: Final = 1
"""The clock of ``time.perf_counter``, by the number that Linux has for it."""
_COUNT_BYTES: Final = 8
_LEAST_NS: Final = 1
"""A timer that is set to nothing is off."""


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Timer(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("first", _Timespec))


class Alarm:
    """A descriptor that becomes readable at a moment. Wait for that with the event loop's own means, then
    call :meth:`clear`. Raises OSError where the system has none."""

    def __init__(self) -> None:
        self._libc: Final = ctypes.CDLL(None, use_errno=True)
        made = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_CLOEXEC | os.O_NONBLOCK)
        self._fd: Final = self._checked(made)

    def arm(self, moment: float) -> bool:
        """Sets it to a moment of ``time.perf_counter``; False if that has passed, and nothing is to be waited
        for."""
        left_ns = round((moment - time.perf_counter()) * 1e9)
        if left_ns < _LEAST_NS:
            return False
        timer = _Timer(_Timespec(0, 0), _Timespec(*divmod(left_ns, 1_000_000_000)))
        self._checked(self._libc.timerfd_settime(self._fd, 0, ctypes.byref(timer), None))
        return True

    def clear(self) -> None:
        """After it went off: makes it ready to be set again."""
        os.read(self._fd, _COUNT_BYTES)

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def close(self) -> None:
        """Gives the descriptor back."""
        os.close(self._fd)

    def _checked(self, result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result
