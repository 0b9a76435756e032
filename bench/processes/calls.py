"""One caller of a workload: each call is recorded, with what came of it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, TypeVar

import trio

from bench.checker.record import Recorder
from primitives.errors import QuorateError, Retry
from router.client import Client

T = TypeVar("T")
QUERIES: Final = frozenset((
    "get", "entry", "contains", "size", "items", "elements", "peek", "holder", "leader", "next", "open",
))  # fmt: skip
"""Operations that change nothing."""
WAITING: Final = frozenset(("queue take",))
"""Operations that rightly wait for as long as nobody offers anything."""
PAUSE_AFTER_UNKNOWN: Final = 1.0
"""Calls of unknown outcome stay open for ever, and each makes a history dearer to judge: this bounds them."""


class Nothing(Exception):
    """A call gave no result: it failed, or nobody knows."""


@dataclass
class Counts:
    """What came of all calls of a process, since it was last asked."""

    writes: int = 0
    reads: int = 0
    failed: int = 0
    unknown: int = 0
    written_at: dict[str, float] = field(default_factory=dict)
    """When the last change was acknowledged: of each workload, and of all of them."""
    gaps: list[tuple[str, float, float]] = field(default_factory=list)
    """Times without one, of a workload or of all, that ended since last asked."""

    def ok(self, workload: str, op: str) -> None:
        """A call of this operation gave a result."""
        if op in QUERIES:
            self.reads += 1
            return
        self.writes += 1
        now = time.monotonic()
        for whose, least in ((ALL, GAP_SECONDS), (workload, WORKLOAD_GAP_SECONDS)):
            before = self.written_at.get(whose, now)
            if now - before > least:
                self.gaps.append((whose, before, now))
            self.written_at[whose] = now

    def taken(self) -> dict[str, Any]:
        """What is counted, for the report; counts from 0 again."""
        told = {
            "at": time.monotonic(), "writes": self.writes, "reads": self.reads, "failed": self.failed,
            "unknown": self.unknown, "gaps": self.gaps,
        }  # fmt: skip
        self.writes = self.reads = self.failed = self.unknown = 0
        self.gaps = []
        return told


ALL: Final = "all"
"""All workloads together, among gaps."""
GAP_SECONDS: Final = 0.25
"""A longer time without any acknowledged change is a gap."""
WORKLOAD_GAP_SECONDS: Final = 0.75
"""The same of one workload, whose few callers pause, too."""


class Caller:
    """One task that calls, under one process name at a time."""

    def __init__(
        self, name: str, session: str, client: Client, recorder: Recorder, counts: Counts, random: Random
    ) -> None:
        self.session: Final = session
        """Of the client whose reads must not go back in time."""
        self.client: Final = client
        self.recorder: Final = recorder
        self.random: Final = random
        self.op: str | None = None
        """The last call."""
        self.idle: Final = trio.Event()
        """It calls no more."""
        self._counts: Final = counts
        self._workload: Final = name.partition(".")[0]
        self.process = name
        """Its name in the history, another one after each unknown outcome."""

    async def call(
        self, kind: str, name: str, op: str, args: list[Any], do: Callable[[], Awaitable[T]], *,
        limit: float | None = None, told: Callable[[T], Any] = lambda result: result,
        position: Callable[[T], int | None] = lambda result: None, read: str | None = None, **extra: Any,
    ) -> T:  # fmt: skip
        """Makes a call and records it; raises :class:`Nothing` if it gives no result within ``limit``
        seconds. ``told`` makes what is recorded of the result."""
        self.recorder.invoke(self.process, kind, name, op, args, read=read, **extra)
        self.op = f"{kind} {op}"
        try:
            with trio.move_on_after(float("inf") if limit is None else limit):
                result = await do()
                self.recorder.ok(self.process, told(result), position=position(result))
                self._counts.ok(self._workload, op)
                return result
            self._unknown("its time limit passed")
        except QuorateError as error:
            said = f"{type(error).__name__}: {error}"
            if error.retry is Retry.AMBIGUOUS:
                self._unknown(said)
            else:
                self._counts.failed += 1
                self.recorder.fail(self.process, said)
                if error.retry is Retry.NEVER:
                    raise
        except trio.Cancelled:
            self._unknown("it was called off")
            raise
        await trio.sleep(PAUSE_AFTER_UNKNOWN)
        raise Nothing

    def _unknown(self, why: str) -> None:
        self._counts.unknown += 1
        self.recorder.info(self.process, why)
        self.process = self.recorder.fresh(self.process)
