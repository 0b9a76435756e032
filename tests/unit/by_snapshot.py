"""Three engines on simulated disks, moved by hand: who is down, what is delivered, where one crashes."""

from __future__ import annotations

from random import Random

from bench.world.disk import Disk, SimStore
from primitives.ids import GroupId, NodeId
from primitives.records import Register, encode_register
from raftgroup.types import Config
from router.shardmap import NodeInfo
from shards.engine import Engine
from shards.outbox import INTERNAL
from shards.placement import Founding
from shards.ports import Origin
from shards.settings import EngineSettings

GROUP = GroupId(1)
NODES = (1, 2, 3)
SETTINGS = EngineSettings(
    flush_interval_ms=20, log_cut_interval_ms=20, log_tail_entries=3, snapshot_part_bytes=20_000,
    snapshot_window_bytes=60_000, snapshot_bytes_a_second=1 << 30, snapshot_silence_ms=2000,
    raft=Config(tail_bytes_max=1),
)  # fmt: skip


class Clock:
    """Moved by hand."""

    now_ms = 0

    def monotonic_ms(self) -> int:
        return self.now_ms


class Engines:
    """One data group on three nodes, of which any may be down."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.disks = {NodeId(node): Disk() for node in NODES}
        self.up: dict[NodeId, Engine] = {}
        self.lost_sections: set[tuple[NodeId, NodeId]] = set()
        """Directions in which everything is lost."""
        self.notes: list[str] = []
        self.told: dict[tuple[NodeId, int], list[bytes]] = {}
        """Frames to clients, by node and connection."""
        self._boots = 0
        self._registered = 0
        infos = [NodeInfo(NodeId(n), f"n{n}", f"c{n}:1", f"p{n}:1", bytes([n]) * 16) for n in NODES]
        self._founding = Founding(tuple(infos), 1, 3)
        for node in NODES:
            self.start(node)
        self.run(3000)

    def start(self, number: int) -> None:
        """Starts a node from its disk."""
        node = NodeId(number)
        self._boots += 1
        engine = Engine(
            node=node, boot_id=bytes([self._boots]) * 16, store=SimStore(self.disks[node]), clock=self.clock,
            random=Random(self._boots), settings=SETTINGS,
        )  # fmt: skip
        engine.start()
        engine.form(self._founding)
        for other, there in self.up.items():
            engine.peer_up(other, there.boot_id)
            there.peer_up(node, engine.boot_id)
        self.up[node] = engine

    def crash(self, number: int, *, kept: bool = False) -> None:
        """Ends a process; of what is not synced nothing is left, or, if ``kept``, all."""
        node = NodeId(number)
        del self.up[node]
        disk = self.disks[node]
        if kept:
            disk.sync(disk.written)
        disk.pending.clear()
        disk.crash(Random(0))
        for there in self.up.values():
            there.peer_down(node)

    def reconnect(self, one: int, other: int) -> None:
        """Two nodes' connection is made anew."""
        a, b = NodeId(one), NodeId(other)
        for here, there in ((a, b), (b, a)):
            self.up[here].peer_down(there)
            self.up[here].peer_up(there, self.up[there].boot_id)

    def turn(self, number: int) -> None:
        """One round of a node, with a sync at once."""
        node = NodeId(number)
        effects = self.up[node].round()
        self.notes += effects.notes
        for connection, frames in effects.clients.items():
            self.told.setdefault((node, connection), []).extend(frames)
        for other, sections in effects.peers.items():
            if other in self.up and (node, other) not in self.lost_sections:
                payload = b"".join(data for _, data in sorted(sections, key=lambda one: one[0]))
                self.up[other].peer_sections(node, payload)
        if effects.sync_round is not None:
            self.disks[node].sync(self.disks[node].written)
            self.up[node].sync_done(effects.sync_round)

    def run(self, ms: int) -> None:
        """Lets time go by."""
        for _ in range(ms // 5):
            self.clock.now_ms += 5
            for _ in range(4):
                for node in list(self.up):
                    self.turn(node)

    def write(self, count: int) -> None:
        """So many registrations of sessions, each an entry of its own."""
        for _ in range(count):
            self._registered += 1
            record = encode_register(Register(self._registered.to_bytes(16, "big"), 1, 60_000))
            leader = next(node for node, engine in self.up.items() if engine.groups[GROUP].leads)
            self.up[leader].route(Origin(leader, INTERNAL, 0), GROUP, record)
            self.run(5)

    @property
    def leader(self) -> Engine:
        """Whoever leads the group."""
        return next(engine for engine in self.up.values() if engine.groups[GROUP].leads)

    def sums(self) -> dict[NodeId, tuple[int, int]]:
        """Of each running replica, the written applied index and the hash of its rows."""
        return {
            node: (self.disks[node].live.applied[GROUP][0],
                   self.disks[node].live.state(GROUP, engine.groups[GROUP].epoch).sum)
            for node, engine in self.up.items()
        }  # fmt: skip

    def have_met(self) -> bool:
        """Whether all three are at one index with one hash."""
        return len(self.up) == 3 and len(set(self.sums().values())) == 1
