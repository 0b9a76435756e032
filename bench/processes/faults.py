"""Faults, by name: what each does to a running cluster, and how it is taken back."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar, Final

import trio

from bench.processes.clients import Clients
from bench.processes.nodes import Cluster
from bench.processes.stores import Disk

ASK_SECONDS: Final = 2.0


@dataclass
class Scene:
    """What faults act upon."""

    cluster: Cluster
    clients: Clients
    random: Random
    nursery: trio.Nursery
    """For what goes on while a fault lasts."""
    disks: dict[str, Disk] = field(default_factory=dict)
    """What the nodes' data lies on, if that is other than the machine's own disk."""
    notes: list[str] = field(default_factory=list)
    """What was seen that the report is to say."""

    async def leading(self) -> str:
        """The node that leads most groups; any, if nobody tells."""
        told = await self.clients.ask("leaders", ASK_SECONDS)
        led = Counter(node for node in told.get("leaders", {}).values() if node is not None)
        names = self.cluster.names
        return names[led.most_common(1)[0][0] - 1] if led else self.random.choice(names)

    async def one(self) -> str:
        """A node: that which leads most, or any."""
        return await self.leading() if self.random.randrange(2) else self.random.choice(self.cluster.names)

    def minority(self) -> list[str]:
        """As many nodes as may be missing."""
        names = self.cluster.names
        return self.random.sample(names, (len(names) - 1) // 2)


class Fault(ABC):
    """One kind of fault. An object of it happens once."""

    NAME: ClassVar[str]
    SECONDS: ClassVar[tuple[float, float]] = (3.0, 10.0)
    """How long it lasts, at the least and at the most."""
    STORE: ClassVar[str | None] = None
    """The kind of file system that the nodes' data must be on; None: any."""
    IS_LAST: ClassVar[bool] = False
    """Nothing can come after it in a cluster's life."""
    OVERHEAD_SECONDS: ClassVar[float] = 0.0
    """What beginning and ending it take, about."""
    TOUCHES: ClassVar[str] = "network"
    """What it acts upon: two at a time act upon different things."""

    def __init__(self, scene: Scene) -> None:
        self.scene: Final = scene
        self.cluster: Final = scene.cluster
        self.network: Final = scene.cluster.network
        self.random: Final = scene.random

    @abstractmethod
    async def begin(self) -> str:
        """Lets it happen; what exactly, for people."""

    @abstractmethod
    async def end(self) -> None:
        """Takes it back. Nodes that it took down are started again."""


REGISTRY: Final[dict[str, type[Fault]]] = {}


def fault(kind: type[Fault]) -> type[Fault]:
    """Registers a kind of fault."""
    REGISTRY[kind.NAME] = kind
    return kind


class _Killed(Fault):
    """Nodes killed with -9, started again in the end."""

    TOUCHES = "nodes"
    SECONDS = (0.5, 6.0)

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._killed: list[str] = []

    async def victims(self) -> list[str]:
        """Which nodes."""
        raise NotImplementedError

    async def begin(self) -> str:
        """See :class:`Fault`."""
        chosen = await self.victims()
        self._killed = [name for name in chosen if self.cluster.nodes[name].process is not None]
        await self.cluster.kill(self._killed)
        return ", ".join(self._killed)

    async def end(self) -> None:
        """See :class:`Fault`."""
        await self.cluster.start_all(self._killed)


@fault
class KillOne(_Killed):
    """One node is killed with -9."""

    NAME = "kill"

    async def victims(self) -> list[str]:
        """See :class:`_Killed`."""
        return [await self.scene.one()]


@fault
class KillMinority(_Killed):
    """A minority is killed with -9, at once."""

    NAME = "kill-minority"

    async def victims(self) -> list[str]:
        """See :class:`_Killed`."""
        return self.scene.minority()


@fault
class KillAll(_Killed):
    """All nodes are killed with -9, at once."""

    NAME = "kill-all"
    SECONDS = (0.1, 2.0)

    async def victims(self) -> list[str]:
        """See :class:`_Killed`."""
        return self.cluster.names


@fault
class Freeze(Fault):
    """One node is stopped by SIGSTOP."""

    NAME = "freeze"
    TOUCHES = "nodes"
    SECONDS = (1.0, 30.0)

    async def begin(self) -> str:
        """See :class:`Fault`."""
        self._name = await self.scene.one()
        self.cluster.signal(self._name, signal.SIGSTOP)
        return self._name

    async def end(self) -> None:
        """See :class:`Fault`."""
        self.cluster.signal(self._name, signal.SIGCONT)


@fault
class FreezeAll(Fault):
    """All nodes are stopped by SIGSTOP, and go on together."""

    NAME = "freeze-all"
    TOUCHES = "nodes"
    SECONDS = (1.0, 8.0)

    async def begin(self) -> str:
        """See :class:`Fault`."""
        for name in self.cluster.names:
            self.cluster.signal(name, signal.SIGSTOP)
        return ", ".join(self.cluster.names)

    async def end(self) -> None:
        """See :class:`Fault`."""
        for name in self.cluster.names:
            self.cluster.signal(name, signal.SIGCONT)


@fault
class Restart(Fault):
    """One node after the other is asked to stop, by TERM, and started again."""

    NAME = "restart"
    TOUCHES = "nodes"
    OVERHEAD_SECONDS = 6.0
    SECONDS = (0.5, 1.0)

    async def begin(self) -> str:
        """See :class:`Fault`."""
        for name in self.cluster.names:
            await self.cluster.terminate(name)
            await self.cluster.start_all([name])
        return "each node in turn"

    async def end(self) -> None:
        """See :class:`Fault`."""


@fault
class Storm(Fault):
    """Leadership of random groups is handed to random nodes, again and again."""

    NAME = "transfers"
    TOUCHES = "leaders"

    async def begin(self) -> str:
        """See :class:`Fault`."""
        await self.scene.clients.ask("storm")
        return "of random groups to random nodes"

    async def end(self) -> None:
        """See :class:`Fault`."""
        await self.scene.clients.ask("calm")


async def repeatedly(do: Callable[[], str], pause: Callable[[], float], scope: trio.CancelScope) -> None:
    """Does something again and again until the scope is cancelled."""
    with scope:
        while True:
            do()
            await trio.sleep(pause())
