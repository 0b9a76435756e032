"""What a simulated node runs on, and the node itself from boot to boot.

The disk and the node's identity outlive its processes; a :class:`SimMachine` is for one boot. When the boot
dies, whatever it asks of its machine from then on raises :class:`MachineDead`, so none of its tasks goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

import trio

from bench.streams.internet import Host
from bench.streams.schedule import TrioHeap
from bench.world.clock import Clock
from bench.world.disk import Disk, SimBatch, SimStore, SimSyncer
from primitives.errors import InvariantViolation
from primitives.ids import NodeId
from shards.config import NodeConfig, NodeFailed
from shards.machine import Opened, Synced, SyncFailed
from shards.node import RunningNode, run_node
from shards.ports import Batch, StoreFailed
from shards.settings import EngineSettings
from shards.syncer import Door

CLIENT_PORT: Final = 7400
PEER_PORT: Final = 7401
STOP_MS: Final = 3000
"""A node that is told to stop has ended by then."""

LOOKS_MAX: Final = 100_000
"""At a clock, within one millisecond."""

WHO: Final[ContextVar[str]] = ContextVar("WHO", default="-")
"""Whose task runs, for the lines that it logs."""


class PatientClock:
    """A process's clock. To look at it again and again while no time goes by shows that the process spins."""

    def __init__(self, heap: TrioHeap, clock: Clock, name: str) -> None:
        self._heap: Final = heap
        self._clock: Final = clock
        self._name: Final = name
        self._looked_ms = -1
        self._looks = 0

    def monotonic_ms(self) -> int:
        """See :class:`shards.ports.Clock`."""
        now_ms = self._heap.now_ms
        self._looks = self._looks + 1 if now_ms == self._looked_ms else 0
        self._looked_ms = now_ms
        if self._looks > LOOKS_MAX:
            raise InvariantViolation(f"{self._name} spins")
        return self._clock.monotonic_ms()


class MachineDead(BaseException):
    """The machine under this process is gone."""


class Record:
    """What lasts of a node beside its database; see :class:`shards.founding.FoundingRecord`."""

    def __init__(self, store_id: bytes) -> None:
        self.store_id: Final = store_id
        self._founding: dict[str, bytes] | None = None

    @property
    def founding(self) -> dict[str, bytes] | None:
        """See :class:`shards.founding.FoundingRecord`."""
        return None if self._founding is None else dict(self._founding)

    def record_founding(self, stores: Mapping[str, bytes]) -> None:
        """See :class:`shards.founding.FoundingRecord`."""
        if self._founding is not None and self._founding != dict(stores):
            raise InvariantViolation("a founding set is recorded once, and another one stands")
        self._founding = dict(stores)


class _Syncer(SimSyncer):
    """A syncer that ends with the node that stops, its last sync made."""

    __slots__ = ()

    def close(self) -> None:
        """See :class:`shards.machine.ClosingSyncer`."""
        if not self._stopped:
            self.stop()
            if not self._disk.sync_fails:
                self._disk.sync(self._disk.written)


class _Store(SimStore):
    """The store of a boot; gone with it."""

    __slots__ = ("_machine",)

    def __init__(self, machine: SimMachine, disk: Disk, wrote: Callable[[SimBatch], None]) -> None:
        super().__init__(disk, wrote)
        self._machine: Final = machine

    def write(self, batch: Batch) -> bool:
        """See :class:`shards.ports.Store`."""
        self._machine.require()
        return super().write(batch)


class SimMachine:
    """See :class:`shards.machine.Machine`."""

    def __init__(
        self, heap: TrioHeap, host: Host, disk: Disk, record: Record, clock: Clock, random: Random,
        wrote: Callable[[SimBatch], None], sync_ms: tuple[int, int],
    ) -> None:  # fmt: skip
        self.network: Final = host
        self.clock: Final = self
        self.random: Final = random
        self.usage: Final = self
        self.is_dead = False
        self.syncer: _Syncer | None = None
        self._heap: Final = heap
        self._disk: Final = disk
        self._record: Final = record
        self._clock: Final = PatientClock(heap, clock, host.name)
        self._wrote: Final = wrote
        self._sync_ms: Final = sync_ms

    def require(self) -> None:
        """Raises :class:`MachineDead` if it is."""
        if self.is_dead:
            raise MachineDead

    def die(self) -> None:
        """Nothing of the boot goes on."""
        self.is_dead = True
        if self.syncer is not None:
            self.syncer.stop()

    def monotonic_ms(self) -> int:
        """See :class:`shards.ports.Clock`."""
        self.require()
        return self._clock.monotonic_ms()

    def describe(self, groups: int) -> dict[str, Any]:
        """See :class:`shards.ports.Usage`: nothing is measured here."""
        return {}

    @contextmanager
    def opened(self, config: NodeConfig) -> Iterator[Opened]:
        """See :class:`shards.machine.Machine`."""
        yield Opened(self._record, _Store(self, self._disk, self._wrote), self._start_syncer)

    def _start_syncer(self, door: Door, synced: Synced, failed: SyncFailed) -> _Syncer:
        self.syncer = _Syncer(
            self._heap, self._disk, self.random, done=partial(door.run_sync_soon, synced),
            failed=partial(door.run_sync_soon, failed, StoreFailed("the sync failed")),
            delay_ms=self._sync_ms,
        )  # fmt: skip
        return self.syncer


class Boot:
    """One process of a node: starts, and ends by being stopped, by dying or by failing."""

    def __init__(
        self, name: str, machine: SimMachine, config: NodeConfig, said: Callable[[str, str], None]
    ) -> None:
        self.name: Final = name
        self.machine: Final = machine
        self.running: RunningNode | None = None
        self.has_ended = False
        self.failure: NodeFailed | None = None
        """Why it stopped by itself."""
        self._config: Final = config
        self._said: Final = said
        self._scope: Final = trio.CancelScope()

    async def run(self, ended: Callable[[Boot], None]) -> None:
        """Runs the node. ``ended`` is told once it is over, unless by an error that no fault explains."""
        WHO.set(self.name)
        try:
            with self._scope:
                await run_node(self._config, machine=self.machine, task_status=self)
        except NodeFailed as failure:
            self.failure = failure
        except BaseException as error:
            if not self.machine.is_dead or not _is_death(error):
                raise
        finally:
            self.has_ended = True
        ended(self)

    def started(self, value: Any = None) -> None:
        """The node runs; as a :class:`trio.TaskStatus` is told."""
        self.running = value

    def stop(self) -> None:
        """As by SIGTERM."""
        self._said(self.name, "is told to stop")
        self._scope.cancel()

    def die(self) -> None:
        """As by SIGKILL."""
        self.machine.die()
        self._scope.cancel()


def _is_death(error: BaseException) -> bool:
    """Whether ``error`` is nothing but what a dead machine raises in a process on it."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_death(part) for part in error.exceptions)
    return isinstance(error, MachineDead | trio.Cancelled)


def config_of(
    node: NodeId, count: int, *, groups: int, replicas: int, engine: EngineSettings
) -> NodeConfig:
    """What a node is started with."""
    name = f"n{node}"
    return NodeConfig(
        name=name, data=Path(name), listen=(name, CLIENT_PORT), peer=(name, PEER_PORT),
        advertise=(name, CLIENT_PORT),
        cluster={f"n{number}": (f"n{number}", PEER_PORT) for number in range(1, count + 1)}, groups=groups,
        replicas=replicas, clients_max=1000, engine=engine, owns_process=False,
    )  # fmt: skip
