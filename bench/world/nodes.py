"""One boot of a node: the real engine on a simulated disk, network and clock.

What the trio driver does with sockets and a thread is done here with the event heap: events go into the
engine's inbox, a round runs in the same millisecond or when the engine asked for it, and the round's effects
are carried out in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Final, Protocol

from xxhash import xxh3_64_intdigest

from bench.world.clock import Action, Clock, Heap, Seed, Trace
from bench.world.disk import Disk, SimBatch, SimStore, SimSyncer
from bench.world.failpoints import Died, Failpoints
from bench.world.invariants import GroupChecks, SessionChecks
from bench.world.network import Network
from primitives.errors import InvariantViolation
from primitives.ids import SYSTEM_GROUP, GroupId, NodeId
from raftgroup.types import Message, MessageKind
from shards.engine import Engine
from shards.group import GroupDriver
from shards.peerwire import SECTION_HEADER_BYTES, SectionKind, decode_beats, decode_raft
from shards.placement import Founding
from shards.ports import Effects
from shards.settings import EngineSettings

_KIND_AT: Final = SECTION_HEADER_BYTES + 4
_UNCHECKED: Final = (MessageKind.APPEND,)
"""A long message whose promises the leader's vote has covered already."""

ROLES: Final = ("follower", "pre-candidate", "candidate", "leader")
ROUNDS_A_MS_MAX: Final = 2000

Change = tuple[int, int, int, int, int]


class ClientEnd(Protocol):
    """The node's clients, as it reaches them."""

    def to_client(self, connection: int, frames: Sequence[bytes]) -> None:
        """Whole frames for the client of a connection."""

    def close_client(self, connection: int) -> None:
        """The node closes the connection once what was sent has arrived."""


class Ledgers:
    """What is known of all groups, over all nodes and boots."""

    def __init__(self, disks: dict[NodeId, Disk], replicas: int) -> None:
        self._disks = disks
        self._replicas = replicas
        self.groups: dict[GroupId, GroupChecks] = {}
        self.sessions: dict[GroupId, SessionChecks] = {}

    def of(self, group: GroupId) -> GroupChecks:
        """The checks of a group. Group 0 has a voter on every node."""
        if group not in self.groups:
            voters = len(self._disks) if group == SYSTEM_GROUP else self._replicas
            self.groups[group] = GroupChecks(group, list(self._disks.values()), voters)
            self.sessions[group] = SessionChecks(group)
        return self.groups[group]


class SimNode:
    """One boot of a node."""

    def __init__(
        self, *, node: NodeId, boot: int, heap: Heap, trace: Trace, seed: Seed, disk: Disk, clock: Clock,
        network: Network[bytes], ledgers: Ledgers, sync_ms: tuple[int, int], failed: SyncFailed,
        settings: EngineSettings, failpoints: Failpoints, died: NodeDied,
    ) -> None:  # fmt: skip
        self.node: Final = node
        self.boot_id: Final = seed.stream(f"boot/{node}/{boot}").randbytes(16)
        self.disk: Final = disk
        self.clients: ClientEnd | None = None
        self.alive = True
        self._frozen = False
        self._backlog: list[Action] = []
        """What came while the process stood still."""
        self._heap = heap
        self._trace = trace
        self._clock = clock
        self._network = network
        self._ledgers = ledgers
        self._who = f"n{node}"
        self._seen: dict[GroupId, Change] = {}
        self._round_at: int | None = None
        self._last_round_at = -1
        self._rounds = 0
        """Rounds in that millisecond."""
        self._failpoints = failpoints
        self._died = died
        random: Random = seed.stream(f"engine/{node}/{boot}")
        self.store = SimStore(disk, self._wrote, partial(self._passes, "before_write"))
        self.syncer = SimSyncer(
            heap, disk, seed.stream(f"sync/{node}/{boot}"), failed=lambda: failed(node),
            done=lambda round_number: self.run(partial(self._told_synced, round_number)),
            delay_ms=sync_ms,
        )  # fmt: skip
        self.engine = Engine(
            node=node, boot_id=self.boot_id, store=self.store, clock=clock, random=random, settings=settings
        )

    def start(self, founding: Founding) -> None:
        """Loads what the disk holds, and forms the cluster if this node has not yet."""
        self._mortal(partial(self._start, founding))

    def _start(self, founding: Founding) -> None:
        self.engine.start()
        self.engine.form(founding)
        self.wake(0)

    def stop(self) -> None:
        """The process is gone."""
        self.alive = False
        self.syncer.stop()

    def set_frozen(self, frozen: bool) -> None:
        """The process stands still, or goes on: then it takes what came meanwhile, in order."""
        self._frozen = frozen
        if not frozen:
            backlog, self._backlog = self._backlog, []
            for action in backlog:
                self.run(action)
            self.wake(0)

    def run(self, action: Action) -> None:
        """Does something in the process, or keeps it for when the process goes on."""
        if self._frozen:
            self._backlog.append(action)
        elif self.alive:
            action()

    def wake(self, delay_ms: int) -> None:
        """Has a round run within ``delay_ms`` true milliseconds."""
        at = self._heap.now_ms + delay_ms
        if self.alive and (self._round_at is None or at < self._round_at):
            self._round_at = at
            self._heap.at(at, lambda: self._round_due(at))

    # --- Peers --------------------------------------------------------------------------------------

    def peer_up(self, node: NodeId, boot_id: bytes) -> None:
        """See :class:`bench.world.network.Endpoint`."""
        self.run(partial(self._met, node, boot_id))

    def peer_down(self, node: NodeId) -> None:
        """See :class:`bench.world.network.Endpoint`."""
        self.run(partial(self._lost, node))

    def receive(self, node: NodeId, sections: Sequence[bytes]) -> None:
        """See :class:`bench.world.network.Endpoint`."""
        self.run(partial(self._heard, node, sections))

    def _met(self, node: NodeId, boot_id: bytes) -> None:
        self._trace(self._who, f"meets n{node}, boot {boot_id.hex()[:8]}")
        self.engine.peer_up(node, boot_id)
        self.wake(0)

    def _lost(self, node: NodeId) -> None:
        self._trace(self._who, f"loses n{node}")
        self.engine.peer_down(node)
        self.wake(0)

    def _heard(self, node: NodeId, sections: Sequence[bytes]) -> None:
        payload = b"".join(sections)
        self._trace(
            self._who, f"hears n{node}: {len(sections)} sections, {xxh3_64_intdigest(payload):016x}"
        )
        self.engine.peer_sections(node, payload)
        self.wake(0)

    # --- The round ----------------------------------------------------------------------------------

    def _round_due(self, at: int) -> None:
        if self.alive and self._round_at == at:
            self._round_at = None
            if self._frozen:
                return
            self._rounds = self._rounds + 1 if at == self._last_round_at else 1
            self._last_round_at = at
            if self._rounds > ROUNDS_A_MS_MAX:
                raise InvariantViolation(f"node {self.node}'s engine runs round after round for nothing")
            self._mortal(self._round)

    def _round(self) -> None:
        self._carry_out(self.engine.round(self._send))
        self._check()

    def _passes(self, point: str) -> None:
        self._failpoints.passes(self.node, point)

    def _mortal(self, action: Action) -> None:
        """Does something in which the process may end at a point."""
        try:
            action()
        except Died as died:
            self._died(self.node, str(died))

    def _send(self, effects: Effects) -> None:
        self._passes("before_send")
        for node, sections in effects.peers.items():
            ordered = [section for _, section in sorted(sections, key=lambda section: section[0])]
            for section in ordered:
                self._check_sent(section)
            self._network.send(self, node, ordered)
            self._passes("half_sent")
        self._passes("before_sync")
        if effects.sync_round is not None:
            self.syncer.request(effects.sync_round)
        if effects.clients:
            self._passes("before_answers")
        if self.clients is not None:
            for connection, frames in effects.clients.items():
                self.clients.to_client(connection, frames)

    def _carry_out(self, effects: Effects) -> None:
        self._send(effects)
        if self.clients is not None:
            for connection in effects.close:
                self.clients.close_client(connection)
        self.wake(self._clock.true_delay_ms(max(effects.wake_in_ms, 0)))

    def _told_synced(self, round_number: int) -> None:
        self._mortal(partial(self._synced, round_number))

    def _synced(self, round_number: int) -> None:
        self._passes("synced")
        self.engine.sync_done(round_number)
        self.wake(0)

    # --- Checks -------------------------------------------------------------------------------------

    def _wrote(self, batch: SimBatch) -> None:
        live = self.disk.live
        for group, entries, _ in batch.appends:
            if entries:
                self._ledgers.of(group).wrote(live.log(group), entries)
        for group, index, _ in batch.applies:
            rows = live.state(group, live.replicas[group].epoch)
            self._ledgers.of(group).flushed(index, rows.sum)
        self._passes("after_write")
        for point, is_there in (
            ("vote_written", batch.hard_states), ("entries_written", batch.appends),
            ("flush", batch.applies), ("log_cut", batch.cuts), ("snapshot_staged", batch.epochs),
            ("snapshot_installed", batch.switches),
        ):  # fmt: skip
            if is_there:
                self._passes(point)

    def _check_sent(self, section: bytes) -> None:
        if section[0] == SectionKind.RAFT and section[_KIND_AT] not in _UNCHECKED:
            group, message = decode_raft(section[SECTION_HEADER_BYTES:])
            self._promised(group, message)
        elif section[0] == SectionKind.HEARTBEATS:
            for group, message in decode_beats(section[SECTION_HEADER_BYTES:]):
                self._promised(group, message)

    def _promised(self, group: GroupId, message: Message) -> None:
        self._ledgers.of(group).sent(
            message, self.disk.durable, self.disk.live, settled=self.store.settled
        )

    def _check(self) -> None:
        for group, driver in self.engine.groups.items():
            replica = driver.replica
            now = (replica.term, replica.role, replica.commit, replica.applied, replica.last_index)
            before = self._seen.get(group)
            if now != before:
                self._check_group(group, driver, now, before)

    def _check_group(self, group: GroupId, driver: GroupDriver, now: Change, before: Change | None) -> None:
        checks = self._ledgers.of(group)
        replica = driver.replica
        if before is None:
            checks.started(replica.id)
            self._ledgers.sessions[group].started(replica.id)
        self._seen[group] = now
        settled = self.store.settled
        checks.observed(replica, self.disk.live.log(group), settled=settled)
        if before is None or before[3] != now[3]:
            numbers = [number for number, _, _ in driver.applier.sessions]
            self._ledgers.sessions[group].observed(replica.id, replica.applied, numbers)
        term, role, commit, applied, last = now
        self._trace(
            self._who, f"g{group} {ROLES[role]} term {term} last {last} commit {commit} applied {applied}"
        )


class SyncFailed(Protocol):
    """What is told of a sync that failed."""

    def __call__(self, node: NodeId) -> None:
        """The node must stop."""


class NodeDied(Protocol):
    """What is told when a process ended at a point."""

    def __call__(self, node: NodeId, point: str) -> None:
        """The node is gone, what it had not synced perhaps with it."""
