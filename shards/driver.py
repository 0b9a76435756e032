"""The engine's driver: one task that runs rounds and carries out what they want.

It sleeps until something arrives, somebody puts something into the engine's inbox and wakes it, or the time
comes that the last round named. What has arrived anywhere by then is put in first, so that one round takes it
all.

Inside a user's process an interrupt (KeyboardInterrupt) is for the user's code: it would else be raised in
the middle of a round. So the tasks of nodes and clients are protected from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, Protocol

import trio

from primitives.ids import NodeId
from router.network import Lookout
from shards.carrying import Carrier, ClientSender, PeerSender
from shards.ports import Effects, Syncer

HAND_OVER_S: Final = 1.0
HOLD_MS: Final = 5
"""While a sync is under way the next round waits for its end, but no longer than this. What arrives meanwhile
can be written, but made durable only by the next sync; so a round for each sync, instead of one for each
packet, serves far more calls for the same processor time."""


class Rounds(Protocol):
    """The engine, as its driver sees it."""

    @property
    def ready(self) -> bool:
        """Whether every group here knows its leader."""

    def round(self, send: Callable[[Effects], object]) -> Effects:
        """Does what the inbox and the clock ask for. ``send`` is given what is not to wait for the rest."""

    def sync_done(self, round_number: int) -> None:
        """Everything written up to this round is durable."""

    def leave(self) -> None:
        """The node is about to stop: hands over what it leads."""

    @property
    def is_leaving(self) -> bool:
        """Whether something is still to be handed over."""


class Doorbell:
    """Wakes the one task that waits for it: by a ring, at a time, or when something arrives where it looks.

    The task waits for all sockets of the node as for one, and takes what they have before it goes on: so a
    packet costs neither a task's wake nor a turn of the event loop of its own.
    """

    __slots__ = ("_alarm", "_due", "_held", "_parked", "_readiness", "_rung")

    def __init__(self, readiness: Lookout) -> None:
        self._readiness: Final = readiness
        self._parked = False
        self._held = False
        self._rung = False
        self._due = math.inf
        self._alarm: trio.CancelScope | None = None

    def ring(self) -> None:
        """Wakes the task, or keeps it from its next sleep. On the loop's thread; costs little, least for who
        is called by what the task takes."""
        self._rung = True
        if self._parked and not self._held:
            self._wake()

    def _wake(self) -> None:
        self._parked = False
        self._readiness.knock()

    def hush(self) -> None:
        """Forgets rings: what they were for is about to be done."""
        self._rung = False

    async def wait(self, wait_ms: int, *, held: bool = False) -> None:
        """Sleeps until rung, until something arrives, or so many milliseconds; lets others run in any case.
        Then what is there is handed to whoever takes it.

        ``held``: sleeps until somebody comes to the door (a sync is done, as a rule), at most ``HOLD_MS``,
        whatever else arrives and rings.

        The alarm is one scope that lives until it goes off, with its deadline moved for each wait: that costs
        far less than a scope for each, and than one that goes off for waits which are over.
        """
        if wait_ms <= 0 or (self._rung and not held):
            await trio.lowlevel.checkpoint()
        else:
            self._due = trio.current_time() + (min(wait_ms, HOLD_MS) if held else wait_ms) / 1000
            if self._alarm is not None:
                self._alarm.deadline = self._due
            self._parked, self._held = True, held
            try:
                await (self._readiness.wait_at_door() if held else self._readiness.wait())
            finally:
                self._parked = self._held = False
        self._readiness.take()

    @trio.lowlevel.enable_ki_protection
    async def keep_time(self) -> None:
        """Wakes the task when its wait is over; runs for as long as anybody waits."""
        while True:
            with trio.CancelScope(deadline=self._due) as self._alarm:
                await trio.sleep_forever()
            self._due = math.inf
            if self._parked:
                self._wake()


class Driver:
    """Feeds one engine and carries out its effects."""

    def __init__(
        self, engine: Rounds, bell: Doorbell, peers: PeerSender, clients: ClientSender,
        names: Mapping[NodeId, str], ready: Callable[[], object],
    ) -> None:  # fmt: skip
        """``bell`` is rung by whoever puts something into the engine's inbox; ``names`` are those of all
        nodes by id; ``ready`` is called once, when the engine serves."""
        self._engine: Final = engine
        self._bell: Final = bell
        self._carrier: Final = Carrier(peers, clients, names)
        self._ready: Callable[[], object] | None = ready
        self._failure: Exception | None = None
        self._running = False
        self._synced = 0
        """The last round that is known to be durable."""
        self._left: trio.Event | None = None
        """From :meth:`hand_over` on: set once everything is handed over that can be."""

    def synced(self, round_number: int) -> None:
        """A sync is done; on the loop's thread."""
        self._synced = round_number
        self._engine.sync_done(round_number)
        self._bell.ring()

    def failed(self, error: Exception) -> None:
        """A sync failed; on the loop's thread. :meth:`run` raises the error: nothing is written any more."""
        self._failure = self._failure or error
        self._bell.ring()

    async def hand_over(self) -> None:
        """Hands the leaderships here to other nodes, before this one stops; takes ``HAND_OVER_S`` at the
        most, and no time if there is nobody to take them. Rounds go on meanwhile."""
        if not self._running:
            return
        self._left = trio.Event()
        self._engine.leave()
        self._bell.ring()
        with trio.move_on_after(HAND_OVER_S):
            await self._left.wait()

    @trio.lowlevel.enable_ki_protection
    async def run(self, syncer: Syncer) -> None:
        """Runs rounds until cancelled. Raises whatever stops the node."""
        carrier, send = self._carrier, partial(self._carrier.send, syncer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._bell.keep_time)
            self._running = True
            try:
                while True:
                    self._bell.hush()
                    if self._failure is not None:
                        raise self._failure
                    effects = self._engine.round(send)
                    carrier.carry_out(syncer, effects)
                    if self._ready is not None and self._engine.ready:
                        ready, self._ready = self._ready, None
                        ready()
                    if self._left is not None and not self._engine.is_leaving:
                        self._left.set()
                    await self._bell.wait(effects.wake_in_ms, held=self._synced < carrier.asked)
            finally:
                self._running = False
                if self._left is not None:
                    self._left.set()
