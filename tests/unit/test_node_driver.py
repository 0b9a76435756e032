"""The engine's driver: rounds when something came or time is up, and every effect carried out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing

import pytest
import trio
import trio.testing

from primitives.ids import NodeId
from router.readiness import Readiness
from shards.driver import HOLD_MS, Doorbell, Driver
from shards.ports import Effects, StoreFailed


class FakeEngine:
    """Gives out prepared effects, then idles."""

    def __init__(self) -> None:
        self.rounds: list[float] = []
        self.effects: list[Effects] = []
        self.first: list[Effects] = []
        """Given out before a round's other effects."""
        self.between: Callable[[], object] = lambda: None
        """What a round does behind them."""
        self.synced: list[int] = []
        self.ready = False
        self.idle_ms = 1000
        self.error: BaseException | None = None

    def round(self, send: Callable[[Effects], object]) -> Effects:
        self.rounds.append(trio.current_time())
        if self.error is not None:
            raise self.error
        if self.first:
            send(self.first.pop(0))
            self.between()
        return self.effects.pop(0) if self.effects else Effects(wake_in_ms=self.idle_ms)

    def sync_done(self, round_number: int) -> None:
        self.synced.append(round_number)


class Said:
    """Everything that was carried out, in order."""

    def __init__(self) -> None:
        self.all: list[tuple[object, ...]] = []

    def begin(self) -> None:
        self.all.append(("begin",))

    def request(self, round_number: int) -> None:
        self.all.append(("sync", round_number))


class FakePeers:
    def __init__(self, said: Said) -> None:
        self.said = said

    def send(self, name: str, sections: Sequence[tuple[int, bytes]]) -> None:
        self.said.all.append(("peer", name, *sections))

    def drop(self, name: str, reason: str) -> None:
        self.said.all.append(("drop", name, reason))


class FakeClients:
    def __init__(self, said: Said) -> None:
        self.said = said

    def send(self, connection: int, frames: Sequence[bytes]) -> None:
        self.said.all.append(("client", connection, *frames))

    def finish(self, connection: int) -> None:
        self.said.all.append(("finish", connection))


class Rig:
    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.said = Said()
        self.readiness = Readiness()
        self.bell = Doorbell(self.readiness)
        self.readies = 0
        names = {NodeId(1): "a", NodeId(2): "b"}
        self.driver = Driver(
            self.engine, self.bell, FakePeers(self.said), FakeClients(self.said), names, self._ready
        )

    def _ready(self) -> None:
        self.readies += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Rig]:
        with closing(self.readiness):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.driver.run, self.said)
                await trio.testing.wait_all_tasks_blocked()
                yield self
                nursery.cancel_scope.cancel()


async def test_every_effect_is_carried_out(autojump_clock: trio.testing.MockClock) -> None:
    rig = Rig()
    rig.engine.effects.append(Effects(
        peers={NodeId(2): [(1, b"x")]}, clients={7: [b"f", b"g"]}, close=[7],
        bad_peers=[(NodeId(1), "garbage")], sync_round=5,
    ))  # fmt: skip
    async with rig.running():
        assert rig.said.all == [
            ("peer", "b", (1, b"x")), ("sync", 5), ("client", 7, b"f", b"g"), ("finish", 7),
            ("drop", "a", "garbage"),
        ]  # fmt: skip


async def test_what_peers_and_the_disk_wait_for_is_carried_out_while_the_round_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    rig = Rig()
    rig.engine.first.append(Effects(peers={NodeId(2): [(1, b"x")]}, sync_round=5))
    rig.engine.effects.append(Effects(clients={7: [b"f"]}, sync_round=6))
    rig.engine.between = lambda: rig.said.all.append(("applied",))
    async with rig.running():
        assert rig.said.all == [
            ("peer", "b", (1, b"x")), ("sync", 5), ("applied",), ("sync", 6), ("client", 7, b"f"),
        ]  # fmt: skip


async def test_a_ring_brings_one_round_however_often_it_rings(autojump_clock: trio.testing.MockClock) -> None:
    async with Rig().running() as rig:
        before = len(rig.engine.rounds)
        for _ in range(100):
            rig.bell.ring()
        await trio.testing.wait_all_tasks_blocked()
        assert len(rig.engine.rounds) == before + 1


async def test_a_ring_during_a_round_is_not_lost(autojump_clock: trio.testing.MockClock) -> None:
    async with Rig().running() as rig:
        before = len(rig.engine.rounds)
        rig.engine.effects.append(Effects(wake_in_ms=0))
        rig.bell.ring()
        await trio.testing.wait_all_tasks_blocked()
        assert len(rig.engine.rounds) == before + 2


@pytest.mark.parametrize("waits_ms", [[50, 50, 50], [1000, 5, 50], [5, 1000, 5]])
async def test_rounds_come_no_later_than_asked(
    waits_ms: list[int], autojump_clock: trio.testing.MockClock
) -> None:
    rig = Rig()
    rig.engine.effects += [Effects(wake_in_ms=wait_ms) for wait_ms in waits_ms]
    async with rig.running():
        await trio.sleep(3)
    rounds = rig.engine.rounds
    for at, wait_ms in enumerate(waits_ms):
        assert rounds[at + 1] - rounds[at] <= wait_ms / 1000 + 1e-6


async def test_an_earlier_deadline_after_a_ring_is_kept(autojump_clock: trio.testing.MockClock) -> None:
    async with Rig().running() as rig:
        await trio.sleep(0.5)
        rig.engine.effects.append(Effects(wake_in_ms=5))
        rig.bell.ring()
        await trio.testing.wait_all_tasks_blocked()
        last = rig.engine.rounds[-1]
        await trio.sleep(0.1)
        assert any(0 < at - last <= 0.0051 for at in rig.engine.rounds)


async def test_an_engine_that_always_has_more_to_do_lets_others_run() -> None:
    rig = Rig()
    rig.engine.idle_ms = 0
    with trio.fail_after(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.driver.run, rig.said)
            for _ in range(10):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert len(rig.engine.rounds) > 3


async def test_a_done_sync_reaches_the_engine_and_brings_a_round(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with Rig().running() as rig:
        before = len(rig.engine.rounds)
        rig.driver.synced(9)
        await trio.testing.wait_all_tasks_blocked()
        assert rig.engine.synced == [9]
        assert len(rig.engine.rounds) == before + 1


async def test_a_failed_sync_stops_the_driver_before_another_round(
    autojump_clock: trio.testing.MockClock,
) -> None:
    rig = Rig()
    with pytest.RaisesGroup(StoreFailed, flatten_subgroups=True):
        async with rig.running():
            before = len(rig.engine.rounds)
            rig.driver.failed(StoreFailed("input/output error"))
            await trio.sleep(10)
    assert len(rig.engine.rounds) == before


async def test_an_error_of_the_engine_stops_the_driver() -> None:
    rig = Rig()
    rig.engine.error = StoreFailed("no space")
    with pytest.RaisesGroup(StoreFailed, flatten_subgroups=True):
        async with rig.running():
            await trio.sleep(10)


async def test_readiness_is_told_once(autojump_clock: trio.testing.MockClock) -> None:
    async with Rig().running() as rig:
        assert rig.readies == 0
        rig.engine.ready = True
        for _ in range(3):
            rig.bell.ring()
            await trio.testing.wait_all_tasks_blocked()
        assert rig.readies == 1


async def test_while_a_sync_is_under_way_rings_wait_for_its_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with Rig().running() as rig:
        rig.engine.effects.append(Effects(sync_round=3))
        rig.bell.ring()
        await trio.testing.wait_all_tasks_blocked()
        before = len(rig.engine.rounds)
        rig.bell.ring()
        await trio.testing.wait_all_tasks_blocked()
        assert len(rig.engine.rounds) == before
        rig.readiness.run_sync_soon(rig.driver.synced, 3)
        await trio.testing.wait_all_tasks_blocked()
        assert len(rig.engine.rounds) == before + 1
        rig.bell.ring()
        await trio.testing.wait_all_tasks_blocked()
        assert len(rig.engine.rounds) == before + 2


async def test_a_slow_sync_holds_a_round_back_for_a_bounded_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with Rig().running() as rig:
        rig.engine.effects.append(Effects(sync_round=3))
        rig.bell.ring()
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await trio.sleep(0.1)
        between = [at - began for at in rig.engine.rounds if at > began]
        assert HOLD_MS / 1000 <= between[0] <= HOLD_MS / 1000 + 1e-6
