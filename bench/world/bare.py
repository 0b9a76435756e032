"""Replicas of one group with the thinnest host around them: no sessions, no machines, no engine.

It puts :class:`raftgroup.replica.Replica` alone to the test, and it is a second reading of how a ``Ready``
is to be carried out, to compare the engine's with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from bench.world.clock import Heap, Seed, Trace
from bench.world.disk import SimStore, SimSyncer
from bench.world.faults import KINDS
from bench.world.invariants import GroupChecks
from bench.world.machines import Machines
from bench.world.nemesis import Nemesis, Plan, draw_plan
from primitives.errors import InvariantViolation
from primitives.ids import GroupId, NodeId
from raftgroup.replica import Replica
from raftgroup.types import (
    Config,
    Entry,
    EntryKind,
    HardState,
    Index,
    Membership,
    Message,
    ReplicaId,
    Role,
    Term,
)
from shards.ports import Batch, ReplicaIdentity, StoredReplica

GROUP: Final = GroupId(1)
TICK_MS: Final = 50
RETRY_MS: Final = 20
FLUSH_ENTRIES: Final = 8
"""The applied index is written once so many entries were applied since."""
EPOCH: Final = 1
ROW: Final = b"digest"


class BareHost:
    """One boot of a replica."""

    def __init__(self, world: BareWorld, node: NodeId, boot: int) -> None:
        self.world = world
        self.node: Final = node
        self.boot_id: Final = boot.to_bytes(16, "big")
        self.disk = world.disks[node]
        self.store = SimStore(self.disk)
        self.clock = world.clocks[node]
        self.syncer = SimSyncer(
            world.heap, self.disk, world.seed.stream(f"sync/{node}/{boot}"), done=self._synced,
            failed=lambda: world.stop_failed(node), delay_ms=world.sync_ms[node],
        )  # fmt: skip
        self.alive = True
        self.frozen = False
        stored = self.store.replicas()[0]
        self.log = self.store.log(GROUP)
        self.flushed = stored.applied
        row = self.store.state(GROUP, EPOCH).get(ROW)
        self.digest = int.from_bytes(row or b"", "big")
        """Of everything applied, in order."""
        self.replica = Replica(
            stored.identity.replica, stored.membership, stored.hard_state, self.log, stored.applied,
            world.config, world.seed.stream(f"replica/{node}/{boot}"),
        )  # fmt: skip
        world.checks.started(self.replica.id)
        self._held: list[tuple[int, list[Message]]] = []
        """What may leave once each round is synced."""
        self._notices: list[tuple[int, Term, Index]] = []
        self._reads: dict[int, Index] = {}
        """By context: what was acknowledged to anyone before the read began."""
        self._refused: tuple[Batch, Callable[[], None]] | None = None
        self._due = False
        self.wake()
        self._tick_later()

    def peer_up(self, node: NodeId, boot_id: bytes) -> None:
        """See :class:`bench.world.network.Endpoint`."""

    def peer_down(self, node: NodeId) -> None:
        """See :class:`bench.world.network.Endpoint`."""
        self.replica.unreachable(ReplicaId(node))
        self.wake()

    def receive(self, node: NodeId, sections: Sequence[Message]) -> None:
        """See :class:`bench.world.network.Endpoint`."""
        for message in sections:
            self.replica.step(message)
        self.wake()

    def propose(self, data: bytes) -> None:
        """A client's command."""
        if self.replica.propose(data) is not None:
            self.wake()

    def read(self) -> None:
        """A client's read: what is acknowledged by now must be seen by it."""
        context = self.replica.read()
        if context is not None:
            floor = self._reads.get(context, Index(0))
            self._reads[context] = max(floor, self.world.acknowledged)
            self.wake()

    @staticmethod
    def judge_read(index: Index, floor: Index) -> None:
        """A read may be served at ``index`` if all is seen that was acknowledged when it began."""
        if index < floor:
            raise InvariantViolation(f"a read is served at {index}, {floor} was acknowledged before")

    def stop(self) -> None:
        """The process is gone."""
        self.alive = False
        self.syncer.stop()

    def set_frozen(self, frozen: bool) -> None:
        """Whether the process stands still: it does nothing with what it is given."""
        self.frozen = frozen
        self.wake()

    def wake(self) -> None:
        """Has a round run, in this millisecond."""
        if not self._due and self.alive:
            self._due = True
            self.world.heap.after(0, self._round)

    def _tick_later(self) -> None:
        self.world.heap.after(self.clock.true_delay_ms(TICK_MS), self._tick)

    def _tick(self) -> None:
        if self.alive:
            if not self.frozen:
                self.replica.tick()
                self.wake()
            self._tick_later()

    def _round(self) -> None:
        self._due = False
        if not self.alive or self.frozen:
            return
        if self._refused is not None:
            batch, then = self._refused
            if not self.store.write(batch):
                self.world.heap.after(RETRY_MS, self.wake)
                return
            self._refused = None
            then()
        while self._refused is None and (ready := self.replica.ready()) is not None:
            self._carry_out(ready.hard_state, ready.entries, ready.messages, ready.messages_after_sync,
                            ready.committed, ready.must_sync)  # fmt: skip
            for state in ready.reads:
                self.judge_read(state.index, self._reads.pop(state.context))
            for context in ready.lost_reads:
                self._reads.pop(context)
        self.world.check(self)

    def _carry_out(
        self, hard_state: HardState | None, entries: Sequence[Entry], now: list[Message],
        later: list[Message], committed: Sequence[Entry], must_sync: bool,
    ) -> None:  # fmt: skip
        self._send(now)
        batch = self.store.batch(self.store.last_round + 1)
        if hard_state is not None:
            batch.hard_state(GROUP, hard_state)
        if entries:
            batch.append(GROUP, entries, self.log.last_index())
        if self.replica.applied - self.flushed >= FLUSH_ENTRIES:
            self.flushed = self.replica.applied
            batch.put_state(GROUP, EPOCH, ROW, self.digest.to_bytes(16, "big"))
            batch.applied(GROUP, self.flushed, self.world.membership)
        written = not batch.is_empty

        def then() -> None:
            if entries:
                self.world.checks.wrote(self.log, entries)
            round_number = self.store.last_round
            if later:
                self._held.append((round_number, later))
            if entries:
                self._notices.append((round_number, entries[-1].term, entries[-1].index))
            if must_sync:
                self.syncer.request(round_number)
            self._apply(committed)

        if written and not self.store.write(batch):
            self._refused = (batch, then)
            self.world.heap.after(RETRY_MS, self.wake)
            return
        then()

    def _send(self, messages: Sequence[Message]) -> None:
        frames: dict[ReplicaId, list[Message]] = {}
        for message in messages:
            self.world.checks.sent(message, self.disk.durable, self.disk.live, settled=self.store.settled)
            frames.setdefault(message.receiver, []).append(message)
        for receiver, frame in frames.items():
            if not self.world.network.send(self, NodeId(receiver), frame):
                self.replica.unreachable(receiver)

    def _synced(self, round_number: int) -> None:
        self.store.synced(round_number)
        while self._notices and self._notices[0][0] <= round_number:
            _, term, index = self._notices.pop(0)
            self.replica.synced(term, index)
        while self._held and self._held[0][0] <= round_number:
            self._send(self._held.pop(0)[1])
        self.wake()

    def _apply(self, committed: Sequence[Entry]) -> None:
        if not committed:
            return
        for entry in committed:
            if entry.kind == EntryKind.NORMAL:
                self.digest = self.world.chain(self.digest, entry)
        self.replica.applied_to(committed[-1].index)
        self.world.checks.flushed(committed[-1].index, self.digest)
        if self.replica.role == Role.LEADER:
            self.world.acknowledged = max(self.world.acknowledged, committed[-1].index)
        self.wake()


class BareWorld(Machines[Message, BareHost]):
    """A group of ``count`` replicas, one on each node, under a plan of faults."""

    def __init__(
        self, number: int, count: int, fault_ms: int, echo: Callable[[str], None] | None = None,
        plan: Plan | None = None,
    ) -> None:  # fmt: skip
        heap = Heap()
        trace = Trace(heap, echo)
        super().__init__(heap, trace, Seed(number), count, start_ms=1000, loose=lambda _: True)
        self.config = Config()
        self.acknowledged = Index(0)
        """The highest index that a leader applied, and so may have told to clients."""
        self.membership = Membership(tuple(ReplicaId(node) for node in self.nodes))
        self.checks = GroupChecks(GROUP, list(self.disks.values()), count)
        self._random = self.seed.stream("callers")
        self._fault_ms = fault_ms
        if plan is None:
            kinds = [name for name, kind in KINDS.items() if kind.in_bare and kind.is_usual]
            plan = draw_plan(self.seed.stream("plan"), self.nodes, kinds, fault_ms)
        self.nemesis = Nemesis(self.heap, self, plan)
        self.trace("world", f"seed {number}, {count} replicas, {len(plan)} faults")
        self._proposed = 0
        self._calm = False
        for node in self.nodes:
            self._format(node)
            self.restart(node)

    def run(self, heal_ms: int) -> None:
        """The safety phase for its time, then the liveness phase, which must succeed in ``heal_ms``."""
        self.nemesis.start()
        self._call()
        self.heap.run_until(self._fault_ms)
        self._calm = True
        self.nemesis.heal()
        self.network.heal()
        before = self.acknowledged
        self.trace("world", f"all is healed at {before}")
        deadline = self.heap.now_ms + heal_ms
        self.heap.run_until(deadline, lambda: self._converged(before))
        if not self._converged(before):
            raise InvariantViolation(f"no progress within {heal_ms} ms after healing: {self._report()}")
        self.trace("world", f"converged: {self._report()}")

    def check(self, host: BareHost) -> None:
        """The invariants, after a step of ``host``."""
        replica = host.replica
        self.checks.observed(replica, host.log, settled=host.store.settled)
        self.trace(
            f"n{host.node}",
            f"role {replica.role} term {replica.term} last {replica.last_index} commit {replica.commit}"
            f" applied {replica.applied}",
        )

    @staticmethod
    def chain(digest: int, entry: Entry) -> int:
        """The digest of one entry more."""
        mixed = digest * 1_000_003 + int.from_bytes(entry.data, "big") + entry.index
        return mixed % ((1 << 127) - 1)

    def restart(self, node: NodeId) -> None:
        """See :class:`bench.world.target.Target`."""
        self.boots += 1
        self.disks[node].sync_fails = False
        self.up[node] = BareHost(self, node, self.boots)
        self.trace(f"n{node}", f"starts as boot {self.boots}")
        self.network.attach(self.up[node])

    def stop_failed(self, node: NodeId) -> None:
        """A node whose sync failed stops; in the liveness phase it is started again, like any other."""
        self.crash(node)
        if self._calm:
            self.restart(node)

    def transfer(self, pick: int, to: NodeId) -> NodeId | None:
        """See :class:`bench.world.target.Target`."""
        up = [host for _, host in sorted(self.up.items()) if not host.frozen]
        led = [host for host in up if host.replica.role == Role.LEADER]
        if not led:
            return None
        host = led[pick % len(led)]
        host.replica.transfer(ReplicaId(to))
        host.wake()
        return host.node

    def _format(self, node: NodeId) -> None:
        disk = self.disks[node]
        store = SimStore(disk)
        batch = store.batch(1)
        identity = ReplicaIdentity(GROUP, ReplicaId(node))
        batch.create(StoredReplica(identity, self.membership, HardState(), Index(0), EPOCH))
        store.write(batch)
        disk.sync(disk.written)

    def _call(self) -> None:
        for _ in range(self._random.choice((0, 1, 1, 4))):
            host = self.up.get(self._random.choice(self.nodes))
            if host is None:
                continue
            if self._random.random() < 0.3:
                host.read()
            else:
                self._proposed += 1
                host.propose(self._proposed.to_bytes(4, "big"))
        self.heap.after(self._random.randint(1, 40), self._call)

    def _converged(self, beyond: Index) -> bool:
        states = {(host.replica.applied, host.digest) for host in self.up.values()}
        return (
            len(self.up) == len(self.nodes) and len(states) == 1
            and min(host.replica.applied for host in self.up.values()) > beyond
        )  # fmt: skip

    def _report(self) -> str:
        return ", ".join(
            f"n{node} role {host.replica.role} term {host.replica.term} applied {host.replica.applied}"
            for node, host in sorted(self.up.items())
        )


def run_bare(
    number: int, *, count: int = 3, fault_ms: int = 8000, heal_ms: int = 20_000,
    echo: Callable[[str], None] | None = None, plan: Plan | None = None,
) -> BareWorld:  # fmt: skip
    """Runs a seed; raises :class:`InvariantViolation` if something does not hold. ``plan``: the faults that
    happen, instead of those that the seed draws."""
    world = BareWorld(number, count, fault_ms, echo, plan)
    world.run(heal_ms)
    return world
