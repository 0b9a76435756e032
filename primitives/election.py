"""Election: one leader at a time among those who stand, in the order they came; pinned to one group.

The machine is in ``candidates``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import anyio

from primitives.candidates import (
    CANDIDATE,
    DATA_BYTES_MAX,
    LED,
    LED_HEAD,
    LENGTH,
    VACANT,
    Ask,
    ElectionMachine,
    Op,
)
from primitives.codec import Value, decode_value, encode_value
from primitives.errors import Code, QuorateError, Retry, SessionLost, TooLarge
from primitives.handle import LINEARIZABLE, ClientPort, Lease, ReadLevel, Reference, check_revision
from primitives.holding import Held
from primitives.pages import decode_page
from primitives.position import Position
from primitives.records import Answer
from primitives.watch import BUFFER_BYTES, EventShape
from primitives.watching import Watch, WatchedHandle


class Deposed(QuorateError):
    """Somebody ended this candidacy or this term: by anointing another, by demoting or by evicting it. To
    lead again is to campaign again."""

    retry = Retry.AMBIGUOUS


@dataclass(frozen=True, slots=True)
class Candidate:
    """One who leads, or would."""

    id: int
    """Of this candidacy: the revision of the command by which it stood."""
    session: int
    """The candidate's number in the election's group: the revision at which its session registered there."""
    data: Value
    """What the candidate campaigned with."""


@dataclass(frozen=True, slots=True)
class Leadership:
    """Who leads, and who would."""

    leader: Candidate | None
    """None: nobody."""
    term: int
    """The leader's fencing token, which grows from leader to leader; 0: nobody leads."""
    candidates: tuple[Candidate, ...] = ()
    """Who stands behind the leader, in the order in which they would follow; only where it says so."""


_NOBODY: Final = Leadership(None, 0)


def _leadership(value: bytes) -> Leadership:
    term, session, number = LED_HEAD.unpack_from(value)
    return Leadership(Candidate(number, session, decode_value(value[LED_HEAD.size :])), term)


def _stood(content: bytes) -> Candidate:
    session, number = CANDIDATE.unpack_from(content)
    return Candidate(number, session, decode_value(content[CANDIDATE.size :]))


class Term(Held):
    """A leadership held, until it is resigned, its lease is lost, or somebody ends it.

    ``async with term:`` runs a block under it: cancelled, with SessionLost, if the lease is lost, and with
    Deposed, if somebody ended the term; followed by the resignation. A term is for one block.
    """

    WHAT = "the leadership of"

    __slots__ = ("id",)

    def __init__(self, port: ClientPort, ref: Reference, token: int, lease: Lease, id: int) -> None:
        super().__init__(port, ref, token, lease)
        self.id: Final = id
        """The candidate's; see :class:`Candidate`."""

    @property
    def term(self) -> int:
        """The fencing token: above those of all former leaders. Hand it to whatever the leader commands,
        which must refuse lower ones."""
        return self.token

    async def resign(self) -> bool:
        """Another name for :meth:`release`."""
        return await self.release()

    async def _give_back(self) -> Answer:
        return await self._port.command(self._ref, Op.RESIGN, [self.token], carry_on=True)

    @asynccontextmanager
    async def _hold(self) -> AsyncGenerator[None, None]:
        async with super()._hold(), self._attended():
            yield

    @asynccontextmanager
    async def _attended(self) -> AsyncGenerator[None, None]:
        """Watches over the term while the lease lives: raises Deposed if somebody ends it."""
        ended: list[QuorateError] = []
        raised: BaseException | None = None

        async def attend() -> None:
            try:
                await self._port.command(self._ref, Op.ATTEND, [self.token], late=True)
            except SessionLost:
                return  # Whoever watches over the lease tells it.
            except QuorateError as error:
                ended.append(error)
            else:
                if self._released:
                    return
                ended.append(Deposed(f"the leadership of {self._ref.name!r} was ended by somebody else"))
            group.cancel_scope.cancel()

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(attend)
                try:
                    yield
                    await self._leave()
                except BaseException as error:
                    raised = error
                    raise
                finally:
                    group.cancel_scope.cancel()
        except BaseExceptionGroup as group_error:
            # What the block raised is to come out as it is: that there is a group is nobody's business.
            if raised is None or group_error.exceptions != (raised,):
                raise
        if raised is not None and not _is_cancellation(raised):
            raise raised
        if ended:
            raise ended[0]


def _is_cancellation(error: BaseException) -> bool:
    """Whether the error is a cancellation, or a group of nothing else: what a block with tasks of its own
    ends with."""
    cancelled = anyio.get_cancelled_exc_class()
    if isinstance(error, BaseExceptionGroup):
        return error.split(cancelled)[1] is None
    return isinstance(error, cancelled)


class Election(WatchedHandle):
    """One leader at a time among all clients that campaign, first come first served; pinned to one group.

    ``async with client.election("name").campaign("node-1") as term:`` waits until it leads, for a block. When
    the lease under which it leads is lost (the cluster was not reached for the session's timeout), the block
    is cancelled and SessionLost raised; when somebody anoints another, or demotes or evicts this candidate,
    Deposed. An error that the block raises by itself goes before that. Leaving the block resigns, even when
    cancelled, for which it may hold up the cancellation for a second.

    ``term.term`` is the fencing token: leading proves nothing without it, to whoever heard of a later one.
    A client may campaign many times at once; each is a candidate of its own.

    Watching tells ``led``, whose value is a :class:`Leadership`, and ``vacant``; see :meth:`observe`.

    <!-- runnable -->
    ```python
    import quorate, trio

    async def main():
        async with quorate.connect("quorate://127.0.0.1:7400") as client:
            election = client.election("documented scheduler")
            async with election.campaign({"host": "node-1"}) as term:
                leadership = await election.leader()
                assert leadership.term == term.term
                assert leadership.leader.data == {"host": "node-1"}
            assert await election.leader() is None

    trio.run(main)
    ```
    """

    TYPE = ElectionMachine.TYPE
    NAME = ElectionMachine.NAME
    EVENTS = EventShape(value=_leadership, kinds={LED: "led", VACANT: "vacant"})

    __slots__ = ("_terms",)

    def __init__(
        self, port: ClientPort, namespace: str, name: str, *, read: ReadLevel = LINEARIZABLE
    ) -> None:
        super().__init__(port, namespace, name, partitions=0, read=read)
        self._terms: Final[list[Term]] = []
        """Terms that were held through this handle, and may still be."""

    def campaign(self, data: Value = None) -> AbstractAsyncContextManager[Term]:
        """Stands with ``data`` (a value of at most 64 KiB, for others to see) and waits to lead, for an
        ``async with`` block; see :class:`Election`. Entering raises what :meth:`stand` does."""
        return self._campaign(encode_data(data))

    @asynccontextmanager
    async def _campaign(self, data: bytes) -> AsyncGenerator[Term, None]:
        async with await self._stand(data) as term:
            yield term

    async def stand(self, data: Value = None) -> Term:
        """Waits to lead, then does until the term is resigned, its lease lost, or somebody ends it: nobody is
        cancelled then, but for a block under ``async with term``.

        Raises SessionLost if the lease is lost while waiting, Deposed if the candidate is evicted, Overloaded
        if too many stand. Cancelled, it leaves neither a candidate nor a leader behind; it may take a second
        to withdraw.
        """
        return await self._stand(encode_data(data))

    async def _stand(self, data: bytes) -> Term:
        answer = await self._port.command(self._ref, Op.CAMPAIGN, [], data, late=True)
        if answer.code != Code.OK:
            raise Deposed(f"the candidate was evicted from {self.name!r}")
        number, id = CANDIDATE.unpack(answer.result)
        term = Term(self._port, self._ref, number, self._port.lease(self._ref), id)
        self._terms[:] = [other for other in self._terms if other.remaining() > 0]
        self._terms.append(term)
        return term

    async def resign(self) -> bool:
        """Ends every term held through this handle; whether there was one. Blocks under them go on."""
        return any([await term.release() for term in list(self._terms)])

    async def leader(self, *, read: ReadLevel | None = None) -> Leadership | None:
        """Who leads, with the term and without the other candidates; None if nobody does."""
        answer = await self._port.query(self._ref, Ask.LEADER, [], read=read or self._read)
        return None if answer is None or answer.code != Code.OK else _leadership(answer.result)

    async def leadership(self, *, read: ReadLevel | None = None) -> Leadership:
        """Who leads, and all candidates behind, in order. They come in pages of at most 1,000 candidates and
        256 KiB, each read at one moment; who leads is of the last."""
        candidates: list[Candidate] = []
        after = b""
        while True:
            answer = await self._port.query(self._ref, Ask.LEADERSHIP, [after], read=read or self._read)
            if answer is None:
                return _NOBODY
            (length,) = LENGTH.unpack_from(answer.result)
            page_at = LENGTH.size + length
            rows, more = decode_page(answer.result[page_at:])
            candidates += [_stood(content) for _, content in rows]
            if not more:
                found = _leadership(answer.result[LENGTH.size : page_at]) if length else _NOBODY
                return Leadership(found.leader, found.term, tuple(candidates))
            after = rows[-1][0]

    async def observe(self) -> AsyncGenerator[Leadership, None]:
        """Who leads now, without the other candidates, and then each change of it, in order and none left
        out; ``leader`` is None while nobody leads. By ``async for``, under ``contextlib.aclosing`` if it is
        to be left before it is cancelled; raises what watches do."""
        async with self.watch() as events:
            answer = await self._port.query(self._ref, Ask.LEADER, [], read=LINEARIZABLE)
            known = 0 if answer is None else answer.revision
            yield _NOBODY if answer is None or answer.code != Code.OK else _leadership(answer.result)
            async for event in events:
                if event.revision > known:
                    yield event.value if event.kind == "led" else _NOBODY

    def watch(
        self, *, position: Position | None = None, progress: bool = False, buffer_bytes: int = BUFFER_BYTES
    ) -> Watch:
        """The changes from now on, by ``async with``: ``led``, whose value is a :class:`Leadership` without
        the other candidates, and ``vacant``. The options are those of :meth:`KeyedHandle.watch
        <primitives.watching.KeyedHandle.watch>`."""
        return self._watch(position=position, progress=progress, buffer_bytes=buffer_bytes)

    async def anoint(self, candidate: Candidate | int) -> bool:
        """Makes a candidate, by itself or its id, the leader at once; another that leads is deposed. False if
        it is no candidate any more, here and in what follows."""
        return await self._arrange(Op.ANOINT, candidate)

    async def promote(self, candidate: Candidate | int) -> bool:
        """Makes a candidate the next to lead."""
        return await self._arrange(Op.PROMOTE, candidate)

    async def demote(self, candidate: Candidate | int) -> bool:
        """Makes a candidate the last to lead. One that leads is deposed."""
        return await self._arrange(Op.DEMOTE, candidate)

    async def evict(self, candidate: Candidate | int) -> bool:
        """Ends a candidacy: whoever waits gets Deposed. One that leads is deposed."""
        return await self._arrange(Op.EVICT, candidate)

    async def _arrange(self, op: int, candidate: Candidate | int) -> bool:
        number = check_revision(candidate.id if isinstance(candidate, Candidate) else candidate, "candidate")
        return (await self._port.command(self._ref, op, [number])).code == Code.OK


def encode_data(data: Value) -> bytes:
    """The bytes of what a candidate brings along. Raises TypeError or TooLarge."""
    encoded = encode_value(data)
    if len(encoded) > DATA_BYTES_MAX:
        raise TooLarge(f"a candidate's data of {len(encoded)} bytes; at most {DATA_BYTES_MAX} are carried")
    return encoded
