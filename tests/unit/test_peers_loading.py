"""What loads on peers share: callers on asyncio and threads, watchers, servers that are killed."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

from bench.peers.fanout import Board
from bench.peers.loading import Keys, conclude, measure_async, measure_threads
from bench.peers.recovery import Side, measure_recovery
from bench.peers.serving import Servers
from bench.runs.recording import BEGUN, LoaderArguments, LoadFailed
from bench.runs.results import Load, Shape


class Refused(Exception):
    """What the client raises here."""


def asked(
    callers: int = 1, rate: float | None = None, seconds: float = 0.3, warm_up: float = 0.0
) -> LoaderArguments:
    shape = Shape(workload="write", callers=callers, rate=rate)
    return LoaderArguments(target="", shape=shape, seconds=seconds, warm_up=warm_up)


class Caller:
    """Answers after a while; every other call fails if that is asked for."""

    def __init__(self, seconds: float, fails: bool = False) -> None:
        self.seconds = seconds
        self.fails = fails
        self.calls = 0

    def _called(self) -> None:
        self.calls += 1
        if self.fails and self.calls % 2 == 0:
            raise Refused(f"call {self.calls}")

    async def on_asyncio(self) -> None:
        await asyncio.sleep(self.seconds)
        self._called()

    def on_a_thread(self) -> None:
        time.sleep(self.seconds)
        self._called()


def measured(kind: str, arguments: LoaderArguments, callers: list[Caller]) -> Load:
    if kind == "threads":
        return measure_threads(arguments, [one.on_a_thread for one in callers], (Refused,))
    return asyncio.run(measure_async(arguments, [one.on_asyncio for one in callers], (Refused,)))


KINDS = pytest.mark.parametrize("kind", ["asyncio", "threads"])


@KINDS
def test_answers_are_operations_and_failures_are_not(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    callers = [Caller(0.01, fails=True) for _ in range(3)]
    load = measured(kind, asked(callers=3), callers)
    assert load.operations == sum((one.calls + 1) // 2 for one in callers)
    assert load.errors == sum(one.calls // 2 for one in callers)
    assert load.p50_ms >= 10
    assert capsys.readouterr().out == f"{BEGUN}\n"


@KINDS
def test_the_warm_up_is_not_measured(kind: str) -> None:
    caller = Caller(0.01)
    load = measured(kind, asked(warm_up=0.3), [caller])
    assert load.operations < caller.calls


@KINDS
def test_at_a_rate_calls_that_wait_for_a_caller_count_from_when_they_were_due(kind: str) -> None:
    load = measured(kind, asked(rate=100, seconds=0.5), [Caller(0.02)])
    assert load.operations == 50
    assert load.longest_ms > 400  # The last was due after 0.49 s, and one caller takes 1 s for all.


@KINDS
def test_at_a_rate_calls_are_not_begun_before_they_are_due(kind: str) -> None:
    callers = [Caller(0.0) for _ in range(4)]
    load = measured(kind, asked(callers=4, rate=40, seconds=0.5), callers)
    assert load.operations == 20
    assert load.seconds > 0.47
    assert load.p50_ms < 100


@KINDS
def test_without_any_answer_there_is_no_figure(kind: str) -> None:
    class Never(Caller):
        def _called(self) -> None:
            raise Refused("go away")

    with pytest.raises(LoadFailed, match=r"no call was answered; \d+ failed, the last: Refused.'go away'."):
        measured(kind, asked(), [Never(0.01)])


@KINDS
def test_a_mistake_of_the_load_ends_it(kind: str) -> None:
    class Broken(Caller):
        def _called(self) -> None:
            raise KeyError("no such workload")

    with pytest.raises((KeyError, ExceptionGroup)):
        measured(kind, asked(), [Broken(0.0)])


def test_an_error_of_the_client_is_one_line_and_a_mistake_is_not() -> None:
    def group() -> Load:
        raise ExceptionGroup("several", [Refused("go\naway")])

    with pytest.raises(SystemExit, match=r"^etcd: Refused: go away$"):
        conclude("etcd", group, (Refused,))

    def mistake() -> Load:
        raise KeyError("x")

    with pytest.raises(KeyError):
        conclude("etcd", mistake, (Refused,))


def test_a_caller_draws_keys_that_there_are_and_a_tenth_of_writes() -> None:
    keys = Keys(Shape(workload="mixed", callers=1, keys=3), 7)
    assert {keys.name() for _ in range(100)} == {"key000000", "key000001", "key000002"}
    assert 700 < sum(keys.writes() for _ in range(10_000)) < 1300


def test_a_change_has_arrived_when_the_last_watcher_knows_it() -> None:
    async def main() -> None:
        board = Board(2)
        board.told(0)
        board.told(0)
        assert board.arrived == []
        board.told(1)
        assert len(board.arrived) == 1
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await board.until(2)
        asyncio.get_running_loop().call_later(0.02, board.told, 1)
        await board.until(2)
        with pytest.raises(LoadFailed, match="of 1 changes watchers were told more than once"):
            await board.until(1)

    asyncio.run(main())


class ServersThatSleep:
    """Three processes that do nothing; of the writes here, those fail that come while none leads."""

    def __init__(self, directory: Path) -> None:
        self.servers = Servers(directory, self.leads)
        for number in range(3):
            code = f"import time; time.sleep(60 + {number})"
            self.servers.start(f"n{number}", [sys.executable, "-c", code])
        self.servers.addresses = ["a", "b", "c"]
        self.servers.keep()
        self.killed = self.servers.pids[1]
        self.unserved = 3
        """Questions that the new process does not answer yet."""

    def leads(self, address: str) -> bool:
        if address == "a":
            raise ConnectionRefusedError
        return address == "b"

    def serves(self, address: str) -> bool:
        assert address == "b"
        self.unserved -= 1
        return self.unserved < 0

    async def put(self, number: int) -> None:
        if self.servers.pids[1] != self.killed and self.unserved >= 0:
            raise Refused
        await asyncio.sleep(0.001)


def test_the_gap_is_that_of_the_writes_and_a_killed_server_serves_again(tmp_path: Path) -> None:
    fake = ServersThatSleep(tmp_path)
    target, pids = "a,b,c", tuple(fake.servers.pids)
    shape = Shape(workload="recovery", callers=1)
    arguments = LoaderArguments(target=target, shape=shape, seconds=1.5, warm_up=0.1, pids=pids)
    try:
        side = Side(fake.put, fake.leads, fake.serves, (Refused,))
        load = asyncio.run(measure_recovery(arguments, side))
        assert fake.servers.pids[1] != pids[1]
        assert [fake.servers.pids[0], fake.servers.pids[2]] == [pids[0], pids[2]]
    finally:
        fake.servers.stop()
    assert load.errors > 0
    assert 0 < load.extra["gap_s"] < load.seconds
    assert 0 < load.extra["serving_s"] < load.seconds


def test_recovery_without_the_servers_processes_is_refused() -> None:
    shape = Shape(workload="recovery", callers=1)
    arguments = LoaderArguments(target="a,b,c", shape=shape, seconds=1.0, warm_up=0.0, pids=(1,))

    async def put(number: int) -> None:
        raise AssertionError

    side = Side(put, lambda address: True, lambda address: True, ())
    with pytest.raises(LoadFailed, match="recovery needs three servers with --pids, not 3 with 1"):
        asyncio.run(measure_recovery(arguments, side))
