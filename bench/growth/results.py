"""What was found of how costs grow, as it is kept in a file: one JSON object of a :class:`Growth`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from bench.runs.results import Machine, Measurement, keep_json

VERSION: Final = 1
"""Of the files. A file of another version is refused."""
FORMAT: Final = "quorate-growth"


class Restart(msgspec.Struct, frozen=True, kw_only=True):
    """Of one node with its state."""

    signal: str
    """By which it ended: KILL, or TERM for a planned stop."""
    ready_s: float
    """From the start of the process until it serves."""
    resident_mb: float
    """Then."""
    read_mb: float
    """Resident memory after reads all over the state."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """One node that holds so much."""

    entries: int
    value_bytes: int
    written_s: float
    disk_mb: float
    """Of its whole directory when all was written."""
    resident_mb: float
    peak_mb: float
    """The most memory that it had while that was written."""
    restarts: list[Restart]

    @property
    def state_mb(self) -> float:
        """Of the values alone."""
        return self.entries * self.value_bytes / 1e6


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of all nodes together while callers put values."""

    value_bytes: int
    puts: int
    seconds: float
    nodes: int
    wal_bytes: int
    """By which write-ahead logs grew."""
    flushed_bytes: int
    """Of the tables that write buffers were flushed to."""
    compacted_bytes: int
    """Of the tables that compactions wrote."""
    kernel_bytes: int | None
    """To files, as the kernel counts dirtied pages; None where it does not tell."""

    def times(self, amount: float) -> float:
        """An amount for each put and node, in multiples of the value."""
        return amount / self.puts / self.nodes / self.value_bytes


class CaughtUp(msgspec.Struct, frozen=True, kw_only=True):
    """A node that was away while values were put."""

    value_bytes: int
    puts: int
    keys: int
    groups: int
    snapshots: int
    """That it installed."""
    seconds: float
    """From its start until it had caught up."""
    received_bytes: int | None
    """By its connections; None where ``ss`` is missing."""
    kernel_bytes: int | None
    """That it wrote to files meanwhile."""


class Second(msgspec.Struct, frozen=True, kw_only=True):
    """One second of writes."""

    operations: int
    p99_ms: float
    """0 if no call was answered."""
    compacting: int
    """Nodes on which a compaction ran."""
    flushing: int


class Compactions(msgspec.Struct, frozen=True, kw_only=True):
    """Writes over time."""

    callers: int
    value_bytes: int
    keys: int
    nodes: int
    seconds: list[Second]
    jobs: int
    """Compactions that ran, on all nodes."""
    compacted_bytes: int


class AtRate(msgspec.Struct, frozen=True, kw_only=True):
    """A load that is a part of the peak."""

    part: float
    """1 is the peak itself, of a closed loop."""
    measurement: Measurement


class Idle(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes that nobody asks."""

    groups: int
    seconds: float
    resident_mb: list[float]
    """Of each node."""
    cpu_percent: list[float]
    """Of a core, of each node."""


class Growth(msgspec.Struct, kw_only=True):
    """Everything that one call found; a section that was not asked for is empty."""

    format: str = FORMAT
    version: int = VERSION
    began: str
    """In UTC, ISO 8601."""
    command: str
    machine: Machine
    product: str
    state: list[State] = []
    bytes: list[Written] = []
    snapshot: list[CaughtUp] = []
    compaction: list[Compactions] = []
    load: list[AtRate] = []
    idle: list[Idle] = []


def write(growth: Growth, path: Path) -> None:
    """Writes the file, all of it or nothing; raises OSError."""
    keep_json(path, growth)


def read(path: Path) -> Growth:
    """What a file holds; raises ValueError that says what is wrong with it, or OSError."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Growth)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is no file of python -m bench.growth: {error}") from error
    if found.format != FORMAT:
        raise ValueError(f"{path} is no file of python -m bench.growth")
    if found.version != VERSION:
        raise ValueError(f"{path} is of version {found.version}; this program reads {VERSION}")
    return found
