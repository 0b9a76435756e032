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
    flush_interval_ms: int = 300
    """Applied state is written after so long: a row that changes over and over meanwhile is written once."""
    flush_bytes: int = 2 << 20
    """A group's unwritten state beyond this is written at once."""
    flush_slice_bytes: int = 256 << 10
    """In one round groups are written whose time has come until they have so much together; the others have
    theirs in the next rounds."""
    stall_retry_ms: int = 5
    """A batch that the store refused is tried again after this."""
    log_cut_interval_ms: int = 500
    """A group's log is cut at most this often."""
    log_tail_entries: int = 8192
    """Applied entries kept in a log behind the written state, for followers that lag."""
    log_tail_bytes: int = 8 << 20
    """The same in bytes; the log is cut down to whichever is less."""
    log_held_bytes: int = 256 << 20
    """A leader keeps more than the tail, up to so much, for connected followers that still need it."""
    snapshot_part_bytes: int = 32 << 10
    """Of a snapshot's part; one row always fits."""
    snapshot_window_bytes: int = 1 << 20
    """Sent and not acknowledged, for each snapshot."""
    snapshot_bytes_a_second: int = 4 << 20
    """Sent by a node, all its snapshots together."""
    snapshots_sent_max: int = 2
    """By a node at a time."""
    snapshots_received_max: int = 4
    """By a node at a time."""
    snapshot_retry_ms: int = 500
    """A receiver that is busy, or has forgotten a snapshot, is asked again after this."""
    snapshot_silence_ms: int = 15_000
    """A snapshot that gets nowhere for so long is given up; one that was refused is tried again after it."""
    balance_interval_ms: int = 1000
    """At most one leadership is handed to where it belongs in this time."""
    balance_up_ms: int = 5000
    """A node must have been up for so long before leaderships go back to it."""
    answers_early: int = 64
    """So many answers leave a round before it ends, if nobody watches here; of several groups more, see
    ``Outbox.expect``."""
    hashes_timeout_ms: int = 20_000
    """``status --hashes`` answers with what it has after this."""
    watches_max: int = 100_000
    """Watches that a node serves."""
    watches_a_connection_max: int = 4096
