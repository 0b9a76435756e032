"""What a benchmark found, as it is kept in a file: figures of loads, with the machine and the versions.

A file is one JSON object of a :class:`Run`. ``quorate bench run`` writes it, ``compare`` and ``report`` read
it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import structs

VERSION: Final = 1
"""Of the files. A file of another version is refused."""

Duration = Annotated[float, msgspec.Meta(ge=0)]


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What a load is made of: two measurements of equal shape may be compared."""

    workload: str
    """A name of ``bench.runs.workloads.WORKLOADS``."""
    callers: int
    """Calls that are under way at once, from one process; at a rate the most that may be."""
    groups: int = 16
    """Data groups, of systems that have them."""
    nodes: int = 3
    value_bytes: int = 128
    keys: int = 1000
    rate: float | None = None
    """Calls a second, begun whether earlier ones are answered or not; None: each caller calls again when it
    is answered. At a rate, latencies count from when the call was due."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What the process that made a load saw."""

    operations: Annotated[int, msgspec.Meta(ge=0)]
    seconds: Annotated[float, msgspec.Meta(gt=0)]
    errors: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Calls that failed; they are not among the operations."""
    latencies: str | None = None
    """An encoded HdrHistogram, of microseconds; None where a foreign load generator tells percentiles
    alone."""
    p50_ms: Duration
    p90_ms: Duration
    p99_ms: Duration
    p999_ms: float | None = None
    longest_ms: Duration
    cpu_seconds: float | None = None
    """Processor time of the process during the measurement."""
    peak_mb: float | None = None
    """The most memory that the process ever had."""
    extra: dict[str, float] = {}
    """Figures of single workloads, by name with the unit in it, like ``gap_s``; at a rate ``given_up_calls``,
    if any were due and never begun."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What the servers spent during a measurement, all of them together unless it says otherwise."""

    cpu_seconds: float
    resident_mb: list[float]
    """Of each node, at the end."""
    written_bytes: int | None = None
    """To files, as the kernel counts what was written."""
    syncs: int | None = None
    """Those of the servers' logs, as the servers count them; None where they do not."""


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One load on one system."""

    subject: str
    """A name of ``bench.runs.subjects.SUBJECTS``."""
    shape: Shape
    repeat: int
    """From 0: systems take turns, and all have their first before any has its second."""
    load: Load
    cost: Cost | None = None

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.load.operations / self.load.seconds


class SubjectInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A system that took part, or was to."""

    name: str
    title: str
    version: str = ""
    note: str = ""
    """What one must know to compare: does not sync each write, for instance."""
    missing: str | None = None
    """Why it did not take part, and what to do about it."""


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A measurement that did not come about."""

    subject: str
    shape: Shape
    repeat: int
    reason: str


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it ran."""

    cpu: str
    cores: int
    memory_gb: float
    system: str
    python: str
    disk: str
    """Its file system and device, and after a comma how long a sync took just then."""

    def is_like(self, other: Machine) -> bool:
        """Whether that is the same machine, whatever syncs took."""
        mine, others = (structs.replace(one, disk=one.disk.rpartition(", ")[0]) for one in (self, other))
        return mine == others


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One call of ``quorate bench run``."""

    format: str = "quorate-bench"
    version: int = VERSION
    began: str
    """In UTC, ISO 8601."""
    command: str
    """The command line that repeats it."""
    machine: Machine
    subjects: list[SubjectInfo]
    measurements: list[Measurement]
    failed: list[Failed] = []


def write(run: Run, path: Path) -> None:
    """Writes the file, see :func:`keep`."""
    keep_json(path, run)


def keep_json(path: Path, value: Any) -> None:
    """Writes what msgspec encodes, for people to read, too; see :func:`keep`."""
    keep(path, msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")


def keep(path: Path, data: bytes) -> None:
    """Writes a file, all of it or nothing, where links lead. What is there and is no file, as a device, is
    written to. Raises OSError."""
    target = path.resolve()
    if target.exists() and not target.is_file():
        target.write_bytes(data)
        return
    beside = target.with_name(target.name + ".new")
    beside.write_bytes(data)
    beside.replace(target)


def read(path: Path) -> Run:
    """What a file holds; raises ValueError that says what is wrong with it, or OSError."""
    data = path.read_bytes()
    try:
        head = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is no file of quorate bench run: {error}") from error
    try:
        if not isinstance(head, dict) or head.get("format") != "quorate-bench":
            raise ValueError(f"{path} is no file of quorate bench run")
        if head.get("version") != VERSION:
            raise ValueError(f"{path} is of version {head.get('version')!r}; this program reads {VERSION}")
        return msgspec.json.decode(data, type=Run)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: {error}") from error
