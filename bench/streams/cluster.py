"""The nodes of a cluster on trio, as faults reach them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

import trio

from bench.streams.internet import Host, Internet
from bench.streams.machines import STOP_MS, Boot, Record, SimMachine, config_of
from bench.streams.schedule import TrioHeap
from bench.world.clock import Clock, Seed, Trace
from bench.world.disk import Disk, SimBatch
from bench.world.network import Weather
from bench.world.nodes import Ledgers
from bench.world.target import QUICK_SYNC_MS, Details, Pairs
from primitives.errors import InvariantViolation
from primitives.ids import GroupId, NodeId
from raftgroup.types import Config
from shards.settings import EngineSettings


class StreamCluster:
    """Nodes, their disks and clocks, and their boots: the target of faults, see
    :class:`bench.world.target.Target`."""

    def __init__(
        self, heap: TrioHeap, trace: Trace, seed: Seed, internet: Internet, *, nodes: int, groups: int,
        replicas: int,
    ) -> None:  # fmt: skip
        self.heap: Final = heap
        self.trace: Final = trace
        self.seed: Final = seed
        self.internet: Final = internet
        self.nodes: Final = [NodeId(number) for number in range(1, nodes + 1)]
        self.disks: Final = {node: Disk() for node in self.nodes}
        self.clocks: Final = {node: Clock(heap, start_ms=node * 100_000) for node in self.nodes}
        self.ledgers: Final = Ledgers(self.disks, min(replicas, nodes))
        self.up: Final[dict[NodeId, Boot]] = {}
        self.hosts: Final[dict[NodeId, Host]] = {}
        self.nursery: trio.Nursery | None = None
        """Where nodes run."""
        self.restarts_failed = False
        """A node that stopped by itself is started again at once."""
        self.client_disturbed: Callable[[Details], None] = lambda details: None
        self.boots = 0
        self._groups: Final = groups
        self._replicas: Final = replicas
        self._settings: Final = _settings(seed.stream("settings"))
        self._records: Final = {
            node: Record(seed.stream(f"store/{node}").randbytes(16)) for node in self.nodes
        }
        self._sync_ms: Final = dict.fromkeys(self.nodes, QUICK_SYNC_MS)
        self._losses: Final = seed.stream("losses")

    # --- Boots ----------------------------------------------------------------------------------------

    def is_up(self, node: NodeId) -> bool:
        """See :class:`bench.world.target.Target`."""
        return node in self.up

    def restart(self, node: NodeId) -> None:
        """See :class:`bench.world.target.Target`."""
        if self.nursery is None:
            raise InvariantViolation("a node starts where none can run")
        self.boots += 1
        self.disks[node].sync_fails = False
        name = f"n{node}"
        self.hosts[node] = self.internet.host(name)
        machine = SimMachine(
            self.heap, self.hosts[node], self.disks[node], self._records[node], self.clocks[node],
            self.seed.stream(f"boot/{node}/{self.boots}"), partial(self._wrote, node), self._sync_ms[node],
        )  # fmt: skip
        config = config_of(
            node, len(self.nodes), groups=self._groups, replicas=self._replicas, engine=self._settings
        )
        boot = Boot(name, machine, config, self.trace)
        self.up[node] = boot
        self.trace(name, f"starts as boot {self.boots}")
        self.nursery.start_soon(boot.run, partial(self._ended, node))

    def crash(self, node: NodeId) -> None:
        """See :class:`bench.world.target.Target`. Half of the time the machine goes, and nobody is told."""
        boot = self.up.pop(node)
        boot.die()
        silently = self._losses.randrange(2) > 0
        self.internet.kill(self.hosts[node], silently=silently)
        kept, count = self.disks[node].crash(self._losses)
        how = "with its machine" if silently else "alone"
        self.trace(f"n{node}", f"dies {how}, {kept} of {count} unsynced batches survive")
        self.heap.after(STOP_MS, partial(self._expect_end, boot))

    def stop(self, node: NodeId) -> None:
        """Tells a node to stop, as an operator does."""
        boot = self.up[node]
        boot.stop()
        self.heap.after(STOP_MS, partial(self._expect_end, boot))

    def _expect_end(self, boot: Boot) -> None:
        if not boot.has_ended:
            raise InvariantViolation(f"{boot.name} has not ended {STOP_MS} ms after it was told to, or died")

    def _ended(self, node: NodeId, boot: Boot) -> None:
        """A boot is over. What died has been dealt with already."""
        if self.up.get(node) is not boot:
            return
        del self.up[node]
        host = self.hosts[node]
        if boot.failure is None:
            self.trace(boot.name, "has stopped")
        else:
            kept, count = self.disks[node].crash(self._losses)
            self.trace(boot.name, f"{boot.failure}; {kept} of {count} unsynced batches survive")
        if host.sockets or host.listeners:
            left = [*(socket.name for socket in host.sockets.values()), *map(str, host.listeners)]
            raise InvariantViolation(f"{boot.name} has ended and left open {', '.join(left)}")
        self.internet.kill(host, silently=False)
        if boot.failure is not None and self.restarts_failed:
            self.restart(node)

    # --- Faults: bench.world.target.Target --------------------------------------------------------------

    def say(self, what: str) -> None:
        """See :class:`bench.world.target.Target`."""
        self.trace("fault", what)

    def block(self, pairs: Pairs) -> None:
        """See :class:`bench.world.target.Target`; connections break only by what their ends do about it."""
        self.internet.cut([(f"n{one}", f"n{other}") for one, other in pairs])

    def clog(self, pairs: Pairs) -> None:
        """See :class:`bench.world.target.Target`."""
        self.block(pairs)

    def unblock(self, pairs: Pairs) -> None:
        """See :class:`bench.world.target.Target`."""
        self.internet.open([(f"n{one}", f"n{other}") for one, other in pairs])

    def set_weather(self, weather: Weather) -> None:
        """See :class:`bench.world.target.Target`."""
        self.internet.weather = weather

    def set_sync_delay(self, node: NodeId, delay_ms: tuple[int, int]) -> None:
        """See :class:`bench.world.target.Target`."""
        self._sync_ms[node] = delay_ms
        boot = self.up.get(node)
        if boot is not None and boot.machine.syncer is not None:
            boot.machine.syncer.delay_ms = delay_ms

    def set_refusing(self, node: NodeId, refusing: bool) -> None:
        """See :class:`bench.world.target.Target`."""
        self.disks[node].refusing = refusing

    def fail_next_sync(self, node: NodeId) -> None:
        """See :class:`bench.world.target.Target`."""
        self.disks[node].sync_fails = True

    def set_clock_rate(self, node: NodeId, rate_ppm: int) -> None:
        """See :class:`bench.world.target.Target`."""
        self.clocks[node].set_rate(rate_ppm)

    def set_sync_stalled(self, node: NodeId, stalled: bool) -> None:
        """See :class:`bench.world.target.Target`."""
        self.disks[node].set_stalled(stalled)

    def set_damaged(self, node: NodeId, damaged: bool) -> None:
        """See :class:`bench.world.target.Target`."""
        self.disks[node].damaged = damaged

    def disturb_client(self, details: Details) -> None:
        """See :class:`bench.world.target.Target`."""
        self.client_disturbed(details)

    def is_frozen(self, node: NodeId) -> bool:
        """See :class:`bench.world.target.Target`: processes on one loop do not stand still one by one."""
        return False

    def set_frozen(self, node: NodeId, frozen: bool) -> None:
        """See :class:`bench.world.target.Target`."""
        raise InvariantViolation("processes on one loop do not stand still one by one")

    def jump_clock(self, node: NodeId, jump_ms: int) -> None:
        """See :class:`bench.world.target.Target`."""
        raise InvariantViolation("leases rest on clocks that do not jump")

    def arm(self, node: NodeId, point: str, hits: int) -> None:
        """See :class:`bench.world.target.Target`."""
        raise InvariantViolation("nobody reaches into a process here")

    def disarm(self, node: NodeId) -> None:
        """See :class:`bench.world.target.Target`."""
        raise InvariantViolation("nobody reaches into a process here")

    def transfer(self, pick: int, to: NodeId) -> NodeId | None:
        """See :class:`bench.world.target.Target`."""
        raise InvariantViolation("leaderships are handed over by whoever stops")

    def burst(self, clients: int, length_ms: int) -> None:
        """See :class:`bench.world.target.Target`."""
        raise InvariantViolation("clients come one by one")

    # --- What is checked ------------------------------------------------------------------------------

    def _wrote(self, node: NodeId, batch: SimBatch) -> None:
        live = self.disks[node].live
        for group, entries, _ in batch.appends:
            if entries:
                self.ledgers.of(group).wrote(live.log(group), entries)
        for group, index, _ in batch.applies:
            rows = live.state(group, live.replicas[group].epoch)
            self.ledgers.of(group).flushed(index, rows.sum)

    def is_serving(self) -> bool:
        """Whether every node is up and has said that it serves."""
        running = [boot.running for boot in self.up.values()]
        return len(running) == len(self.nodes) and all(
            node is not None and node.ready.is_set() for node in running
        )

    def has_converged(self) -> bool:
        """Whether all replicas of each group are at one index, the end of their logs, in what they wrote."""
        return all(len(self.positions(group)) == 1 for group in self._all_groups())

    def positions(self, group: GroupId) -> set[tuple[int, int]]:
        """(written applied index, state hash) of each replica; (-1, its node) for one behind its log."""
        found = set()
        for node, disk in self.disks.items():
            image = disk.live
            if group not in image.replicas:
                continue
            applied = image.applied[group][0]
            if applied == image.log(group).last_index():
                found.add((int(applied), image.state(group, image.replicas[group].epoch).sum))
            else:
                found.add((-1, int(node)))
        return found

    def _all_groups(self) -> list[GroupId]:
        return sorted({group for disk in self.disks.values() for group in disk.live.replicas})

    def report(self) -> str:
        """Where every disk stands, for people."""
        groups = "; ".join(f"g{group}: {sorted(self.positions(group))}" for group in self._all_groups())
        open_sockets = "; ".join(
            f"{host.name}: {[socket.name for socket in host.sockets.values()]}"
            for _, host in sorted(self.hosts.items())
        )
        return f"applied and hashes: {groups}\nsockets: {open_sockets}"


def _settings(random: Random) -> EngineSettings:
    """Often small bounds, so that logs are cut and snapshots sent within seconds."""
    if random.random() < 0.5:
        return EngineSettings()
    return EngineSettings(
        raft=Config(tail_bytes_max=random.choice((2000, 1 << 20))),
        flush_interval_ms=100, flush_slice_bytes=1,
        log_cut_interval_ms=random.choice((20, 200)), log_tail_entries=random.choice((0, 3, 30)),
        log_tail_bytes=random.choice((100, 10_000)), log_held_bytes=random.choice((2000, 1 << 20)),
        snapshot_part_bytes=random.choice((2000, 40_000)), snapshot_window_bytes=random.choice((1, 30_000)),
        balance_up_ms=random.choice((300, 3000)), snapshot_silence_ms=random.choice((800, 5000)),
        answers_early=random.choice((1, 2, 64)),
    )  # fmt: skip
