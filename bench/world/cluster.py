"""The nodes of a simulated cluster together, as faults reach them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from bench.world.clock import Heap, Seed, Trace
from bench.world.failpoints import Failpoints
from bench.world.machines import Machines
from bench.world.nodes import Ledgers, SimNode
from bench.world.target import Details
from primitives.errors import InvariantViolation
from primitives.ids import GroupId, NodeId
from raftgroup.types import Config
from router.shardmap import NodeInfo
from shards.group import GroupDriver
from shards.peerwire import SectionKind
from shards.placement import Founding
from shards.ports import StoreDamaged
from shards.settings import EngineSettings

Watcher = Callable[[NodeId], None]


class Cluster(Machines[bytes, SimNode]):
    """Nodes, their disks and clocks, and the network between them: the target of faults."""

    def __init__(
        self, heap: Heap, trace: Trace, seed: Seed, *, nodes: int, groups: int, replicas: int
    ) -> None:
        super().__init__(heap, trace, seed, nodes, start_ms=100_000, loose=_is_loose)
        self.founding: Final = Founding(tuple(_info(node) for node in self.nodes), groups, replicas)
        self.ledgers: Final = Ledgers(self.disks, min(replicas, nodes))
        self.settings: Final = _settings(seed.stream("settings"))
        self.snapshots = 0
        """Installed by processes that have ended."""
        self.restarts_failed = False
        """In the liveness phase a node that stopped by itself is started again at once."""
        self.started: Watcher = lambda node: None
        self.stopped: Watcher = lambda node: None
        self.client_disturbed: Callable[[Details], None] = lambda details: None
        self.burst_began: Callable[[int, int], None] = lambda clients, length_ms: None
        self.failpoints: Final = Failpoints()

    def crash(self, node: NodeId) -> None:
        """See :class:`bench.world.target.Target`."""
        self.snapshots += self.up[node].engine.snapshots.installed
        super().crash(node)
        self.stopped(node)

    def restart(self, node: NodeId) -> None:
        """See :class:`bench.world.target.Target`."""
        self.boots += 1
        self.disks[node].sync_fails = False
        try:
            started = self._boot(node)
        except StoreDamaged as damaged:
            self.trace(f"n{node}", f"does not serve: {damaged}")
            return
        self.trace(f"n{node}", f"starts as boot {self.boots}")
        self.up[node] = started
        self.network.attach(started)
        self.started(node)
        started.start(self.founding)

    def _boot(self, node: NodeId) -> SimNode:
        return SimNode(
            node=node, boot=self.boots, heap=self.heap, trace=self.trace, seed=self.seed,
            disk=self.disks[node], clock=self.clocks[node], network=self.network, ledgers=self.ledgers,
            sync_ms=self.sync_ms[node], failed=self._sync_failed, settings=self.settings,
            failpoints=self.failpoints, died=self._died,
        )  # fmt: skip

    def arm(self, node: NodeId, point: str, hits: int) -> None:
        """See :class:`bench.world.target.Target`."""
        self.failpoints.arm(node, point, hits)

    def disarm(self, node: NodeId) -> None:
        """See :class:`bench.world.target.Target`."""
        self.failpoints.disarm(node)

    def transfer(self, pick: int, to: NodeId) -> NodeId | None:
        """See :class:`bench.world.target.Target`."""
        led = [
            (node, driver) for _, node in sorted(self.up.items())
            for _, driver in sorted(node.engine.groups.items()) if driver.leads
        ]  # fmt: skip
        if not led:
            return None
        node, driver = led[pick % len(led)]
        node.run(lambda: self._transfer(node, driver, to))
        return node.node

    def _transfer(self, node: SimNode, driver: GroupDriver, to: NodeId) -> None:
        self.trace(f"n{node.node}", f"hands g{driver.group} to n{to}: {driver.transfer(to)}")
        node.engine.touch(driver)
        node.wake(0)

    def disturb_client(self, details: Details) -> None:
        """See :class:`bench.world.target.Target`."""
        self.client_disturbed(details)

    def burst(self, clients: int, length_ms: int) -> None:
        """See :class:`bench.world.target.Target`."""
        self.burst_began(clients, length_ms)

    @property
    def installed(self) -> int:
        """Snapshots that were installed so far."""
        return self.snapshots + sum(node.engine.snapshots.installed for node in self.up.values())

    # --- What is demanded once everything is healed -------------------------------------------------

    @property
    def groups(self) -> list[GroupId]:
        """Every group that some running node holds."""
        return sorted({group for node in self.up.values() for group in node.engine.groups})

    def has_formed(self) -> bool:
        """Whether every node is up, knows the map and sees a leader of each of its groups."""
        return sum(node.engine.ready for node in self.up.values()) == len(self.nodes)

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

    def _died(self, node: NodeId, point: str) -> None:
        self.trace(f"n{node}", f"dies at {point}")
        self.crash(node)

    def _sync_failed(self, node: NodeId) -> None:
        self.trace(f"n{node}", "stops: its sync failed")
        self.crash(node)
        if self.restarts_failed:
            self.restart(node)


def _settings(random: Random) -> EngineSettings:
    """Small bounds, so that logs are cut and snapshots sent within seconds; not in every run."""
    if random.random() < 0.2:
        return EngineSettings()
    return EngineSettings(
        raft=Config(tail_bytes_max=random.choice((1, 2000, 1 << 20))),
        flush_interval_ms=100, flush_slice_bytes=1,
        log_cut_interval_ms=random.choice((20, 200)), log_tail_entries=random.choice((0, 3, 30)),
        log_tail_bytes=random.choice((100, 10_000)), log_held_bytes=random.choice((2000, 1 << 20)),
        snapshot_part_bytes=random.choice((2000, 40_000)), snapshot_window_bytes=random.choice((1, 30_000)),
        balance_interval_ms=random.choice((100, 1000)), balance_up_ms=random.choice((300, 3000)),
        snapshot_bytes_a_second=random.choice((1 << 20, 1 << 24)), snapshots_sent_max=random.choice((1, 4)),
        snapshots_received_max=random.choice((1, 4)), snapshot_silence_ms=random.choice((800, 5000)),
        answers_early=random.choice((1, 2, 64)),
    )  # fmt: skip


def _is_loose(section: bytes) -> bool:
    return section[0] in (SectionKind.RAFT, SectionKind.HEARTBEATS)


def _info(node: NodeId) -> NodeInfo:
    return NodeInfo(node, f"n{node}", f"client-{node}:1", f"peer-{node}:1", bytes([node]) * 16)
