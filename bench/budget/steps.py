"""Steps of a write, and which frame of a stack belongs to which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import Final

from bench.budget.stacks import Frame, Stack

KERNEL: Final = "kernel"
SYNC: Final = "sync thread"
ROCKSDB: Final = "RocksDB background"
REST: Final = "the rest"
_HANDLES: Final = "calls"
_RULES: Final[Mapping[str, Sequence[str]]] = {
    "event loop": (
        "trio/*", "outcome/*", "shards/driver", "shards/clock", "router/readiness", "router/client_driver",
        "select*", "selectors", "asyncio/*",
    ),
    "sockets": (
        "router/link", "router/connection", "router/memorylink", "shards/mux", "shards/peer*", "socket",
        "shards/sending", "_socket*",
    ),
    "decode and encode": (
        "primitives/codec", "primitives/records", "primitives/integers", "router/frames", "shards/peerwire",
        "shards/checksum", "shards/logrecord", "router/watchframes", "_cbor2*", "cbor2*", "xxhash*",
        "google_crc32c*",
    ),
    _HANDLES: (
        "router/*", "shards/server", "shards/dispatch", "shards/outbox", "shards/waiters",
        "shards/forwarding", "shards/opening", "shards/streams", "shards/watching",
    ),
    "rounds": (
        "shards/engine", "shards/core", "shards/resting", "shards/balance", "shards/placement",
        "shards/snapshots", "shards/status", "shards/markers", "shards/leases",
    ),
    "consensus": ("raftgroup/*", "shards/proposals", "shards/group", "shards/reads", "shards/logtime"),
    "log write (RocksDB)": ("rocksdict*", "shards/rocks*", "shards/writer", "shards/logcut", "shards/layout"),
    "apply": (
        "primitives/*", "shards/applying", "shards/machine", "shards/statesink", "shards/system",
        "shards/localreads", "sortedcontainers/*",
    ),
}
"""Places by patterns; the first that fits is it."""
_ON_A_CLIENT: Final[Mapping[str, Sequence[str]]] = {_HANDLES: ("primitives/*",), REST: ("bench/*",)}
"""What comes before them in a client: it applies nothing."""
STEPS: Final = (KERNEL, *_RULES, SYNC, ROCKSDB, REST)
"""All of them, as they are drawn, each in the colour of its number."""


@cache
def step(frame: Frame, *, client: bool) -> str | None:
    """That of one frame; None if it serves whoever called it, like the interpreter itself."""
    if frame.is_kernel:
        return KERNEL
    rules = [*_RULES.items()]
    if client:
        codec = next(rule for rule in rules if "primitives/codec" in rule[1])
        rules = [codec, *_ON_A_CLIENT.items(), *rules]
    return next((name for name, places in rules if _fits(frame.place, places)), None)


def _fits(place: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(place, pattern) for pattern in patterns)


def step_of(stack: Stack, *, client: bool) -> str:
    """That of the innermost frame that has one."""
    for frame in reversed(stack):
        found = step(frame, client=client)
        if found is not None:
            return found
    return REST
