"""Calls in a closed loop and at a rate, on operations that stand in for a server."""

from __future__ import annotations

import time

import pytest
import trio

from bench.runs.alarm import Alarm
from bench.runs.loops import Seen, drive
from bench.runs.recording import LoadFailed
from primitives.errors import Unavailable

RATE = 200.0


class Stalling:
    """Answers at once, but not at all for a while that begins some time after the first call."""

    def __init__(self, after: float, seconds: float) -> None:
        self._after, self._seconds = after, seconds
        self._first: float | None = None
        self.met = 0
        """Calls that came meanwhile."""

    async def answer(self) -> None:
        await trio.lowlevel.checkpoint()
        now = time.perf_counter()
        self._first = self._first if self._first is not None else now
        begin = self._first + self._after
        if begin <= now < begin + self._seconds:
            self.met += 1
            await trio.sleep(begin + self._seconds - now)


def slow(seen: Seen, seconds: float) -> int:
    return sum(latency >= seconds for latency in seen.latencies.seconds)


async def linger() -> None:
    await trio.sleep(0.3)


@pytest.mark.parametrize("callers", [2, 64])
async def test_at_a_rate_a_stall_shows_in_the_latency_of_every_call_that_was_due(callers: int) -> None:
    server = Stalling(after=0.1, seconds=0.2)
    seen = await drive([server.answer] * callers, RATE, 0.5)
    assert len(seen.latencies) == 100, "each call that was due was made"
    # Those that were due in the first half of the stall wait for all of the second, begun or not.
    assert slow(seen, 0.1) >= 18
    assert seen.load().p90_ms >= 50


async def test_in_a_closed_loop_the_same_stall_meets_each_caller_once() -> None:
    server = Stalling(after=0.1, seconds=0.2)
    seen = await drive([server.answer] * 2, None, 0.5)
    assert server.met == 2
    assert slow(seen, 0.1) >= 2


async def test_at_a_rate_calls_begin_whether_earlier_ones_are_answered_or_not() -> None:
    begun, all_begun = 0, trio.Event()

    async def wait_for_the_others() -> None:
        nonlocal begun
        begun += 1
        if begun == 20:
            all_begun.set()
        await all_begun.wait()

    with trio.fail_after(20):
        seen = await drive([wait_for_the_others] * 20, RATE, 0.1)
    assert len(seen.latencies) == 20


async def test_at_a_rate_no_call_begins_before_it_is_due() -> None:
    moments: list[float] = []

    async def note() -> None:
        moments.append(time.perf_counter())
        await trio.lowlevel.checkpoint()

    before = time.perf_counter()
    await drive([note] * 4, RATE, 0.1)
    assert len(moments) == 20
    assert all(moment >= before + number / RATE for number, moment in enumerate(moments))


async def test_calls_that_nobody_came_to_are_given_up_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.runs.recording.LATE_SECONDS", 0.0)
    seen = await drive([linger], 100.0, 0.2)
    assert (len(seen.latencies), seen.given_up) == (1, 19)
    assert seen.load().extra == {"given_up_calls": 19.0}


@pytest.mark.parametrize("rate", [None, RATE])
async def test_calls_that_fail_are_counted_and_are_no_operations(rate: float | None) -> None:
    count = 0

    async def fail_at_times() -> None:
        nonlocal count
        count += 1
        await trio.sleep(0.001)
        if count % 2:
            raise Unavailable("no node is in reach")

    seen = await drive([fail_at_times], rate, 0.1)
    load = seen.load()
    assert load.operations == count // 2
    assert load.errors == count - count // 2


async def test_a_load_of_which_nothing_was_answered_says_the_last_error() -> None:
    async def fail() -> None:
        await trio.sleep(0.01)
        raise Unavailable("no node is in reach")

    seen = await drive([fail], None, 0.05)
    with pytest.raises(LoadFailed, match="no call was answered; the last error: no node is in reach"):
        seen.load()


@pytest.mark.parametrize("rate", [None, 50.0])
async def test_calls_under_way_at_the_end_are_waited_for(rate: float | None) -> None:
    seen = await drive([linger], rate, 0.01)
    assert len(seen.latencies) == 1
    assert seen.seconds >= 0.3


async def test_an_alarm_goes_off_at_its_moment_and_may_be_set_again() -> None:
    alarm = Alarm()
    try:
        for _ in range(3):
            moment = time.perf_counter() + 0.0123
            assert alarm.arm(moment)
            with trio.fail_after(5):
                await trio.lowlevel.wait_readable(alarm.fileno())
            assert time.perf_counter() >= moment
            alarm.clear()
        assert not alarm.arm(time.perf_counter() - 0.001), "what has passed is not waited for"
    finally:
        alarm.close()
