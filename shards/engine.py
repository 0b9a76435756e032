"""The engine: one object that owns every replica of a node and turns events into effects.

It is synchronous and knows no socket, disk, clock or randomness but through its ports. A driver puts events
into its inbox and calls :meth:`Engine.round`; one round drains the inbox, steps the groups that have
something to do, writes one batch for all of them, and returns what is to be sent, synced and closed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from primitives.applier import Applier
from primitives.errors import ProtocolError
from primitives.ids import SYSTEM_GROUP, GroupId, NodeId
from raftgroup.replica import Replica
from raftgroup.types import Message
from router.shardmap import NodeInfo, ShardMap
from shards.admin import ADMIN
from shards.balance import Balancer
from shards.deleting import DELETING, Deletions
from shards.dispatch import Dispatch
from shards.flushes import Flushes
from shards.forwarding import Forwarding
from shards.group import GroupDriver, SyncWait
from shards.markers import MARKED
from shards.outbox import INTERNAL, OPENED, Outbox
from shards.peerwire import SECTION_HEADER_BYTES, SectionKind, decode_beats, raft_at, section_end
from shards.placement import Founding, Placement, machines_of
from shards.ports import Clock, Effects, Origin, RandomSource, Store, StoredReplica, Usage
from shards.questions import ASKED, Questions
from shards.settings import EngineSettings
from shards.snapshots import Snapshots
from shards.snapshotwire import decode_reply, decode_snapshot
from shards.system import found_record, node_record
from shards.watching import WATCHED
from shards.writer import Writer

TICKS_A_ROUND_MAX: Final = 2
"""After a pause of the process, ticks are not made up for: messages that waited come first."""
PAUSE_TICKS: Final = 5
"""A longer pause does not count against leases, whose keepalives waited as well."""
PREFERRED_MS: Final = 1500
"""How long the first replica of a new group tries to be its first leader."""
SYSTEM_RETRY_TICKS: Final = 10
"""This node's own records for group 0 are proposed this often until they show."""
FOUND_RETRY_TICKS: Final = 2
"""The founding record likewise: everything else waits for it."""


class Engine:
    """Every replica of one node. All methods run on one thread, and none of them blocks."""

    def __init__(
        self, *, node: NodeId, boot_id: bytes, store: Store, clock: Clock, random: RandomSource,
        settings: EngineSettings, usage: Usage | None = None,
    ) -> None:  # fmt: skip
        """``usage``: what the process takes of its machine; None where the node has no process of its own."""
        self.node: Final = node
        self.boot_id: Final = boot_id
        self.settings: Final = settings
        self.usage: Final = usage
        self.groups: Final[dict[GroupId, GroupDriver]] = {}
        self.forwarding: Final = Forwarding(boot_id)
        self.out: Final = Outbox(node, settings.answers_early)
        self._store = store
        self._clock = clock
        self._random = random
        self._writer = Writer(store)
        self._placement = Placement(node)
        self._dispatch = Dispatch(self)
        self._questions = Questions(self)
        self.snapshots: Final = Snapshots(self, store, self._writer)
        self._balancer = Balancer(self)
        self._deletions = Deletions(self)
        self._inbox: list[tuple[Any, ...]] = []
        self._active: dict[GroupId, GroupDriver] = {}
        self._hashing: dict[GroupId, GroupDriver] = {}
        self._ticks = 0
        self._phase = 0
        """Of the heartbeats: all groups led here beat at the same ticks, in one section for each peer."""
        now_ms = clock.monotonic_ms()
        self._flushes: Final = Flushes(self, self._writer, now_ms)
        self._tick_at_ms = now_ms + settings.tick_ms
        self._handlers: Final[dict[str, Callable[..., None]]] = {
            "sections": self._on_sections, "frame": self._dispatch.frame, "synced": self._on_synced,
            "up": self._on_up, "down": self._on_down, "closed": self._on_closed,
        }  # fmt: skip

    # --- Replicas -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Loads every replica from the store. Raises ``StoreDamaged``."""
        replicas = list(self._store.replicas())
        for stored in replicas:
            self._open(stored)
        self.snapshots.clean(replicas)
        if self.formed and self._placement.refresh(self.groups[SYSTEM_GROUP]):
            self._map_changed(self._clock.monotonic_ms())

    def form(self, founding: Founding) -> None:
        """Makes group 0's replica here, of the nodes that founded the cluster; does no harm if it exists."""
        stored = self._placement.form(founding)
        if not self.formed:
            self._create(stored, [])
        self._place_peers()

    @property
    def formed(self) -> bool:
        """Whether this node holds group 0's replica."""
        return SYSTEM_GROUP in self.groups

    @property
    def shard_map(self) -> ShardMap | None:
        """The shard map as far as this node knows it, None before the cluster has formed."""
        return self._placement.shard_map

    @property
    def ready(self) -> bool:
        """Whether the map is known and each group with a replica here knows its leader."""
        return self.shard_map is not None and all(driver.replica.leader for driver in self.groups.values())

    def _open(self, stored: StoredReplica, former: GroupDriver | None = None) -> GroupDriver:
        group = stored.identity.group
        hard_state = stored.hard_state
        if hard_state.commit < stored.applied:  # What was applied is committed, whatever was saved of it.
            hard_state = hard_state._replace(commit=stored.applied)
        replica = Replica(
            stored.identity.replica, stored.membership, hard_state, self._store.log(group), stored.applied,
            self.settings.raft, self._random, unsynced=former is not None,
        )  # fmt: skip
        applier = Applier(group, self._store.state(group, stored.epoch), machines_of(group))
        nodes = self._placement.nodes_of(group)
        driver = GroupDriver(self.node, stored, replica, applier, self._store, nodes, former)
        if former is None:
            driver.local.number_from(int.from_bytes(self.boot_id[:8], "big"))
        if stored.membership.incoming == (stored.identity.replica,):
            # Nobody else can lead, so there is nothing to wait for.
            driver.preferred_until_ms = self._clock.monotonic_ms() + PREFERRED_MS
        self.groups[group] = self._active[group] = driver
        self.snapshots.opened(stored)
        return driver

    def reopen(self, stored: StoredReplica, former: GroupDriver) -> GroupDriver:
        """Makes a replica anew whose state was replaced by a snapshot, from what the store has."""
        driver = self._open(stored, former)
        if driver.group in self._hashing:
            self._hashing[driver.group] = driver
        return driver

    def boot_of(self, node: NodeId) -> bytes | None:
        """The boot id of a peer that is up."""
        return self.forwarding.up.get(node)

    def _create(self, stored: StoredReplica, slots: list[int]) -> GroupDriver:
        """Makes a new replica; all that it starts from is one write, and precedes all that it says."""
        driver = self._open(stored)
        driver.applier.initialize(slots)
        batch = self._writer.batch()
        batch.create(stored)
        driver.flush(batch)
        self._writer.write(batch, [])
        return driver

    def _map_changed(self, now_ms: int) -> None:
        for stored, slots, leads_first in self._placement.missing(self.groups):
            driver = self._create(stored, slots)
            if leads_first:
                driver.preferred_until_ms = now_ms + PREFERRED_MS
        self._place_peers()

    def _place_peers(self) -> None:
        """Tells each replica where the others of its group are."""
        for driver in self.groups.values():
            driver.nodes = self._placement.nodes_of(driver.group)

    # --- Inbox: cheap, at any time on the engine's thread -------------------------------------------

    def peer_up(self, node: NodeId, boot_id: bytes) -> None:
        """A peer is connected; ``boot_id`` tells this start of it from earlier ones."""
        self._inbox.append(("up", node, boot_id))

    def peer_down(self, node: NodeId) -> None:
        """A peer's connection is gone."""
        self._inbox.append(("down", node))

    def peer_sections(self, node: NodeId, payload: bytes) -> None:
        """A frame's sections arrived from a peer. If they are not what the protocol allows, the round's
        effects name the peer."""
        self._inbox.append(("sections", node, payload))

    def client_frame(self, connection: int, kind: int, payload: bytes) -> None:
        """A frame of a client arrived, after its handshake. Connections are numbered from 0, never twice in a
        boot."""
        self._inbox.append(("frame", connection, kind, payload))

    def client_closed(self, connection: int) -> None:
        """A client's connection is gone."""
        self._inbox.append(("closed", connection))

    def leave(self) -> None:
        """The node is about to stop: it hands over what it leads, in the rounds that follow."""
        self._balancer.leave()

    @property
    def is_leaving(self) -> bool:
        """Whether the node is about to stop, and leads something that another node could take."""
        return self._balancer.is_leaving

    @property
    def syncs(self) -> int:
        """Syncs of the store's log that were done since this start."""
        return self._writer.syncs

    def sync_done(self, round_number: int) -> None:
        """Everything written up to ``round_number`` is durable."""
        self._inbox.append(("synced", round_number))

    # --- The round ----------------------------------------------------------------------------------

    def round(self, send: Callable[[Effects], object] | None = None) -> Effects:
        """Does what the inbox and the clock ask for; the rest of what it wants carried out is returned.
        ``send`` is given, before anything is applied, what peers are to hear and the sync that is wanted, and
        then answers, when many are there: so others, and the disk, work meanwhile. Where somebody watches
        answers wait, since events go before them. Raises ``StoreFailed`` or ``StoreDamaged``: stop."""
        now_ms = self._clock.monotonic_ms()
        self.out.send = None if self._dispatch.watching.streams else send
        inbox, self._inbox = self._inbox, []
        for event in inbox:
            self._handlers[event[0]](now_ms, *event[1:])
        self._tick(now_ms)
        self._writer.retry()
        self.snapshots.take_over()
        active = self._advance(now_ms, send)
        if send is not None:
            peers, sync_round = self.out.take_peers(), self._writer.wanted()
            if peers or sync_round is not None:
                goes_on = sync_round is not None and any(
                    driver.applying.may_apply for driver in active.values()
                )
                send(Effects(peers=peers, sync_round=sync_round, goes_on=goes_on))
        if not self._writer.is_stalled:
            self._apply(now_ms, active)
            self._flushes.round(now_ms, active)
            self._begin_hashes(active)
            if not self._writer.is_stalled and not self.snapshots.is_idle:
                self.snapshots.round(now_ms)
        self._hash()
        self._settle()
        self._dispatch.tell_status()
        effects = self.out.take()
        effects.sync_round = self._writer.wanted()
        effects.wake_in_ms = self._wake_in_ms(now_ms, active)
        return effects

    def touch(self, driver: GroupDriver) -> None:
        """The group has something to do: now, or in the next round if this one has passed it."""
        if self.groups[driver.group] is driver:
            self._active[driver.group] = driver

    def route(self, origin: Origin, group: GroupId, record: bytes) -> None:
        """Takes an operation to its group's leader, here or on another node, or answers why not."""
        self._dispatch.route(origin, group, record)

    def answer_status(
        self, connection: int, request: int, hashes: list[dict[str, Any]] | None, missing: list[list[int]]
    ) -> None:
        """Answers a client's request for status."""
        self._dispatch.answer_status(connection, request, hashes, missing)

    def _advance(
        self, now_ms: int, send: Callable[[Effects], object] | None
    ) -> dict[GroupId, GroupDriver]:
        """Takes from each active group what is to be sent and written; sends the one, since what waits for a
        sync is not among it, and writes the other, all in one batch."""
        active, self._active = self._active, {}
        stalled = self._writer.is_stalled
        batch = self._writer.batch()
        waits: list[SyncWait] = []
        for driver in active.values():
            wait = driver.advance(now_ms, self.out, batch, stalled)
            if wait is not None:
                waits.append(wait)
        if send is not None and waits:
            peers = self.out.take_peers()
            if peers:
                send(Effects(peers=peers))
        self._writer.write(batch, waits)
        self._release()
        return active

    def _release(self) -> None:
        """Lets go what waited for rounds that are synced."""
        for wait in self._writer.due():
            if wait.driver.synced(wait, self.out):
                self.touch(wait.driver)

    def _apply(self, now_ms: int, active: dict[GroupId, GroupDriver]) -> None:
        self.out.expect(sum(driver.leads and driver.applying.may_apply for driver in active.values()))
        for driver in active.values():
            if driver.applying.may_apply:
                driver.apply(now_ms, self.out)
                self._flushes.applied(now_ms, driver.group)
            driver.serve(now_ms, self.out)
            if driver.openings.questions:
                self._questions.take(driver)
            if driver.applier.deletions:
                self._deletions.take(now_ms, driver)
            if driver.has_more(now_ms):
                self.touch(driver)
        if self._dispatch.watching.streams:
            self._dispatch.watching.round(now_ms, active)
        system = active.get(SYSTEM_GROUP)
        if system is not None and self._placement.refresh(system):
            self._map_changed(now_ms)

    def _begin_hashes(self, active: dict[GroupId, GroupDriver]) -> None:
        """Begins the hashes that markers asked for, if the state as of them is in the store by now."""
        if not self._writer.is_stalled:
            for driver in active.values():
                if driver.applying.must_flush and not driver.applying.is_dirty:
                    driver.applying.flushed()
                    self._hashing[driver.group] = driver
                    self.touch(driver)

    def _hash(self) -> None:
        """Goes on with a hash, a slice a round, the groups taking turns: other work comes between."""
        for group in self._hashing:
            driver = self._hashing.pop(group)
            done = driver.applying.hash()
            if done is not None:
                self._dispatch.markers.hashed(group, done)
            if driver.applying.is_hashing:
                self._hashing[group] = driver
            break

    def _settle(self) -> None:
        """Takes the answers to what this node asked itself."""
        internal, self.out.internal = self.out.internal, []
        for origin, answer in internal:
            if origin.connection in (ASKED, OPENED):
                self._questions.answered(origin, answer)
            elif origin.connection == ADMIN:
                self._dispatch.admin.answered(origin.request, answer)
            elif origin.connection == DELETING:
                self._deletions.answered(origin.request, answer)
            elif origin.connection == MARKED:
                self._dispatch.markers.answered(origin.request, answer)
            elif origin.connection == WATCHED:
                self._dispatch.watching.answered(origin, answer)

    def _tick(self, now_ms: int) -> None:
        ticks = 0
        while self._tick_at_ms <= now_ms:
            self._tick_at_ms += self.settings.tick_ms
            ticks += 1
        if not ticks:
            return
        if ticks > PAUSE_TICKS:
            for driver in self.groups.values():
                driver.leases.paused(ticks * self.settings.tick_ms)
        for _ in range(min(ticks, TICKS_A_ROUND_MAX)):
            for driver in self.groups.values():
                driver.tick(now_ms, self._phase)
            self._phase = (self._phase + 1) % self.settings.raft.heartbeat_ticks
        if self._dispatch.watching.streams:
            self._active.update(self.groups)
        else:
            for driver in self.groups.values():
                if not driver.is_at_rest(now_ms):
                    self._active[driver.group] = driver
        self._questions.tick()
        self._deletions.tick(now_ms)
        self._dispatch.markers.tick(now_ms)
        self._dispatch.admin.tick(now_ms)
        self.snapshots.tick(now_ms)
        self._balancer.tick(now_ms)
        if self._dispatch.watching.streams:
            self._dispatch.watching.tick()
        self._ticks += 1
        if self._ticks % (FOUND_RETRY_TICKS if self.shard_map is None else SYSTEM_RETRY_TICKS) == 0:
            self._tell_system()

    def _tell_system(self) -> None:
        """Proposes what this node wants group 0 to have: the founding, and its own present addresses."""
        founding = self._placement.founding
        if founding is None:
            return
        origin = Origin(self.node, INTERNAL, 0)
        shard_map = self.shard_map
        if shard_map is None:
            if self.groups[SYSTEM_GROUP].leads:
                self.route(origin, SYSTEM_GROUP, self._found(founding))
            return
        mine: NodeInfo = next(node for node in founding.nodes if node.id == self.node)
        if shard_map.nodes.get(self.node) != mine:
            self.route(origin, SYSTEM_GROUP, node_record(mine))

    def _found(self, founding: Founding) -> bytes:
        cluster_id, salt = self._random.randbytes(16), self._random.randbytes(16)
        return found_record(
            cluster_id, salt, founding.groups, founding.replicas, list(founding.nodes),
            together=founding.together,
        )  # fmt: skip

    def _wake_in_ms(self, now_ms: int, active: dict[GroupId, GroupDriver]) -> int:
        if self._writer.is_stalled:
            self._active.update(active)
            return self.settings.stall_retry_ms
        if self._active or self._hashing or self._inbox or self.out.internal:
            return 0
        at_ms = min(self._tick_at_ms, self._flushes.due_ms)
        wait_ms = max(0, at_ms - now_ms)
        return wait_ms if self.snapshots.is_idle else min(wait_ms, self.snapshots.wake_in_ms(now_ms))

    # --- Events -------------------------------------------------------------------------------------

    def _on_sections(self, now_ms: int, node: NodeId, payload: bytes) -> None:
        if node not in self.forwarding.up:
            return  # Its connection went down in between; what it carried is lost as on the wire.
        at = 0
        try:
            while at < len(payload):
                begin, kind, end = at + SECTION_HEADER_BYTES, payload[at], section_end(payload, at)
                if kind == SectionKind.RAFT:
                    group, message = raft_at(payload, begin, end)
                    self._step(group, message)
                else:
                    self._on_section(now_ms, node, kind, payload[begin:end])
                at = end
        except (ProtocolError, ValueError) as error:
            self.out.effects.bad_peers.append((node, str(error)))

    def _on_section(self, now_ms: int, node: NodeId, kind: int, payload: bytes) -> None:
        if kind == SectionKind.HEARTBEATS:
            for group, message in decode_beats(payload):
                self._step(group, message)
        elif kind == SectionKind.SNAPSHOT:
            self._on_part(now_ms, node, payload)
        elif kind == SectionKind.SNAPSHOT_REPLY:
            self.snapshots.on_reply(now_ms, node, decode_reply(payload))
        else:
            self._dispatch.section(now_ms, node, kind, payload)

    def _step(self, group: GroupId, message: Message) -> None:
        driver = self.groups.get(group)
        if driver is not None and message.receiver == driver.replica.id and driver.step(message):
            self._active[group] = driver

    def _on_part(self, now_ms: int, node: NodeId, payload: bytes) -> None:
        group, message, part = decode_snapshot(payload)
        driver = self.groups.get(group)
        if driver is not None and message.receiver == driver.replica.id:
            driver.step(message)
            self._active[group] = driver
            self.snapshots.on_part(now_ms, node, driver, message, part)

    def _on_synced(self, now_ms: int, round_number: int) -> None:
        self._writer.synced(round_number)
        self._release()
        self.snapshots.synced()

    def _on_up(self, now_ms: int, node: NodeId, boot_id: bytes) -> None:
        if self.forwarding.up.get(node, boot_id) != boot_id:
            self._dispatch.lost(self.forwarding.down(node))
        self.forwarding.up[node] = boot_id
        self.snapshots.peer_up(now_ms, node, boot_id)
        self._dispatch.markers.met(node)

    def _on_down(self, now_ms: int, node: NodeId) -> None:
        self._dispatch.lost(self.forwarding.down(node))
        for driver in self.groups.values():
            if driver.peer_down(node):
                self.touch(driver)

    def _on_closed(self, now_ms: int, connection: int) -> None:
        self.forwarding.closed(connection)
        self._dispatch.watching.closed(connection)
