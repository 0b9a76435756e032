"""Quorate: a sharded coordination service for Python programs.

    import quorate, trio

    async def main():
        async with quorate.connect("quorate://127.0.0.1:7400") as client:
            visits = client.counter("visits")
            print(await visits.increment())

    trio.run(main)

Names are imported when they are first used, so that a client loads neither the store nor the node.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ops.replica import Replica, ReplicaConfig
    from primitives.counter import Counter
    from primitives.election import Candidate, Deposed, Election, Leadership, Term
    from primitives.errors import (
        BadPosition,
        Compacted,
        ConfigMismatch,
        Deleted,
        OutcomeUnknown,
        OverflowRefused,
        Overloaded,
        PermissionDenied,
        ProtocolError,
        QuorateError,
        Retry,
        SessionClosing,
        SessionLost,
        TooLarge,
        TypeMismatch,
        Unavailable,
        WatchOverflow,
    )
    from primitives.handle import LINEARIZABLE, SEQUENTIAL, Causal, ReadLevel, Stale
    from primitives.holding import Holder
    from primitives.list import List
    from primitives.lock import Grant, Lock
    from primitives.map import Entry, KeyGrant, KeyLock, Map
    from primitives.position import Position
    from primitives.queue import Queue, QueueFull
    from primitives.set import Set
    from primitives.value import Value
    from primitives.watch import Event
    from primitives.watching import Watch
    from router.client import Client, Session, connect
    from shards.config import DirectoryInUse, NodeFailed, StartError
    from shards.embedding import embedded

__version__: Final = "0.1.0"

_HOMES: Final = {
    "ops.replica": ("Replica", "ReplicaConfig"),
    "router.client": ("Client", "Session", "connect"),
    "primitives.counter": ("Counter",),
    "primitives.election": ("Candidate", "Deposed", "Election", "Leadership", "Term"),
    "primitives.errors": (
        "BadPosition", "Compacted", "ConfigMismatch", "Deleted", "OutcomeUnknown", "OverflowRefused",
        "Overloaded", "PermissionDenied", "ProtocolError", "QuorateError", "Retry", "SessionClosing",
        "SessionLost", "TooLarge", "TypeMismatch", "Unavailable", "WatchOverflow",
    ),
    "primitives.handle": ("LINEARIZABLE", "SEQUENTIAL", "Causal", "ReadLevel", "Stale"),
    "primitives.holding": ("Holder",),
    "primitives.list": ("List",),
    "primitives.lock": ("Grant", "Lock"),
    "primitives.map": ("Entry", "KeyGrant", "KeyLock", "Map"),
    "primitives.position": ("Position",),
    "primitives.queue": ("Queue", "QueueFull"),
    "primitives.set": ("Set",),
    "primitives.value": ("Value",),
    "primitives.watch": ("Event",),
    "primitives.watching": ("Watch",),
    "shards.config": ("DirectoryInUse", "NodeFailed", "StartError"),
    "shards.embedding": ("embedded",),
}  # fmt: skip
_WHERE: Final = {name: module for module, names in _HOMES.items() for name in names}
_PACKAGES: Final = ("primitives", "router", "raftgroup", "shards", "bench", "ops")
"""The packages beside this one that belong to Quorate."""

__all__ = [
    "LINEARIZABLE", "SEQUENTIAL", "BadPosition", "Candidate", "Causal", "Client", "Compacted",
    "ConfigMismatch", "Counter", "Deleted", "Deposed", "DirectoryInUse", "Election", "Entry", "Event",
    "Grant", "Holder", "KeyGrant", "KeyLock", "Leadership", "List", "Lock", "Map", "NodeFailed",
    "OutcomeUnknown", "OverflowRefused", "Overloaded", "PermissionDenied", "Position", "ProtocolError",
    "Queue", "QueueFull", "QuorateError", "ReadLevel", "Replica", "ReplicaConfig", "Retry", "Session",
    "SessionClosing", "SessionLost", "Set", "Stale", "StartError", "Term", "TooLarge", "TypeMismatch",
    "Unavailable", "Value", "Watch", "WatchOverflow", "connect", "embedded",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    module = _WHERE.get(name)
    if module is None:
        raise AttributeError(f"module 'quorate' has no attribute {name!r}")
    try:
        value = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        hidden = _hidden()
        if hidden is not None:
            raise ImportError(hidden) from error
        raise
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _hidden() -> str | None:
    """What to tell the user whose own module has the name of one of our packages; None if there is none."""
    root = Path(__file__).resolve().parent.parent
    for package in _PACKAGES:
        loaded = sys.modules.get(package)
        try:
            spec = find_spec(package) if loaded is None else loaded.__spec__
        except ValueError:
            spec = None
        places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
        known = [Path(place).resolve() for place in places if place is not None]
        if known and not any(place.is_relative_to(root / package) for place in known):
            return (
                f"Quorate's package {package!r} is hidden by your own module {known[0]}: "
                f"rename it, or start Python where it is not on the path"
            )
    return None
