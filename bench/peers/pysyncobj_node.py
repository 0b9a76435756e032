"""One node of PySyncObj, which is a library: a program that replicates a dictionary, a counter and a queue,
and makes the load where a user of the library would call it, in the leader's process.

It is asked by lines of JSON on its control port: ``{"ask": "status"}``, or for a load. It keeps its journal
and its dumps in files, and the library never syncs those.
"""

from __future__ import annotations

import argparse
import signal
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import msgspec
from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.batteries import ReplCounter, ReplDict, ReplQueue

from bench.peers.loading import GRACE_SECONDS, Found, Keys, value_of
from bench.peers.pysyncobj_server import DEFAULT, Periods
from bench.runs.recording import BEGUN, LoadFailed, Pace, key_name
from bench.runs.results import Load, Shape

Done = Callable[[Any, Any], None]
"""Told of a result and of what went wrong; 0 is nothing."""
Begin = Callable[[Done], None]
"""Begins a call of one caller."""


class Ask(msgspec.Struct, kw_only=True):
    """A question to a node."""

    ask: str
    """``status`` or ``load``."""
    shape: Shape | None = None
    seconds: float = 1.0
    warm_up: float = 0.0


class Answer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a node says."""

    leads: bool = False
    ready: bool = False
    failed: str | None = None
    load: Load | None = None


class Node:
    """What is replicated, and who calls it."""

    def __init__(self, own: str, others: list[str], directory: Path, periods: Periods) -> None:
        self.entries: Final[Any] = ReplDict()
        self.count: Final[Any] = ReplCounter()
        self.queue: Final[Any] = ReplQueue()
        configuration = SyncObjConf(
            autoTickPeriod=periods.tick_seconds, appendEntriesPeriod=periods.append_seconds,
            journalFile=str(directory / "journal"), fullDumpFile=str(directory / "dump"),
        )  # fmt: skip
        consumers = [self.entries, self.count, self.queue]
        self.replication: Final[Any] = SyncObj(own, others, conf=configuration, consumers=consumers)

    def status(self) -> Answer:
        """Whether it leads, and whether it may be used."""
        leads = str(self.replication._getLeader()) == str(self.replication.selfNode)
        return Answer(leads=leads, ready=bool(self.replication.isReady()))

    def begin(self, shape: Shape, caller: int) -> Begin:
        """What a caller repeats."""
        if shape.workload == "counter":
            return lambda done: self.count.inc(callback=done)
        value = value_of(shape)
        if shape.workload == "queue":
            return lambda done: self.queue.put(value, callback=self._take(done))
        keys = Keys(shape, caller)
        return lambda done: self.entries.set(keys.name(), value, callback=done)

    def _take(self, done: Done) -> Done:
        def then(result: Any, error: Any) -> None:
            if error:
                done(result, error)
            else:
                self.queue.get(callback=done)

        return then

    def load(self, asked: Ask, begun: Callable[[], None]) -> Load:
        """Makes a load; raises LoadFailed if nothing is answered."""
        shape = asked.shape
        if shape is None:
            raise LoadFailed("a load has a shape")
        self._prepare(shape)
        calls = [self.begin(shape, caller) for caller in range(shape.callers)]
        if asked.warm_up:
            run(calls, shape.rate, asked.warm_up)
        begun()
        began = perf_counter()
        found = run(calls, shape.rate, asked.seconds)
        # The time of this process is the server's too, and counted there.
        return found.load(perf_counter() - began, None)

    def _prepare(self, shape: Shape) -> None:
        value, written = value_of(shape), threading.Semaphore(0)
        for number in range(shape.keys):
            self.entries.set(key_name(number), value, callback=lambda result, error: written.release())
        for _ in range(shape.keys):
            if not written.acquire(timeout=GRACE_SECONDS):
                raise LoadFailed("what the load needs is not written")


def run(calls: list[Begin], rate: float | None, seconds: float) -> Found:
    """Lets every caller call again when it is answered, or at a rate; waits for the last answers."""
    found = Found(Pace(rate, perf_counter(), seconds))
    over = threading.Semaphore(0)
    record = found.latencies.record

    def again(begin: Begin) -> None:
        """On the thread that answers, or for the first time on the one that asks."""
        due = found.pace.next(perf_counter())
        if due is None:
            over.release()
            return

        def done(result: Any, error: Any) -> None:
            if error:
                found.failed(RuntimeError(f"PySyncObj's reason {error}"))
            else:
                record(perf_counter() - due)
            again(begin)

        begin(done)

    if rate is None:
        for begin in calls:
            again(begin)
    else:
        _dispatch(calls, found, over)
    for _ in calls:
        if not over.acquire(timeout=seconds + GRACE_SECONDS):
            raise LoadFailed(f"calls were not answered within {GRACE_SECONDS:.0f} s after the measurement")
    return found


def _dispatch(calls: list[Begin], found: Found, over: threading.Semaphore) -> None:
    """Begins calls when they are due; ``over`` is released by each caller that is idle again."""
    idle = list(calls)
    for _ in calls:
        over.release()
    while (due := found.pace.next(perf_counter())) is not None:
        time.sleep(max(due - perf_counter(), 0.0))
        over.acquire()
        if found.pace.gives_up(perf_counter()):
            over.release()
            continue
        begin = idle.pop()

        def done(result: Any, error: Any, begin: Begin = begin, due: float = due) -> None:
            if error:
                found.failed(RuntimeError(f"PySyncObj's reason {error}"))
            else:
                found.latencies.record(perf_counter() - due)
            idle.append(begin)
            over.release()

        begin(done)


class Control(socketserver.ThreadingTCPServer):
    """Answers questions, each a line, of connections each on a thread."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int, node: Node) -> None:
        super().__init__(("127.0.0.1", port), Questions)
        self.node: Final = node


class Questions(socketserver.StreamRequestHandler):
    """One connection."""

    server: Control

    def handle(self) -> None:
        """Answers until the connection ends."""
        with suppress(ConnectionError):
            for line in self.rfile:
                self._say(msgspec.json.encode(self._answer(msgspec.json.decode(line, type=Ask))))

    def _answer(self, asked: Ask) -> Answer:
        if asked.ask == "status":
            return self.server.node.status()
        try:
            return Answer(load=self.server.node.load(asked, lambda: self._say(BEGUN.encode())))
        except LoadFailed as error:
            return Answer(failed=str(error))

    def _say(self, line: bytes) -> None:
        self.wfile.write(line + b"\n")
        self.wfile.flush()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers.pysyncobj_node")
    parser.add_argument("--own", required=True, help="its address among the nodes, host:port")
    parser.add_argument("--others", default="", help="theirs, by commas")
    parser.add_argument("--control", type=int, required=True, help="port of questions")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--tick-seconds", type=float, default=DEFAULT.tick_seconds)
    parser.add_argument("--append-seconds", type=float, default=DEFAULT.append_seconds)
    given = parser.parse_args()
    others = [one for one in given.others.split(",") if one]
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    periods = Periods(given.tick_seconds, given.append_seconds)
    node = Node(given.own, others, given.directory, periods)
    with Control(given.control, node) as control:
        try:
            control.serve_forever(poll_interval=0.1)
        finally:
            node.replication.destroy()


if __name__ == "__main__":
    main()
