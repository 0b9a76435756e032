"""A client's session without input or output: calls and bytes in, bytes and outcomes out.

The driver gives every method the present time, in ms of a clock that runs while the machine sleeps
(``CLOCK_BOOTTIME``), tells what happened to connections, and after any of this calls
:meth:`SessionCore.poll`, which returns everything that is to be done. The core never blocks, never reads a
clock and keeps no more than its settings allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from primitives.errors import Code, InvariantViolation, ProtocolError, QuorateError
from primitives.handle import LINEARIZABLE, Causal, LeaseState, ReadLevel, Reference, Stale, check_read
from primitives.ids import GroupId, NodeId
from primitives.position import Position
from primitives.records import U32, Answer, Read
from router.frames import AnswerReader, FrameKind, decode_control
from router.session_backoff import Random
from router.session_calls import Call, CallKind, error_of
from router.session_catalog import Catalogs
from router.session_cluster import ClusterNews
from router.session_groups import GroupSession, Standing
from router.session_keepalives import Keepalives
from router.session_leases import LeaseClock
from router.session_ledger import Ledger
from router.session_links import Link
from router.session_network import FAR_MS, Network
from router.session_reads import ReplicaReads
from router.session_settings import SessionSettings
from router.session_shared import Shared
from router.session_status import Questions
from router.session_streams import Watch
from router.session_watches import Watches
from router.shardmap import ShardMap

_ROUTING: Final = frozenset((Code.NOT_LEADER, Code.WRONG_SLOT, Code.LOST, Code.UNAVAILABLE))
_REDIRECTS_MAX: Final = 2
"""So many redirections in a row are followed at once."""
_OVERLOADED_MAX: Final = 8
"""So often a query that the group has no room for is asked."""


class Output:
    """What is to be done now, in this order."""

    __slots__ = ("close", "dial", "finished", "frames", "lost", "wake_ms", "watches")

    def __init__(
        self, frames: list[tuple[int, bytes]], close: list[int], dial: list[tuple[int, str]],
        finished: list[Call], lost: list[LeaseClock], watches: list[Watch], wake_ms: int,
    ) -> None:  # fmt: skip
        self.frames: Final = frames
        """Connection and bytes to be sent on it."""
        self.close: Final = close
        """Connections to be closed."""
        self.dial: Final = dial
        """Connections to be opened, each with its ``host:port``."""
        self.finished: Final = finished
        """Calls that have their outcome."""
        self.lost: Final = lost
        """Leases newly judged lost."""
        self.watches: Final = watches
        """Watches with something new for their users."""
        self.wake_ms: Final = wake_ms
        """When to poll again if nothing happens before."""


class SessionCore:
    """A client's session with a cluster.

    ``session_id`` is 128 random bits. ``addresses`` are the ``host:port`` of some nodes, at least one.
    ``name`` tells people at the nodes who this is.
    """

    def __init__(
        self, session_id: bytes, addresses: Sequence[str], random: Random, *, name: str = "",
        settings: SessionSettings = SessionSettings(),  # noqa: B008  # frozen, so shared without harm
    ) -> None:  # fmt: skip
        self.session_id: Final = session_id
        self.settings: Final = settings
        self._shared: Final = Shared(session_id, settings, random)
        self._network: Final = Network(addresses, random, name, settings)
        self._reads: Final = ReplicaReads(self._shared, self._network)
        self._ledger: Final = Ledger(self._shared, self._reads)
        self.groups: Final = self._ledger.groups
        self.watches: Final = Watches(self._ledger, self._network)
        """What users watch."""
        self._routes: Final = self._network.routes
        self._keepalives: Final = Keepalives(session_id, settings)
        self._dirty: Final = self._ledger.dirty
        self.catalogs: Final = Catalogs(self._ledger)
        self._cluster: Final = ClusterNews(self._shared, self._network, self._ledger, self.watches)
        self._closing = False
        self.questions: Final = Questions(self._network, self._ledger)

    # --- What users want ----------------------------------------------------------------------------

    def command(
        self, now_ms: int, ref: Reference, op: int, args: list[Any], body: bytes = b"",
        key: bytes | None = None, partition: int | None = None, late: bool = False, carry_on: bool = False,
        token: Any = None,
    ) -> Call:  # fmt: skip
        """Begins a command; see ``handle.ClientPort``. Raises :class:`Overloaded` if too much is under way,
        :class:`TooLarge` for arguments over their limit."""
        call = self._ledger.make(CallKind.COMMAND, ref, op, args, body, key, partition)
        call.create, call.late, call.carry_on, call.token = True, late, carry_on, token
        return self._ledger.start(now_ms, call)

    def query(
        self, now_ms: int, ref: Reference, op: int, args: list[Any], body: bytes = b"",
        key: bytes | None = None, partition: int | None = None, read: ReadLevel | None = None,
        token: Any = None,
    ) -> Call:  # fmt: skip
        """Begins a query, linearizable unless ``read`` says otherwise; its answer is None if there is no such
        primitive. Raises like :meth:`command`, and TypeError for a ``read`` that is none; a position of
        another primitive is the call's error."""
        level = Read.LINEARIZABLE if read is None or read is LINEARIZABLE else check_read(read).level
        call = self._ledger.make(CallKind.QUERY, ref, op, args, body, key, partition)
        call.token = token
        if level != Read.LINEARIZABLE:
            call.read = level
            if isinstance(read, Causal):
                call.position = read.position
            elif isinstance(read, Stale):
                call.bound = int(read.max_age * 1000)
        return self._ledger.start(now_ms, call)

    def resolve(self, now_ms: int, ref: Reference, *, create: bool = False, token: Any = None) -> Call:
        """Begins to find out what ``ref`` means, creating it if asked to; its answer is None if it means
        nothing. When it is finished, ``ref`` has its id and partitions."""
        call = self._ledger.make(CallKind.RESOLVE, ref, 0, [], b"", None, None)
        call.create, call.token = create, token
        return self._ledger.start(now_ms, call)

    def cancel(self, now_ms: int, call: Call) -> Call | None:
        """Nobody waits for the call any more. One that carries on is completed; another takes no effect
        unless it took it already. For a late one that may be waiting or granted, the command that withdraws
        it is returned: it is finished like any other call, and from then on nothing is left of either."""
        if call.done or call.carry_on:
            return None
        call.done = True
        self._ledger.forget(call)
        if call.kind == CallKind.STATUS:
            self.questions.call_off(call)
            return None
        if call.queue is not None:
            call.queue.call_off(call)
            return None
        if call.read:
            self._reads.call_off(call)
            return None
        group = self.groups.get(GroupId(call.group))
        if group is None:
            raise InvariantViolation(f"{call} is nowhere")
        withdrawal = group.call_off(call)
        if withdrawal is not None:
            self._ledger.count(withdrawal)
            self._dirty[group.group] = group
        return withdrawal

    def let_go(self, now_ms: int) -> bool:
        """The client is leaving: lets all its leases go. True once nothing is left to be done; until then
        call it again after each poll."""
        self._closing = True
        for group in self.groups.values():
            if group.standing is Standing.READY or group.standing is Standing.LAPSED:
                group.leave()
                self._dirty[group.group] = group
        return not any(group.standing is Standing.LEAVING for group in self.groups.values())

    # --- What is known ------------------------------------------------------------------------------

    @property
    def shard_map(self) -> ShardMap | None:
        """The shard map, once a node told it."""
        return self._shared.shard_map

    @property
    def is_connected(self) -> bool:
        """Whether any node is connected."""
        return bool(self._routes.nodes)

    def lease(self, group: int) -> LeaseClock | None:
        """The lease with a group under the present registration there."""
        found = self.groups.get(GroupId(group))
        return None if found is None else found.lease

    def position(self, ref: Reference) -> Position | None:
        """All that this client was told of a primitive; None if ``ref`` is not resolved."""
        return self._ledger.position(ref)

    def state(self, now_ms: int) -> str:
        """The whole session's state: ``lost`` while some lease is lost and not replaced, ``suspended`` while
        no node is connected or some lease is not confirmed, else ``connected``."""
        suspended = not self._routes.nodes
        for group in self.groups.values():
            if group.standing is Standing.READY and group.lease is not None:
                state = group.lease.state(now_ms)
            elif group.standing is Standing.LAPSED:
                state = LeaseState.LOST
            else:
                continue
            if state == LeaseState.LOST:
                return LeaseState.LOST
            suspended = suspended or state == LeaseState.SUSPENDED
        return LeaseState.SUSPENDED if suspended else LeaseState.CONNECTED

    # --- What happens to connections ----------------------------------------------------------------

    def connected(self, now_ms: int, connection: int) -> None:
        """A connection that was to be opened is."""
        link = self._routes.links.get(connection)
        if link is not None:
            self._network.opened(now_ms, link)

    def disconnected(self, now_ms: int, connection: int) -> None:
        """A connection is gone, or could not be opened."""
        link = self._routes.links.get(connection)
        if link is not None:
            self._network.drop(now_ms, link)
            self._dropped(link)

    def received(self, now_ms: int, connection: int, data: bytes) -> None:
        """Bytes arrived. What the protocol does not allow closes the connection."""
        link = self._routes.links.get(connection)
        if link is None:
            return
        link.heard_ms = now_ms
        link.probed = False
        try:
            for kind, payload in link.protocol.receive(data):
                if connection not in self._routes.links:
                    return
                self._frame(now_ms, link, kind, payload)
        except ProtocolError as error:
            self._close(now_ms, link, error)

    def _close(self, now_ms: int, link: Link, error: QuorateError | None = None) -> None:
        self._network.close(now_ms, link, error)
        self._dropped(link)

    def _dropped(self, link: Link) -> None:
        """What was sent on a link that is gone is sent again another way."""
        self.questions.dropped(link)
        self._reads.dropped(link)
        self.watches.dropped(link)
        for group in self.groups.values():
            if group.link is link:
                group.rewind()
                group.link = None
                self._dirty[group.group] = group
        hopeless = self._routes.hopeless
        if hopeless is not None:
            self._ledger.directory.give_up(hopeless)

    # --- What nodes say -----------------------------------------------------------------------------

    def _frame(self, now_ms: int, link: Link, kind: int, payload: bytes) -> None:
        if kind == FrameKind.ANSWERS:
            self._on_answers(now_ms, link, payload)
        elif kind == FrameKind.EVENTS:
            self.watches.on_events(now_ms, link, payload)
        elif kind == FrameKind.MARKS:
            self.watches.on_marks(now_ms, link, payload)
        elif kind == FrameKind.WATCHING:
            self.watches.on_watching(now_ms, link, payload)
        elif kind == FrameKind.WATCH_ENDED:
            self.watches.on_ended(now_ms, link, payload)
        elif kind == FrameKind.WELCOME:
            if not self._cluster.on_welcome(now_ms, link, payload):
                self._close(now_ms, link)
        elif kind == FrameKind.REFUSED:
            self._cluster.on_refused(link, payload)
            self._close(now_ms, link)
        else:
            items, blob = decode_control(payload)
            if kind == FrameKind.MAP:
                self._cluster.on_map(now_ms, blob)
            elif kind == FrameKind.KEEPALIVE_REPLY:
                self._keepalives.replied(now_ms, items, self.groups, self._dirty)
            elif kind == FrameKind.LEADERS:
                self._cluster.on_leaders(items)
            elif kind in (FrameKind.STATUS, FrameKind.ADMIN_REPLY):
                self.questions.answered(kind, items, blob)
            else:  # GOODBYE: what is asked is still answered.
                link.leaving = True
                self._dirty.update(self.groups)

    def _on_answers(self, now_ms: int, link: Link, payload: bytes) -> None:
        groups = self.groups
        reader = AnswerReader(payload)
        while reader.next():
            call = link.answered(reader.request)
            if call is None:
                continue
            if reader.code < 0:
                raise ProtocolError("an answer without code and revision")
            answer, revision = reader.answer(), reader.revision
            group = groups[GroupId(call.group)]
            if revision > group.seen:
                group.seen = revision
            if call.burst > 1 and not reader.is_part:
                self._refused(now_ms, link, group, call, answer)
            else:
                self._arrived(now_ms, link, group, call, answer)

    def _arrived(
        self, now_ms: int, link: Link, group: GroupSession, call: Call, answer: Answer
    ) -> None:
        """Deals with an answer to a call's last request, unless it is to wait for events."""
        watches = self.watches
        if group.group in watches.streams and watches.holds.hold(now_ms, link, call, answer):
            group.patient(now_ms)
        else:
            self._answered(now_ms, link, group, call, answer)

    def _refused(self, now_ms: int, link: Link, group: GroupSession, first: Call, answer: Answer) -> None:
        """A burst was refused as a whole: that goes for each of its calls, unless it had all of them sent
        again when it was told to those before. A record that cannot be read may be one call's fault: they
        are sent again one by one, so that the others do not pay for it."""
        if answer.code == Code.BAD_REQUEST and not answer.revision:
            group.lane(first.slot).part()
            group.rewind()
            self._dirty[group.group] = group
            return
        others = range(first.request + 1, first.request + first.burst)
        self._arrived(now_ms, link, group, first, answer)
        for request in others:
            call = link.answered(request)
            if call is not None:
                self._arrived(now_ms, link, group, call, answer)

    def _answered(
        self, now_ms: int, link: Link, group: GroupSession, call: Call, answer: Answer
    ) -> None:
        """Deals with an answer to a call's last request."""
        if call.read:
            self._ledger.place(now_ms, self._reads.answered(now_ms, link, call, answer))
            return
        code = answer.code
        if code > Code.CONDITION and (
            code in _ROUTING or (code == Code.OVERLOADED and not answer.revision)
        ):
            self._misrouted(now_ms, link, group, call, answer)
        else:
            calm = call.kind <= CallKind.QUERY and not group.backoff.tries
            group.answered(now_ms, call, answer)
            if calm and not group.has_work:
                return  # Nothing to send, and nothing that is due earlier than it was.
        self._dirty[group.group] = group

    def _released(self, now_ms: int) -> None:
        """Answers that waited for events wait no more."""
        for held in self.watches.holds.take():
            call, group = held.call, self.groups[GroupId(held.call.group)]
            if call.read or group.expects(call):
                self._answered(now_ms, held.link, group, call, held.answer)

    def _misrouted(self, now_ms: int, link: Link, group: GroupSession, call: Call, answer: Answer) -> None:
        """The node could not serve the group, or does not know what came of it: all that is unanswered is
        sent again, by the way that is best then."""
        routes, code = self._routes, answer.code
        at_once = False
        if code == Code.NOT_LEADER:
            hint = NodeId(U32.unpack(answer.result)[0]) if len(answer.result) == 4 else None
            if hint is not None and hint != link.node_id:
                routes.leaders[group.group] = hint
                at_once = group.backoff.tries < _REDIRECTS_MAX
            else:
                routes.avoid(now_ms, group.group, link)
        elif code == Code.OVERLOADED:
            if call.kind == CallKind.QUERY and call.sends >= _OVERLOADED_MAX:
                group.drop_query(call, answer, error_of(answer))
        elif code != Code.LOST:
            routes.avoid(now_ms, group.group, link)
        group.rewind()
        group.block(now_ms)
        if at_once:
            group.blocked_until_ms = now_ms
        if code == Code.WRONG_SLOT or group.backoff.tries > _REDIRECTS_MAX:
            self._network.ask_map(link)

    # --- Sending ------------------------------------------------------------------------------------

    def poll(self, now_ms: int) -> Output:
        """Everything that is to be done now."""
        network, watches = self._network, self.watches
        if now_ms >= network.wake_ms:
            if now_ms >= network.wake_ms + self.settings.pause_ms:
                self._patient(now_ms)
            self._tick(now_ms)
        if watches.holds.released:
            self._released(now_ms)
        self._settle(now_ms)
        self._ledger.place(now_ms, self._reads.send(now_ms))
        if self._dirty:
            self._flush(now_ms)
            self._settle(now_ms)
        watches.send(now_ms)
        self.questions.send()
        frames, close, dial = network.take()
        finished, self._ledger.finished = self._ledger.finished, []
        lost, self._shared.lost = self._shared.lost, []
        woken, watches.woken = watches.woken, []
        for watch in woken:
            watch.news = False
        return Output(frames, close, dial, finished, lost, woken, network.wake_ms)

    def _settle(self, now_ms: int) -> None:
        self._ledger.settle(now_ms)
        if self._ledger.directory.found:
            self.watches.found(now_ms)
            self._ledger.settle(now_ms)
        resolved, self._ledger.resolved = self._ledger.resolved, []
        for call in resolved:
            self.watches.resolved(now_ms, call)

    def _patient(self, now_ms: int) -> None:
        """The process stood still: what was not heard meanwhile may be waiting to be read."""
        self._network.patient(now_ms)
        self._reads.patient(now_ms)
        self.watches.patient(now_ms)
        for group in self.groups.values():
            group.patient(now_ms)

    def _flush(self, now_ms: int) -> None:
        """Sends what groups have to send, as far as there is a way and room."""
        network = self._network
        for group_id, group in list(self._dirty.items()):
            if self._send_group(now_ms, group):
                del self._dirty[group_id]
            network.wake(group.deadline_ms(now_ms))
            if group.blocked_until_ms > now_ms:
                network.wake(group.blocked_until_ms)

    def _send_group(self, now_ms: int, group: GroupSession) -> bool:
        """Whether the group is done with for now; if not, it waits for room."""
        if group.blocked_until_ms > now_ms or not group.has_work:
            return True
        link = self._routes.pick(now_ms, group.group, group.link)
        self._network.want(now_ms, group.group)
        if link is None:
            return True
        if link is not group.link:
            if group.link is not None:
                group.rewind()
            group.link = link
            group.keepalive_ms = min(group.keepalive_ms, now_ms)
        return self._network.fill(now_ms, group, link)

    # --- Time ---------------------------------------------------------------------------------------

    def _tick(self, now_ms: int) -> None:
        """Does what time asks for, and finds out when it will ask again."""
        network = self._network
        network.wake_ms = now_ms + FAR_MS
        for link in network.tick(now_ms):
            self._close(now_ms, link)
        self._ledger.place(now_ms, self._reads.tick(now_ms))
        self.watches.tick(now_ms)
        for group in self.groups.values():
            self._tick_group(now_ms, group)
        if not self._closing:
            for link, frame, unanswered in self._keepalives.due(now_ms, self.groups):
                network.send(link, frame)
                if unanswered:
                    network.probe(now_ms, link)

    def _tick_group(self, now_ms: int, group: GroupSession) -> None:
        group.judge(now_ms)
        if group.is_stalled(now_ms):
            self._stalled(now_ms, group)
        if group.standing is Standing.READY and not group.is_in_use:
            idle_from_ms = group.used_ms + self.settings.idle_ms
            if now_ms >= idle_from_ms:
                group.leave()
            else:
                self._network.wake(idle_from_ms)
        if group.has_work:
            self._dirty[group.group] = group
        if group.blocked_until_ms > now_ms:
            self._network.wake(group.blocked_until_ms)
        self._network.wake(group.deadline_ms(now_ms))

    def _stalled(self, now_ms: int, group: GroupSession) -> None:
        """Nothing is heard from the group: it is tried by another way."""
        link = group.link
        group.stall_ms = min(2 * group.stall_ms, self.settings.stall_max_ms)
        if link is not None:
            self._routes.avoid(now_ms, group.group, link)
        group.rewind()
        self._network.want(now_ms, group.group)
        others = [other for other in self._routes.nodes.values() if other is not link]
        for other in others[:1]:
            self._network.ask_map(other)
