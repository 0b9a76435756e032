"""One node in this process: its store, its engine, its connections, from start to stop."""

from __future__ import annotations

import gc
import random
import resource
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Final, NamedTuple

import trio

from primitives.ids import SYSTEM_GROUP, NodeId
from router.link import ByteLink
from shards.clock import SystemClock
from shards.config import (
    Address,
    DirectoryInUse,
    NodeConfig,
    NodeFailed,
    StartError,
    address_text,
)
from shards.driver import Doorbell, Driver
from shards.engine import Engine
from shards.founding import Founder, ListMismatch, Started
from shards.identity import DirectoryRefused, InUse, OfAnotherNode, StoreDirectory
from shards.logs import log
from shards.mux import Mux, MuxTiming
from shards.peers import Peers
from shards.ports import StoreDamaged, StoreFailed
from shards.rocks import RocksStore
from shards.server import ClientServer
from shards.syncer import SyncThread
from shards.usage import ProcessUsage

DESCRIPTORS_KEPT: Final = 1024
"""Of the process's descriptors, those that are not for clients: the store's files, peers, listeners."""
SWITCH_INTERVAL_S: Final = 0.0005
"""How long the sync thread may have to wait for the interpreter; the default, 5 ms, shows in the tail."""
_Listeners = Sequence[trio.SocketListener]
_GC_THRESHOLDS: Final = (50_000, 50, 50)


class Opened(NamedTuple):
    """A node's directory and store."""

    directory: StoreDirectory
    store: RocksStore


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
    config: NodeConfig, *, mux_timing: MuxTiming | None = None,
    task_status: trio.TaskStatus[RunningNode] = trio.TASK_STATUS_IGNORED,
) -> None:  # fmt: skip
    """Runs a node until cancelled; clients are told then. ``task_status`` is started once the store is open
    and the node listens, with what tells when it serves.

    Raises :class:`StartError` if the node cannot or must not run, and :class:`NodeFailed` if it had to stop,
    each with one line. An ``InvariantViolation`` passes through as it is. Opening the store blocks the loop.
    """
    try:
        with _opened(config) as opened:
            await _run(config, opened, mux_timing or MuxTiming(), task_status)
    except (StartError, NodeFailed, StoreFailed, StoreDamaged, BaseExceptionGroup) as error:
        found = _cause(error)
        if found is None:
            raise
        raise found from error


def _cause(error: BaseException) -> StartError | NodeFailed | None:
    """The one line that explains ``error``; None if it is not one of those that end a node by plan."""
    if isinstance(error, StartError | NodeFailed):
        return error
    if isinstance(error, StoreDamaged):
        return NodeFailed(str(error))
    if isinstance(error, StoreFailed):
        return NodeFailed(f"the store failed, and nothing that this node says would be safe: {error}")
    if isinstance(error, BaseExceptionGroup):
        found = [_cause(part) for part in error.exceptions]
        if all(found):
            return found[0]
    return None


@contextmanager
def _opened(config: NodeConfig) -> Iterator[Opened]:
    try:
        directory = StoreDirectory.open(config.data, config.name)
    except (DirectoryRefused, StoreDamaged) as error:
        raise _refusal(config, error) from error
    try:
        try:
            store = RocksStore.open(directory)
        except (StoreFailed, StoreDamaged) as error:
            raise StartError(str(error)) from error
        try:
            yield Opened(directory, store)
        except BaseException as error:
            _mark(directory, error)
            try:
                store.close()
            except StoreFailed:
                # What made the node stop is to be told, not what follows from it.
                if _cause(error) is None:
                    raise
            raise
        store.close()
    finally:
        directory.close()


def _refusal(config: NodeConfig, error: DirectoryRefused | StoreDamaged) -> StartError:
    if isinstance(error, InUse):
        return DirectoryInUse(str(error))
    if isinstance(error, OfAnotherNode) and config.peer is None:
        return StartError(
            f"{config.data} is the directory of node {error.node!r} of a cluster, which alone may open it: "
            "embed in a directory of its own"
        )
    return StartError(str(error))


def _mark(directory: StoreDirectory, error: BaseException) -> None:
    """Records damage that the engine found: a store that lost what it acknowledged never votes again."""
    for found in error.exceptions if isinstance(error, BaseExceptionGroup) else [error]:
        if isinstance(found, BaseExceptionGroup):
            _mark(directory, found)
        elif isinstance(found, StoreDamaged) and not directory.is_damaged:
            directory.mark_damaged(str(found))


async def _run(
    config: NodeConfig, opened: Opened, mux_timing: MuxTiming, task_status: trio.TaskStatus[RunningNode]
) -> None:
    names = sorted(config.cluster)
    node_ids = {name: NodeId(number) for number, name in enumerate(names, start=1)}
    node, boot_id = node_ids[config.name], secrets.token_bytes(16)
    clock = SystemClock()
    randomness = random.Random(secrets.token_bytes(32))
    engine = Engine(
        node=node, boot_id=boot_id, store=opened.store, clock=clock, random=randomness,
        settings=config.engine, usage=ProcessUsage(),
    )  # fmt: skip
    engine.start()
    _note_other_groups(config, engine)
    founder = _founder(config, opened.directory, engine)
    bell = Doorbell()
    peers = Peers(
        founder, engine, name=config.name, store_id=opened.directory.store_id, boot_id=boot_id,
        node_ids=node_ids, clock=clock, wake=bell.ring,
    )  # fmt: skip
    mux = Mux(config.name, config.cluster, peers, randomness, mux_timing)
    peers.connections = mux
    clients = ClientServer(
        engine, node=node, boot_id=boot_id, wake=bell.ring,
        clients_max=config.clients_max or _clients_max(may_raise=config.owns_process),
    )  # fmt: skip
    running = RunningNode(address_text(config.advertise), trio.Event(), clients.connect)
    node_names = {number: name for name, number in node_ids.items()}
    driver = Driver(engine, bell, mux, clients, node_names, running.ready.set)
    async with _listening(config) as (client_listeners, peer_listeners):
        peers.begin()
        syncer = SyncThread(opened.store, trio.lowlevel.current_trio_token(), driver.synced, driver.failed)
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
        config.replicas, str(config.data),
    )  # fmt: skip


def _founder(config: NodeConfig, directory: StoreDirectory, engine: Engine) -> Founder:
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
    replicas = max((len(info.replicas) for info in groups), default=0)
    asked = min(config.replicas, len(shard_map.nodes))
    if groups and replicas != asked:
        log.warning(
            "the number of replicas was fixed when the cluster was founded; --replicas changes nothing",
            replicas=replicas, asked=asked,
        )  # fmt: skip


@asynccontextmanager
async def _listening(config: NodeConfig) -> AsyncIterator[tuple[_Listeners, _Listeners]]:
    """Listeners for clients and for peers; closed in the end."""
    opened: list[_Listeners] = []
    try:
        opened.append(await _listen(config.listen, "--listen"))
        opened.append(await _listen(config.peer, "--peer"))
        yield opened[0], opened[1]
    finally:
        for listeners in opened:
            for listener in listeners:
                listener.socket.close()


async def _listen(address: Address | None, flag: str) -> _Listeners:
    if address is None:
        return []
    host, port = address
    try:
        return await trio.open_tcp_listeners(port, host=host)
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
