"""What handles see of a watch on trio: one task that takes events, parked while there are none."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final

import trio

from primitives.errors import InvariantViolation, Unavailable
from primitives.handle import Reference
from primitives.position import Position
from primitives.watch import StreamEvent
from router.client_driver import ClientDriver
from router.session_streams import Watch

_BURST: Final = 64
"""So many events in a row are given without letting other tasks run."""


class ClientWatch:
    """See ``primitives.watch.WatchPort``."""

    __slots__ = ("_burst", "_closed", "_driver", "_options", "_ref", "_task", "_watch")

    def __init__(self, driver: ClientDriver, ref: Reference, **options: Any) -> None:
        """``options`` are those of ``ClientPort.watch``."""
        self._driver: Final = driver
        self._ref: Final = ref
        self._options: Final = options
        self._watch: Watch | None = None
        self._task: trio.lowlevel.Task | None = None
        self._burst = 0
        self._closed = False

    @property
    def existed(self) -> bool:
        """See ``WatchPort``."""
        return self._watch is not None and self._watch.existed

    @property
    def position(self) -> Position | None:
        """See ``WatchPort``."""
        return None if self._watch is None else self._watch.position

    async def __aenter__(self) -> ClientWatch:
        """See ``WatchPort``."""
        driver = self._driver
        if self._watch is not None:
            raise InvariantViolation("a watch is entered once")
        driver.add_watcher(self)
        watch = self._watch = driver.core.watches.begin(
            driver.clock(), self._ref, token=self, **self._options
        )
        driver.wake()
        try:
            await trio.lowlevel.checkpoint()
            while not watch.is_standing and watch.error is None:
                await self._park()
            if not watch.is_standing and watch.error is not None:
                raise watch.error
        except BaseException:
            self._end(watch)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See ``WatchPort``."""
        if self._watch is not None:
            self._end(self._watch)

    def _end(self, watch: Watch) -> None:
        driver = self._driver
        driver.core.watches.end(driver.clock(), watch)
        driver.remove_watcher(self)
        driver.wake()

    def pop(self) -> StreamEvent | None:
        """See ``WatchPort``."""
        watch = self._watch
        if watch is None:
            raise InvariantViolation("events are taken from a watch that was not entered")
        watches = self._driver.core.watches
        event = watches.pop(watch)
        if watches.has_work:
            self._driver.wake()
        return event

    async def next(self) -> StreamEvent:
        """See ``WatchPort``."""
        self._burst += 1
        if self._burst > _BURST:
            self._burst = 0
            await trio.lowlevel.checkpoint()
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
        while (event := self.pop()) is None:
            await self._park()
        return event

    async def _park(self) -> None:
        if self._closed:
            raise Unavailable("the client is closed")
        if self._task is not None:
            raise InvariantViolation("two tasks take events from one watch")
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _: Any) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def wake(self) -> None:
        """There is something new."""
        if self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task)

    def close(self) -> None:
        """The client is closed: whoever waits gets an error."""
        self._closed = True
        self.wake()
