"""What this process takes of its machine, for people."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Any, Final

WINDOW_S: Final = 1.0
"""The share of a processor is told anew after this long at the earliest."""
_STATM: Final = Path("/proc/self/statm")
_PAGE_BYTES: Final = resource.getpagesize()


class ProcessUsage:
    """Memory and processor time of the process. Made before there are any groups: what the process has then
    is not theirs."""

    __slots__ = ("_cpu_s", "_first_bytes", "_percent", "_since_s")

    def __init__(self) -> None:
        self._first_bytes: Final = resident_bytes()
        self._since_s = time.monotonic()
        self._cpu_s = time.process_time()
        self._percent: float | None = None

    def describe(self, groups: int) -> dict[str, Any]:
        """Plain values by name, with ``groups`` replicas here; documented in ``docs/cli.md``."""
        now_s, cpu_s = time.monotonic(), time.process_time()
        if now_s - self._since_s >= WINDOW_S:
            self._percent = round(100 * (cpu_s - self._cpu_s) / (now_s - self._since_s), 2)
            self._since_s, self._cpu_s = now_s, cpu_s
        bytes_now = resident_bytes()
        return {
            "resident_bytes": bytes_now,
            "group_bytes": max(0, bytes_now - self._first_bytes) // max(1, groups),
            "cpu_percent": self._percent,
            "cpu_s": round(cpu_s, 3),
        }


def resident_bytes() -> int:
    """Memory of the process that is in use now; where the system does not tell, the most that ever was."""
    try:
        return int(_STATM.read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
