"""The examples that run against a cluster: each does what its text says."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.devprocess import ROOT, Dev, environment

pytestmark = pytest.mark.cluster


class Example:
    """A running example, whose lines are read as they come."""

    def __init__(self, dev: Dev, *arguments: str) -> None:
        name, *rest = arguments
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "examples" / f"{name}.py"), "--url", dev.url, *rest],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment(),
        )  # fmt: skip
        self._output = b""

    def line(self, seconds: float = 30.0) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self._output:
            left = max(0.0, deadline - time.monotonic())
            assert select.select([self.process.stdout], [], [], left)[0], "it says nothing"
            data = os.read(self.process.stdout.fileno(), 4096)
            assert data, "it ended"
            self._output += data
        line, _, self._output = self._output.partition(b"\n")
        return line.decode()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def example(dev: Dev, *arguments: str) -> Iterator[Example]:
    running = Example(dev, *arguments)
    try:
        yield running
    finally:
        running.kill()


def test_a_service_registry_lists_those_who_live(dev: Dev) -> None:
    with (
        example(dev, "service_registry", "watch") as watcher,
        example(dev, "service_registry", "serve", "a:1") as one,
    ):
        assert one.line() == "a:1 is registered"
        assert watcher.line() == f"a:1 is there (pid {one.process.pid})"
        with example(dev, "service_registry", "serve", "b:1") as two:
            assert watcher.line() == f"b:1 is there (pid {two.process.pid})"
        assert watcher.line() == "b:1 is gone; left: a:1"
        with example(dev, "service_registry", "watch") as late:
            assert late.line() == f"a:1 is there (pid {one.process.pid})"
        one.process.send_signal(signal.SIGINT)
        assert watcher.line() == "a:1 is gone; left: nobody"


def test_a_configuration_is_followed_from_what_there_is_through_each_change(dev: Dev) -> None:
    def set_to(value: str) -> None:
        with example(dev, "configuration", "set", "log_level", value) as setter:
            assert setter.process.wait(timeout=30) == 0

    set_to("info")
    with example(dev, "configuration", "follow") as follower:
        assert follower.line() == 'log_level = "info"'
        set_to("debug")
        assert follower.line() == 'log_level = "debug"'
        set_to("7")
        assert follower.line() == "log_level = 7"


def test_the_nightly_job_runs_once_at_a_time_and_its_store_refuses_who_comes_late(dev: Dev) -> None:
    with (
        example(dev, "nightly_job", "--seconds", "0.5") as one,
        example(dev, "nightly_job", "--seconds", "0.5") as two,
    ):
        for process in (one.process, two.process):
            assert process.wait(timeout=60) == 0
        said = [(running.line(), running.line()) for running in (one, two)]
    tokens = [int(first.rpartition(" ")[2]) for first, _ in said]
    assert tokens[0] != tokens[1]
    assert all(second.endswith(" published") for _, second in said)
