"""Replicas in a small disorderly world: messages lost, repeated and overtaken, syncs late, crashes that keep
only what was synced. What Raft promises is checked at every step; progress, after healing."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence

import pytest

from raftgroup.replica import Replica
from raftgroup.types import (
    Config,
    Entry,
    HardState,
    Index,
    Membership,
    Message,
    MessageKind,
    ReplicaId,
    Role,
    Term,
)

CONFIG = Config(
    election_ticks=6, heartbeat_ticks=2, append_bytes_max=200, inflight_messages_max=3,
    inflight_bytes_max=800, committed_bytes_max=300, tail_bytes_max=600,
)  # fmt: skip
WIRE_MAX = 60
AFTER_SYNC = {MessageKind.VOTE, MessageKind.VOTE_REPLY, MessageKind.APPEND_REPLY}


class Node:
    """A replica, its disk as written and as synced, and what waits for a sync."""

    def __init__(self, number: int, world: World) -> None:
        self.id = ReplicaId(number)
        self.world = world
        self.log: list[Entry] = []
        self.hard = HardState()
        self.durable: tuple[list[Entry], HardState] = ([], HardState())
        self.unsynced: deque[tuple[list[Entry], HardState, list[Message], Entry | None]] = deque()
        self.applied = Index(0)
        self.life = 0
        self.floors: dict[int, int] = {}
        self.replica: Replica | None = None

    def first_index(self) -> Index:
        return Index(1)

    def last_index(self) -> Index:
        return Index(len(self.log))

    def term(self, index: Index) -> Term:
        return self.log[index - 1].term if index else Term(0)

    def entries(self, low: Index, high_exclusive: Index, bytes_max: int) -> Sequence[Entry]:
        return self.log[low - 1 : high_exclusive - 1][: max(1, bytes_max // 80)]

    def start(self) -> None:
        self.life += 1
        self.replica = Replica(
            self.id, self.world.membership, self.hard, self, self.applied, CONFIG,
            random.Random(f"{self.world.seed}/{self.id}/{self.life}"),
        )  # fmt: skip

    def crash(self) -> None:
        self.log, self.hard = list(self.durable[0]), self.durable[1]
        self.unsynced.clear()
        self.floors.clear()
        if len(self.world.nodes) == 1:
            self.world.made = {key: made for key, made in self.world.made.items() if key[1] <= len(self.log)}
        # Effects are written behind, after their entries: an applied index may be far back, never ahead.
        kept = min(self.applied, len(self.log))
        while kept and self.log[kept - 1].term != self.world.committed[kept - 1].term:
            kept -= 1
        self.applied = Index(self.world.random.randint(0, kept))
        self.replica = None

    def carry_out(self) -> None:
        """Takes and carries out one Ready, if there is one."""
        replica = self.replica
        ready = replica.ready() if replica is not None else None
        if replica is None or ready is None:
            return
        if ready.hard_state is not None:
            assert ready.hard_state.commit >= self.hard.commit or ready.hard_state.term > self.hard.term
            self.hard = ready.hard_state
        if ready.entries:
            assert ready.entries[0].index <= len(self.log) + 1
            self.log[ready.entries[0].index - 1 :] = ready.entries
            self.world.check_entries(self.log, ready.entries)
        for message in ready.messages:
            assert message.kind not in AFTER_SYNC
            if message.kind not in (MessageKind.PRE_VOTE, MessageKind.PRE_VOTE_REPLY):
                assert self.durable[1].term >= message.term, "a message of a term that a crash could undo"
        self.world.wire += ready.messages
        if ready.hard_state is not None or ready.entries or ready.messages_after_sync:
            last = ready.entries[-1] if ready.entries else None
            self.unsynced.append((list(self.log), self.hard, ready.messages_after_sync, last))
        if ready.committed:
            self.world.check_committed(self.applied, ready.committed)
            self.applied = ready.committed[-1].index
            replica.applied_to(self.applied)
            if replica.role == Role.LEADER:
                self.world.acknowledged = max(self.world.acknowledged, self.applied)
        for context, index in ready.reads:
            assert index >= self.floors.pop(context), "a stale read"
        for context in ready.lost_reads:
            del self.floors[context]
        self.world.check_leader(self)

    def sync(self) -> None:
        """The oldest outstanding write becomes durable."""
        if not self.unsynced or self.replica is None:
            return
        log, hard, messages, last = self.unsynced.popleft()
        self.durable = (log, hard)
        self.world.wire += messages
        if last is not None:
            self.replica.synced(last.term, last.index)


class World:
    """The nodes, the messages on their way, and what must hold of all lives of all replicas."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        size = self.random.choice((1, 2, 3, 3, 3, 5))
        numbers = [ReplicaId(number) for number in range(1, size + 1)]
        half = size // 2 + 1 if self.random.random() < 0.2 else size
        outgoing = tuple(numbers[-half:]) if half < size else ()
        self.membership = Membership(tuple(numbers[:half]), outgoing)
        self.nodes = {number: Node(number, self) for number in numbers}
        self.wire: list[Message] = []
        self.leaders: dict[Term, tuple[ReplicaId, int]] = {}
        self.made: dict[tuple[int, int], tuple[bytes, int]] = {}
        self.committed: list[Entry] = []
        self.acknowledged = 0
        self.proposed = 0
        for node in self.nodes.values():
            node.start()

    # --- What must hold ----------------------------------------------------------------------------

    def check_entries(self, log: list[Entry], entries: Sequence[Entry]) -> None:
        """Log matching: an index and a term name one entry, and one entry before it."""
        for entry in entries:
            previous = log[entry.index - 2].term if entry.index > 1 else 0
            known = self.made.setdefault((entry.term, entry.index), (entry.data, previous))
            assert known == (entry.data, previous)

    def check_committed(self, applied: int, entries: Sequence[Entry]) -> None:
        """State machine safety: at each index, every life of every replica applies the same entry."""
        assert entries[0].index == applied + 1
        for entry in entries:
            if entry.index > len(self.committed):
                self.committed.append(entry)
            known = self.committed[entry.index - 1]
            assert (known.term, known.index, known.data) == (entry.term, entry.index, entry.data)

    def check_leader(self, node: Node) -> None:
        """One leader a term, and its log holds all that is committed."""
        replica = node.replica
        if replica is None or replica.role != Role.LEADER:
            return
        if replica.term not in self.leaders:
            terms = [entry.term for entry in node.log]
            for entry in self.committed:
                assert entry.term > replica.term or terms[entry.index - 1] == entry.term, "incomplete leader"
        if len(self.nodes) == 1 and node.durable[1].term < replica.term:
            return  # Nobody hears of a single voter's term before it is durable: a crash may undo it.
        assert self.leaders.setdefault(replica.term, (node.id, node.life)) == (node.id, node.life)

    # --- What happens ------------------------------------------------------------------------------

    def step(self) -> None:
        """One thing happens to someone."""
        draw = self.random.random()
        node = self.random.choice(list(self.nodes.values()))
        if draw < 0.4 and self.wire:
            self.deliver()
        elif draw < 0.65:
            node.carry_out()
        elif draw < 0.8:
            node.sync()
        elif node.replica is None:
            if draw < 0.9:
                node.start()
        elif draw < 0.88:
            node.replica.tick()
        elif draw < 0.95:
            self.ask(node, node.replica)
        elif draw < 0.96:
            node.crash()
        else:
            self.disturb(node.replica)
        while len(self.wire) > WIRE_MAX:
            self.wire.pop(self.random.randrange(len(self.wire)))

    def deliver(self) -> None:
        """A message arrives, often the oldest; or gets lost; or arrives and stays on its way."""
        at = 0 if self.random.random() < 0.6 else self.random.randrange(len(self.wire))
        message = self.wire[at]
        fate = self.random.random()
        if fate < 0.9:
            del self.wire[at]
        receiver = self.nodes[message.receiver].replica
        if fate > 0.1 and receiver is not None:
            receiver.step(message)

    def ask(self, node: Node, replica: Replica) -> None:
        """A client's write or read."""
        if self.random.random() < 0.6:
            self.proposed += 1
            replica.propose(b"%d" % self.proposed * self.random.randint(1, 30))
        else:
            context = replica.read()
            if context is not None:
                node.floors[context] = max(node.floors.get(context, 0), self.acknowledged)

    def disturb(self, replica: Replica) -> None:
        """What a host may tell a replica, true or not."""
        other = self.random.choice(list(self.nodes))
        choice = self.random.randrange(5)
        if choice == 0:
            replica.leader_down()
        elif choice == 1:
            replica.unreachable(other)
        elif choice == 2:
            replica.transfer(other)
        else:
            replica.campaign(force=choice == 3)

    def heal(self) -> None:
        """All run, nothing is lost any more: within bounded time a leader commits something everywhere."""
        for node in self.nodes.values():
            if node.replica is None:
                node.start()
        goal: int | None = None
        for _ in range(40 * CONFIG.election_ticks):
            for node in self.nodes.values():
                assert node.replica is not None
                node.replica.tick()
                if goal is None and node.replica.role == Role.LEADER:
                    index = node.replica.propose(b"healed")
                    goal = index
                    term = node.replica.term
            self.settle()
            if goal is not None:
                if len(self.committed) >= goal and self.committed[goal - 1].term != term:
                    goal = None
                elif all(node.applied >= goal for node in self.nodes.values()):
                    return
                elif not any(node.replica and node.replica.term == term and node.replica.role == Role.LEADER
                             for node in self.nodes.values()):  # fmt: skip
                    goal = None
        raise AssertionError("no progress after healing")

    def settle(self) -> None:
        """Everything due is done."""
        for _ in range(30):
            for node in self.nodes.values():
                for _ in range(4):
                    node.carry_out()
                while node.unsynced:
                    node.sync()
            wire, self.wire = self.wire, []
            for message in wire:
                receiver = self.nodes[message.receiver].replica
                assert receiver is not None
                receiver.step(message)


def run(seed: int, steps: int) -> World:
    world = World(seed)
    for _ in range(steps):
        world.step()
    world.heal()
    return world


@pytest.mark.parametrize("seed", range(40))
def test_safety_in_disorder_and_progress_after_it(seed: int) -> None:
    world = run(seed, 1500)
    assert world.committed


def test_a_seed_is_repeatable() -> None:
    first, second = run(7, 800), run(7, 800)
    assert [(entry.term, entry.data) for entry in first.committed] == [
        (entry.term, entry.data) for entry in second.committed
    ]
    assert first.leaders == second.leaders
