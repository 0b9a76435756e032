"""Faults of what a node stands on: its disk, its files, its clock, and delays of the network by queueing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar, Final

import trio

from bench.processes.faults import Fault, Scene, fault
from bench.processes.network import Rule
from bench.processes.nodes import STORE_FAILED, Broken, environment
from bench.processes.stores import SLOW, SMALL

QUEUE: Final = 1
END_SECONDS: Final = 10.0
"""For a node to end when it must."""
DAY: Final = 86_400


@fault
class Delay(Fault):
    """What one node is sent comes late, by 50 to 500 ms; or what each is sent."""

    NAME = "delay"
    SECONDS = (4.0, 12.0)

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._rules: list[Rule] = []
        self._holders: list[trio.Process] = []

    async def begin(self) -> str:
        """See :class:`Fault`."""
        least = self.random.uniform(0.05, 0.25)
        most = least * self.random.choice((1.0, 1.2, 2.0))
        names = self.cluster.names if self.random.randrange(3) == 0 else [await self.scene.one()]
        for name in names:
            process = await trio.lowlevel.open_process(
                self.network.command(
                    name, sys.executable, "-P", "-m", "bench.processes.holding", "--queue", str(QUEUE),
                    "--least", f"{least}", "--most", f"{most}",
                ),
                stdout=-1, env=environment(),
            )  # fmt: skip
            self._holders.append(process)
            if process.stdout is None or not await process.stdout.receive_some():
                raise Broken("no packets can be held back here")
            self._rules.append(self.network.queue(name, QUEUE))
        return f"{', '.join(names)}: {least * 1000:.0f} to {most * 1000:.0f} ms"

    async def end(self) -> None:
        """See :class:`Fault`."""
        for rule in self._rules:
            rule.lift()
        await trio.sleep(0.6 if self._rules else 0.0)
        for holder in self._holders:
            holder.kill()
            await holder.wait()


@fault
class Clocks(Fault):
    """Each node in turn is killed, and started with a clock that is days ahead of the others'."""

    NAME = "clocks"
    TOUCHES = "nodes"
    SECONDS = (0.5, 2.0)
    OVERHEAD_SECONDS = 6.0

    async def begin(self) -> str:
        """See :class:`Fault`."""
        offsets = []
        for name in self.cluster.names:
            days = self.random.randrange(1, 3000)
            offset = str(days * DAY)
            await self.cluster.kill([name])
            self.cluster.nodes[name].prefix = (
                "unshare", "--time", "--monotonic", offset, "--boottime", offset,
            )  # fmt: skip
            await self.cluster.start_all([name])
            offsets.append(f"{name} +{days} days")
        return ", ".join(offsets)

    async def end(self) -> None:
        """See :class:`Fault`."""


class _Failing(Fault):
    """Faults of a disk, of which a node rightly ends."""

    TOUCHES = "nodes"

    async def choose(self) -> list[str]:
        """One node, or a minority, or all of them now and then; they may end from now on."""
        chosen = self.random.choice(([await self.scene.one()], self.scene.minority(), self.cluster.names))
        for name in chosen:
            self.cluster.nodes[name].may_end = True
        self.chosen = chosen
        return chosen

    async def recover(self) -> int:
        """Starts again those that ended, and notes what they said; how many."""
        ended = []
        for name in self.chosen:
            said = await self.cluster.clear_away(name)
            if said is not None:
                ended.append(name)
                self.scene.notes.append(f"{self.NAME}: {said}")
                if STORE_FAILED not in said:
                    raise Broken(f"{self.NAME}: not said clearly: {said}")
        await self.cluster.start_all(ended)
        return len(ended)


@fault
class DiskFull(_Failing):
    """Nodes' disks are full for a while."""

    NAME = "disk-full"
    STORE = SMALL
    SECONDS = (3.0, 8.0)

    async def begin(self) -> str:
        """See :class:`Fault`."""
        chosen = await self.choose()
        for name in chosen:
            await trio.to_thread.run_sync(self.scene.disks[name].fill)
        return ", ".join(chosen)

    async def end(self) -> None:
        """See :class:`Fault`."""
        for name in self.chosen:
            self.scene.disks[name].free()
        # One that was refused room at the last moment is still to end.
        await trio.sleep(1.0)
        if not await self.recover():
            self.scene.notes.append(f"{self.NAME}: {', '.join(self.chosen)} went on")


@fault
class SlowSync(Fault):
    """Syncs of one node, or of all, take half a second."""

    NAME = "slow-sync"
    TOUCHES = "nodes"
    STORE = SLOW
    SECONDS = (4.0, 10.0)
    SYNC_SECONDS: ClassVar = (0.1, 0.25, 0.5)

    async def begin(self) -> str:
        """See :class:`Fault`."""
        self._names = self.cluster.names if self.random.randrange(2) else [await self.scene.one()]
        seconds = self.random.choice(self.SYNC_SECONDS)
        for name in self._names:
            await self.scene.disks[name].say(f"slow {seconds}")
        return f"{', '.join(self._names)}: {seconds} s"

    async def end(self) -> None:
        """See :class:`Fault`."""
        for name in self._names:
            await self.scene.disks[name].say("well")


@fault
class FailingSync(_Failing):
    """Syncs of nodes fail, which each must end of: what it would say afterwards is not safe."""

    NAME = "failing-sync"
    STORE = SLOW
    SECONDS = (1.0, 5.0)

    async def begin(self) -> str:
        """See :class:`Fault`."""
        chosen = await self.choose()
        self._before = {name: self.scene.disks[name].failed for name in chosen}
        for name in chosen:
            await self.scene.disks[name].say("fail")
        return ", ".join(chosen)

    async def end(self) -> None:
        """See :class:`Fault`."""
        failed = [name for name in self.chosen if self.scene.disks[name].failed > self._before[name]]
        for name in failed:
            await self._must_end(name)
        for name in self.chosen:
            await self.scene.disks[name].say("well")
        await self.recover()

    async def _must_end(self, name: str) -> None:
        process = self.cluster.nodes[name].process
        if process is None:
            return
        with trio.move_on_after(END_SECONDS) as scope:
            await process.wait()
        if scope.cancelled_caught:
            raise Broken(f"{name} goes on although a sync failed")


@fault
class Damage(Fault):
    """A bit of a stopped node's log or tables is flipped: it must refuse to serve, or serve what is right. It
    is the last fault of a cluster, since a node that refuses is missing for good."""

    NAME = "damage"
    TOUCHES = "nodes"
    IS_LAST = True
    SECONDS = (4.0, 6.0)

    async def begin(self) -> str:
        """See :class:`Fault`."""
        self._name = await self.scene.one()
        await self.cluster.kill([self._name])
        path = self._chosen()
        bit = _flip(path, self.random.random(), 1 << self.random.randrange(8))
        self.cluster.nodes[self._name].may_end = True
        await self.cluster.start(self._name)
        return f"{self._name}: bit of byte {bit} in {path.name}"

    async def end(self) -> None:
        """See :class:`Fault`. It may also come upon the damage later."""
        try:
            await self.cluster.wait_until_ready(self._name)
        except Broken:
            said = await self.cluster.clear_away(self._name)
            if said is None:
                raise
            self.cluster.lost.add(self._name)
            if "damaged" not in said:
                raise Broken(f"a damaged node does not say so: {said}") from None
            self.scene.notes.append(f"damage: {said}")
        else:
            self.scene.notes.append(f"damage: {self._name} serves")

    def _chosen(self) -> Path:
        """A log, or a table if there is one."""
        directory = self.cluster.nodes[self._name].data / "rocks"
        kinds = [sorted(path for path in directory.glob(f"*{suffix}") if path.stat().st_size)
                 for suffix in (".log", ".sst")]  # fmt: skip
        return self.random.choice(self.random.choice([paths for paths in kinds if paths]))


def _flip(path: Path, place: float, bit: int) -> int:
    data = bytearray(path.read_bytes())
    at = int(place * len(data.rstrip(b"\0")))
    data[at] ^= bit
    path.write_bytes(data)
    return at
