"""What is asked of a measurement of growth, and what its sections share."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.runs.ports import free_port

PEER_PORTS: Final = 100
"""From a node's client port to its peer port."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Sizes and times."""

    sizes: Sequence[tuple[int, int]] = ((25_000, 4000), (125_000, 4000), (250_000, 4000))
    """Of the state: entries, and bytes of each value."""
    seconds: float = 10.0
    """Of each load."""
    values: Sequence[int] = (128, 4096)
    """Bytes of each value, where bytes are counted."""
    parts: Sequence[float] = (0.1, 0.5, 0.8)
    """Of the peak."""
    compaction_seconds: float = 60.0
    idle_seconds: float = 20.0
    idle_groups: Sequence[int] = (16, 200)
    groups: int = 16
    nodes: int = 3
    missed: tuple[int, int, int, int] = (200_000, 500, 100_000, 4)
    """While a node is away: puts, bytes of each value, keys, and groups of that cluster."""
    compaction_keys: int = 200_000
    port: int | None = None
    """The first of those of clusters that are not ``quorate dev``; None: some that are free."""
    data: Path | None = None
    """Nodes have their data in fresh directories below, or where temporary files are."""

    @property
    def warm_up(self) -> float:
        """Seconds of each load before it is measured."""
        return min(1.0, self.seconds)

    @property
    def free_port(self) -> int:
        """From which on nodes may listen. Raises OSError."""
        return self.port or free_port([*range(3), *range(PEER_PORTS, PEER_PORTS + 3)])


class SectionFailed(Exception):
    """There is no figure, and the text says why."""


def databases(directory: Path) -> list[Path]:
    """Those of the nodes of a cluster, in the order of the nodes."""
    return sorted(directory.glob("data/*/rocks"))


def require_space(where: Path, needed_bytes: float) -> None:
    """Raises SectionFailed if a disk has less."""
    free = shutil.disk_usage(where).free
    if free < needed_bytes:
        raise SectionFailed(
            f"{needed_bytes / 1e9:.1f} GB are needed in {where}, {free / 1e9:.1f} GB are free: "
            "name another directory by --data, or smaller sizes"
        )
