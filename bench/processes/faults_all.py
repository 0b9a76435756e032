"""All faults: importing this registers them."""

from __future__ import annotations

from typing import Final

from bench.processes import faults_machine, faults_network
from bench.processes.faults import REGISTRY
from bench.processes.stores import SLOW, has_fuse

__all__ = ["LOADED", "faults_machine", "faults_network"]

LOADED: Final = tuple(REGISTRY)
"""Names of all faults."""


def possible() -> list[str]:
    """Names of those that this machine can have."""
    return [name for name, kind in REGISTRY.items() if kind.STORE != SLOW or has_fuse()]
