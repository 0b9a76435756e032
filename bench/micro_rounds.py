"""Rounds of three nodes with many groups, all led by one of them, as steps that ``bench.micro`` measures.

Three engines on simulated disks are wired to each other by their effects, and serve a client that writes to
every group with each frame. What came to one of them is noted, and given again to a fresh engine on a real
store, which is not synced: so the leading node's rounds and another's are counted apart, and nothing else is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

from bench.micro_steps import ADDRESS, GROUPS, Sample, Session
from bench.world.disk import Disk, SimStore
from primitives.ids import GroupId, NodeId, SlotId
from router.frames import HEADER_BYTES, FrameKind, decode_answers, encode_requests
from router.shardmap import NodeInfo
from shards.engine import Engine
from shards.identity import StoreDirectory
from shards.placement import Founding
from shards.ports import Effects, Store
from shards.rocks import RocksStore
from shards.settings import EngineSettings

NODES: Final = (NodeId(1), NodeId(2), NodeId(3))
FOUNDING: Final = Founding(
    tuple(NodeInfo(node, f"n{node}", ADDRESS, ADDRESS, bytes((node,)) * 16) for node in NODES),
    GROUPS, len(NODES), together=True,
)  # fmt: skip
TURN_MS: Final = 3
TURNS_MAX: Final = 5_000
"""A cluster that has not done by then what is to be prepared never will."""

Call = tuple[str, tuple[Any, ...]]
"""What is put into an engine's inbox: the method, and what it takes."""


class Heard(NamedTuple):
    """What a node's round was given."""

    now_ms: int
    calls: list[Call]


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_ms = 0

    def monotonic_ms(self) -> int:
        """See ``ports.Clock``."""
        return self.now_ms


def _engine(node: NodeId, store: Store, clock: Clock) -> Engine:
    engine = Engine(
        node=node, boot_id=_boot(node), store=store, clock=clock, random=Random(node),
        settings=EngineSettings(flush_interval_ms=1 << 40, flush_bytes=1 << 40),
    )  # fmt: skip
    engine.start()
    engine.form(FOUNDING)
    return engine


def _boot(node: NodeId) -> bytes:
    return bytes((node,)) * 16


class Node:
    """One of the three, with all that it has heard. ``sent`` is given what it says."""

    def __init__(self, node: NodeId, clock: Clock, sent: Callable[[NodeId, Effects], None]) -> None:
        self.id: Final = node
        self.heard: Final[list[Heard]] = []
        self.waiting: list[Call] = []
        self._clock: Final = clock
        self._sent: Final = sent
        self._disk: Final = Disk()
        self.engine: Final = _engine(node, SimStore(self._disk), clock)

    def put(self, method: str, *arguments: Any) -> None:
        """Something for the next round."""
        self.waiting.append((method, arguments))

    def round(self) -> None:
        """One round, with all that waits."""
        calls, self.waiting = self.waiting, []
        self.heard.append(Heard(self._clock.now_ms, calls))
        for method, arguments in calls:
            getattr(self.engine, method)(*arguments)
        self._carry_out(self.engine.round(self._carry_out))

    def _carry_out(self, effects: Effects) -> None:
        if effects.sync_round is not None:
            self._disk.sync(self._disk.written)
            self.put("sync_done", effects.sync_round)
        self._sent(self.id, effects)


class Three:
    """A cluster whose groups are all led by its first node, with a session and a map in each data group."""

    def __init__(self) -> None:
        self._clock: Final = Clock()
        self._frames: list[bytes] = []
        self._requests = 0
        self.nodes: Final = {node: Node(node, self._clock, self._carry) for node in NODES}
        for node in self.nodes.values():
            for other in NODES:
                if other != node.id:
                    node.put("peer_up", other, _boot(other))
        self._leader: Final = self.nodes[NODES[0]]
        self._until(lambda: self._leads_all() and all(node.engine.ready for node in self.nodes.values()))
        self.sessions: Final = [self._session(GroupId(group)) for group in range(1, GROUPS + 1)]

    def _leads_all(self) -> bool:
        groups = self._leader.engine.groups
        return len(groups) == GROUPS + 1 and all(driver.leads for driver in groups.values())

    def _session(self, group: GroupId) -> Session:
        shard_map = self._leader.engine.shard_map
        if shard_map is None:
            raise AssertionError("the cluster has not formed")
        slot = SlotId(list(shard_map.owners).index(group))
        return Session(partial(self._ask, group), slot)

    def _ask(self, group: GroupId, record: bytes) -> bytes:
        self.put([(group, record)])
        self._until(lambda: bool(self._frames))
        ((_, answer),) = decode_answers(self._frames.pop()[HEADER_BYTES:])
        return answer

    def put(self, records: Sequence[tuple[GroupId, bytes]]) -> None:
        """A client's frame for the leading node."""
        requests = [(self._requests + n, group, record) for n, (group, record) in enumerate(records)]
        self._requests += len(requests)
        self._leader.put("client_frame", 1, FrameKind.OPS, encode_requests(requests)[HEADER_BYTES:])

    def turn(self) -> None:
        """A round of the leading node, and then of each other one with what that said, and with the sync that
        ends then. The leading node hears what comes of both with the next turn."""
        self._clock.now_ms += TURN_MS
        for node in self.nodes.values():
            node.round()
            if node is not self._leader and node.waiting:
                node.round()

    def _until(self, done: Callable[[], bool]) -> None:
        for _ in range(TURNS_MAX):
            if done():
                return
            self.turn()
        raise AssertionError("the cluster gets nowhere")

    def _carry(self, sender: NodeId, effects: Effects) -> None:
        for receiver, sections in effects.peers.items():
            ordered = sorted(sections, key=lambda section: section[0])
            self.nodes[receiver].put("peer_sections", sender, b"".join([data for _, data in ordered]))
        self._frames += effects.clients.get(1, [])


class Again:
    """A fresh engine on a store of its own, to which is given what a node has heard."""

    def __init__(self, node: NodeId) -> None:
        self._clock: Final = Clock()
        self._place: Final = tempfile.TemporaryDirectory(prefix="quorate-micro-")
        self._directory: Final = StoreDirectory.open(Path(self._place.name) / "data", f"n{node}")
        self._store: Final = RocksStore.open(self._directory)
        self._engine: Final = _engine(node, self._store, self._clock)

    def give(self, heard: Sequence[Heard]) -> int:
        """Runs the rounds again; how many sections and frames they said."""
        engine, clock, said = self._engine, self._clock, 0

        def count(effects: Effects) -> None:
            nonlocal said
            said += len(effects.peers) + len(effects.clients)

        for now_ms, calls in heard:
            clock.now_ms = now_ms
            for method, arguments in calls:
                getattr(engine, method)(*arguments)
            count(engine.round(count))
        return said

    def close(self) -> None:
        """Removes the store."""
        self._store.close()
        self._directory.close()
        self._place.cleanup()


def _rounds(node: NodeId, size: int) -> Callable[[int], Sample]:
    """Rounds of a node in which each group gets an entry of so many commands, one entry being counted."""

    def prepare(count: int) -> Sample:
        three = Three()
        told = three.nodes[node]
        puts = [session.puts(size * (-(-count // GROUPS) + 2)) for session in three.sessions]

        def write(groups: int) -> None:
            three.put([(GroupId(n + 1), puts[n].pop(0)) for _ in range(size) for n in range(groups)])
            three.turn()

        write(GROUPS)
        before = len(told.heard)
        for at in range(0, count, GROUPS):
            write(min(GROUPS, count - at))
        again = Again(node)
        again.give(told.heard[:before])
        measured = told.heard[before:]

        def run() -> None:
            if not again.give(measured):
                raise AssertionError("the node said nothing")

        return Sample(run, count, again.close)

    return prepare


ROUNDS: Final[Mapping[str, Callable[[int], Sample]]] = {
    f"entry of {size} in a round of {GROUPS}, {who}": _rounds(node, size)
    for size in (1, 4) for who, node in (("leader", NODES[0]), ("follower", NODES[1]))
}  # fmt: skip
"""By name: what prepares so many entries' worth of a step."""
