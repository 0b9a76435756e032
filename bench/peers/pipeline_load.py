"""A load on the bare pipeline, all callers on one connection.

``python -m bench.peers.pipeline_load --target 127.0.0.1:7000 --workload write``
"""

from __future__ import annotations

from typing import Final

import trio

from bench.peers.loading import GRACE_SECONDS, Keys, conclude, value_of
from bench.peers.pipeline import Connection
from bench.runs.loops import Operation, drive
from bench.runs.recording import LoaderArguments, LoadFailed, print_begun, settle_process
from bench.runs.results import Load

NAMES: Final = frozenset({"write"})


class Client:
    """Calls on one connection; all that are made in one turn of the loop go in one message."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._connection: Final = Connection(stream)
        self._calls: list[tuple[int, bytes, bytes]] = []
        self._waiting: Final[dict[int, trio.lowlevel.Task]] = {}
        self._last = 0
        self._wake = trio.Event()

    async def run(self) -> None:
        """For ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._connection.write)
            nursery.start_soon(self._send)
            async for answers in self._connection.messages():
                for call, _ in answers:
                    trio.lowlevel.reschedule(self._waiting.pop(call))
            raise LoadFailed("the leader closed the connection")

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            calls, self._calls = self._calls, []
            self._connection.send(calls)

    async def put(self, key: bytes, value: bytes) -> None:
        """Until a majority has it on disk."""
        self._last += 1
        self._waiting[self._last] = trio.lowlevel.current_task()
        self._calls.append((self._last, key, value))
        self._wake.set()
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)


async def run(arguments: LoaderArguments) -> Load:
    """Makes the load."""
    host, _, port = arguments.target.rpartition(":")
    shape, value = arguments.shape, value_of(arguments.shape)

    def call(caller: int) -> Operation:
        keys = Keys(shape, caller)
        return lambda: client.put(keys.name().encode(), value)

    with trio.fail_after(arguments.warm_up + arguments.seconds + GRACE_SECONDS):
        async with trio.open_nursery() as nursery:
            client = Client(await trio.open_tcp_stream(host, int(port)))
            nursery.start_soon(client.run)
            calls = [call(caller) for caller in range(shape.callers)]
            if arguments.warm_up:
                await drive(calls, shape.rate, arguments.warm_up, ())
            print_begun()
            seen = await drive(calls, shape.rate, arguments.seconds, ())
            nursery.cancel_scope.cancel()
    return seen.load()


def main() -> None:
    """The command line."""
    arguments = LoaderArguments.parse(
        "bench.peers.pipeline_load", "Load on the bare pipeline.", sorted(NAMES)
    )
    settle_process()
    conclude("floor", lambda: trio.run(run, arguments), (trio.TooSlowError,))


if __name__ == "__main__":
    main()
