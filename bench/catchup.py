"""How much the others notice when a node that was away catches up: ``python -m bench.catchup``.

Starts three nodes on loopback, measures the latency of some callers that write, stops one node while many
entries are written, starts it again, and measures the same callers until it has caught up by snapshot. Then
it compares the replicas' hashes.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import IO, Any, Final

import trio
from hdrh.histogram import HdrHistogram

from bench.processes.nodes import COMMAND, environment
from bench.runs.ending import end_by_term
from router.client import Client, connect

NAMES: Final = ("n1", "n2", "n3")
WRITERS: Final = 128
STOP_S: Final = 60.0
UNDER_WAY: Final = 50
"""Entries that a node lacks which has caught up, while others write."""


class Nodes:
    """``serve`` processes on fixed ports and directories."""

    def __init__(self, data: Path, port: int, groups: int, names: Sequence[str]) -> None:
        self.data, self._port, self._groups, self._names = data, port, groups, names
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def url(self, *names: str) -> str:
        """Of some nodes."""
        return "quorate://" + ",".join(f"127.0.0.1:{self._port + NAMES.index(name)}" for name in names)

    def start(self, name: str) -> float:
        """Starts a node; returns when, by ``time.monotonic``."""
        log = self._log(name)
        cluster = ",".join(f"{one}=127.0.0.1:{self._port + 100 + NAMES.index(one)}" for one in self._names)
        with log.open("ab") as errors:
            self._running[name] = self._process(name, cluster, errors)
        return time.monotonic()

    def _process(self, name: str, cluster: str, errors: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*COMMAND, "serve", "--name", name, "--data", str(self.data / name),
             "--listen", f"127.0.0.1:{self._port + NAMES.index(name)}", "--cluster", cluster,
             "--groups", str(self._groups), "--log-level", "warning"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=environment(),
        )  # fmt: skip

    def _log(self, name: str) -> Path:
        return self.data / f"{name}.log"

    def wait(self, name: str) -> None:
        """Until it serves. Raises RuntimeError if it does not."""
        stdout = self._running[name].stdout
        if stdout is None or not stdout.readline().startswith(b"ready"):
            said = self._log(name).read_text(errors="replace").strip().splitlines()
            raise RuntimeError(f"{name} did not start: {said[-1] if said else 'it said nothing'}")

    def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """Ends a node and waits for that."""
        process = self._running.pop(name)
        process.send_signal(number)
        process.wait(timeout=STOP_S)
        if process.stdout is not None:
            process.stdout.close()

    def pid(self, name: str) -> int:
        """Of a node that runs."""
        return self._running[name].pid

    def stop_all(self) -> None:
        """Ends every node."""
        for name in list(self._running):
            self.stop(name)


@contextmanager
def nodes(
    port: int, groups: int, names: Sequence[str] = NAMES, parent: Path | None = None
) -> Iterator[Nodes]:
    """Nodes in a directory of their own, started and, in the end, stopped."""
    with tempfile.TemporaryDirectory(prefix="quorate-", dir=parent) as data:
        found = Nodes(Path(data), port, groups, names)
        try:
            for name in names:
                found.start(name)
            for name in names:
                found.wait(name)
            yield found
        finally:
            found.stop_all()


async def write(client: Client, count: int, value_bytes: int, keys: int) -> float:
    """Writes entries of a map as fast as it goes; returns the seconds."""
    words, random, numbers = client.map("words"), Random(1), iter(range(count))
    began = time.monotonic()

    async def call() -> None:
        for number in numbers:
            await words.put(f"key-{number % keys:07}", random.randbytes(value_bytes))

    async with trio.open_nursery() as nursery:
        for _ in range(WRITERS):
            nursery.start_soon(call)
    return time.monotonic() - began


class Callers:
    """Callers that write one entry after the other, with a pause between, and note how long each took."""

    def __init__(self, client: Client, count: int, pause_s: float) -> None:
        self._client, self._count, self._pause_s = client, count, pause_s
        self.took = HdrHistogram(1, 60_000_000, 3)

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            for caller in range(self._count):
                nursery.start_soon(self._call, caller)

    async def _call(self, caller: int) -> None:
        words, number = self._client.map("others"), 0
        while True:
            number += 1
            began = time.perf_counter()
            await words.put(f"{caller}-{number % 100}", "x" * 128)
            self.took.record_value(int((time.perf_counter() - began) * 1e6) + 1)
            await trio.sleep(self._pause_s)

    def take(self) -> tuple[int, float, float, float]:
        """Calls, p50, p99 and longest in ms since the last time this was asked."""
        took, self.took = self.took, HdrHistogram(1, 60_000_000, 3)
        return (
            took.get_total_count(), took.get_value_at_percentile(50) / 1000,
            took.get_value_at_percentile(99) / 1000, took.get_max_value() / 1000,
        )  # fmt: skip


def show(what: str, figures: tuple[int, float, float, float]) -> None:
    """One line."""
    calls, p50, p99, longest = figures
    print(f"{what}: {calls} calls, p50 {p50:.2f} ms, p99 {p99:.2f} ms, longest {longest:.1f} ms", flush=True)


async def _status(url: str) -> Mapping[str, Any]:
    async with connect(url) as client:
        return await client.status()


async def caught_up(cluster: Nodes, lacks_max: int) -> tuple[int, int]:
    """Once no snapshot is on its way and node n3 has applied what n1 has, but for a few entries that are
    under way if others write: snapshots installed there, entries that it lacks."""
    while True:
        here, there = await _status(cluster.url("n1")), await _status(cluster.url("n3"))
        applied = {one["group"]: one["applied"] for one in there["groups"]}
        lacks = sum(max(one["applied"] - applied.get(one["group"], 0), 0) for one in here["groups"])
        if lacks <= lacks_max:
            return there["snapshots"]["installed"], lacks
        await trio.sleep(0.1)


async def run(arguments: argparse.Namespace) -> None:
    """The whole measurement."""
    with nodes(arguments.port, arguments.groups) as cluster:
        async with connect(cluster.url("n1", "n2")) as client, connect(cluster.url("n1", "n2")) as other:
            callers = Callers(other, arguments.callers, arguments.pause_ms / 1000)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(callers.run)
                await trio.sleep(2)
                callers.take()
                await trio.sleep(arguments.seconds)
                show("usual", callers.take())
                cluster.stop("n3")
                await trio.sleep(3)
                callers.take()
                took = await write(client, arguments.entries, arguments.value_bytes, arguments.keys)
                print(f"{arguments.entries} entries written in {took:.1f} s", flush=True)
                await trio.sleep(3)
                callers.take()
                await trio.sleep(arguments.seconds)
                show("one node away", callers.take())
                began = cluster.start("n3")
                await trio.to_thread.run_sync(cluster.wait, "n3")
                ready_s = time.monotonic() - began
                installed, lacks = await caught_up(cluster, UNDER_WAY)
                show("while it catches up", callers.take())
                print(f"serves after {ready_s:.1f} s, has caught up after {time.monotonic() - began:.1f} s, "
                      f"{installed} snapshots, lacks {lacks}", flush=True)  # fmt: skip
                await trio.sleep(arguments.seconds)
                show("afterwards", callers.take())
                nursery.cancel_scope.cancel()
            told = await client.status(hashes=True)
        hashes: dict[int, set[str]] = {}
        for one in told["hashes"]:
            hashes.setdefault(one["group"], set()).add(one["hash"])
        equal = all(len(found) == 1 for found in hashes.values()) and not told["hashes_missing"]
        print("hashes are equal" if equal else f"hashes differ: {told['hashes']}", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=200_000)
    parser.add_argument("--value-bytes", type=int, default=500)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--pause-ms", type=float, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--port", type=int, default=30100)
    try:
        trio.run(run, parser.parse_args())
    except RuntimeError as error:
        raise SystemExit(f"bench.catchup: {error}") from None


if __name__ == "__main__":
    end_by_term()
    main()
