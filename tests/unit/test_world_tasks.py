"""Callers on the event heap: cancelled where they wait, never resumed twice, gone with their process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import pytest

from bench.histories import TimeLimit
from bench.world.clock import Heap
from bench.world.tasks import CalledOff, Pause, SimGround, Task


class FreeProcess:
    """A process that never pauses."""

    def __init__(self, heap: Heap) -> None:
        self.heap = heap
        self.tasks: list[Task[Any]] = []

    def after(self, delay_ms: int, action: Callable[[], None]) -> None:
        self.heap.after(delay_ms, action)

    def track(self, task: Task[Any]) -> None:
        self.tasks.append(task)

    def at_once(self, action: Callable[[], None]) -> None:
        action()


def ground() -> tuple[Heap, FreeProcess, SimGround]:
    heap = Heap()
    process = FreeProcess(heap)
    return heap, process, SimGround(heap, Random(1), process)


def test_call_within_its_limit_gives_its_result_and_a_longer_one_is_called_off() -> None:
    heap, _, stands = ground()
    cleaned: list[int] = []

    async def slow(delay_ms: int) -> int:
        try:
            await stands.sleep_ms(delay_ms)
        except CalledOff:
            await stands.sleep_ms(7)
            cleaned.append(heap.now_ms)
            raise
        return delay_ms

    async def main() -> None:
        assert await stands.within(100, lambda: slow(40)) == 40
        with pytest.raises(TimeLimit):
            await stands.within(100, lambda: slow(400))

    ended: list[Task[None]] = []
    Task(main(), ended.append).start()
    heap.run_until(1000)
    assert [task.error for task in ended] == [None]
    assert cleaned == [147]


def test_dropped_task_never_goes_on() -> None:
    heap, _, stands = ground()
    went_on: list[bool] = []

    async def main() -> None:
        await stands.sleep_ms(5)
        went_on.append(True)

    task = Task(main(), lambda _: went_on.append(False))
    task.start()
    task.drop()
    heap.run_until(100)
    task.cancel()
    assert went_on == []


def test_pause_resumed_before_it_is_awaited_does_not_wait() -> None:
    async def main(pause: Pause) -> int:
        found: int = await pause
        return found

    pause = Pause()
    pause.resume(3)
    pause.resume(4)
    ended: list[int | None] = []
    Task(main(pause), lambda task: ended.append(task.result)).start()
    assert ended == [3]


def test_error_of_a_call_reaches_its_caller() -> None:
    heap, _, stands = ground()

    async def fails() -> None:
        await stands.sleep_ms(1)
        raise ValueError("as it is")

    async def main() -> str:
        try:
            await stands.within(10, fails)
        except ValueError as error:
            return str(error)
        return ""

    ended: list[str | None] = []
    Task(main(), lambda task: ended.append(task.result)).start()
    heap.run_until(100)
    assert ended == ["as it is"]


def test_calls_made_together_all_end_before_their_caller_goes_on() -> None:
    heap, process, stands = ground()
    ended: list[int] = []

    async def call(delay_ms: int) -> None:
        if delay_ms:
            await stands.sleep_ms(delay_ms)
        ended.append(delay_ms)

    async def main() -> int:
        await stands.together([partial(call, delay_ms) for delay_ms in (30, 0, 10, 20)])
        await stands.together([partial(call, 0)] * 2)
        return heap.now_ms

    told: list[Task[int]] = []
    Task(main(), told.append).start()
    heap.run_until(100)
    assert [task.result for task in told] == [30]
    assert ended == [0, 10, 20, 30, 0, 0]
    assert len(process.tasks) == 6


def test_calls_made_together_are_called_off_with_their_caller_and_pass_on_their_error() -> None:
    heap, _, stands = ground()
    gone: list[int] = []

    async def call(delay_ms: int) -> None:
        try:
            await stands.sleep_ms(delay_ms)
        except CalledOff:
            gone.append(delay_ms)
            raise
        if delay_ms == 5:
            raise ValueError("as it is")

    async def main() -> str:
        with pytest.raises(TimeLimit):
            await stands.within(50, lambda: stands.together([partial(call, ms) for ms in (10, 60, 70)]))
        try:
            await stands.together([partial(call, ms) for ms in (5, 9)])
        except ValueError as error:
            return f"{error} at {heap.now_ms}"
        return ""

    told: list[Task[str]] = []
    Task(main(), told.append).start()
    heap.run_until(200)
    assert [task.result for task in told] == ["as it is at 59"]
    assert gone == [60, 70]
