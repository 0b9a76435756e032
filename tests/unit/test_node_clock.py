"""The node's clock: what it counts with must run on while the machine sleeps."""

from __future__ import annotations

import time

import pytest

from shards.clock import SystemClock


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="this system has no such clock")
def test_a_nodes_clock_runs_on_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    asleep_ns = 3_600_000_000_000
    read = time.clock_gettime_ns

    def after_a_sleep(clock: int) -> int:
        return read(clock) + (asleep_ns if clock == time.CLOCK_BOOTTIME else 0)

    clock = SystemClock()
    before_ms = clock.monotonic_ms()
    monkeypatch.setattr(time, "clock_gettime_ns", after_a_sleep)
    assert 3_600_000 <= clock.monotonic_ms() - before_ms < 3_601_000 + 60_000


def test_a_nodes_clock_never_goes_back() -> None:
    clock = SystemClock()
    told = [clock.monotonic_ms() for _ in range(1000)]
    assert told == sorted(told)
