"""What a node takes of the machine it runs on: a network, a clock, chance, and a place for its store.

:class:`SystemMachine` is the real one. A node that is handed another runs the same code over a simulated
network and disk.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from random import Random
from typing import Final, NamedTuple, Protocol

from router.network import SYSTEM, Network
from shards.causes import cause
from shards.clock import SystemClock
from shards.config import DirectoryInUse, NodeConfig, StartError
from shards.founding import FoundingRecord
from shards.identity import DirectoryRefused, InUse, OfAnotherNode, StoreDirectory
from shards.ports import Clock, Store, StoreDamaged, StoreFailed, Syncer, Usage
from shards.rocks import RocksStore
from shards.syncer import Door, SyncThread
from shards.usage import ProcessUsage


class ClosingSyncer(Syncer, Protocol):
    """A syncer, for as long as the node runs."""

    def close(self) -> None:
        """Ends it, after the syncs that were asked for. Blocks for these."""


Synced = Callable[[int], object]
"""Told the highest round of each sync that succeeded, on the loop's thread."""
SyncFailed = Callable[[Exception], object]
"""Told there, once and last, why a sync did not."""


class Opened(NamedTuple):
    """A node's directory and store."""

    directory: FoundingRecord
    store: Store
    start_syncer: Callable[[Door, Synced, SyncFailed], ClosingSyncer]
    """Starts what syncs the store, see :class:`shards.syncer.SyncThread`."""


class Machine(Protocol):
    """Where one start of a node runs."""

    @property
    def network(self) -> Network:
        """Where it listens and dials."""

    @property
    def clock(self) -> Clock:
        """The engine's time."""

    @property
    def random(self) -> Random:
        """All chance of the node, its boot id included."""

    @property
    def usage(self) -> Usage:
        """What the process takes of the machine."""

    def opened(self, config: NodeConfig) -> AbstractContextManager[Opened]:
        """The node's directory and store, for the time of a block. What ends the block by an error may be
        recorded in the directory. Raises :class:`StartError`."""


class SystemMachine:
    """The machine that this process runs on."""

    def __init__(self) -> None:
        self.network: Final[Network] = SYSTEM
        self.clock: Final[Clock] = SystemClock()
        self.random: Final = random.Random(secrets.token_bytes(32))
        self.usage: Final[Usage] = ProcessUsage()

    @contextmanager
    def opened(self, config: NodeConfig) -> Iterator[Opened]:
        """See :class:`Machine`. Blocks the loop."""
        try:
            directory = StoreDirectory.open(config.data, config.name)
        except (DirectoryRefused, StoreDamaged) as error:
            raise _refusal(config, error) from error
        try:
            try:
                store = RocksStore.open(directory)
            except (StoreFailed, StoreDamaged) as failure:
                raise StartError(str(failure)) from failure
            try:
                yield Opened(directory, store, partial(SyncThread, store))
            except BaseException as end:
                _mark(directory, end)
                try:
                    store.close()
                except StoreFailed:
                    # What made the node stop is to be told, not what follows from it.
                    if cause(end) is None:
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
