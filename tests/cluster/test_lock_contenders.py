"""Fifty contenders for one lock in five processes; the one that holds is killed with -9 again and again."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cluster.contender import SESSION_SECONDS, now
from tests.devprocess import environment
from tests.nodeprocess import NAMES, Cluster, a_cluster

pytestmark = pytest.mark.cluster
PROCESSES = 5
TASKS = 10
KILLS = 4
NODE_STOP_SECONDS = 1.4
SHORT_SECONDS = 0.8
LONG_SECONDS = SESSION_SECONDS + 0.5
"""For processes of contenders: a session outlasts the one and not the other."""
PATIENCE_SECONDS = 60.0


class Line(NamedTuple):
    """Of the journal; ``token`` and ``at`` are 0 where the lock is lost."""

    word: str
    pid: int
    task: int
    token: int = 0
    at: int = 0


class Contenders:
    """The processes, and what they tell in the journal that they share."""

    def __init__(self, directory: Path, url: str) -> None:
        self._journal = directory / "journal"
        self._journal.touch()
        self._command = [
            sys.executable, "-m", "tests.cluster.contender", url, str(TASKS), str(self._journal),
            str(directory / "store"),
        ]  # fmt: skip
        self._tail = self._journal.open("rb")
        self._errors = (directory / "errors").open("w+")
        self._part = b""
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.lines: list[Line] = []
        self.killed: dict[int, int] = {}
        """When each process that was killed was still alive, by pid."""

    def start(self) -> None:
        process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stderr=self._errors, env=environment()
        )
        self.processes[process.pid] = process

    def read(self) -> list[Line]:
        """What is new in the journal."""
        *whole, self._part = (self._part + self._tail.read()).split(b"\n")
        new = []
        for line in whole:
            word, *numbers = line.decode().split()
            new.append(Line(word, *map(int, numbers)))
        self.lines += new
        return new

    def wait(self, until: Callable[[Line], bool]) -> Line:
        """The next line of which that is true. All processes must go on."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            for line in self.read():
                if until(line):
                    return line
            for process in self.processes.values():
                assert process.poll() is None, self.errors()
            time.sleep(0.001)
        raise AssertionError(f"the lock stands still since {self.lines[-5:]}")

    def kill(self, pid: int) -> None:
        process = self.processes.pop(pid)
        assert process.poll() is None, self.errors()
        self.killed[pid] = now()
        process.kill()
        self._reap(process)

    def pause(self, pid: int, seconds: float) -> None:
        """The process stands still for a while, whatever it was about to do."""
        process = self.processes[pid]
        process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.send_signal(signal.SIGCONT)

    def finish(self) -> None:
        """Ends all by the end of their standard input, with code 0."""
        for process in self.processes.values():
            assert process.stdin is not None
            process.stdin.close()
        for process in self.processes.values():
            assert process.wait(timeout=PATIENCE_SECONDS) == 0, self.errors()
        self.read()

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read()

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            self._reap(process)
        self._tail.close()
        self._errors.close()

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


@contextmanager
def contending(directory: Path, url: str) -> Iterator[Contenders]:
    contenders = Contenders(directory, url)
    try:
        for _ in range(PROCESSES):
            contenders.start()
        yield contenders
    finally:
        contenders.close()


def kill_holders(contenders: Contenders) -> None:
    """Kills the process that holds, at a random hold of it, and starts another, again and again. Every time
    all tasks that are left, and the new ones, have their turn before the next kill."""
    dice = random.Random(3)
    for _ in range(KILLS):
        everyone_had_a_turn(contenders)
        holds = dice.randrange(1, 40)
        while holds:
            line = contenders.wait(lambda line: line.word == "hold")
            holds -= 1
        contenders.kill(line.pid)
        contenders.start()
    everyone_had_a_turn(contenders)


def stop_leaders_and_holders(cluster: Cluster, contenders: Contenders) -> None:
    """Each node stands still for long enough to lose its groups, and then a holder's process does: what was
    sent to the node is passed on only when it goes on, and what the holder was sent is read late. The last
    holder to stand still has lost the lock when it goes on."""
    for name in NAMES:
        node = cluster.nodes[name].process
        node.send_signal(signal.SIGSTOP)
        time.sleep(NODE_STOP_SECONDS)
        node.send_signal(signal.SIGCONT)
        everyone_had_a_turn(contenders)
        seconds = LONG_SECONDS if name == NAMES[-1] else SHORT_SECONDS
        contenders.pause(contenders.wait(lambda line: line.word == "hold").pid, seconds)
        everyone_had_a_turn(contenders)


def everyone_had_a_turn(contenders: Contenders) -> None:
    """Waits until each task of each living process held the lock from now on."""
    left = {(pid, task) for pid in contenders.processes for task in range(TASKS)}
    while left:
        line = contenders.wait(lambda line: line.word == "hold")
        left.discard((line.pid, line.task))


def judge(lines: list[Line], killed: dict[int, int]) -> dict[int, tuple[int, int]]:
    """Never two holders, tokens strictly grow. Returns the hold of each token: its first and last moment."""
    holds: dict[int, tuple[int, int]] = {}
    owners: dict[int, tuple[int, int]] = {}
    held: dict[tuple[int, int], int] = {}
    for line in lines:
        assert line.word in ("hold", "free", "lost"), line
        owner = line.pid, line.task
        if line.word == "hold":
            held[owner] = line.token
        else:
            held.pop(owner, None)
        if line.word != "lost":
            assert owners.setdefault(line.token, owner) == owner
            first, _ = holds.get(line.token, (line.at, line.at))
            holds[line.token] = (first, line.at)
    for (pid, _), token in held.items():
        if pid in killed:
            # It died as the holder.
            first, last = holds[token]
            holds[token] = (first, max(last, killed[pid]))
    in_time = sorted(holds.items(), key=lambda item: item[1])
    for (token, (_, end)), (later, (start, _)) in pairwise(in_time):
        assert token < later
        assert end < start, f"{owners[token]} and {owners[later]} hold at once"
    return holds


def test_one_holder_at_a_time_with_growing_tokens_and_nobody_stuck_though_holders_die(
    tmp_path: Path,
) -> None:
    with a_cluster(tmp_path) as cluster, contending(tmp_path, cluster.url()) as contenders:
        kill_holders(contenders)
        contenders.finish()
        holds = judge(contenders.lines, contenders.killed)
        assert len(holds) > PROCESSES * TASKS * KILLS
        assert len(contenders.killed) == KILLS


def test_one_holder_at_a_time_and_nobody_stuck_though_leaders_and_holders_stand_still(
    tmp_path: Path,
) -> None:
    with a_cluster(tmp_path) as cluster, contending(tmp_path, cluster.url()) as contenders:
        stop_leaders_and_holders(cluster, contenders)
        contenders.finish()
        judge(contenders.lines, {})
        assert any(line.word == "lost" for line in contenders.lines)
