"""What every client handle shares, and the port through which it reaches the cluster.

A handle is a name, a type and a port; it keeps no other state and may be used by many tasks at once. It
never imports an event loop: the port does the waiting, and anyio is used for cancel scopes alone. The port
is the client of a cluster, or whatever stands in for one.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ClassVar, Final, Protocol, TypeVar

import anyio

from primitives.codec import check_name, check_namespace
from primitives.ids import PrimitiveId, SlotId
from primitives.limits import INT_MAX, INT_MIN, PARTITIONS_MAX, TTL_MS_MAX
from primitives.position import Position
from primitives.records import Answer, Read
from primitives.watch import BUFFER_BYTES, WatchPort

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReadLevel:
    """How fresh a query's answer must be; the default is :data:`LINEARIZABLE`.

    Whatever the level, and whichever replica answers, a client's view of a primitive never goes back: an
    answer holds all that any call of the same client was told before the query was made.
    """

    level: int = Read.LINEARIZABLE
    """One of ``records.Read``."""


@dataclass(frozen=True, slots=True)
class Causal(ReadLevel):
    """At least as new as ``position``, which any client may have got, from a handle or from a watch. Else
    like :data:`SEQUENTIAL`. A position of another cluster or primitive raises BadPosition at the query."""

    level: int = field(default=Read.CAUSAL, init=False)
    position: Position | None = None
    """None asks for no more than SEQUENTIAL does."""

    def __post_init__(self) -> None:
        if self.position is not None and not isinstance(self.position, Position):
            raise TypeError(f"position is a Position, not {type(self.position).__name__}")


@dataclass(frozen=True, slots=True)
class Stale(ReadLevel):
    """At most ``max_age`` seconds behind a state that was current when the query arrived, proven by whoever
    answers. Raises ValueError or TypeError for anything but a number from 0."""

    level: int = field(default=Read.STALE, init=False)
    max_age: float = 0.0

    def __post_init__(self) -> None:
        if type(self.max_age) is not int and type(self.max_age) is not float:
            raise TypeError(f"max_age is a number of seconds, not {type(self.max_age).__name__}")
        if not 0 <= self.max_age <= TTL_MS_MAX // 1000:
            raise ValueError(f"max_age is 0 to {TTL_MS_MAX // 1000} seconds, not {self.max_age}")


LINEARIZABLE: Final = ReadLevel(Read.LINEARIZABLE)
"""The answer holds everything acknowledged to anybody before the query was made."""
SEQUENTIAL: Final = ReadLevel(Read.SEQUENTIAL)
"""The answer holds everything that this client has seen. Any replica may give it."""


def check_read(read: ReadLevel) -> ReadLevel:
    """``read``. Raises TypeError if it is no read level, such as the class Stale without an age."""
    if not isinstance(read, ReadLevel):
        given = read.__name__ if isinstance(read, type) else type(read).__name__
        raise TypeError(f"read is LINEARIZABLE, SEQUENTIAL, Causal(position) or Stale(max_age), not {given}")
    return read


class Reference:
    """Which primitive a handle means, and what its port has found out about it.

    The first five fields are the handle's and never change. ``partitions`` is the number to create it with:
    0 for pinned, None for ``PARTITIONS_DEFAULT``. ``config`` is None when the opener takes what is there;
    otherwise the primitive must exist with these very partitions and this configuration, or it is created so.
    The other fields are the port's: None until the name was resolved.
    """

    __slots__ = ("config", "name", "namespace", "partitions", "primitive", "slots", "spread", "type")

    def __init__(
        self, namespace: str, name: str, type: int, partitions: int | None, config: bytes | None
    ) -> None:
        self.namespace: Final = namespace
        self.name: Final = name
        self.type: Final = type
        self.partitions: Final = partitions
        self.config: Final = config
        self.primitive: PrimitiveId | None = None
        """Its id, once resolved."""
        self.spread: int | None = None
        """Its number of partitions (0: pinned), once resolved."""
        self.slots: list[SlotId | None] = []
        """The slots of its partitions, as far as they were needed."""


class LeaseState:
    """States of a lease, and of whatever is held under it."""

    CONNECTED: Final = "connected"
    SUSPENDED: Final = "suspended"
    """Not confirmed for a while, not yet lost: nobody else can hold what is held."""
    LOST: Final = "lost"
    """For good: somebody else may hold it."""


class Guard(Protocol):
    """Watches a lease: while entered, its cancel scope is cancelled as soon as the lease is judged lost."""

    @property
    def lost(self) -> bool:
        """Whether the lease was lost before the guard was left; judged by the clock when it is left."""

    def __enter__(self) -> Guard:
        """Begins to watch. Cancels the scope at once if the lease is lost already."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends watching. Never swallows."""


class Lease(Protocol):
    """The client's standing in one group, under one registration. Once lost it stays lost."""

    @property
    def state(self) -> str:
        """One of :class:`LeaseState`, judged by the clock at this call."""

    def remaining(self) -> float:
        """Seconds until the lease is lost if nothing renews it; 0 once it is lost."""

    def guard(self, scope: anyio.CancelScope) -> Guard:
        """A context manager that cancels ``scope`` when the lease is lost; its ``lost`` tells."""

    def hold(self) -> None:
        """Something is held under the lease from now on: the client keeps it alive until as many
        :meth:`let_go` as holds have come. Does no I/O."""

    def let_go(self) -> None:
        """One hold less: what was held was given back, or is not wanted any more. A lease under which nothing
        is held or under way for a while is let go by the client; what it may still hold there is void then.
        """


class ClientPort(Protocol):
    """What a handle needs of a client. Calls on one reference take effect in the order they were started.

    Everything that keeps a call from an outcome is raised, as an error of ``primitives.errors``. A call whose
    session lives is repeated until its caller's time limit, exactly once in effect.
    """

    def command(
        self, ref: Reference, op: int, args: list[Any], body: bytes = b"", *, key: bytes | None = None,
        partition: int | None = None, late: bool = False, carry_on: bool = False,
    ) -> Awaitable[Answer]:  # fmt: skip
        """Executes a command, creating the primitive if need be; the answer's code is OK or CONDITION. Await
        at once what is returned: the command may be begun before.

        ``key`` chooses the partition by hash; else it is ``partition``, or 0.

        ``late``: the answer is a grant, perhaps given later. It is returned only while the lease under which
        it was given lives, judged by the clock on return (else SessionLost is raised), and :meth:`lease`,
        called before anything else is awaited, gives that lease. If the caller is cancelled, the wait is
        withdrawn or the grant given back, for at most a second before the cancellation goes on, and in the
        background after that.

        ``carry_on``: if the caller is cancelled, a command that was begun is not called off but completed
        in the background.
        """

    def query(
        self, ref: Reference, op: int, args: list[Any], body: bytes = b"", *, key: bytes | None = None,
        partition: int | None = None, read: ReadLevel | None = None,
    ) -> Awaitable[Answer | None]:  # fmt: skip
        """Answers a query (OK or CONDITION), or None if there is no such primitive. ``read`` None:
        :data:`LINEARIZABLE`. Await at once what is returned, as of a command."""

    def watch(
        self, ref: Reference, *, after: Position | None = None, key: bytes | None = None,
        prefix: bytes | None = None, previous: bool = False, progress: bool = False,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> WatchPort:  # fmt: skip
        """The primitive's events behind ``after``, or from now on; of all encoded keys, of ``key`` or of
        those with ``prefix``. ``previous``: with the values that were replaced; ``progress``: with a mark
        whenever the position came further though there was nothing to tell. Buffers about ``buffer_bytes``.
        Does nothing before it is entered."""

    async def delete(self, ref: Reference) -> bool:
        """Deletes the primitive: whether this call did. Completed in the background if the caller is
        cancelled. Afterwards ``ref`` means nothing until it is resolved again."""

    async def position(self, ref: Reference) -> Position | None:
        """All that this client was told of the primitive, so far; None if it does not exist."""

    async def partitions(self, ref: Reference) -> int | None:
        """The primitive's number of partitions, 0 if it is pinned, None if it does not exist."""

    async def spread(
        self, ref: Reference, keys: Sequence[bytes], *, create: bool = False
    ) -> list[tuple[int, list[int]]] | None:
        """The partitions that hold ``keys``, each with the positions of its keys in the sequence; None if the
        primitive does not exist and ``create`` is False."""

    def lease(self, ref: Reference, *, partition: int = 0) -> Lease:
        """The lease with the group of a partition, under the current registration there."""


class Handle:
    """A client's view of one named primitive. Making one does no I/O; the first write creates the primitive.

    ``name`` has 1 to 512 bytes of UTF-8 and no control characters; it is brought into NFC.
    """

    TYPE: ClassVar[int]
    """The type's number on the wire."""
    NAME: ClassVar[str]
    """The type's name for people, and the opener's on the client."""

    __slots__ = ("_port", "_read", "_ref")

    def __init__(
        self, port: ClientPort, namespace: str, name: str, *, partitions: int | None = None,
        config: bytes | None = None, read: ReadLevel = LINEARIZABLE,
    ) -> None:  # fmt: skip
        self._port: Final = port
        self._read: Final = check_read(read)
        self._ref: Final = Reference(
            check_namespace(namespace), check_name(name), self.TYPE, partitions, config
        )

    @property
    def name(self) -> str:
        """The primitive's name, in NFC."""
        return self._ref.name

    @property
    def namespace(self) -> str:
        """The namespace of the name; the empty one is the default."""
        return self._ref.namespace

    async def exists(self) -> bool:
        """Whether the primitive was created. Raises TypeMismatch if the name is of another type."""
        return await self._port.partitions(self._ref) is not None

    async def delete(self) -> bool:
        """Deletes the primitive with all that is in it: True, or False if there is none, or if another call
        was deleting it and is done. What is held of it is void, and whoever watches it is told; later calls,
        and those that wait, meet a new primitive, which the first write creates. The partitions of a spread
        one go one by one. A cancelled call is completed in the background. Raises TypeMismatch if the name
        is of another type."""
        return await self._port.delete(self._ref)

    async def position(self) -> Position | None:
        """A position that covers all that this client was told of the primitive so far, for ``Causal`` reads
        by others and for ``watch(position=)``. None if the primitive does not exist."""
        return await self._port.position(self._ref)

    def __repr__(self) -> str:
        place = f"{self.namespace}/" if self.namespace else ""
        return f"<{self.NAME} {place}{self.name}>"


def check_partitions(partitions: int | None, pinned: bool) -> int | None:
    """The number of partitions that an opener asks for: 0 for pinned, None if it asks for none.

    Raises TypeError or ValueError for anything but 1 to ``PARTITIONS_MAX``, or for both at once.
    """
    if partitions is None:
        return 0 if pinned else None
    if pinned:
        raise ValueError("a pinned primitive has no partitions to choose")
    if type(partitions) is not int:
        raise TypeError(f"partitions is an int, not {type(partitions).__name__}")
    if not 1 <= partitions <= PARTITIONS_MAX:
        raise ValueError(f"partitions is 1 to {PARTITIONS_MAX}, not {partitions}")
    return partitions


def check_int64(number: int, what: str) -> int:
    """``number``, if it is an int of 64 bits with sign; else raises TypeError, saying ``what`` it is for."""
    if type(number) is not int:
        raise TypeError(f"{what} is an int, not {type(number).__name__}")
    if not INT_MIN <= number <= INT_MAX:
        raise TypeError(f"{what} is an integer beyond 64 bits")
    return number


def check_revision(revision: int, what: str = "revision") -> int:
    """``revision``, if it can be one, or another number ``what`` that was one; else raises TypeError or
    ValueError."""
    if check_int64(revision, what) < 0:
        raise ValueError(f"a {what} is not negative, as {revision} is")
    return revision


def to_ttl_ms(ttl: float | None) -> int:
    """A time to live in whole milliseconds, never fewer than the seconds asked for; 0 for None. Raises
    TypeError or ValueError unless it is a number above 0 that ``TTL_MS_MAX`` admits."""
    if ttl is None:
        return 0
    if type(ttl) is not int and type(ttl) is not float:
        raise TypeError(f"ttl is a number of seconds, not {type(ttl).__name__}")
    if not 0 < ttl <= TTL_MS_MAX // 1000:
        raise ValueError(f"ttl is above 0 and at most {TTL_MS_MAX // 1000} seconds, not {ttl}")
    return math.ceil(ttl * 1000)


async def together(calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """The results of ``calls``, run at the same time, in their order. The first that raises ends the others,
    and its error is raised as it is."""
    if len(calls) <= 1:
        return [await call() for call in calls]
    results: dict[int, T] = {}
    errors: list[Exception] = []

    async def run(at: int) -> None:
        try:
            results[at] = await calls[at]()
        except Exception as error:
            errors.append(error)
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for at in range(len(calls)):
            group.start_soon(run, at)
    if errors:
        raise errors[0]
    return [results[at] for at in range(len(calls))]
