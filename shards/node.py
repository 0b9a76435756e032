"""One node in this process: its store, its engine, its connections, from start to stop."""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, nullcontext
from typing import Any, Final, NamedTuple

import trio

from primitives.ids import SYSTEM_GROUP, NodeId
from router.link import ByteLink
from router.network import Lookout, Network
from shards.causes import cause
from shards.config import (
    Address,
    NodeConfig,
    NodeFailed,
    StartError,
    address_text,
)
from shards.driver import Doorbell, Driver
from shards.engine import Engine
from shards.founding import Founder, FoundingRecord, ListMismatch, Started, leaders_text
from shards.logs import log
from shards.machine import Machine, Opened, SystemMachine
from shards.mux import Mux, MuxTiming
from shards.peers import Peers
from shards.ports import StoreDamaged, StoreFailed
from shards.server import ClientServer

DESCRIPTORS_KEPT: Final = 1024
"""Of the process's descriptors, those that are not for clients: the store's files, peers, listeners."""
SWITCH_INTERVAL_S: Final = 0.0005
"""How long the sync thread may have to wait for the interpreter; the default, 5 ms, shows in the tail."""
_Listeners = Sequence[trio.abc.Listener[Any]]
_GC_THRESHOLDS: Final = (50_000, 50, 50)


class RunningNode(NamedTuple):
    """A node that runs, for whoever started it."""

    address: str
    """``host:port`` under which clients find it in the shard map."""
    ready: trio.Event
    """Set once every group here has a leader and clients are served."""
    connect: Callable[[], ByteLink]
    """A client's end of a new connection that takes no network. Raises ConnectionRefusedError once the node
    has stopped."""


async def run_node(
    config: NodeConfig, *, mux_timing: MuxTiming | None = None, machine: Machine | None = None,
    task_status: trio.TaskStatus[RunningNode] = trio.TASK_STATUS_IGNORED,
) -> None:  # fmt: skip
    """Runs a node until cancelled; clients are told then. ``task_status`` is started once the store is open
    and the node listens, with what tells when it serves. ``machine`` is what it runs on; this one if None.

    Raises :class:`StartError` if the node cannot or must not run, and :class:`NodeFailed` if it had to stop,
    each with one line. An ``InvariantViolation`` passes through as it is. Opening the store blocks the loop.
    """
    under = machine or SystemMachine()
    try:
        with under.opened(config) as opened, closing(under.network.readiness()) as readiness:
            await _run(config, under, opened, readiness, mux_timing or MuxTiming(), task_status)
    except (StartError, NodeFailed, StoreFailed, StoreDamaged, BaseExceptionGroup) as error:
        found = cause(error)
        if found is None:
            raise
        raise found from error


async def _run(
    config: NodeConfig, machine: Machine, opened: Opened, readiness: Lookout, mux_timing: MuxTiming,
    task_status: trio.TaskStatus[RunningNode],
) -> None:  # fmt: skip
    names = sorted(config.cluster)
    node_ids = {name: NodeId(number) for number, name in enumerate(names, start=1)}
    clock, random = machine.clock, machine.random
    node, boot_id = node_ids[config.name], random.randbytes(16)
    engine = Engine(
        node=node, boot_id=boot_id, store=opened.store, clock=clock, random=random,
        settings=config.engine, usage=machine.usage,
    )  # fmt: skip
    engine.start()
    _note_other_groups(config, engine)
    founder = _founder(config, opened.directory, engine)
    bell = Doorbell(readiness)
    peers = Peers(
        founder, engine, name=config.name, store_id=opened.directory.store_id, boot_id=boot_id,
        node_ids=node_ids, clock=clock, wake=bell.ring,
    )  # fmt: skip
    mux = Mux(config.name, config.cluster, peers, random, mux_timing, machine.network, readiness)
    peers.connections = mux
    clients = ClientServer(
        engine, node=node, boot_id=boot_id, wake=bell.ring, transfer=machine.network, readiness=readiness,
        clients_max=config.clients_max or _clients_max(may_raise=config.owns_process),
    )  # fmt: skip
    running = RunningNode(address_text(config.advertise), trio.Event(), clients.connect)
    node_names = {number: name for name, number in node_ids.items()}
    driver = Driver(engine, bell, mux, clients, node_names, running.ready.set)
    async with _listening(config, machine.network) as (client_listeners, peer_listeners):
        peers.begin()
        syncer = opened.start_syncer(readiness, driver.synced, driver.failed)
        log.info("node runs", node=config.name, data=str(config.data))
        try:
            with _tuned() if config.owns_process else nullcontext():
                async with trio.open_nursery() as outer:
                    with trio.CancelScope(shield=True) as scope:
                        outer.start_soon(_leave, driver, scope)
                        async with trio.open_nursery() as nursery:
                            await nursery.start(clients.run, client_listeners)
                            if config.peer is not None:
                                nursery.start_soon(mux.run, peer_listeners)
                            nursery.start_soon(driver.run, syncer)
                            task_status.started(running)
        finally:
            syncer.close()
            log.info("node stopped", node=config.name)


async def _leave(driver: Driver, scope: trio.CancelScope) -> None:
    """When the node is told to stop, its leaderships go first: the groups hardly notice."""
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await driver.hand_over()
        scope.cancel()


def _started(config: NodeConfig) -> Started:
    cluster = tuple((name, address_text(config.cluster[name])) for name in sorted(config.cluster))
    return Started(
        config.name, address_text(config.advertise), dict(cluster)[config.name], cluster, config.groups,
        config.replicas, config.together, str(config.data),
    )  # fmt: skip


def _founder(config: NodeConfig, directory: FoundingRecord, engine: Engine) -> Founder:
    try:
        return Founder(_started(config), directory, formed=engine.formed)
    except ListMismatch as error:
        raise StartError(str(error)) from error
    except OSError as error:
        raise StartError(f"the founding record cannot be written: {error.strerror}") from error


def _note_other_groups(config: NodeConfig, engine: Engine) -> None:
    """Says so if the command asks for other numbers than the cluster was founded with."""
    shard_map = engine.shard_map
    if shard_map is None:
        return
    groups = [info for group, info in shard_map.groups.items() if group != SYSTEM_GROUP]
    if len(groups) != config.groups:
        log.warning(
            "the number of groups was fixed when the cluster was founded; --groups changes nothing",
            groups=len(groups), asked=config.groups,
        )  # fmt: skip
    leaders = {info.replicas[0][1] for info in groups}
    if len(groups) > 1 < len(shard_map.nodes) and config.together is not (len(leaders) == 1):
        log.warning(
            "where leaders belong was fixed when the cluster was founded; --leaders changes nothing",
            leaders=leaders_text(len(leaders) == 1), asked=leaders_text(config.together),
        )  # fmt: skip
    replicas = max((len(info.replicas) for info in groups), default=0)
    asked = min(config.replicas, len(shard_map.nodes))
    if groups and replicas != asked:
        log.warning(
            "the number of replicas was fixed when the cluster was founded; --replicas changes nothing",
            replicas=replicas, asked=asked,
        )  # fmt: skip


@asynccontextmanager
async def _listening(
    config: NodeConfig, network: Network
) -> AsyncIterator[tuple[_Listeners, _Listeners]]:
    """Listeners for clients and for peers; closed in the end."""
    opened: list[_Listeners] = []
    try:
        opened.append(await _listen(network, config.listen, "--listen"))
        opened.append(await _listen(network, config.peer, "--peer"))
        yield opened[0], opened[1]
    finally:
        with trio.CancelScope(shield=True):
            for listeners in opened:
                for listener in listeners:
                    await listener.aclose()


async def _listen(network: Network, address: Address | None, flag: str) -> _Listeners:
    if address is None:
        return []
    host, port = address
    try:
        return await network.listen(host, port)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StartError(f"cannot listen at {flag} {address_text(address)}: {reason}") from error


def _clients_max(*, may_raise: bool) -> int:
    """Client connections that the limit of descriptors leaves room for; raises that limit if it may."""
    limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if may_raise and limit != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        limit = hard
    if limit == resource.RLIM_INFINITY:
        return 1 << 20
    return max(limit - DESCRIPTORS_KEPT, limit // 4)


@contextmanager
def _tuned() -> Iterator[None]:
    """Settings of the whole process that keep pauses short, while the node runs; they cost memory only."""
    interval_s, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
        sys.setswitchinterval(interval_s)
