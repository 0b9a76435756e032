"""What lasts of simulated nodes while their processes come and go: disks, clocks, and the network between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar

from bench.world.clock import Clock, Heap, Seed, Trace
from bench.world.disk import Disk, SimSyncer
from bench.world.network import Endpoint, Network, Weather
from bench.world.target import QUICK_SYNC_MS, Details, Pairs
from primitives.ids import NodeId

S = TypeVar("S")
"""What the network carries."""
S_contra = TypeVar("S_contra", contravariant=True)


class Process(Endpoint[S_contra], Protocol[S_contra]):
    """One boot of a node."""

    @property
    def syncer(self) -> SimSyncer:
        """Its sync thread."""

    def stop(self) -> None:
        """The process is gone."""

    def set_frozen(self, frozen: bool) -> None:
        """Whether it stands still."""


P = TypeVar("P", bound=Process[Any])


class Machines(Generic[S, P]):
    """Most of :class:`bench.world.target.Target`; who derives from it starts processes."""

    def __init__(
        self, heap: Heap, trace: Trace, seed: Seed, count: int, *, start_ms: int, loose: Callable[[S], bool]
    ) -> None:
        """Node ``n``'s clock begins at ``n * start_ms``."""
        self.heap: Final = heap
        self.trace: Final = trace
        self.seed: Final = seed
        self.nodes: Final = [NodeId(number) for number in range(1, count + 1)]
        self.disks: Final = {node: Disk() for node in self.nodes}
        self.clocks: Final = {node: Clock(heap, start_ms=node * start_ms) for node in self.nodes}
        self.sync_ms: Final = dict.fromkeys(self.nodes, QUICK_SYNC_MS)
        self.up: Final[dict[NodeId, P]] = {}
        """Processes that run."""
        self.network: Final[Network[S]] = Network(
            heap, seed.stream("network"), trace, loose=loose, weather=Weather()
        )
        self.boots = 0
        self.jumped_ms: Final = dict.fromkeys(self.nodes, 0)
        """How far faults set each node's clock forward, in all."""
        self._frozen: set[NodeId] = set()
        self._losses = seed.stream("losses")

    def say(self, what: str) -> None:
        """See :class:`bench.world.target.Target`."""
        self.trace("fault", what)

    def is_up(self, node: NodeId) -> bool:
        """See :class:`bench.world.target.Target`."""
        return node in self.up

    def is_frozen(self, node: NodeId) -> bool:
        """See :class:`bench.world.target.Target`."""
        return node in self._frozen

    def crash(self, node: NodeId) -> None:
        """See :class:`bench.world.target.Target`."""
        self.up.pop(node).stop()
        self.network.detach(node)
        kept, count = self.disks[node].crash(self._losses)
        self.trace(f"n{node}", f"crashes, {kept} of {count} unsynced batches survive")

    def block(self, pairs: Pairs) -> None:
        """See :class:`bench.world.target.Target`."""
        self.network.block(pairs)

    def clog(self, pairs: Pairs) -> None:
        """See :class:`bench.world.target.Target`."""
        self.network.clog(pairs)

    def unblock(self, pairs: Pairs) -> None:
        """See :class:`bench.world.target.Target`."""
        self.network.unblock(pairs)

    def set_weather(self, weather: Weather) -> None:
        """See :class:`bench.world.target.Target`."""
        self.network.weather = weather

    def set_sync_delay(self, node: NodeId, delay_ms: tuple[int, int]) -> None:
        """See :class:`bench.world.target.Target`."""
        self.sync_ms[node] = delay_ms
        if node in self.up:
            self.up[node].syncer.delay_ms = delay_ms

    def set_sync_stalled(self, node: NodeId, stalled: bool) -> None:
        """See :class:`bench.world.target.Target`."""
        self.disks[node].set_stalled(stalled)

    def set_refusing(self, node: NodeId, refusing: bool) -> None:
        """See :class:`bench.world.target.Target`."""
        self.disks[node].refusing = refusing

    def set_damaged(self, node: NodeId, damaged: bool) -> None:
        """See :class:`bench.world.target.Target`."""
        self.disks[node].damaged = damaged

    def fail_next_sync(self, node: NodeId) -> None:
        """See :class:`bench.world.target.Target`."""
        self.disks[node].sync_fails = True

    def set_clock_rate(self, node: NodeId, rate_ppm: int) -> None:
        """See :class:`bench.world.target.Target`."""
        self.clocks[node].set_rate(rate_ppm)

    def jump_clock(self, node: NodeId, jump_ms: int) -> None:
        """See :class:`bench.world.target.Target`."""
        self.clocks[node].jump(jump_ms)
        self.jumped_ms[node] += jump_ms

    def set_frozen(self, node: NodeId, frozen: bool) -> None:
        """See :class:`bench.world.target.Target`. A node started since does not stand still."""
        (self._frozen.add if frozen else self._frozen.discard)(node)
        if node in self.up:
            self.up[node].set_frozen(frozen)

    def arm(self, node: NodeId, point: str, hits: int) -> None:
        """See :class:`bench.world.target.Target`: there is none here, unless who derives from it has some."""

    def disarm(self, node: NodeId) -> None:
        """See :class:`bench.world.target.Target`."""

    def disturb_client(self, details: Details) -> None:
        """See :class:`bench.world.target.Target`: there are no clients here."""

    def burst(self, clients: int, length_ms: int) -> None:
        """See :class:`bench.world.target.Target`."""
