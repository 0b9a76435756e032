"""CRC-32C, the one checksum of everything that is kept on disk.

``zlib.crc32`` is another polynomial: a record written with one cannot be checked with the other, so there
is no falling back to it. Where google-crc32c has no compiled extension it computes the same sum in pure
Python, some hundred times slower; that works, and is said once, at import.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Final

import google_crc32c

SLOW: Final[bool] = google_crc32c.implementation != "c"
"""Whether only the pure-Python implementation is installed."""

if SLOW:
    warnings.warn(
        "google-crc32c has no compiled extension here: every log record is checksummed in pure Python, "
        "which makes the node many times slower; install a wheel of google-crc32c built with the extension",
        RuntimeWarning,
        stacklevel=2,
    )


_value: Final[Callable[[bytes], int]] = google_crc32c.value


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of ``data``, 32 bits unsigned."""
    return _value(data)


def crc32c_extend(crc: int, data: bytes) -> int:
    """CRC-32C of what gave ``crc`` followed by ``data``."""
    return int(google_crc32c.extend(crc, data))
