"""Simulated time is ordered, clocks never go back, and a seed's streams are independent and stable."""

from __future__ import annotations

from functools import partial

from bench.world.clock import PPM, Clock, Heap, Seed, Trace


def test_events_of_one_millisecond_happen_in_the_order_added() -> None:
    heap = Heap()
    happened: list[str] = []
    heap.at(5, lambda: happened.append("b"))

    def first() -> None:
        happened.append("a")
        heap.after(3, partial(happened.append, "d"))

    heap.at(2, first)
    heap.at(5, lambda: happened.append("c"))
    heap.run_until(5)
    assert happened == ["a", "b", "c", "d"]
    assert heap.now_ms == 5


def test_run_stops_as_soon_as_the_condition_holds() -> None:
    heap = Heap()
    seen: list[int] = []
    for at in range(10):
        heap.at(at, partial(seen.append, at))
    assert heap.run_until(9, lambda: len(seen) == 4)
    assert seen == [0, 1, 2, 3]


def test_clock_of_another_rate_never_goes_back_and_covers_a_delay() -> None:
    heap = Heap()
    clock = Clock(heap, start_ms=7)
    last = clock.monotonic_ms()
    for rate in (PPM, PPM + 5000, PPM - 5000, PPM // 2, PPM * 2):
        clock.set_rate(rate)
        assert clock.monotonic_ms() >= last
        before = clock.monotonic_ms()
        heap.run_until(heap.now_ms + clock.true_delay_ms(333))
        assert 333 <= clock.monotonic_ms() - before <= 336
        last = clock.monotonic_ms()


def test_streams_of_a_seed_are_the_same_each_time_and_differ_by_purpose() -> None:
    def draw(seed: int, purpose: str) -> int:
        return Seed(seed).stream(purpose).randrange(1 << 30)

    assert draw(1, "network") == draw(1, "network") != draw(1, "faults")
    assert draw(1, "network") != draw(2, "network")


def test_trace_digest_tells_every_line_and_its_time() -> None:
    def digest(*lines: tuple[int, str]) -> str:
        heap = Heap()
        trace = Trace(heap)
        for at, text in lines:
            heap.run_until(at)
            trace("n1", text)
        return trace.digest()

    assert digest((1, "a"), (2, "b")) == digest((1, "a"), (2, "b"))
    assert digest((1, "a"), (2, "b")) != digest((1, "a"), (3, "b"))
    assert digest((1, "a"), (2, "b")) != digest((1, "a"), (2, "c"))
