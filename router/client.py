"""The client: ``async with connect("quorate://127.0.0.1:7400") as client``."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random, SystemRandom
from typing import Any, Final, cast

import trio

from primitives.codec import check_namespace, decode_value
from primitives.errors import Code, InvariantViolation, ProtocolError, SessionLost, Unavailable
from primitives.handle import ReadLevel, Reference
from primitives.position import Position
from primitives.records import Answer
from primitives.watch import BUFFER_BYTES, WatchPort
from router.client_admin import Administrator
from router.client_catalog import Catalog, Listing
from router.client_driver import ClientDriver, Dial, StateFeed, boottime_ms, dial_tcp
from router.client_leases import HeldLease
from router.client_watches import ClientWatch
from router.openers import Openers
from router.session import SessionCore
from router.session_calls import Call
from router.session_settings import SessionSettings
from router.shardmap import ShardMap
from router.slots import partition_of_key, slot_of_partition
from router.url import VARIABLE, parse_url


def connect(
    url: str | None = None, *, session_timeout: float = 10.0, namespace: str | None = None,
    name: str | None = None,
) -> AbstractAsyncContextManager[Client]:  # fmt: skip
    """A client of the cluster at ``url``, for the time of an ``async with`` block.

    ``url`` is ``quorate://host:port[,host:port…]/[namespace]``; the environment's ``QUORATE_URL`` when none
    is given. Any one address of a node will do: the others are learned. ``session_timeout`` is in seconds,
    0.5 to 3600: what the client holds is lost once the cluster was not reached for so long. ``namespace``
    takes the place of the URL's. ``name`` is shown to people at the nodes.

    Entering does not wait for the cluster: calls do, for as long as their callers let them (bound them with
    ``trio.fail_after``); connections that are lost are made again silently. Leaving lets go whatever is held,
    which takes a second at the most. Raises ValueError here for a URL or a timeout that cannot be.
    """
    if url is None:
        url = os.environ.get(VARIABLE)
        if not url:
            raise ValueError(f"no URL is given, and the environment has no {VARIABLE}")
    where = parse_url(url)
    space = where.namespace if namespace is None else namespace
    return attach(where.addresses, dial_tcp, session_timeout=session_timeout, namespace=space, name=name)


def attach(
    addresses: Sequence[str], dial: Dial, *, session_timeout: float = 10.0, namespace: str = "",
    name: str | None = None, clock: Callable[[], int] = boottime_ms, random: Random | None = None,
) -> AbstractAsyncContextManager[Client]:  # fmt: skip
    """The client of :func:`connect`, for the cluster that has nodes at ``addresses``, reached by ``dial``.
    ``clock`` and ``random`` are its only time and chance, the system's unless given."""
    space = check_namespace(namespace)
    settings = SessionSettings(timeout_ms=round(session_timeout * 1000))
    shown = name if name is not None else f"{socket.gethostname()}/{os.getpid()}"
    chance = SystemRandom() if random is None else random
    core = SessionCore(chance.randbytes(16), addresses, chance, name=shown, settings=settings)
    return _connected(Client(ClientDriver(core, dial, clock), space))


@asynccontextmanager
async def _connected(client: Client) -> AsyncGenerator[Client, None]:
    raised: BaseException | None = None
    driver = client._driver
    try:
        async with trio.open_nursery() as nursery:
            shelter = trio.CancelScope(shield=True)
            nursery.start_soon(_sheltered, driver, shelter)
            try:
                yield client
            except BaseException as error:
                raised = error
                raise
            finally:
                await driver.leave()
                shelter.cancel()
    except BaseExceptionGroup as group:
        # What the block raised is to come out as it is: that there is a nursery is nobody's business.
        if raised is None or group.exceptions != (raised,):
            raise
    if raised is not None:
        raise raised


async def _sheltered(driver: ClientDriver, shelter: trio.CancelScope) -> None:
    """Runs the driver until ``shelter`` is cancelled: also while the block is, since what is called off
    then is still to be withdrawn, and what is held to be let go."""
    with shelter:
        async with trio.open_nursery() as nursery:
            await driver.run(nursery)


class Session:
    """The client's identity towards the cluster, and how its leases stand."""

    __slots__ = ("_driver",)

    def __init__(self, driver: ClientDriver) -> None:
        self._driver: Final = driver

    @property
    def id(self) -> str:
        """128 random bits as 32 hexadecimal digits, drawn for this client."""
        return self._driver.core.session_id.hex()

    @property
    def state(self) -> str:
        """``connected``; ``suspended``: no node is in reach, or some lease is not being confirmed; ``lost``:
        some lease was lost and is not yet replaced. What is held has a state of its own, by its own lease."""
        return self._driver.core.state(self._driver.clock())

    async def states(self) -> AsyncIterator[str]:
        """The state now, and then each one that it changes to, until the client is closed."""
        driver = self._driver
        feed = StateFeed(self.state)
        driver.feeds.add(feed)
        try:
            while (state := await feed.next()) is not None:
                yield state
        finally:
            driver.feeds.discard(feed)

    def __repr__(self) -> str:
        return f"<session {self.id}, {self.state}>"


class Client(Openers):
    """A connection to a cluster, for any number of tasks of one event loop. Made by :func:`connect`.

    Openers (:meth:`map`, :meth:`counter`, :meth:`lock` …) do no input or output: the first write creates the
    primitive. ``namespace`` is the client's unless given.
    """

    def __init__(self, driver: ClientDriver, namespace: str) -> None:
        super().__init__(namespace)
        self._driver: Final = driver
        self._core: Final = driver.core
        self._catalog: Final = Catalog(driver)
        self._administrator: Final = Administrator(driver)
        self.session: Final = Session(driver)
        """The client's session."""

    # --- Names ----------------------------------------------------------------------------------------

    async def exists(self, name: str, *, namespace: str | None = None) -> bool:
        """Whether there is a primitive of that name, of whatever type. One that is being deleted counts until
        that is done."""
        return await self._catalog.exists(self._namespace if namespace is None else namespace, name)

    def primitives(
        self, prefix: str = "", type: str | None = None, *, namespace: str | None = None
    ) -> AsyncIterator[Listing]:
        """The primitives whose names begin with ``prefix``, of one type or of all, in the order of their
        names: ``async for name, type, created, partitions in client.primitives()``. Fetched in pages, each
        of which shows one moment of one group. Raises ValueError for an unknown type."""
        return self._catalog.names(self._namespace if namespace is None else namespace, prefix, type)

    # --- What handles use: primitives.handle.ClientPort -----------------------------------------------

    def command(
        self, ref: Reference, op: int, args: list[Any], body: bytes = b"", *, key: bytes | None = None,
        partition: int | None = None, late: bool = False, carry_on: bool = False,
    ) -> Awaitable[Answer]:  # fmt: skip
        """Executes a command; see ``ClientPort``. For handles."""
        driver = self._driver
        call = self._core.command(
            driver.turn_ms or driver.turn(), ref, op, args, body, key, partition, late, carry_on
        )
        outcome = cast("Awaitable[Answer]", driver.outcome(call))  # None would be a violated invariant.
        return self._granted(call, outcome) if late else outcome

    async def _granted(self, call: Call, outcome: Awaitable[Answer]) -> Answer:
        """A grant counts only while the lease under which it was given lives, judged when it is returned."""
        answer = await outcome
        if answer.code == Code.OK:
            lease = self._core.lease(call.group)
            if lease is None or lease.number != call.number or not lease.judge(self._driver.clock()):
                raise SessionLost("the lease was lost before the grant could be delivered")
        return answer

    def query(
        self, ref: Reference, op: int, args: list[Any], body: bytes = b"", *, key: bytes | None = None,
        partition: int | None = None, read: ReadLevel | None = None,
    ) -> Awaitable[Answer | None]:  # fmt: skip
        """Answers a query; see ``ClientPort``. For handles."""
        driver = self._driver
        return driver.outcome(
            self._core.query(driver.turn_ms or driver.turn(), ref, op, args, body, key, partition, read)
        )

    def watch(
        self, ref: Reference, *, after: Position | None = None, key: bytes | None = None,
        prefix: bytes | None = None, previous: bool = False, progress: bool = False,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> WatchPort:  # fmt: skip
        """Events of a primitive; see ``ClientPort``. For handles."""
        return ClientWatch(
            self._driver, ref, after=after, key=key, prefix=prefix, previous=previous, progress=progress,
            buffer_bytes=buffer_bytes,
        )  # fmt: skip

    async def delete(self, ref: Reference) -> bool:
        """Deletes the primitive; see ``ClientPort``. For handles."""
        return await self._catalog.delete(ref)

    async def position(self, ref: Reference) -> Position | None:
        """What was seen of a primitive; see ``ClientPort``. For handles."""
        await self._resolve(ref, create=False)
        return self._core.position(ref)

    async def partitions(self, ref: Reference) -> int | None:
        """The primitive's number of partitions, 0 if pinned, None if it does not exist. For handles."""
        return await self._resolve(ref, create=False)

    async def spread(
        self, ref: Reference, keys: Sequence[bytes], *, create: bool = False
    ) -> list[tuple[int, list[int]]] | None:
        """The partitions of encoded ``keys``, each with their positions; None if the primitive does not exist
        and is not to be created. For handles."""
        partitions = await self._resolve(ref, create=create)
        if partitions is None:
            return None
        if not partitions:
            return [(0, list(range(len(keys))))]
        salt = self._map().salt
        found: dict[int, list[int]] = {}
        for at, key in enumerate(keys):
            found.setdefault(partition_of_key(salt, key, partitions), []).append(at)
        return list(found.items())

    async def _resolve(self, ref: Reference, *, create: bool) -> int | None:
        answer = await self._driver.outcome(self._core.resolve(self._driver.clock(), ref, create=create))
        return None if answer is None else ref.spread

    def lease(self, ref: Reference, *, partition: int = 0) -> HeldLease:
        """The lease with the group of a partition. For handles."""
        if ref.primitive is None or ref.spread is None:
            raise SessionLost("nothing is held of a primitive that was never used")
        shard_map = self._map()
        slot = ref.primitive.slot
        if ref.spread:
            slot = slot_of_partition(shard_map.salt, ref.primitive, partition)
        lease = self._core.lease(shard_map.group(slot))
        if lease is None:
            raise SessionLost("there is no lease with the primitive's group")
        return HeldLease(lease, self._driver.clock)

    def _map(self) -> ShardMap:
        shard_map = self._core.shard_map
        if shard_map is None:
            raise Unavailable("no node was reached yet")
        return shard_map

    # --- The cluster ----------------------------------------------------------------------------------

    async def status(self, *, hashes: bool = False) -> Mapping[str, Any]:
        """What a node that is connected says of itself, its cluster and its groups. ``hashes``: with the
        state hashes of all replicas at one point of their logs, which takes a while. Waits for a node."""
        answer = await self._driver.outcome(self._core.questions.status(hashes))
        if answer is None:
            raise InvariantViolation("a status without an answer")
        status = decode_value(answer.result)
        if not isinstance(status, dict):
            raise ProtocolError("a status that is no map")
        return status

    async def admin(self, operation: str, *arguments: Any) -> Any:
        """Does an administrator's operation, and returns what it came to, in plain values:

        - ``groups``: each group as its leader sees it; ``group``, its number: one of them; ``replicas``:
          those of the node that is asked, as they are there.
        - ``group-transfer``, a group and a node id: begins to hand the leadership to that node's replica.
          True if there was anything to do.
        - ``sessions``, a group and a number: a page of its sessions above that number, in order; ``behind``
          is the number for the next page, or None. ``session``, an id: its registrations in all groups.
        - ``session-end``, an id: its leases are renewed no more, in any group, so that what it holds is void
          after its timeout. The groups that knew it.
        - ``primitive-info``, a name: its type, id, configuration and partitions; None if it means nothing.

        Raises ``Unavailable`` if a group's leader is not reached, ``ProtocolError`` for a request that makes
        no sense."""
        return await self._administrator.ask(self._namespace, operation, arguments)

    async def shard_map(self) -> ShardMap:
        """The cluster's shard map as a node that is connected has it: which group owns which slots, and where
        its replicas are. Waits for a node."""
        await self.status()
        return self._map()
