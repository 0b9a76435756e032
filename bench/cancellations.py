"""Calls that wait, called off at random moments: they must leave the primitives as if never called.

``python -m bench.cancellations --url quorate://127.0.0.1:7400 --count 10000``

Many callers of one client acquire a lock and a map's key, take and poll from a queue, and campaign in an
election, while another client keeps these busy: each call is cancelled after a random time. At the end,
nobody holds, waits or stands, and the queue has what was offered and not delivered, in the order offered.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from bench.histories import HistoryViolation
from primitives.errors import QuorateError, Unavailable
from router.client import connect
from router.openers import Openers

CALLERS: Final = 24
LONGEST_SECONDS: Final = 0.02
"""Until a call is cancelled, at the most."""
BUSY_SECONDS: Final = 0.01
"""How long the other client holds something, at the most."""
SETTLE_SECONDS: Final = 20.0
"""Within so long everything must be as if nothing had been called."""
REACH_SECONDS: Final = 20.0
"""Within so long the cluster is to answer a first call."""
KEY: Final = "key"


@dataclass(slots=True)
class Tally:
    """What came of the calls."""

    cancelled: Counter[str] = field(default_factory=Counter)
    completed: Counter[str] = field(default_factory=Counter)
    """Calls that ended before they were cancelled; what they were granted was given back."""
    seconds: float = 0.0


class Cancellations:
    """Random cancellations by ``client``, while ``other`` keeps the primitives busy."""

    def __init__(self, client: Openers, other: Openers, count: int, dice: random.Random, name: str) -> None:
        self._client: Final = client
        self._other: Final = other
        self._count: Final = count
        self._dice: Final = dice
        self._name: Final = name
        self._offered: list[int] = []
        self._delivered: set[int] = set()
        self.tally: Final = Tally()
        self._kinds: Final[dict[str, Callable[[], Awaitable[Any]]]] = {
            "acquire": lambda: client.lock(name).acquire(),
            "lock a key": lambda: client.map(name + " map").lock(KEY).acquire(),
            "campaign": lambda: client.election(name + " election").stand("x"),
            "take": lambda: client.queue(name + " queue").take(),
            "poll": lambda: client.queue(name + " queue").poll(),
        }

    async def run(self) -> Tally:
        """Makes the calls and judges what is left. Raises HistoryViolation, or Unavailable if the cluster
        does not answer."""
        begun = time.monotonic()
        try:
            with trio.fail_after(REACH_SECONDS):
                await self._other.queue(self._name + " queue").clear()
        except trio.TooSlowError:
            raise Unavailable(f"the cluster did not answer within {REACH_SECONDS:g} s") from None
        async with trio.open_nursery() as busy:
            for work in (self._offer, self._hold_lock, self._hold_key, self._lead):
                busy.start_soon(work)
            async with trio.open_nursery() as callers:
                for _ in range(CALLERS):
                    callers.start_soon(self._call)
            busy.cancel_scope.cancel()
        try:
            with trio.fail_after(SETTLE_SECONDS):
                await self._check()
        except trio.TooSlowError:
            text = f"{SETTLE_SECONDS} s after the last call something is left of them"
            raise HistoryViolation(text) from None
        self.tally.seconds = time.monotonic() - begun
        return self.tally

    # --- Calls that are cancelled ---------------------------------------------------------------------

    async def _call(self) -> None:
        while self.tally.cancelled.total() < self._count:
            kind = self._dice.choice(list(self._kinds))
            with trio.move_on_after(self._dice.random() ** 2 * LONGEST_SECONDS) as scope:
                result = await self._kinds[kind]()
            if scope.cancelled_caught:
                self.tally.cancelled[kind] += 1
                continue
            self.tally.completed[kind] += 1
            if kind not in ("take", "poll"):
                await result.release()
            elif result is not None:
                self._deliver(result)

    def _deliver(self, element: int) -> None:
        if element in self._delivered:
            raise HistoryViolation(f"{element} is delivered twice")
        self._delivered.add(element)

    # --- What keeps the primitives busy ---------------------------------------------------------------

    async def _pause(self) -> None:
        await trio.sleep(self._dice.random() * BUSY_SECONDS)

    async def _offer(self) -> None:
        queue = self._other.queue(self._name + " queue")
        while True:
            self._offered.append(len(self._offered))
            with trio.CancelScope(shield=True):
                await queue.offer(self._offered[-1])
            await self._pause()

    async def _hold_lock(self) -> None:
        while True:
            async with self._other.lock(self._name):
                await self._pause()
            await self._pause()

    async def _hold_key(self) -> None:
        while True:
            async with self._other.map(self._name + " map").lock(KEY):
                await self._pause()
            await self._pause()

    async def _lead(self) -> None:
        while True:
            async with self._other.election(self._name + " election").campaign("busy"):
                await self._pause()
            await self._pause()

    # --- What is left ---------------------------------------------------------------------------------

    async def _check(self) -> None:
        for lock in (self._other.lock(self._name), self._other.map(self._name + " map").lock(KEY)):
            while True:
                grant = await lock.try_acquire()
                if grant is not None:
                    break
                await trio.sleep(0.05)
            await grant.release()
        election = self._other.election(self._name + " election")
        while True:
            leadership = await election.leadership()
            if leadership.leader is None and not leadership.candidates:
                break
            await trio.sleep(0.05)
        queue = self._other.queue(self._name + " queue")
        left = [element for element in self._offered if element not in self._delivered]
        while (found := [element async for element in queue]) != left:
            if len(found) == len(left):
                raise HistoryViolation(f"of {left} the queue has {found}")
            await trio.sleep(0.05)
        # Nobody waits any more: what is offered now stays.
        await queue.offer(-1)
        if [element async for element in queue] != [*left, -1]:
            raise HistoryViolation("somebody took an element, whose call had been cancelled")
        await queue.clear()


async def cancel_randomly(url: str, count: int, seed: int) -> Tally:
    """``count`` cancellations against a running cluster. Raises HistoryViolation or QuorateError."""
    async with connect(url) as client, connect(url) as other:
        return await Cancellations(client, other, count, random.Random(seed), f"cancelled {seed}").run()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.cancellations", description=__doc__)
    parser.add_argument("--url", required=True, help="the cluster")
    parser.add_argument("--count", type=int, default=10_000, help="how many calls are cancelled")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args(arguments)
    try:
        tally = trio.run(cancel_randomly, options.url, options.count, options.seed)
    except HistoryViolation as violation:
        print(f"violation: {violation}", file=sys.stderr)
        return 1
    except QuorateError as error:
        print(f"{options.url}: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        return 1
    cancelled = ", ".join(f"{kind} {number}" for kind, number in sorted(tally.cancelled.items()))
    print(
        f"{tally.cancelled.total()} calls were cancelled ({cancelled}) and {tally.completed.total()}"
        f" completed in {tally.seconds:.1f} s; nothing is left of them"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
