"""Bursts amid everything at once: lost sessions, leaders, connections and answers, watches that lag, callers
that give up, answers too large. What is told is what took effect, and each call is told once."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
from router_driver import Driver
from router_model import ModelCluster, RandomFaults
from test_burst_sessions import REFUSALS, Records
from test_router_watches import pinned_map

from primitives.codec import decode_value, encode_key, encode_value
from primitives.errors import SessionLost
from primitives.ids import GroupId
from primitives.mapops import Ask, Op
from primitives.records import Expire, encode_expire
from router.session_calls import Call
from router.session_settings import SessionSettings

SEEDS = 12
NUMBER, TEXT = encode_key("number"), encode_key("text")
BITS = 60
PREVIOUS = 8


class Disorder:
    """One run."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.cluster = ModelCluster(nodes=3, groups=1)
        self.faults = self.cluster.fault = RandomFaults(
            seed, 0.08, ("refused", "lost_before", "lost_after", "silent")
        )
        self.cluster.forwards = seed % 2 == 0
        self.driver = Driver(
            self.cluster, seed=seed, addresses=("node1:1", "node2:1"), delay_ms=(1, 15),
            settings=SessionSettings(window=self.random.choice((4, 20, 512))),
        )  # fmt: skip
        self.records = Records(self.cluster)
        self.records.refuse = self._refusal
        self.ref = pinned_map("m")
        self.adds: list[Call] = []
        self.puts: list[Call] = []
        self.cancelled: set[Call] = set()

    def _refusal(self, record: bytes) -> bytes | None:
        if self.faults.on and self.random.random() < 0.06:
            return self.random.choice(list(REFUSALS.values()))
        return None

    def run(self) -> None:
        driver = self.driver
        self.faults.on = False
        driver.wait(driver.command(self.ref, Op.PUT, [TEXT], encode_value(b""), key=TEXT))
        self.faults.on = True
        made = driver.core.watches.begin(driver.now_ms, self.ref)
        driver.at(1, self._call)
        driver.at(30, self._disturb)
        driver.at(4000, self._heal)

        def done() -> bool:
            while driver.core.watches.pop(made) is not None:
                pass
            return len(self.adds) == BITS and not self.faults.on and all(
                call.done for call in (*self.adds, *self.puts)
            )

        driver.run(done, 120_000)
        assert made.error is None
        self._judge()

    def _call(self) -> None:
        """Some calls at once."""
        driver = self.driver
        for _ in range(self.random.choice((1, 4, 12))):
            if len(self.adds) < BITS:
                self.adds.append(
                    driver.command(self.ref, Op.INCREMENT, [NUMBER, 1 << len(self.adds)], key=NUMBER)
                )
        for _ in range(self.random.choice((0, 3, 9))):
            value = encode_value(len(self.puts).to_bytes(2, "big") * self.random.choice((3, 4000)))
            self.puts.append(driver.command(self.ref, Op.PUT, [TEXT, 0, PREVIOUS, 0], value, key=TEXT))
        under_way = [call for call in (*self.adds, *self.puts) if not call.done]
        if under_way and self.random.random() < 0.3:
            for call in self.random.sample(under_way, min(3, len(under_way))):
                self.cancelled.add(call)
                driver.core.cancel(driver.now_ms, call)
        if len(self.adds) < BITS:
            driver.at(self.random.choice((0, 5, 60, 300)), self._call)

    def _disturb(self) -> None:
        if not self.faults.on:
            return
        group = self.cluster.groups[GroupId(1)]
        node = self.random.randrange(1, 4)
        what: Callable[[], object] = self.random.choice((
            lambda: self.driver.cut(node), self.driver.cut, lambda: self.cluster.lead(1, node),
            lambda: self.cluster.lag(1, node), lambda: self.cluster.lag(1, node, False), self._expire,
        ))
        if group.leader not in group.lagging or what is not self._expire:
            what()
        group.lagging.discard(group.leader)
        self.driver.at(self.random.randrange(10, 400), self._disturb)

    def _expire(self) -> None:
        group = self.cluster.groups[GroupId(1)]
        for session in list(group.applier.sessions):
            record = encode_expire(Expire(session.session_id, session.number))
            self.cluster._apply(group, record, None)

    def _heal(self) -> None:
        self.faults.on = False
        for node in (1, 2, 3):
            self.cluster.lag(1, node, False)
        self.cluster.lead(1, 1 + self.random.randrange(3))

    def _judge(self) -> None:
        """A doubled increment, or one that was told and is missing, would show in other bits."""
        told = Counter(self.driver.outcomes)
        for call in (*self.adds, *self.puts):
            assert told[call] == (call not in self.cancelled)
            assert call.error is None or isinstance(call.error, SessionLost), call.error
        (answer,) = self.driver.wait(self.driver.query(self.ref, Ask.GET, [NUMBER], key=NUMBER))
        assert answer is not None
        open_ = surely = 0
        for at, call in enumerate(self.adds):
            if call in self.cancelled or call.error is not None:
                open_ |= 1 << at
            else:
                surely |= 1 << at
        rest = decode_value(answer.result[24:]) - surely
        assert rest >= 0 and not rest & ~open_
        revisions = [call.answer.revision for call in self.adds if call.answer and not call.error]
        assert revisions == sorted(set(revisions))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_is_told_is_what_took_effect_amid_everything(seed: int) -> None:
    run = Disorder(seed)
    run.run()
    assert max(run.records.sizes) > 2
