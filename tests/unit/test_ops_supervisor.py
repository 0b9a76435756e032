"""Watched processes: started again when they end, stopped for certain when nobody wants them any more."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from ops.supervisor import Ended, Event, Program, Ready, Started, how_it_ended, stop, supervise

SERVES = "import sys, time; print('starting'); print('ready: here', flush=True); sys.stdin.read()"
REFUSES = "import sys; sys.exit(1)"
DEAF = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('ready: here', flush=True); time.sleep(60)"
)


def python(source: str) -> Program:
    return Program("n1", [sys.executable, "-c", source])


@asynccontextmanager
async def supervised(source: str, *, restart: bool) -> AsyncIterator[trio.MemoryReceiveChannel[Event]]:
    sending, receiving = trio.open_memory_channel[Event](10)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                await supervise(python(source), sending, restart=restart, pause_s=0.01)

            nursery.start_soon(run)
            yield receiving
            nursery.cancel_scope.cancel()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_process_that_is_killed_is_reported_and_started_again() -> None:
    async with supervised(SERVES, restart=True) as events:
        first = await events.receive()
        assert isinstance(first, Started)
        assert await events.receive() == Ready("n1", first.pid)
        os.kill(first.pid, signal.SIGKILL)
        assert await events.receive() == Ended("n1", first.pid, -signal.SIGKILL, True, 0.01)
        second = await events.receive()
        assert isinstance(second, Started)
        assert second.pid != first.pid


async def test_without_restart_it_stays_dead() -> None:
    async with supervised(SERVES, restart=False) as events:
        pid = (await events.receive()).pid
        await events.receive()
        os.kill(pid, signal.SIGKILL)
        assert await events.receive() == Ended("n1", pid, -signal.SIGKILL, True, None)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            events.receive_nowait()


async def test_pauses_grow_while_a_process_does_not_become_ready() -> None:
    async with supervised(REFUSES, restart=True) as events:
        pauses = []
        while len(pauses) < 3:
            event = await events.receive()
            if isinstance(event, Ended):
                assert (event.code, event.was_ready) == (1, False)
                pauses.append(event.pause_s)
        assert pauses == pytest.approx([0.02, 0.04, 0.08])


async def test_cancelling_ends_the_process() -> None:
    async with supervised(SERVES, restart=True) as events:
        pid = (await events.receive()).pid
        await events.receive()
    assert not alive(pid)


async def test_a_process_deaf_to_term_is_killed_after_the_grace() -> None:
    process = await trio.lowlevel.open_process(python(DEAF).command, stdout=-1)
    assert process.stdout is not None
    await process.stdout.receive_some()
    with trio.fail_after(10), trio.CancelScope() as scope:
        scope.cancel()
        await stop(process, grace_s=0.05)
    assert process.returncode == -signal.SIGKILL
    await process.stdout.aclose()


def test_endings_are_told_in_words() -> None:
    assert how_it_ended(3) == "exited with code 3"
    assert how_it_ended(-9) == "was killed by SIGKILL"
