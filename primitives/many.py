"""Client calls about many entries of a primitive: in pages and in parts, each bounded in rows and bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, Generic, TypeVar

from primitives.errors import Unavailable
from primitives.handle import ClientPort, ReadLevel, Reference, together
from primitives.limits import ARGUMENT_BYTES_MAX, PAGE_ROWS_MAX, VALUE_BYTES_MAX
from primitives.pages import decode_page, decode_series

T = TypeVar("T")

PUT_MANY_MAX: Final = 160
"""Entries of one command that sets many: each touches up to six rows of a machine's, namely if it takes the
place of one that is void, and all of them fit into ``limits.ROWS_A_COMMAND_MAX``."""
_KEYS_BYTES_MAX: Final = ARGUMENT_BYTES_MAX - 64
_KEY_OVERHEAD_BYTES: Final = 8
"""At most this much of the arguments goes to each key, besides its bytes: its head, and a value's length."""


class Walk(Generic[T]):
    """An asynchronous iterator over the rows of all partitions, by pages: the query ``op`` with the arguments
    ``[after, rows, values]``. A row's key and content become an item through ``made``. ``after`` is where the
    first partition begins, and ``most`` bounds the items.

    It may be left at any time without closing it. Iterating waits for the cluster at each page, and raises
    ``QuorateError`` if that fails; it must not be done by two tasks at once.
    """

    __slots__ = ("_after", "_left", "_made", "_op", "_partitions", "_port", "_read", "_ref", "_rows",
                 "_values")  # fmt: skip

    def __init__(
        self, port: ClientPort, ref: Reference, op: int, made: Callable[[bytes, bytes], T], *, values: bool,
        read: ReadLevel, after: bytes = b"", most: int | None = None,
    ) -> None:  # fmt: skip
        self._port: Final = port
        self._ref: Final = ref
        self._op: Final = op
        self._made: Final = made
        self._values: Final = values
        self._read: Final = read
        self._partitions: deque[int] | None = None
        """Those not yet read to their end, the current one first; None before the first step."""
        self._rows: deque[tuple[bytes, bytes]] = deque()
        self._after = after
        self._left: int | None = most

    def __aiter__(self) -> Walk[T]:
        """Itself."""
        return self

    async def __anext__(self) -> T:
        """The next item."""
        if self._left is not None:
            if self._left == 0:
                raise StopAsyncIteration
            self._left -= 1
        while not self._rows:
            if self._partitions is None:
                number = await self._port.partitions(self._ref)
                self._partitions = deque(range(0 if number is None else max(1, number)))
            if not self._partitions:
                raise StopAsyncIteration
            await self._turn(self._partitions)
        return self._made(*self._rows.popleft())

    async def _turn(self, partitions: deque[int]) -> None:
        """Reads a page."""
        rows_max = PAGE_ROWS_MAX if self._left is None else min(PAGE_ROWS_MAX, self._left + 1)
        args = [self._after, rows_max, self._values]
        answer = await self._port.query(self._ref, self._op, args, partition=partitions[0], read=self._read)
        rows, more = ([], False) if answer is None else decode_page(answer.result)
        self._rows.extend(rows)
        if more:
            self._after = rows[-1][0]
        else:
            self._after = b""
            partitions.popleft()


def fitting(sizes: Sequence[int], bytes_max: int) -> int:
    """How many of the first ``sizes`` have at most ``bytes_max`` together; at least one."""
    total = 0
    for count, size in enumerate(sizes):
        total += size
        if count and total > bytes_max:
            return count
    return len(sizes)


def head(keys: Iterable[bytes]) -> int:
    """How many of the first ``keys`` fit into one command's or query's arguments."""
    return fitting([len(key) + _KEY_OVERHEAD_BYTES for key in keys], _KEYS_BYTES_MAX)


async def partition_of(port: ClientPort, ref: Reference, key: bytes) -> int:
    """The partition that holds a key of a primitive, which is created if need be."""
    spread = await port.spread(ref, [key], create=True)
    if not spread:
        raise Unavailable("where the key is kept is not known yet")
    return spread[0][0]


async def everywhere(port: ClientPort, ref: Reference, call: Callable[[int], Awaitable[T]]) -> list[T]:
    """What ``call`` gives for every partition, at the same time; nothing if the primitive does not exist."""
    partitions = await port.partitions(ref)
    if partitions is None:
        return []
    return await together([partial(call, number) for number in range(max(1, partitions))])


async def fetch_many(
    port: ClientPort, ref: Reference, op: int, keys: Sequence[bytes], read: ReadLevel
) -> list[bytes | None]:
    """The contents under ``keys``, None where there is none: the query ``op`` with keys for arguments, which
    answers a series, for all partitions at the same time."""
    contents: list[bytes | None] = [None] * len(keys)

    async def fetch(partition: int, positions: list[int]) -> None:
        while positions:
            page = positions[:PAGE_ROWS_MAX]
            args = [keys[at] for at in page[: head(keys[at] for at in page)]]
            answer = await port.query(ref, op, args, partition=partition, read=read)
            if answer is None:
                return
            series = decode_series(answer.result)
            for at, content in zip(positions, series, strict=False):
                contents[at] = content
            positions = positions[len(series) :]

    spread = await port.spread(ref, keys) if keys else None
    await together([partial(fetch, *part) for part in spread or ()])
    return contents


async def send_many(
    port: ClientPort, ref: Reference, op: int, first: int, keys: Sequence[bytes], values: Sequence[bytes]
) -> None:
    """Executes the command ``op`` with ``[first, key, length, ...]`` and the values for body, in as many
    parts as it needs: those of a partition one after the other, all partitions at the same time."""

    async def send(partition: int, positions: list[int]) -> None:
        while positions:
            page = positions[:PUT_MANY_MAX]
            page = page[: head(keys[at] for at in page)]
            page = page[: fitting([len(values[at]) for at in page], VALUE_BYTES_MAX)]
            args: list[Any] = [first]
            for at in page:
                args += (keys[at], len(values[at]))
            await port.command(ref, op, args, b"".join(values[at] for at in page), partition=partition)
            positions = positions[len(page) :]

    spread = await port.spread(ref, keys, create=True) if keys else None
    await together([partial(send, *part) for part in spread or ()])
