"""The nodes of a simulated cluster together, as faults reach them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from bench.world.clock import Clock, Heap, Seed, Trace
from bench.world.disk import Disk
from bench.world.faults import QUICK_SYNC_MS
from bench.world.network import Network, Weather
from bench.world.nodes import Ledgers, SimNode
from primitives.errors import InvariantViolation
from primitives.ids import GroupId, NodeId
from router.shardmap import NodeInfo
from shards.peerwire import SectionKind
from shards.placement import Founding
from shards.settings import EngineSettings

Watcher = Callable[[NodeId], None]


class Cluster:
    """Nodes, their disks and clocks, and the network between them: the target of faults."""

    def __init__(
        self, heap: Heap, trace: Trace, seed: Seed, *, nodes: int, groups: int, replicas: int
    ) -> None:
        self.nodes: Final = [NodeId(number) for number in range(1, nodes + 1)]
        self.founding: Final = Founding(tuple(_info(node) for node in self.nodes), groups, replicas)
        self.disks: Final = {node: Disk() for node in self.nodes}
        self.up: Final[dict[NodeId, SimNode]] = {}
        self.ledgers: Final = Ledgers(self.disks, min(replicas, nodes))
        self.restarts_failed = False
        """In the liveness phase a node that stopped by itself is started again at once."""
        self.started: Watcher = lambda node: None
        self.stopped: Watcher = lambda node: None
        self.client_disturbed: Callable[[Random], None] = lambda random: None
        self._heap = heap
        self._trace = trace
        self._seed = seed
        self._clocks = {node: Clock(heap, start_ms=node * 100_000) for node in self.nodes}
        self._sync_ms = dict.fromkeys(self.nodes, QUICK_SYNC_MS)
        self._losses = seed.stream("losses")
        self._boots = 0
        self.network: Final[Network[bytes]] = Network(
            heap, seed.stream("network"), trace, loose=_is_loose, weather=Weather()
        )

    def is_up(self, node: NodeId) -> bool:
        """See :class:`bench.world.faults.Target`."""
        return node in self.up

    def crash(self, node: NodeId) -> None:
        """See :class:`bench.world.faults.Target`."""
        self.up.pop(node).stop()
        self.network.detach(node)
        kept, count = self.disks[node].crash(self._losses)
        self._trace(f"n{node}", f"crashes, {kept} of {count} unsynced batches survive")
        self.stopped(node)

    def restart(self, node: NodeId) -> None:
        """See :class:`bench.world.faults.Target`."""
        self._boots += 1
        self.disks[node].sync_fails = False
        started = SimNode(
            node=node, boot=self._boots, heap=self._heap, trace=self._trace, seed=self._seed,
            disk=self.disks[node], clock=self._clocks[node], network=self.network, ledgers=self.ledgers,
            sync_ms=self._sync_ms[node], failed=self._sync_failed, settings=EngineSettings(),
        )  # fmt: skip
        self._trace(f"n{node}", f"starts as boot {self._boots}")
        self.up[node] = started
        self.network.attach(started)
        started.start(self.founding)
        self.started(node)

    def block(self, pairs: Sequence[tuple[NodeId, NodeId]]) -> None:
        """See :class:`bench.world.faults.Target`."""
        self.network.block(pairs)

    def unblock(self, pairs: Sequence[tuple[NodeId, NodeId]]) -> None:
        """See :class:`bench.world.faults.Target`."""
        self.network.unblock(pairs)

    def set_weather(self, weather: Weather) -> None:
        """See :class:`bench.world.faults.Target`."""
        self.network.weather = weather

    def set_sync_delay(self, node: NodeId, delay_ms: tuple[int, int]) -> None:
        """See :class:`bench.world.faults.Target`."""
        self._sync_ms[node] = delay_ms
        if node in self.up:
            self.up[node].syncer.delay_ms = delay_ms

    def set_refusing(self, node: NodeId, refusing: bool) -> None:
        """See :class:`bench.world.faults.Target`."""
        self.disks[node].refusing = refusing

    def fail_next_sync(self, node: NodeId) -> None:
        """See :class:`bench.world.faults.Target`."""
        self.disks[node].sync_fails = True

    def set_clock_rate(self, node: NodeId, rate_ppm: int) -> None:
        """See :class:`bench.world.faults.Target`."""
        self._clocks[node].set_rate(rate_ppm)

    def set_frozen(self, node: NodeId, frozen: bool) -> None:
        """See :class:`bench.world.faults.Target`. A node started since does not stand still."""
        if node in self.up:
            self.up[node].set_frozen(frozen)

    def disturb_client(self, random: Random) -> None:
        """See :class:`bench.world.faults.Target`."""
        self.client_disturbed(random)

    # --- What is demanded once everything is healed -------------------------------------------------

    @property
    def groups(self) -> list[GroupId]:
        """Every group that some running node holds."""
        return sorted({group for node in self.up.values() for group in node.engine.groups})

    def has_formed(self) -> bool:
        """Whether every node is up and sees a leader of every group."""
        found = [len(node.engine.groups) for node in self.up.values() if node.engine.ready]
        return len(found) == len(self.nodes) and min(found) > 1

    def has_converged(self) -> bool:
        """Whether all replicas of each group are at one index, applied and written, with one hash."""
        return self.has_formed() and all(len(self._positions(group)) == 1 for group in self.groups)

    def has_no_sessions(self) -> bool:
        """Whether every session has ended, or expired, on every replica."""
        return not any(
            driver.applier.sessions for node in self.up.values() for driver in node.engine.groups.values()
        )

    def _positions(self, group: GroupId) -> set[tuple[int, int]]:
        """(written applied index, state hash) of each replica; (-1, its node) for one that is behind its own
        log."""
        found: set[tuple[int, int]] = set()
        for number, node in self.up.items():
            driver = node.engine.groups.get(group)
            if driver is None:
                continue
            image = node.disk.live
            applied = image.applied[group][0]
            if applied == driver.replica.applied == driver.replica.last_index:
                found.add((applied, image.state(group, driver.epoch).sum))
            else:
                found.add((-1, number))
        return found

    def check_hashes(self) -> None:
        """All replicas that wrote their state at one index wrote the same state."""
        for group in self.groups:
            positions = {position for position in self._positions(group) if position[0] >= 0}
            if len({index for index, _ in positions}) < len(positions):
                raise InvariantViolation(f"group {group}: replicas at one index differ in their state")

    def report(self) -> str:
        """Where every replica stands, for people."""
        lines = []
        for number, node in sorted(self.up.items()):
            states = [
                f"g{group} role {driver.replica.role} term {driver.replica.term}"
                f" leader {driver.replica.leader} last {driver.replica.last_index}"
                f" commit {driver.replica.commit} applied {driver.replica.applied}"
                f" sessions {[number for number, _, _ in driver.applier.sessions]}"
                for group, driver in sorted(node.engine.groups.items())
            ]
            lines.append(f"n{number}: " + "; ".join(states))
        return "\n".join(lines)

    def _sync_failed(self, node: NodeId) -> None:
        self._trace(f"n{node}", "stops: its sync failed")
        self.crash(node)
        if self.restarts_failed:
            self.restart(node)


def _is_loose(section: bytes) -> bool:
    return section[0] == SectionKind.RAFT


def _info(node: NodeId) -> NodeInfo:
    return NodeInfo(node, f"n{node}", f"client-{node}:1", f"peer-{node}:1", bytes([node]) * 16)
