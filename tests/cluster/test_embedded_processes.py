"""Embedded nodes in processes that are killed, or that find their directory taken."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

import quorate
from tests.devprocess import environment

pytestmark = pytest.mark.cluster

WRITER = """
import sys, trio, quorate

async def main():
    async with quorate.embedded(sys.argv[1], session_timeout=1) as client:
        grant = await client.lock("held").acquire()
        numbers = client.map("numbers")
        print("begun", await client.counter("visits").get(), flush=True)
        while True:
            visits = await client.counter("visits").increment()
            await numbers.put(visits, visits * visits)
            print(visits, flush=True)

trio.run(main)
"""
KILLS = 5


class Writer:
    """A process that counts in its embedded directory, and says each number once it is acknowledged."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WRITER, str(directory)], stdout=subprocess.PIPE, text=True,
            env=environment(),
        )  # fmt: skip
        assert self.process.stdout is not None
        self.lines = self.process.stdout
        begun = self.lines.readline().split()
        assert begun[:1] == ["begun"]
        self.found = int(begun[1])

    def kill_after(self, seconds: float) -> list[int]:
        """Kills it with -9; the numbers that it said."""
        time.sleep(seconds)
        self.process.kill()
        said = [line for line in self.lines.read().splitlines(keepends=True) if line.endswith("\n")]
        self.process.wait()
        self.lines.close()
        return [int(line) for line in said]


async def test_what_was_acknowledged_survives_each_kill(tmp_path: Path) -> None:
    said: list[int] = []
    for _ in range(KILLS):
        writer = Writer(tmp_path)
        # The last increment, and its put, may have been made and not said.
        assert 0 <= writer.found - (said[-1] if said else 0) <= KILLS
        said += writer.kill_after(random.uniform(0.05, 0.5))
    assert said == sorted(set(said))
    async with quorate.embedded(tmp_path, session_timeout=1) as client:
        assert said[-1] <= await client.counter("visits").get() <= len(said) + KILLS
        assert await client.map("numbers").get_many(said) == {at: at * at for at in said}
        # What the killed holder held is free once its lease is over.
        with trio.fail_after(30):
            await client.lock("held").acquire()


async def test_a_directory_that_another_process_has_open_is_refused(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    try:
        with pytest.raises(quorate.DirectoryInUse, match=rf"in use by process {writer.process.pid}: "):
            async with quorate.embedded(tmp_path):
                raise AssertionError("opened twice")
    finally:
        writer.kill_after(0)
