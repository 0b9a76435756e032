"""The example of an election in three processes, whose leader is killed with -9 time and again."""

from __future__ import annotations

import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.devprocess import ROOT, Dev, environment, free_port

pytestmark = pytest.mark.cluster
KILLS = int(os.environ.get("QUORATE_TEST_KILLS", "3"))
GAP_SECONDS = 20.0
"""Within which another one leads, on a machine that has much else to do; usually it takes two."""


class Contender:
    """One process of the example."""

    def __init__(self, name: str, arguments: list[str], said: queue.Queue[tuple[str, str]]) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "examples/leader_election.py"), *arguments], stdout=subprocess.PIPE,
            text=True, env=environment(),
        )  # fmt: skip
        self._said = said
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.put((self.name, line.rstrip("\n")))

    def end(self, number: int) -> int:
        try:
            for _ in range(5):
                self.process.send_signal(number)
                # Python drops an interrupt that comes while it cleans up after an import: then again.
                with suppress(subprocess.TimeoutExpired):
                    return self.process.wait(timeout=6)
            raise AssertionError(f"{self.name} did not end")
        finally:
            self.process.kill()  # Nothing stays behind, the thread that reads included.
            self._reader.join()
            assert self.process.stdout is not None
            self.process.stdout.close()


class Contest:
    """Several of them, by name."""

    def __init__(self, arguments: dict[str, list[str]]) -> None:
        self.arguments = arguments
        self.said: queue.Queue[tuple[str, str]] = queue.Queue()
        self.contenders: dict[str, Contender] = {}

    def start(self, name: str) -> None:
        self.contenders[name] = Contender(name, self.arguments[name], self.said)

    def kill(self, name: str) -> None:
        self.contenders.pop(name).end(signal.SIGKILL)

    def next_leader(self, seconds: float) -> str:
        """Who says next that it was elected."""
        deadline = time.monotonic() + seconds
        while True:
            name, line = self.said.get(timeout=max(0.0, deadline - time.monotonic()))
            if line == "Elected leader!":
                return name


@contextmanager
def contest(arguments: dict[str, list[str]]) -> Iterator[Contest]:
    running = Contest(arguments)
    try:
        for name in arguments:
            running.start(name)
        yield running
    finally:
        codes = [one.end(signal.SIGINT) for one in running.contenders.values()]
        # One that was started a moment ago may not have got as far as saying how it ends.
        assert set(codes) <= {130, -signal.SIGINT}


def members(directory: Path) -> dict[str, list[str]]:
    port = free_port(3)
    addresses = [f"127.0.0.1:{port + at}" for at in range(3)]
    return {
        own: [str(directory), own, *(other for other in addresses if other != own)] for own in addresses
    }


def killed_time_and_again(running: Contest, kills: int) -> list[float]:
    """Kills whoever leads and starts it again; how long it took each time until another was elected."""
    gaps = []
    leader = running.next_leader(60)
    for _ in range(kills):
        time.sleep(random.uniform(0.2, 1.0))
        former, began = leader, time.monotonic()
        running.kill(former)
        leader = running.next_leader(GAP_SECONDS)
        gaps.append(time.monotonic() - began)
        assert leader != former
        running.start(former)
    return gaps


def told(what: str, gaps: list[float]) -> None:
    mean = sum(gaps) / len(gaps)
    print(f"{what}: {len(gaps)} leaders killed, longest gap {max(gaps):.2f} s, mean {mean:.2f} s")


def test_when_the_leading_member_is_killed_another_one_leads_within_seconds(tmp_path: Path) -> None:
    with contest(members(tmp_path)) as running:
        told("members", killed_time_and_again(running, KILLS))
        assert running.said.empty() or all(line != "Elected leader!" for _, line in list(running.said.queue))


def test_the_same_as_clients_of_a_cluster() -> None:
    with Dev(nodes=1) as dev:
        dev.wait_until_ready()
        with contest({name: ["--url", dev.url] for name in ("a", "b")}) as running:
            told("clients", killed_time_and_again(running, min(KILLS, 3)))
