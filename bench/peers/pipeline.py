"""A bare replication pipeline in our shape: a measuring stick, the ceiling for Python with trio and RocksDB.

A fixed leader and its followers, each with a synced log and a dictionary. Like our nodes it takes many calls
into one entry, sends that before its own sync, syncs on a thread for all that came meanwhile, and answers
what a majority has synced. Unlike them it has no terms, elections, sessions, groups or reads, and no safety:
a node that dies ends it.

``python -m bench.peers.pipeline --directory DIRECTORY --port 7002`` is a follower; it leads with
``--followers 7000,7001``.
"""

from __future__ import annotations

import argparse
import queue
import struct
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import cbor2
import trio
from rocksdict import Options, Rdict, WriteBatch, WriteOptions

from bench.runs.recording import settle_process

RECEIVE_BYTES: Final = 1 << 18
_LENGTH: Final = struct.Struct(">I")
_KEY: Final = struct.Struct(">QQ")
_GROUP: Final = 1
OWN: Final = -1
"""The leader's place among those who have synced; followers are numbered from 0."""

Call = tuple[int, bytes, bytes]
"""A number that the answer repeats, a key and a value."""


class Connection:
    """CBOR objects in frames, their length in front. What is sent in one turn of the loop goes together."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream: Final = stream
        self._out: Final[list[bytes]] = []
        self._wake = trio.Event()

    def send(self, message: object) -> None:
        """Has the writer send it."""
        data = cbor2.dumps(message)
        self._out.append(_LENGTH.pack(len(data)) + data)
        self._wake.set()

    async def write(self) -> None:
        """Sends what there is, for ever."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            data = b"".join(self._out)
            self._out.clear()
            await self._stream.send_all(data)

    async def messages(self) -> AsyncIterator[Any]:
        """Those that come, until the other side closes."""
        buffer = bytearray()
        while data := await self._stream.receive_some(RECEIVE_BYTES):
            buffer += data
            at, whole = 0, []
            while len(buffer) - at >= _LENGTH.size:
                end = at + _LENGTH.size + _LENGTH.unpack_from(buffer, at)[0]
                if len(buffer) < end:
                    break
                whole.append(bytes(buffer[at + _LENGTH.size : end]))
                at = end
            del buffer[:at]
            for message in whole:
                yield cbor2.loads(message)


class Log:
    """Entries in RocksDB's write-ahead log, synced by a thread: one sync for all written before it."""

    def __init__(self, directory: Path) -> None:
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        self._database: Final = Rdict(str(directory), options)
        self._unsynced: Final = WriteOptions()
        self._unsynced.sync = False
        self._loop: Final = trio.lowlevel.current_trio_token()
        self._rounds: Final[queue.SimpleQueue[list[Callable[[], None]]]] = queue.SimpleQueue()
        self._waiting: list[Callable[[], None]] = []
        self._is_syncing = False
        threading.Thread(target=self._sync, daemon=True).start()

    def append(self, index: int, entry: bytes, synced: Callable[[], None]) -> None:
        """Writes an entry; ``synced`` is called on the loop when it is durable."""
        batch = WriteBatch(raw_mode=True)
        batch.put(_KEY.pack(_GROUP, index), entry)
        self._database.write(batch, self._unsynced)
        self._waiting.append(synced)
        if not self._is_syncing:
            self._begin()

    def _begin(self) -> None:
        self._is_syncing = True
        round_, self._waiting = self._waiting, []
        self._rounds.put(round_)

    def _sync(self) -> None:
        while True:
            round_ = self._rounds.get()
            try:
                self._database.flush_wal(True)
            except Exception as error:
                self._loop.run_sync_soon(self._fail, error)
                return
            self._loop.run_sync_soon(self._end, round_)

    def _fail(self, error: Exception) -> None:
        raise RuntimeError("the log cannot be synced") from error

    def _end(self, round_: list[Callable[[], None]]) -> None:
        self._is_syncing = False
        for synced in round_:
            synced()
        if self._waiting:
            self._begin()


async def follow(log: Log, stream: trio.SocketStream) -> None:
    """Appends what the leader sends, and says when it is durable. Applies at once, as nothing is undone."""
    connection, entries = Connection(stream), {}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.write)
        async for index, entry in connection.messages():
            log.append(index, entry, partial(connection.send, index))
            entries.update({key: value for _, key, value in cbor2.loads(entry)})
        nursery.cancel_scope.cancel()


class Leader:
    """Takes calls, replicates them, and answers what a majority has."""

    def __init__(self, log: Log) -> None:
        self._log: Final = log
        self._entries: Final[dict[bytes, bytes]] = {}
        self._followers: Final[list[Connection]] = []
        self._proposed: list[tuple[Connection, Call]] = []
        self._wake = trio.Event()
        self._last = 0
        self._committed = 0
        self._synced: Final[dict[int, int]] = {OWN: 0}
        """To which index each node is durable."""
        self._pending: Final[dict[int, list[tuple[Connection, Call]]]] = {}

    async def run(self, port: int, followers: Sequence[int]) -> None:
        """Connects to the followers, then serves, for ever."""
        async with trio.open_nursery() as nursery:
            for number, follower in enumerate(followers):
                connection = Connection(await trio.open_tcp_stream("127.0.0.1", follower))
                self._followers.append(connection)
                self._synced[number] = 0
                nursery.start_soon(connection.write)
                nursery.start_soon(self._acknowledgements, connection, number)
            nursery.start_soon(self._replicate)
            await trio.serve_tcp(self._serve, port, host="127.0.0.1")

    async def _serve(self, stream: trio.SocketStream) -> None:
        connection = Connection(stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.write)
            async for calls in connection.messages():
                self._proposed += [(connection, call) for call in calls]
                self._wake.set()
            nursery.cancel_scope.cancel()

    async def _replicate(self) -> None:
        """An entry of all calls that came since the last one: sent, then written, then synced."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            calls, self._proposed = self._proposed, []
            self._last += 1
            entry = cbor2.dumps([call for _, call in calls])
            self._pending[self._last] = calls
            for follower in self._followers:
                follower.send([self._last, entry])
            self._log.append(self._last, entry, partial(self._acknowledge, OWN, self._last))

    async def _acknowledgements(self, connection: Connection, number: int) -> None:
        async for index in connection.messages():
            self._acknowledge(number, index)
        raise RuntimeError(f"follower {number} is gone")

    def _acknowledge(self, number: int, index: int) -> None:
        """A node is durable up to an index: commits, applies and answers."""
        self._synced[number] = index
        majority = sorted(self._synced.values())[(len(self._synced) - 1) // 2]
        while self._committed < majority:
            self._committed += 1
            answers: dict[Connection, list[tuple[int, int]]] = {}
            for connection, (call, key, value) in self._pending.pop(self._committed):
                self._entries[key] = value
                answers.setdefault(connection, []).append((call, self._committed))
            for connection, said in answers.items():
                connection.send(said)


async def run(directory: Path, port: int, followers: Sequence[int] | None) -> None:
    """A node, for ever."""
    log = Log(directory)
    if followers is None:
        await trio.serve_tcp(partial(follow, log), port, host="127.0.0.1")
    else:
        await Leader(log).run(port, followers)


def ports(text: str | None) -> list[int] | None:
    """``7000,7001`` as numbers; empty of a leader without followers."""
    return None if text is None else [int(port) for port in text.split(",") if port]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers.pipeline")
    parser.add_argument("--directory", type=Path, required=True, help="of the log")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--followers", default=None, help="their ports, by commas, of the leader")
    given = parser.parse_args()
    settle_process()
    trio.run(run, given.directory, given.port, ports(given.followers))


if __name__ == "__main__":
    main()
