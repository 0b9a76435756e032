"""The log syncer: one thread that does nothing but make written rounds durable.

A sync takes hundreds of microseconds and lets other threads run meanwhile; from a thread of its own, woken
through a queue and answering through the event loop's thread-safe door, it costs the loop some ten
microseconds. What is asked for during a sync shares the next one.

Python lets one thread run at a time, and compiled code lets no other run before it comes to a system call. A
loop that goes on to apply for half a millisecond would hold up the sync for as long, so it stands aside until
the thread has come to its own system call.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol

BEGIN_S: Final = 0.002
"""So long at most a sync's beginning is waited for: on a busy machine the thread may not get a processor."""


class Durable(Protocol):
    """What is synced."""

    def sync(self) -> None:
        """Makes durable all that was written before the call. Blocks. Raises when it cannot."""


class Door(Protocol):
    """The way back onto the event loop's thread: a :class:`router.readiness.Readiness`, or a test's."""

    def run_sync_soon(self, call: Callable[..., object], *args: Any) -> None:
        """Has ``call`` run on the loop's thread, from any thread."""


class SyncThread:
    """The :class:`shards.ports.Syncer` of a real node. :meth:`request` and :meth:`close` on one thread.

    ``done`` is called on the loop's thread with the highest round of each sync that succeeded. ``failed``
    is called there once, with the error of the one that did not, and nothing is synced after it: the
    system may have dropped what it could not write, so that a second try would succeed without it.
    """

    __slots__ = ("_begun", "_done", "_door", "_failed", "_is_new", "_last", "_queue", "_store", "_thread")

    def __init__(
        self, store: Durable, door: Door, done: Callable[[int], object], failed: Callable[[Exception], object]
    ) -> None:
        self._store: Final = store
        self._door: Final = door
        self._done: Final = done
        self._failed: Final = failed
        self._begun: Final = threading.Lock()
        """Let go when a sync begins, held by nobody in particular."""
        self._last: int | None = None
        """The last round that was asked for and is not known to be durable."""
        self._is_new = False
        """Whether no other sync was under way when it was asked for, and nobody has waited for its begin."""
        self._queue: Final[queue.SimpleQueue[int | None]] = queue.SimpleQueue()
        self._thread: Final = threading.Thread(target=self._run, name="log syncer", daemon=True)
        self._thread.start()

    def request(self, round_number: int) -> None:
        """Asks that everything written up to ``round_number``, by now, be synced. After a failure or
        :meth:`close` no answer comes."""
        if self._last is None:
            self._is_new = True
            self._begun.acquire(blocking=False)
        self._last = round_number
        self._queue.put(round_number)

    def begin(self) -> None:
        """Waits until the sync that was asked for begins, if none was under way: some 50 µs, at most
        ``BEGIN_S``."""
        if self._is_new:
            self._is_new = False
            self._begun.acquire(timeout=BEGIN_S)

    def close(self) -> None:
        """Ends the thread, after the syncs that were asked for. Blocks for these."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (wanted := self._next()) is not None:
            if self._begun.locked():
                self._begun.release()
            try:
                self._store.sync()
            except Exception as error:
                self._door.run_sync_soon(self._failed, error)
                return
            self._door.run_sync_soon(self._finish, wanted)

    def _finish(self, round_number: int) -> object:
        """On the loop's thread."""
        if self._last == round_number:
            self._last = None
        return self._done(round_number)

    def _next(self) -> int | None:
        """The highest round asked for, once there is one; None when it is time to end."""
        wanted = self._queue.get()
        while wanted is not None and not self._queue.empty():
            later = self._queue.get()
            if later is None:
                # First what was asked for before.
                self._queue.put(None)
                break
            wanted = max(wanted, later)
        return wanted
