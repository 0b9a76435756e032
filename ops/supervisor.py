"""Child processes that are watched: started, started again when they end, and stopped in the end.

A supervised process says that it serves by a line that begins with ``ready:`` on its standard output. Its
standard input is a pipe from here that carries nothing: it closes when this process is gone, however it went,
so that a child that watches for that (``serve --until-eof``) never outlives it.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import trio

PAUSE_S: Final = 2.0
"""From the death of a process to its next start."""
PAUSE_MAX_S: Final = 30.0
"""The pause doubles up to this while a process does not even become ready."""
GRACE_S: Final = 5.0
"""From TERM to KILL."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, and what to call it."""

    name: str
    command: Sequence[str]


class Started(NamedTuple):
    """A process runs, but does not serve yet."""

    name: str
    pid: int


class Ready(NamedTuple):
    """The process said that it serves."""

    name: str
    pid: int


class Ended(NamedTuple):
    """The process ended by itself. It is started again after ``pause_s``, unless that is None."""

    name: str
    pid: int
    code: int
    """Exit code, or the negative number of the signal that killed it."""
    was_ready: bool
    pause_s: float | None


Event = Started | Ready | Ended


async def supervise(
    program: Program, events: trio.MemorySendChannel[Event], *, restart: bool, pause_s: float = PAUSE_S
) -> None:
    """Runs ``program`` until cancelled, again whenever it ends if ``restart``; tells ``events``.

    When cancelled, the process gets TERM, ``GRACE_S``, then KILL, and has ended when this returns.
    """
    pause = pause_s
    while True:
        # A process group of its own, so that what interrupts the terminal leaves it alone; no session of its
        # own, for the kernel may share the processors among sessions before it does among processes.
        process = await trio.lowlevel.open_process(
            program.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
        )
        was_ready = False
        try:
            await events.send(Started(program.name, process.pid))
            was_ready = await _until_silent(process, program.name, events)
            code = await process.wait()
        finally:
            await stop(process)
            await _close(process)
        pause = pause_s if was_ready else min(2 * pause, PAUSE_MAX_S)
        await events.send(Ended(program.name, process.pid, code, was_ready, pause if restart else None))
        if not restart:
            return
        await trio.sleep(pause)


async def _until_silent(process: trio.Process, name: str, events: trio.MemorySendChannel[Event]) -> bool:
    """Reads standard output to its end; whether a ``ready:`` line came."""
    if process.stdout is None:
        return False
    ready, line = False, b""
    async for chunk in process.stdout:
        if ready:
            continue
        *lines, line = (line + chunk)[-65536:].split(b"\n")
        if any(one.startswith(b"ready:") for one in lines):
            ready = True
            await events.send(Ready(name, process.pid))
    return ready


async def stop(process: trio.Process, *, grace_s: float = GRACE_S) -> None:
    """TERM, then KILL after ``grace_s``; returns when the process has ended, cancelled or not."""
    with trio.CancelScope(shield=True):
        if process.poll() is not None:
            return
        process.terminate()
        with trio.move_on_after(grace_s):
            await process.wait()
        if process.poll() is None:
            process.kill()
        await process.wait()


async def _close(process: trio.Process) -> None:
    with trio.CancelScope(shield=True):
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                await stream.aclose()


def how_it_ended(code: int) -> str:
    """An exit code or negative signal number in words."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
