"""The process that loads Quorate: ``python -m bench.runs.loader --target URL --workload write --callers 64``.

All callers share one client, in one process; where a workload speaks of several clients, each is one of its
own.
Prints a :class:`~bench.runs.results.Load` as its last line.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final

import trio

from bench.runs import fanout, handover, recovery
from bench.runs.loops import drive
from bench.runs.operations import operation, prepare
from bench.runs.recording import LoaderArguments, LoadFailed, print_begun, print_load, settle_process
from bench.runs.results import Load
from primitives.errors import QuorateError
from router.client import Client, connect
from shards.embedding import embedded

MODULE: Final = "bench.runs.loader"
CALLS: Final = (
    "write", "read", "read-sequential", "mixed", "counter", "lock", "lock-contended", "queue", "sessions",
)  # fmt: skip
"""Workloads that callers make, each again and again."""
WORKLOADS: Final = (*CALLS, "election", "fanout", "recovery")
EMBEDDED: Final = "embedded:"
"""What a target begins with that is the directory of a node which is to run in this process."""
FAILURES: Final = (QuorateError, OSError, LoadFailed, trio.TooSlowError)
BEYOND_SECONDS: Final = 120.0
"""How long a load may take besides warming up and measuring."""


async def measure(arguments: LoaderArguments, begun: Callable[[], None]) -> Load:
    """Makes the load; ``begun`` is called when the warm-up is over. Raises one of ``FAILURES`` if it cannot,
    perhaps in a group."""
    shape, url = arguments.shape, arguments.target
    times = (arguments.warm_up, arguments.seconds, begun)
    with trio.fail_after(arguments.warm_up + arguments.seconds + BEYOND_SECONDS):
        if shape.workload == "fanout":
            return await fanout.measure(url, shape, *times)
        if shape.workload == "recovery":
            return await recovery.measure(url, arguments.pids, shape, *times)
        if shape.workload == "election":
            return (await handover.measure(url, *times)).load()
        return await _calls(arguments, begun)


async def _calls(arguments: LoaderArguments, begun: Callable[[], None]) -> Load:
    """A load that is made of calls."""
    shape, url = arguments.shape, arguments.target
    async with _client(url, shape.groups) as client:
        await prepare(client, shape)
        operations = [operation(client, url, shape, caller) for caller in range(shape.callers)]
        run = partial(drive, operations, shape.rate)
        await run(arguments.warm_up)
        begun()
        return (await run(arguments.seconds)).load()


def _client(target: str, groups: int) -> AbstractAsyncContextManager[Client]:
    if target.startswith(EMBEDDED):
        return embedded(target.removeprefix(EMBEDDED), groups=groups)
    return connect(target)


def main(given: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    arguments = LoaderArguments.parse(MODULE, "A load on a running cluster.", WORKLOADS, given)
    settle_process()
    try:
        load = trio.run(measure, arguments, print_begun)
    except Exception as error:
        cause = first_cause(error)
        if not isinstance(cause, FAILURES):
            raise
        text = " ".join(str(cause).split())
        if isinstance(cause, trio.TooSlowError):
            text = f"it was not done {BEYOND_SECONDS:g} s after its time"
        sys.stderr.write(f"{arguments.shape.workload}: {text or type(cause).__name__}\n")
        return 1
    print_load(load)
    return 0


def first_cause(error: BaseException) -> BaseException:
    """The first of a group of errors that is none itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    sys.exit(main())
