"""Real nodes and clients on trio over simulated streams: faults, then progress, and nothing left.

The second half plants bugs in what surrounds engine and session core, and demands that the tier notices them.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import trio

from bench.streams.__main__ import main
from bench.streams.run import Setting, run_seed
from bench.streams.schedule import TrioHeap, run_decided
from bench.world.clock import Seed
from bench.world.run import VIOLATIONS
from bench.world.target import Fault
from primitives.errors import InvariantViolation
from router.link import Link
from router.session import SessionCore
from router.session_lanes import Lane
from shards.driver import Driver
from shards.mux import Mux
from shards.peerlink import PeerLink
from tests.simulation.noticing import first_said

SEEDS = 16


def test_every_seed_holds_and_leaves_neither_task_nor_connection() -> None:
    calls = 0
    for seed in range(SEEDS):
        try:
            calls += run_seed(seed).calls
        except VIOLATIONS as violation:
            pytest.fail(f"python -m bench.streams --seed {seed}: {type(violation).__name__}: {violation}")
    assert calls > 100 * SEEDS


def test_same_seed_gives_the_same_trace_to_the_byte() -> None:
    for seed in (2, 6):
        one, other = run_seed(seed), run_seed(seed)
        assert one.trace.count > 1000
        assert one.trace.digest() == other.trace.digest()


def test_trace_is_the_same_in_every_process_whatever_the_hashes_of_strings() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-m", "bench.streams", "--seed", "4"], env={"PYTHONHASHSEED": hashes},
            check=True, stdout=subprocess.PIPE, text=True,
        ).stdout.partition(", trace ")[2].partition(",")[0]
        for hashes in ("1", "77")
    }  # fmt: skip
    assert [len(digest) for digest in digests] == [32]


@pytest.mark.parametrize(("words", "said"), [
    (["--nodes", "0", "--replicas", "0"], "--nodes is from 1"),
    (["--nodes", "3", "--replicas", "5"], "5 replicas do not fit on 3 nodes"),
])  # fmt: skip
def test_numbers_that_cannot_be_meant_are_refused_in_one_line(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["streams", "--seed", "1", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {said}\n")


VANISHING = (Fault(2500, "client", 0, {"pick": 1, "how": "die", "length_ms": 300}),)
"""A client's machine goes, and nobody is told."""


def test_a_client_whose_machine_vanished_without_a_word_is_given_up() -> None:
    assert run_seed(1, Setting(groups=1, fault_ms=3000), plan=VANISHING).ended_ms > 40_000


def test_tasks_and_deadlines_of_one_moment_take_turns_as_the_seed_says() -> None:
    def order(number: int) -> list[int]:
        heap, seen = TrioHeap(), list[int]()

        async def sleep(mark: int) -> None:
            with trio.move_on_after(1):
                await trio.sleep(1)
            seen.append(mark)

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                for mark in range(12):
                    nursery.start_soon(sleep, mark)

        run_decided(Seed(number).stream("schedule"), heap, main)
        return seen

    assert order(1) == order(1)
    assert len({tuple(order(number)) for number in range(6)}) > 3


# --- Planted bugs ---------------------------------------------------------------------------------------


def noticed(setting: Setting, count: int = 20) -> str:
    """What the first violation says."""
    return first_said(lambda seed: run_seed(seed, setting), range(count))


SHORT = Setting(groups=1, fault_ms=3000, heal_ms=20_000)


def test_planted_loss_of_what_a_socket_did_not_take_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    write = Link._write

    def forgetful(self: Link, parts: list[memoryview]) -> int:
        return sum(len(part) for part in parts) if write(self, parts) else 0

    monkeypatch.setattr(Link, "_write", forgetful)
    noticed(SHORT)


def test_planted_sync_that_rings_for_nobody_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Driver, "synced", lambda self, number: self._engine.sync_done(number))
    assert "wait for something" in noticed(SHORT)


def test_planted_client_that_sends_nothing_again_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lane, "rewind", lambda self: None)
    assert "no progress" in noticed(SHORT)


def test_planted_cancellation_that_calls_nothing_off_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SessionCore, "cancel", lambda self, now_ms, call: None)
    noticed(replace(SHORT, workloads=("lock",), faults=("reset",)))


def test_planted_dialler_that_dials_once_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    dial = Mux._dial

    async def once(self: Mux, name: str, purpose: int) -> bool:
        if await dial(self, name, purpose):
            await trio.sleep_forever()
        return False

    monkeypatch.setattr(Mux, "_dial", once)
    assert "no progress" in noticed(SHORT)


def test_planted_end_of_a_connection_that_closes_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(self: Link) -> None:
        self._lose("closed")

    monkeypatch.setattr(Link, "close", forgetful)
    assert "left open" in noticed(SHORT)


def test_planted_server_that_asks_for_no_keepalives_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shards.server._KEEPALIVE", ())
    with pytest.raises(InvariantViolation, match="no connection of clients is left"):
        run_seed(1, Setting(groups=1, fault_ms=3000), plan=VANISHING)


def test_planted_deafness_to_silence_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PeerLink, "beat", lambda self, silent_beats_max: None)
    assert "no progress" in noticed(replace(SHORT, faults=("silence",)))
