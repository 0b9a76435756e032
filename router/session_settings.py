"""Timing and bounds of a session core."""

from __future__ import annotations

from dataclasses import dataclass

from primitives.limits import SESSION_TIMEOUT_MS_MAX, SESSION_TIMEOUT_MS_MIN


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """The defaults suit a client on the cluster's own network. Raises ValueError for a timeout out of range.
    """

    timeout_ms: int = 10_000
    """How long a group keeps a lease after it last heard of the session."""
    drift_divisor: int = 50
    """The client trusts a lease for its timeout less this part of it (2 %), since clocks' rates differ."""
    window: int = 512
    """Commands of one slot sent and not answered, late ones apart."""
    late_max: int = 1024
    """Late calls of one slot; more are refused."""
    calls_max: int = 65_536
    call_bytes_max: int = 256 << 20
    """Calls under way, and the bytes they carry; more are refused."""
    link_bytes_max: int = 8 << 20
    """Bytes of requests sent over one connection and not answered."""
    frame_bytes: int = 256 * 1024
    """A frame of requests is closed at this size."""
    backoff_first_ms: int = 20
    backoff_max_ms: int = 1000
    dial_backoff_first_ms: int = 50
    dial_backoff_max_ms: int = 2000
    dial_stagger_ms: int = 250
    """While no node is in reach, another address is tried this long after the last."""
    hello_timeout_ms: int = 5000
    stall_ms: int = 1500
    """A group that answers nothing for this long is tried through another node."""
    stall_max_ms: int = 12_000
    avoid_ms: int = 3000
    """How long a node that failed for a group is not asked again about it, if there are others."""
    silence_ms: int = 2000
    """A connection on which an answer is due is probed after this much silence, and given up after twice
    that."""
    quiet_ms: int = 5000
    """A connection that is only watched over is probed after this much silence."""
    pause_ms: int = 500
    """A client that acts so much later than it wanted to stood still itself: it blames nobody for silence."""
    idle_ms: int = 30_000
    """A lease under which nothing is held or under way for this long is let go."""
    names_max: int = 4096
    """Names kept with what they mean."""

    def __post_init__(self) -> None:
        if not SESSION_TIMEOUT_MS_MIN <= self.timeout_ms <= SESSION_TIMEOUT_MS_MAX:
            low, high = SESSION_TIMEOUT_MS_MIN / 1000, SESSION_TIMEOUT_MS_MAX / 1000
            asked = self.timeout_ms / 1000
            raise ValueError(f"a session's timeout is {low} to {high:.0f} seconds, not {asked}")

    @property
    def lease_ms(self) -> int:
        """How long a lease is trusted after the sending of what was confirmed."""
        return self.timeout_ms - max(self.timeout_ms // self.drift_divisor, 10)

    @property
    def keepalive_ms(self) -> int:
        """Interval between keepalives while they are confirmed."""
        return self.timeout_ms // 3

    @property
    def keepalive_urgent_ms(self) -> int:
        """Interval between keepalives while they are not."""
        return max(self.timeout_ms // 12, 50)
