"""The clients' process: runs the workloads, records what they were told, and asks for others.

It is told what to do line by line on standard input, as JSON objects with ``id`` and ``do``, and answers
likewise on standard output, where it also counts calls ten times a second. It ends when its input does.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from random import Random
from typing import Any, Final

import trio

from bench.checker.record import Recorder
from bench.processes.calls import WAITING, Caller, Counts
from bench.processes.workloads import (
    CounterWorkload,
    MapWorkload,
    QueueWorkload,
    RegisterWorkload,
    SetWorkload,
    Workload,
)
from bench.processes.workloads_held import ElectionWorkload, LockWorkload
from bench.processes.workloads_watches import WatchWorkload
from primitives.errors import QuorateError
from router.client import Client, connect

WORKLOADS: Final[dict[str, type[Workload]]] = {
    one.NAME: one
    for one in (
        RegisterWorkload, MapWorkload, CounterWorkload, SetWorkload, QueueWorkload, LockWorkload,
        ElectionWorkload, WatchWorkload,
    )
}  # fmt: skip
SESSION_SECONDS: Final = (4.0, 10.0, 4.0)
"""Timeouts of the clients' sessions: one client each."""
STOP_SECONDS: Final = 20.0
"""For calls to end, in a healed cluster."""
STORM_SECONDS: Final = 0.3
"""Between transfers of leadership."""
COUNT_SECONDS: Final = 0.1


class Load:
    """All workloads, and their callers."""

    def __init__(self, clients: list[Client], directory: Path, names: list[str], seed: int) -> None:
        self.counts: Final = Counts()
        self.hung: list[str] = []
        """Calls that did not end although nothing kept them."""
        self._clients: Final = clients
        self._random: Final = Random(seed)
        self._files: Final[list[TextIOWrapper]] = []
        self._workloads: Final = {name: WORKLOADS[name]() for name in names}
        began = time.monotonic_ns()
        self._recorders: Final = {
            name: self._recorder(directory / f"{name}.jsonl", began, name=name, seed=seed) for name in names
        }
        self._callers: Final[list[Caller]] = []
        self._scope: Final = trio.CancelScope()
        self._finished: Final = trio.Event()

    def _recorder(self, path: Path, began_ns: int, **metadata: Any) -> Recorder:
        file = path.open("w", encoding="utf-8")
        self._files.append(file)

        def now_us() -> int:
            return (time.monotonic_ns() - began_ns) // 1000

        return Recorder(file.write, now_us, suite="processes", **metadata)

    def _caller(self, name: str, number: int) -> Caller:
        at = number % len(self._clients)
        random = Random(f"{self._random.random()} {name} {number}")
        client, recorder = self._clients[at], self._recorders[name]
        caller = Caller(f"{name}.{number}", f"s{at}", client, recorder, self.counts, random)
        self._callers.append(caller)
        return caller

    async def run(self) -> None:
        """Calls until :meth:`stop`."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                for name, workload in self._workloads.items():
                    for number in range(workload.CALLERS):
                        nursery.start_soon(_run, workload, self._caller(name, number), number)
        self._finished.set()

    async def stop(self) -> None:
        """Ends the callers in a healed cluster, notes calls that do not end, and looks at what is left."""
        for workload in self._workloads.values():
            workload.stopping = True
        with trio.move_on_after(STOP_SECONDS):
            for caller in self._callers:
                if caller.op not in WAITING:
                    await caller.idle.wait()
        self.hung = [f"{caller.op} by {caller.process}" for caller in self._callers
                     if not caller.idle.is_set() and caller.op not in WAITING]  # fmt: skip
        self._scope.cancel()
        await self._finished.wait()
        for name, workload in self._workloads.items():
            with trio.move_on_after(STOP_SECONDS) as scope:
                await workload.finish(self._caller(name, workload.CALLERS))
            if scope.cancelled_caught:
                self.hung.append(f"the last look at {name}")

    def close(self) -> None:
        """Closes the histories."""
        for file in self._files:
            file.close()


async def _run(workload: Workload, caller: Caller, number: int) -> None:
    try:
        await workload.run(caller, number)
    finally:
        caller.idle.set()


class Control:
    """What the harness asks for beside the load."""

    def __init__(self, client: Client, load: Load, random: Random) -> None:
        self._client: Final = client
        self._load: Final = load
        self._random: Final = random
        self.storm: trio.CancelScope | None = None

    async def leaders(self) -> dict[str, Any]:
        """The id of each group's leading node."""
        told = await self._client.status()
        return {"leaders": {str(group["group"]): group["leader"] for group in told["groups"]}}

    async def write(self) -> dict[str, Any]:
        """Writes to every partition of a map."""
        entries = self._client.map("progress")
        async with trio.open_nursery() as nursery:
            for key in range(64):
                nursery.start_soon(entries.put, key, key)
        return {}

    async def hashes(self) -> dict[str, Any]:
        """Whether all replicas told the same state."""
        told = await self._client.status(hashes=True)
        found: dict[int, set[tuple[int, bytes]]] = {}
        for row in told["hashes"]:
            found.setdefault(row["group"], set()).add((row["revision"], row["hash"]))
        return {
            "ready": told["ready"], "missing": told["hashes_missing"],
            "differing": [group for group, hashes in found.items() if len(hashes) > 1],
            "away": [node["name"] for node in told["nodes"]
                     if not node["connected"] and node["node"] != told["node"]],
        }  # fmt: skip

    async def storms(self, nursery: trio.Nursery, on: bool) -> dict[str, Any]:
        """Begins or ends a storm of leadership transfers."""
        if self.storm is not None:
            self.storm.cancel()
            self.storm = None
        if on:
            self.storm = await nursery.start(self._storm)
        return {}

    async def _storm(self, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            task_status.started(scope)
            while True:
                with trio.move_on_after(2):
                    try:
                        told = await self._client.status()
                        group = self._random.choice(told["groups"])["group"]
                        node = self._random.choice(told["nodes"])["node"]
                        await self._client.admin("group-transfer", group, node)
                    except QuorateError:
                        pass  # Its leader is not in reach: the next one may be.
                await trio.sleep(STORM_SECONDS)


async def _lines() -> AsyncIterator[dict[str, Any]]:
    stdin = trio.lowlevel.FdStream(os.dup(0))
    rest = b""
    async for data in stdin:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield json.loads(line)


def say(message: Mapping[str, Any]) -> None:
    """One line of standard output."""
    print(json.dumps(message), flush=True)


async def _count(load: Load) -> None:
    while True:
        await trio.sleep(COUNT_SECONDS)
        say({"counts": load.counts.taken()})


@asynccontextmanager
async def _clients(url: str) -> AsyncIterator[list[Client]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(connect(url, session_timeout=seconds))
            for seconds in SESSION_SECONDS
        ]


async def serve(url: str, directory: Path, names: list[str], seed: int) -> None:
    """Does what it is told until its input ends."""
    async with _clients(url) as clients, connect(url) as own:
        load = Load(clients, directory, names, seed)
        control = Control(own, load, Random(seed))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(load.run)
                nursery.start_soon(_count, load)
                async for request in _lines():
                    nursery.start_soon(_answer, nursery, load, control, request)
                nursery.cancel_scope.cancel()
        finally:
            load.close()


async def _answer(nursery: trio.Nursery, load: Load, control: Control, request: dict[str, Any]) -> None:
    what = request["do"]
    do: dict[str, Callable[[], Any]] = {
        "leaders": control.leaders, "write": control.write, "hashes": control.hashes,
        "storm": partial(control.storms, nursery, True), "calm": partial(control.storms, nursery, False),
    }  # fmt: skip
    told: dict[str, Any] = {"id": request["id"]}
    if what == "stop":
        await load.stop()
        say({**told, "hung": load.hung, "counts": load.counts.taken()})
        return
    with trio.move_on_after(request["seconds"]) as scope:
        try:
            told |= await do[what]()
        except QuorateError as error:
            told["error"] = f"{type(error).__name__}: {error}"
    if scope.cancelled_caught:
        told["error"] = f"nothing within {request['seconds']} s"
    say(told)


def main() -> None:
    """The command line, which is the harness's."""
    parser = argparse.ArgumentParser(prog="python -m bench.processes.client", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--workloads", required=True)
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    trio.run(serve, arguments.url, arguments.directory, arguments.workloads.split(","), arguments.seed)


if __name__ == "__main__":
    main()
