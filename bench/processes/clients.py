"""The harness's end of the clients' process."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import trio

from bench.processes.network import CLIENTS
from bench.processes.nodes import Broken, Cluster, environment

STOP_SECONDS: Final = 200.0
"""For the load to end and look at what is left; the clients bound each part of it."""


class Clients:
    """A running process of clients."""

    def __init__(self, process: trio.Process, log: Path) -> None:
        self.samples: Final[list[dict[str, Any]]] = []
        """Its counts, ten a second."""
        self.log: Final = log
        self._process: Final = process
        self._ids: Final = count(1)
        self._answers: Final[dict[int, dict[str, Any]]] = {}
        self._asked: Final[dict[int, trio.Event]] = {}
        self.has_ended = False

    async def read(self) -> None:
        """Takes in what it says, until it ends."""
        stdout = self._process.stdout
        if stdout is None:
            raise Broken("the clients have no output")
        rest = b""
        async for data in stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._take(json.loads(line))
        self.has_ended = True
        for event in self._asked.values():
            event.set()

    def _take(self, told: dict[str, Any]) -> None:
        if "counts" in told:
            self.samples.append(told["counts"])
        if "id" in told:
            self._answers[told["id"]] = told
            self._asked[told["id"]].set()

    async def ask(self, do: str, seconds: float = 5.0) -> dict[str, Any]:
        """What it answers; ``error`` says why it could not. Raises :class:`Broken` if it ended."""
        number = next(self._ids)
        event = self._asked[number] = trio.Event()
        line = json.dumps({"id": number, "do": do, "seconds": seconds}).encode() + b"\n"
        try:
            if self._process.stdin is None:
                raise Broken("the clients have no input")
            await self._process.stdin.send_all(line)
            with trio.move_on_after(STOP_SECONDS if do == "stop" else seconds + 10):
                await event.wait()
        except trio.BrokenResourceError:
            self.has_ended = True
        if number not in self._answers:
            if self.has_ended:
                raise Broken(f"the clients ended: {self.log.read_text()[-2000:]}")
            raise Broken(f"the clients do not answer {do!r}")
        return self._answers.pop(number)


@asynccontextmanager
async def running(cluster: Cluster, workloads: Sequence[str], seed: int) -> AsyncIterator[Clients]:
    """Clients of a cluster, in a namespace of their own; their histories go to its directory."""
    log = cluster.directory / "clients.log"
    with log.open("wb") as errors:
        process = await trio.lowlevel.open_process(
            cluster.network.command(
                CLIENTS, sys.executable, "-P", "-m", "bench.processes.client", "--url", cluster.url,
                "--directory", str(cluster.directory), "--workloads", ",".join(workloads),
                "--seed", str(seed),
            ),
            stdin=-1, stdout=-1, stderr=errors, env=environment(),
        )  # fmt: skip
    clients = Clients(process, log)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clients.read)
            yield clients
            if process.stdin is not None:
                await process.stdin.aclose()
            with trio.move_on_after(10):
                await process.wait()
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
