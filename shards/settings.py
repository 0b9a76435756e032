"""The engine's settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from raftgroup.types import Config


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Timing and bounds of an engine. The defaults suit nodes on one network; tests shrink them."""

    tick_ms: int = 50
    """Unit of the groups' timeouts."""
    raft: Config = field(default_factory=Config)
    flush_interval_ms: int = 100
    """Applied state is written at least this often."""
    flush_bytes: int = 4 << 20
    """A group's unwritten state beyond this is written at once."""
    stall_retry_ms: int = 5
    """A batch that the store refused is tried again after this."""
    hashes_timeout_ms: int = 20_000
    """``status --hashes`` answers with what it has after this."""
    watches_max: int = 100_000
    """Watches that a node serves."""
    watches_a_connection_max: int = 4096
