"""Elements that are handed over, each once: a queue, and a list that is used like one."""

from __future__ import annotations

from typing import ClassVar, Final

from bench.histories import Ground, HistoryViolation, TimeLimit, within
from bench.workloads import LIMITS_MS, Workload
from primitives.errors import QuorateError, Retry
from primitives.queue import Queue, QueueFull
from router.openers import Openers

DRAIN_PAUSE_MS: Final = 200
PUT_BACK_MS: Final = 4000
"""How long elements that cancelled calls took are waited for at the end."""


class _Element:
    """An element and what is known of it."""

    __slots__ = ("begun_ms", "offered_ms", "taken")

    def __init__(self, begun_ms: int) -> None:
        self.begun_ms = begun_ms
        self.offered_ms: int | None = None
        """When its offer was acknowledged; None: unknown or not yet."""
        self.taken = False


class QueueWorkload(Workload):
    """Elements offered, polled and taken. Each is delivered once at the most, those that are left come in the
    order offered, and no more of the acknowledged ones are missing than calls that took them can have."""

    NAME = "queue"
    TAKE_LIMITS_MS: ClassVar[tuple[int, ...]] = (2, 5, 10, 20, 300, 2000, 10_000)

    def __init__(self, name: str = "jobs") -> None:
        self.name = name
        self.delivered = 0
        self.missing = 0
        """Elements whose offers were acknowledged, and that nobody got: known at the end."""
        self._elements: dict[int, _Element] = {}
        self._void: set[int] = set()
        """Elements whose offers surely took no effect."""
        self._open = 0
        """Calls that may have taken an element, and did not say which: those under way count, too."""

    async def call(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        if ground.random.randrange(9) < 5:
            await self._offer(client, ground)
        else:
            await self._take(client, ground, wait=ground.random.random() < 0.5)

    async def finish(self, client: Openers, ground: Ground) -> None:
        """See :class:`Workload`."""
        left: list[int] = []
        until_ms = ground.now_ms() + PUT_BACK_MS
        while True:
            while (element := await self._shift(client, wait=False)) is not None:
                self._deliver(element)
                left.append(element)
            known = [one for one in self._elements.values() if one.offered_ms is not None]
            self.missing = sum(not one.taken for one in known)
            if not self.missing or (self.missing <= self._open and ground.now_ms() > until_ms):
                break
            # What a cancelled call took is put back in the background, unless its session ended.
            await ground.sleep_ms(DRAIN_PAUSE_MS)
        self._check_order(left)

    def _check_order(self, left: list[int]) -> None:
        """What was left at the end came out as it was offered, but what was put back while it did."""
        last = 0
        for element in left:
            one = self._elements[element]
            if one.offered_ms is not None and one.offered_ms < last and not self._open:
                raise HistoryViolation(f"{self.name}: {element} was offered before, and came after, another")
            last = max(last, one.begun_ms)

    def _deliver(self, element: int) -> None:
        one = self._elements.get(element)
        if one is None or element in self._void:
            raise HistoryViolation(f"{self.name}: {element!r} is delivered, which nobody offered")
        if one.taken:
            raise HistoryViolation(f"{self.name}: {element} is delivered twice")
        one.taken = True
        self.delivered += 1

    async def _offer(self, client: Openers, ground: Ground) -> None:
        count = ground.random.choice((1, 1, 1, 4))
        first = len(self._elements) + 1
        elements = list(range(first, first + count))
        for element in elements:
            self._elements[element] = _Element(ground.now_ms())
        limit_ms = ground.random.choice(LIMITS_MS)
        try:
            await within(ground, limit_ms, lambda: self._append(client, elements))
        except TimeLimit:
            return
        except QuorateError as error:
            self._judge(error)
            if error.retry is Retry.SAFE:
                self._void.update(elements)
            return
        for element in elements:
            self._elements[element].offered_ms = ground.now_ms()

    async def _take(self, client: Openers, ground: Ground, *, wait: bool) -> None:
        limit_ms = ground.random.choice(self.TAKE_LIMITS_MS)
        self._open += 1
        try:
            element = await ground.within(limit_ms, lambda: self._shift(client, wait=wait))
        except TimeLimit:
            return
        except QuorateError as error:
            self._judge(error)
            self._open -= error.retry is Retry.SAFE
            return
        self._open -= 1
        if element is not None:
            self._deliver(element)
        elif wait:
            raise HistoryViolation(f"{self.name}: a taker that waits was given nothing")

    def _judge(self, error: QuorateError) -> None:
        if error.retry is Retry.NEVER:
            raise HistoryViolation(f"{self.name}: {type(error).__name__}: {error}") from error

    def _queue(self, client: Openers) -> Queue:
        return client.queue(self.name)

    async def _append(self, client: Openers, elements: list[int]) -> None:
        """Offers elements, of which there may be several."""
        queue = self._queue(client)
        if len(elements) == 1:
            await queue.offer(elements[0])
        else:
            await queue.offer_many(elements)

    async def _shift(self, client: Openers, *, wait: bool) -> int | None:
        """Takes the first element; None if there is none, unless it is to wait."""
        queue = self._queue(client)
        found: int | None = await (queue.take() if wait else queue.poll())
        return found


class BoundedQueueWorkload(QueueWorkload):
    """A queue of few places. An offer may be refused only if the queue can have been full while it was made,
    and there are never more elements than places, but for those that cancelled calls put back."""

    NAME = "bounded"
    TAKE_LIMITS_MS = (2000, 10_000)
    """Seldom reached: each call that is cut short may have made room, and blurs what is known."""

    def __init__(self, name: str = "places", *, capacity: int = 5) -> None:
        super().__init__(name)
        self._capacity = capacity
        self.refused = 0
        """Offers that found the queue full."""

    def _queue(self, client: Openers) -> Queue:
        return client.queue(self.name, capacity=self._capacity)

    async def _append(self, client: Openers, elements: list[int]) -> None:
        gone = self.delivered
        try:
            await super()._append(client, elements)
        except QueueFull:
            self.refused += 1
            most = len(self._elements) - len(self._void) - gone
            if most <= self._capacity:  # With those that were to be offered here.
                raise HistoryViolation(
                    f"{self.name}: an offer of {len(elements)} finds no room in {self._capacity} places,"
                    f" which hold {most - len(elements)} at the most"
                ) from None
            raise
        known = sum(one.offered_ms is not None for one in self._elements.values())
        least = known + len(elements) - self.delivered - self._open
        if least > self._capacity:
            raise HistoryViolation(f"{self.name}: {least} elements at the least in {self._capacity} places")


class ListWorkload(QueueWorkload):
    """A list, appended to and popped from its head; judged like a queue."""

    NAME = "list"

    def __init__(self, name: str = "steps") -> None:
        super().__init__(name)

    async def _append(self, client: Openers, elements: list[int]) -> None:
        of = client.list(self.name)
        if len(elements) == 1:
            await of.append(elements[0])
        else:
            await of.extend(elements)

    async def _take(self, client: Openers, ground: Ground, *, wait: bool) -> None:
        await super()._take(client, ground, wait=False)

    async def _shift(self, client: Openers, *, wait: bool) -> int | None:
        try:
            found: int = await client.list(self.name).pop(0)
        except IndexError:
            return None
        return found
