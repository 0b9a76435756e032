"""Ports of this machine for servers that are started for a while."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection
from typing import Final

_CANDIDATES: Final = range(31000, 31900, 10)
"""Below those that the system gives to clients."""


def free_port(offsets: Collection[int]) -> int:
    """A port from which all of these offsets are free on loopback now. Raises OSError if there is none."""
    for port in random.sample(_CANDIDATES, len(_CANDIDATES)):
        if all(_is_free(port + offset) for offset in offsets):
            return port
    raise OSError(f"no ports are free from {_CANDIDATES.start} to {_CANDIDATES.stop}")


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
