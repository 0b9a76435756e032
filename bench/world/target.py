"""The world as faults reach it, and the plan by which they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from bench.world.network import Weather
from primitives.ids import NodeId

QUICK_SYNC_MS: Final = (1, 3)

CLOCK_DRIFT_PPM_MAX: Final = 5_000
"""How much faster or slower than true time a clock may run: far more than real ones, and within the margin
that leases are counted with."""

Details = Mapping[str, Any]
"""What a fault is, beyond its kind: plain values that a seed file can hold."""
Pairs = Sequence[tuple[NodeId, NodeId]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a plan."""

    at_ms: int
    kind: str
    last_ms: int
    """Until its end. Some are over at once."""
    details: Details

    def __str__(self) -> str:
        what = " ".join(f"{key}={_plain(value)}" for key, value in self.details.items())
        return f"{self.at_ms:>7} {self.kind} for {self.last_ms} ms {what}".rstrip()


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        inner = [">".join(map(str, one)) if isinstance(one, list | tuple) else str(one) for one in value]
        return ",".join(inner)
    return str(value)


class Target(Protocol):
    """The world, as faults reach it."""

    @property
    def nodes(self) -> Sequence[NodeId]:
        """Every node, up or down."""

    def say(self, what: str) -> None:
        """Adds a line about a fault to the trace."""

    def is_up(self, node: NodeId) -> bool:
        """Whether the node's process runs."""

    def is_frozen(self, node: NodeId) -> bool:
        """Whether the node's process stands still."""

    def crash(self, node: NodeId) -> None:
        """Ends the process; what is unsynced may go with it."""

    def restart(self, node: NodeId) -> None:
        """Starts it again, from its disk; a node whose disk is damaged refuses to serve, and stays down."""

    def block(self, pairs: Pairs) -> None:
        """Cuts the directions; connections that are cut for long break."""

    def clog(self, pairs: Pairs) -> None:
        """Cuts the directions; no connection breaks for it."""

    def unblock(self, pairs: Pairs) -> None:
        """Takes back one :meth:`block` or :meth:`clog` of the directions: what was held back arrives."""

    def set_weather(self, weather: Weather) -> None:
        """Makes the network as bad as that."""

    def set_sync_delay(self, node: NodeId, delay_ms: tuple[int, int]) -> None:
        """How long a sync takes there, across restarts."""

    def set_sync_stalled(self, node: NodeId, stalled: bool) -> None:
        """Whether syncs there do not come to an end for now."""

    def set_refusing(self, node: NodeId, refusing: bool) -> None:
        """Whether the store refuses writes for now."""

    def set_damaged(self, node: NodeId, damaged: bool) -> None:
        """Whether what the disk holds fails its checksums."""

    def fail_next_sync(self, node: NodeId) -> None:
        """The next sync fails, upon which the node must stop."""

    def set_clock_rate(self, node: NodeId, rate_ppm: int) -> None:
        """How fast the node's clock runs."""

    def jump_clock(self, node: NodeId, jump_ms: int) -> None:
        """Sets the node's clock forward."""

    def set_frozen(self, node: NodeId, frozen: bool) -> None:
        """Whether the node's process stands still, as by SIGSTOP or on a machine that sleeps, while its clock
        and its peers go on."""

    def arm(self, node: NodeId, point: str, hits: int) -> None:
        """The process ends where it passes the named point for the ``hits``-th time from now on."""

    def disarm(self, node: NodeId) -> None:
        """It does not, if it has not."""

    def transfer(self, pick: int, to: NodeId) -> NodeId | None:
        """Has the ``pick``-th leader, counted round, hand over; on which node that is, if there is one."""

    def disturb_client(self, details: Details) -> None:
        """Lets some client pause, lose its connections or die."""

    def burst(self, clients: int, length_ms: int) -> None:
        """So many more clients come at once, call without a rest, and leave."""
