"""A process whose tasks contend for one lock and write down what they believe to hold, for a test to judge.

    python -m tests.cluster.contender URL TASKS JOURNAL STORE

It runs until its standard input ends. Each line of the journal is one write of at most a page, so lines of
several processes do not mix:

    hold PID TASK TOKEN TIME        the lock is surely held at this time
    refused PID TASK TOKEN TIME     the fenced store refused a token that was surely held then
    free PID TASK TOKEN TIME        was held until then, and is let go now
    lost PID TASK                   the lease was lost, while waiting or while holding

Times are of CLOCK_BOOTTIME in nanoseconds, read before the grant is asked whether it is held.
"""

from __future__ import annotations

import fcntl
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import trio

import quorate

SESSION_SECONDS = 2.0
HOLD_SECONDS_MAX = 0.02


class FencedStore:
    """A file with the highest token that it was shown; it refuses lower ones."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def write(self, token: int) -> bool:
        """Whether the token is accepted."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            highest = int(os.pread(self._file, 20, 0) or b"0")
            if token < highest:
                return False
            os.pwrite(self._file, b"%020d" % token, 0)
            return True
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


def now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


async def hold(grant: quorate.Grant, store: FencedStore, tell: Callable[..., None]) -> None:
    """Holds the lock for a while; tells only of times at which it was held for sure."""
    end = trio.current_time() + random.random() * HOLD_SECONDS_MAX
    while True:
        accepted = store.write(grant.token)
        at = now()
        if grant.remaining() == 0:
            return
        tell("hold" if accepted else "refused", grant.token, at)
        if trio.current_time() >= end:
            tell("free", grant.token, at)
            return
        await trio.sleep(HOLD_SECONDS_MAX / 4)


async def contend(client: quorate.Client, task: int, journal: int, store: FencedStore) -> None:
    """Acquires, holds and releases, again and again."""

    def tell(word: str, *numbers: int) -> None:
        os.write(journal, f"{word} {os.getpid()} {task} {' '.join(map(str, numbers))}\n".encode())

    lock = client.lock("contended")
    while True:
        try:
            async with lock as grant:
                await hold(grant, store, tell)
        except quorate.SessionLost:
            tell("lost")


async def until_eof(scope: trio.CancelScope) -> None:
    await trio.to_thread.run_sync(sys.stdin.read)
    scope.cancel()


async def main(url: str, tasks: int, journal: Path, store: Path) -> None:
    lines = os.open(journal, os.O_WRONLY | os.O_APPEND)
    async with (
        quorate.connect(url, session_timeout=SESSION_SECONDS) as client,
        trio.open_nursery() as nursery,
    ):
        for task in range(tasks):
            nursery.start_soon(contend, client, task, lines, FencedStore(store))
        nursery.start_soon(until_eof, nursery.cancel_scope)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
