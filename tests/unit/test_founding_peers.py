"""Founding over real connections: what the engine is told, and which process stops with which line."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from by_hand import Witness

from primitives.errors import InvariantViolation
from primitives.ids import SLOTS, NodeId
from router.shardmap import ShardMap
from shards.clock import SystemClock
from shards.config import Address, NodeFailed, StartError, address_text
from shards.founding import Founder, Started
from shards.mux import Mux, MuxTiming
from shards.peers import Peers
from shards.peerwire import SectionKind, section
from shards.placement import Founding
from shards.ports import Priority

QUICK = MuxTiming(pause_s_min=0.005, pause_s_max=0.05, probe_s=0.05, beat_s=0.05, silent_beats_max=20)
A_MAP = ShardMap(3, b"c" * 16, b"salt", {}, {}, [0] * SLOTS, [1] * SLOTS)


class Record:
    """A store's memory of its founding, which outlives the process."""

    def __init__(self, store_id: bytes) -> None:
        self.store_id = store_id
        self.founding: dict[str, bytes] | None = None
        self.error: OSError | None = None

    def record_founding(self, stores: Mapping[str, bytes]) -> None:
        if self.error is not None:
            raise self.error
        if self.founding is not None and self.founding != dict(stores):
            raise InvariantViolation("recorded twice")
        self.founding = dict(stores)


class FakeEngine(Witness):
    """Remembers what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.foundings: list[Founding] = []
        self.shard_map: ShardMap | None = None
        self.events: list[tuple[object, ...]] = []

    @property
    def formed(self) -> bool:
        return bool(self.foundings)

    def form(self, founding: Founding) -> None:
        self.foundings.append(founding)

    def peer_up(self, node: NodeId, boot_id: bytes) -> None:
        self.events.append(("up", node, boot_id))

    def peer_down(self, node: NodeId) -> None:
        self.events.append(("down", node))

    def peer_sections(self, node: NodeId, payload: bytes) -> None:
        self.events.append(("sections", node, payload))


class Node:
    """A node's process may end and begin again; its record stays."""

    def __init__(self, name: str, cluster: dict[str, Address], *, groups: int = 4) -> None:
        self.name, self.cluster, self.groups = name, cluster, groups
        self.record = Record(name.encode().ljust(16))
        self.boots = 0
        self.engine = FakeEngine()
        self.mux: Mux

    async def run(self) -> None:
        formed = self.engine.formed
        self.engine = engine = FakeEngine()
        if formed:
            engine.foundings = [Founding((), 0, 0)]
        self.boots += 1
        listed = tuple((name, address_text(self.cluster[name])) for name in sorted(self.cluster))
        started = Started(
            self.name, f"client-of-{self.name}:1", dict(listed)[self.name], listed, self.groups, 3, False,
            "/data",
        )
        peers = Peers(
            Founder(started, self.record, formed=formed), engine, name=self.name,
            store_id=self.record.store_id, boot_id=f"{self.name}{self.boots}".encode().ljust(16),
            node_ids={name: NodeId(at) for at, name in enumerate(sorted(self.cluster), 1)},
            clock=SystemClock(), wake=engine.wake,
        )  # fmt: skip
        self.mux = peers.connections = Mux(self.name, self.cluster, peers, random.Random(1), QUICK)
        listeners = await trio.open_tcp_listeners(self.cluster[self.name][1], host="127.0.0.1")
        peers.begin()
        await self.mux.run(listeners)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeEngine]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.run)
            await trio.testing.wait_all_tasks_blocked(0.001)
            yield self.engine
            nursery.cancel_scope.cancel()

    async def stops(self, error: type[Exception]) -> str:
        """Runs until the node stops by itself; the line that it says, or the first, if several peers made it
        stop in the same moment."""
        try:
            with trio.fail_after(3):
                await self.run()
        except BaseExceptionGroup as group:
            others = group.split(error)[1]
            if others is not None:
                raise
            found: BaseException = group
            while isinstance(found, BaseExceptionGroup):
                found = found.exceptions[0]
            return str(found)
        raise AssertionError("it does not stop")

    def wipe(self) -> None:
        self.record = Record(b"wiped " + self.name.encode().ljust(10))
        self.engine = FakeEngine()


async def a_cluster(names: str = "abc") -> list[Node]:
    cluster: dict[str, Address] = {}
    held = []
    for name in names:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        held.append(listener)
        cluster[name] = ("127.0.0.1", listener.socket.getsockname()[1])
    for listener in held:
        await listener.aclose()
    return [Node(name, cluster) for name in names]


async def form(*nodes: Node) -> None:
    """Runs the nodes until each has formed and sees the others."""
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(node.run)
        await trio.testing.wait_all_tasks_blocked(0.001)
        for node in nodes:
            await node.engine.until(lambda node=node: len(node.engine.events) == len(nodes) - 1)  # type: ignore[misc]  # the default binds the loop's node
        nursery.cancel_scope.cancel()


async def test_three_nodes_form_and_each_engine_is_told_of_the_others() -> None:
    nodes = await a_cluster()
    await form(*nodes)
    for node, others in zip(nodes, ((2, 3), (1, 3), (1, 2)), strict=True):
        founding = node.engine.foundings[0]
        assert [info.name for info in founding.nodes] == ["a", "b", "c"]
        assert [info.client_address for info in founding.nodes] == [f"client-of-{name}:1" for name in "abc"]
        assert (founding.groups, founding.replicas) == (4, 3)
        assert sorted(event[:2] for event in node.engine.events[:2]) == [("up", other) for other in others]


async def test_a_cluster_of_one_forms_alone() -> None:
    (node,) = await a_cluster("a")
    async with node.running() as engine:
        assert [info.name for info in engine.foundings[0].nodes] == ["a"]


async def test_sections_reach_the_engine_under_the_peers_id() -> None:
    a, b = await a_cluster("ab")
    async with a.running() as in_a, b.running() as in_b:
        await in_a.until(lambda: bool(in_a.events))
        await in_b.until(lambda: bool(in_b.events))
        data = section(SectionKind.HASH, b"x")
        a.mux.send("b", [(Priority.LOG, data)])
        await in_b.until(lambda: len(in_b.events) == 2)
        assert in_b.events == [("up", 1, b"a1".ljust(16)), ("sections", 1, data)]


async def test_a_restarted_node_is_told_with_its_new_boot() -> None:
    a, b = await a_cluster("ab")
    async with a.running() as in_a:
        async with b.running():
            await in_a.until(lambda: bool(in_a.events))
        await in_a.until(lambda: len(in_a.events) == 2)
        async with b.running():
            await in_a.until(lambda: len(in_a.events) == 3)
        assert in_a.events[:3] == [("up", 2, b"b1".ljust(16)), ("down", 2), ("up", 2, b"b2".ljust(16))]


async def test_founding_goes_on_where_a_restart_interrupted_it() -> None:
    a, b, c = await a_cluster()
    async with a.running(), b.running():
        await trio.sleep(0.05)
    assert not a.engine.formed
    await form(a, b, c)


async def test_a_node_that_missed_the_end_of_founding_hears_of_it_later() -> None:
    a, b, c = await a_cluster()
    await form(a, b, c)
    c.engine = FakeEngine()  # Its replica of group 0 was not durable yet when it crashed.
    async with a.running() as in_a, b.running(), c.running() as in_c:
        await in_c.until(lambda: len(in_c.events) == 2)
        assert in_c.formed
        await in_a.until(lambda: len(in_a.events) == 2)


async def test_a_wiped_node_stops_with_the_command_that_admits_it_and_the_others_go_on() -> None:
    a, b, c = await a_cluster()
    await form(a, b, c)
    for victim, port_of in ((c, a), (a, b)):
        others = [node for node in (a, b, c) if node is not victim]
        record, engine = victim.record, victim.engine
        victim.wipe()
        async with others[0].running(), others[1].running():
            text = await victim.stops(StartError)
            assert "wiped or replaced" in text
            assert f"`quorate member add {victim.name}`" in text
            joins = [f"--join {address_text(node.cluster[node.name])}`" for node in others]
            assert any(f"`quorate serve --name {victim.name} --data /data {join}" in text for join in joins)
            assert port_of in others
            await trio.sleep(0.1)
        victim.record, victim.engine = record, engine


async def test_a_node_started_with_other_groups_stops_and_says_what_differs() -> None:
    a, b = await a_cluster("ab")
    b.groups = 8
    async with a.running() as in_a:
        await trio.sleep(0.05)
        text = await b.stops(StartError)
        assert text == "the founding nodes must agree: a has --groups 4, b has --groups 8"
        b.groups = 4
        async with b.running():
            await in_a.until(lambda: bool(in_a.events))


@pytest.mark.parametrize("odd", ["a", "c"])
async def test_a_node_started_with_another_list_stops_though_nobody_dials_it(odd: str) -> None:
    a, b, c = await a_cluster()
    right = {name: address for name, address in a.cluster.items() if name != odd}
    for node in (a, b, c):
        if node.name != odd:
            node.cluster = right
    first, second = (node for node in (a, b, c) if node.name != odd)
    wrong = next(node for node in (a, b, c) if node.name == odd)
    async with first.running() as in_first, second.running():
        await in_first.until(lambda: bool(in_first.events))
        text = await wrong.stops(StartError)
        assert f"{odd} is not one of the nodes that founded the cluster" in text


async def test_a_founding_record_that_cannot_be_written_stops_the_node() -> None:
    a, b = await a_cluster("ab")
    b.record.error = OSError(28, "No space left on device")
    async with a.running():
        assert "No space left on device" in await b.stops(NodeFailed)


async def test_addresses_heard_late_reach_the_engine_until_the_map_is_known() -> None:
    a, b = await a_cluster("ab")
    await form(a, b)
    async with a.running() as in_a:
        assert [info.client_address for info in in_a.foundings[-1].nodes] == ["client-of-a:1", ""]
        async with b.running():
            await in_a.until(lambda: in_a.foundings[-1].nodes[1].client_address == "client-of-b:1")
        in_a.shard_map = A_MAP
        known = len(in_a.foundings)
        async with b.running():
            await in_a.until(lambda: len(in_a.events) == 3)
        assert len(in_a.foundings) == known
