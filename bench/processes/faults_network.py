"""Faults of the network between nodes, and between nodes and clients."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import ClassVar, Final

import trio

from bench.processes.faults import Fault, Scene, fault, repeatedly
from bench.processes.network import CLIENTS, Rule

Pairs = list[tuple[str, str]]
"""Sources and targets."""
KILOBITS: Final = 256


class _Partition(Fault):
    """Some ways between members are cut."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.rules: list[Rule] = []

    def cut(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Drops what the first of each pair sends to the second."""
        for source, target in pairs:
            self.rules.append(self.network.cut(source, target))

    async def end(self) -> None:
        """See :class:`Fault`."""
        for rule in self.rules:
            rule.lift()

    def shuffled(self) -> list[str]:
        """All nodes in some order."""
        return self.random.sample(self.cluster.names, len(self.cluster.names))


def between(some: Iterable[str], others: Iterable[str]) -> Pairs:
    """Both ways between each of some and each of the others."""
    others = list(others)
    return [pair for one in some for other in others for pair in ((one, other), (other, one))]


@fault
class Halves(_Partition):
    """A minority is cut off from the majority; the clients are on either side, or see both."""

    NAME = "halves"

    async def begin(self) -> str:
        """See :class:`Fault`."""
        few = self.scene.minority()
        if self.random.randrange(2):
            few = list(dict.fromkeys([await self.scene.leading(), *few]))[: len(few)]
        many = [name for name in self.cluster.names if name not in few]
        self.cut(between(few, many))
        side = self.random.randrange(3)
        if side < 2:
            self.cut(between([CLIENTS], (few, many)[side]))
        seen = ("see the majority", "see the minority", "see both")[side]
        return f"{', '.join(few)} from the others; clients {seen}"


@fault
class MajorityRing(_Partition):
    """Each node sees the next ones on a ring, a majority with itself, and no two nodes the same ones."""

    NAME = "majority-ring"

    async def begin(self) -> str:
        """See :class:`Fault`."""
        ring = self.shuffled()
        size = len(ring)
        if size == 3:
            # Of three, a ring is whole: the way between two of them is cut, which the third bridges.
            self.cut(between([ring[0]], [ring[2]]))
            return f"{' – '.join(ring)}"
        for at, name in enumerate(ring):
            near = {ring[(at + step) % size] for step in (-1, 0, 1)}
            self.cut((other, name) for other in ring if other not in near)
        return f"{' – '.join(ring)} –"


@fault
class Bridge(_Partition):
    """Two halves that see each other through one node alone."""

    NAME = "bridge"

    async def begin(self) -> str:
        """See :class:`Fault`."""
        middle, *rest = self.shuffled()
        half = len(rest) // 2
        self.cut(between(rest[:half], rest[half:]))
        return f"{', '.join(rest[:half])} – {middle} – {', '.join(rest[half:])}"


@fault
class OneWay(_Partition):
    """What one node sends, or what it is sent, is lost, but for what clients say."""

    NAME = "one-way"

    async def begin(self) -> str:
        """See :class:`Fault`."""
        one = await self.scene.one()
        others = [name for name in self.cluster.names if name != one]
        if self.random.randrange(2):
            self.cut((one, other) for other in others)
            return f"nobody hears {one}"
        self.cut((other, one) for other in others)
        return f"{one} hears nobody"


@fault
class CutClients(_Partition):
    """The clients reach one node, or none."""

    NAME = "cut-clients"

    async def begin(self) -> str:
        """See :class:`Fault`."""
        kept = self.random.choice((None, *self.cluster.names))
        self.cut(between([CLIENTS], (name for name in self.cluster.names if name != kept)))
        return f"all but {kept}" if kept else "all"


class _Repeated(_Partition):
    """Something that is done again and again."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._scope = trio.CancelScope()

    def repeat(self, shortest: float, longest: float) -> None:
        """Does :meth:`once` again and again."""
        pause = partial(self.random.uniform, shortest, longest)
        self.scene.nursery.start_soon(repeatedly, self.once, pause, self._scope)

    def once(self) -> str:
        """What is done."""
        raise NotImplementedError

    async def end(self) -> None:
        """See :class:`Fault`."""
        self._scope.cancel()
        await super().end()


@fault
class Flapping(_Repeated):
    """A node is cut off from the others and back, several times a second to every few seconds."""

    NAME = "flapping"
    SECONDS = (5.0, 12.0)

    async def begin(self) -> str:
        """See :class:`Fault`."""
        self._one = await self.scene.one()
        self.repeat(0.2, 2.0)
        return self._one

    def once(self) -> str:
        """See :class:`_Repeated`."""
        if self.rules:
            for rule in self.rules:
                rule.lift()
            self.rules.clear()
        else:
            self.cut(between([self._one], (name for name in self.cluster.names if name != self._one)))
        return ""


@fault
class Resets(_Repeated):
    """All connections of a node are reset, again and again."""

    NAME = "resets"

    async def begin(self) -> str:
        """See :class:`Fault`."""
        self._one = await self.scene.one()
        self.repeat(0.3, 2.0)
        return self._one

    def once(self) -> str:
        """See :class:`_Repeated`."""
        self.network.reset(self._one)
        return ""


@fault
class Loss(_Partition):
    """A share of all packets is lost, everywhere."""

    NAME = "loss"
    SECONDS = (4.0, 12.0)
    SHARES: ClassVar = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3)

    async def begin(self) -> str:
        """See :class:`Fault`."""
        share = self.random.choice(self.SHARES)
        for member in self.network.members:
            self.rules.append(self.network.lose(member, share))
        return f"{share:.0%} of all packets"


@fault
class Narrow(Fault):
    """One node, or each, can send 256 kbit/s only."""

    NAME = "narrow"
    TOUCHES = "rates"
    SECONDS = (4.0, 12.0)

    async def begin(self) -> str:
        """See :class:`Fault`."""
        self._names = self.cluster.names if self.random.randrange(3) == 0 else [await self.scene.one()]
        for name in self._names:
            self.network.narrow(name, KILOBITS)
        return f"{', '.join(self._names)}: {KILOBITS} kbit/s"

    async def end(self) -> None:
        """See :class:`Fault`."""
        for name in self._names:
            self.network.widen(name)
