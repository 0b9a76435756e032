"""All watches of a session: which node serves each stream, what comes of them, and what they owe.

A stream begins at a node with a replica of its group, best the leader's, and goes on at another one whenever
that is of use: from the last event buffered, so that nothing is missing and nothing comes twice. A node may
send no more than a stream's window until events are taken from the watch's buffer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from primitives.errors import BadPosition, Code, Compacted, Deleted, Overloaded, QuorateError
from primitives.handle import Reference
from primitives.ids import GroupId, NodeId, Revision
from primitives.position import WHOLE, Position, revision_of
from primitives.records import Answer
from primitives.watch import BUFFER_BYTES, EventKind, StreamEvent
from router.frames import FrameKind, encode_control
from router.session_calls import Call, CallKind, error_of
from router.session_holds import Holds
from router.session_ledger import Ledger
from router.session_links import Link
from router.session_network import Network
from router.session_streams import Stream, Streams, Watch
from router.shardmap import ShardMap
from router.slots import partition_of_key, slot_of_partition
from router.watchframes import (
    FROM_NOW,
    WatchRequest,
    decode_events,
    decode_marks,
    decode_watch_ended,
    decode_watching,
    encode_watch,
)

PROGRESS_MS: Final = 1000
"""A watch tells of its progress at most this often."""
ASK_FIRST_MS: Final = 100
ASK_MAX_MS: Final = 1000
"""How long to wait before a name that means nothing is looked up again: doubled up to the second."""
ANSWER_MS: Final = 1500
"""A node that does not say for so long whether it serves a stream is passed over."""
RETRY_FIRST_MS: Final = 20
RETRY_MAX_MS: Final = 1000
OVERLOADED_MAX: Final = 8
"""So often a stream is refused for want of room before its watch ends."""


class Watches:
    """A session's watches. Their events are taken through :meth:`pop`."""

    __slots__ = ("_asking", "_avoided", "_by_id", "_due", "_idle", "_ledger", "_network", "_next", "_owing",
                 "_watches", "holds", "streams", "woken")  # fmt: skip

    def __init__(self, ledger: Ledger, network: Network) -> None:
        self._ledger: Final = ledger
        self._network: Final = network
        self.streams: Final = Streams()
        self.holds: Final = Holds(self, network)
        self.woken: list[Watch] = []
        """Watches with something new for their users."""
        self._watches: dict[Watch, None] = {}
        self._by_id: dict[int, Stream] = {}
        self._asking: dict[Stream, None] = {}
        """Streams that a node is asked for and has not answered."""
        self._idle: dict[Stream, None] = {}
        """Streams that nobody is asked for at present."""
        self._owing: dict[Stream, None] = {}
        """Streams whose node is to be allowed more."""
        self._due: dict[Watch, None] = {}
        """Watches of which progress is to be told once it is time."""
        self._avoided: dict[tuple[GroupId, NodeId], int] = {}
        self._next = 1

    @property
    def has_work(self) -> bool:
        """Whether a poll would do something."""
        return bool(self._owing or self.woken)

    # --- What users want ----------------------------------------------------------------------------

    def begin(
        self, now_ms: int, ref: Reference, *, after: Position | None = None, key: bytes | None = None,
        prefix: bytes | None = None, previous: bool = False, progress: bool = False,
        buffer_bytes: int = BUFFER_BYTES, token: Any = None,
    ) -> Watch:  # fmt: skip
        """A new watch; see ``handle.ClientPort``."""
        watch = Watch(
            ref, after=after, key=key, prefix=prefix, previous=previous, progress=progress,
            buffer_bytes=buffer_bytes, token=token,
        )  # fmt: skip
        self._watches[watch] = None
        self._resolve(now_ms, watch)
        return watch

    def pop(self, watch: Watch) -> StreamEvent | None:
        """The next event of a watch, or None; raises what ended it."""
        item = watch.take()
        if item is None:
            return None
        stream = item[0]
        if stream is not None and 2 * stream.owed >= stream.window and not watch.is_ended:
            self._owing[stream] = None
        return item[1]

    def end(self, now_ms: int, watch: Watch) -> None:
        """The user wants no more of it."""
        if not watch.is_over:
            watch.is_over = True
            self._drop(now_ms, watch)

    def _drop(self, now_ms: int, watch: Watch) -> None:
        self._watches.pop(watch, None)
        self._due.pop(watch, None)
        for stream in watch.streams:
            self._leave(stream)
            self._idle.pop(stream, None)
            group = stream.session
            self.streams.drop(stream)
            if group is not None:
                self.holds.release(now_ms, group.group)

    def _fail(self, now_ms: int, watch: Watch, error: QuorateError) -> None:
        """The watch ends; what is buffered can still be taken."""
        if not watch.is_ended:
            watch.error = error
            self.wake(watch)
            self._drop(now_ms, watch)

    def fail(self, now_ms: int, stream: Stream, error: QuorateError) -> None:
        """The watch of a stream ends."""
        self._fail(now_ms, stream.watch, error)

    def wake(self, watch: Watch) -> None:
        """Has the driver told that there is news."""
        if not watch.news:
            watch.news = True
            self.woken.append(watch)

    # --- What it is that is watched -----------------------------------------------------------------

    def found(self, now_ms: int) -> None:
        """Names turned out to mean something: watches that wait for them have streams before any call on
        such a name is sent, so that its answer waits for its events."""
        names = self._ledger.directory.found
        for watch in [one for one in self._watches if one.retry_ms is not None]:
            if watch.name in names:
                self._ask_catalog(now_ms, watch)
        names.clear()

    def _resolve(self, now_ms: int, watch: Watch) -> None:
        """Asks the catalog what the watch's name means: what was found out before may be gone."""
        self._ledger.directory.forget_name(watch.name)
        self._ask_catalog(now_ms, watch)

    def _ask_catalog(self, now_ms: int, watch: Watch) -> None:
        watch.resolving = True
        watch.retry_ms = None
        try:
            call = self._ledger.make(CallKind.RESOLVE, watch.ref, 0, [], b"", None, None)
        except Overloaded:
            self._resolve_later(now_ms, watch)
            return
        call.watch = watch
        self._ledger.start(now_ms, call)

    def _resolve_later(self, now_ms: int, watch: Watch) -> None:
        watch.resolving = False
        watch.pace_ms = min(max(2 * watch.pace_ms, ASK_FIRST_MS), ASK_MAX_MS)
        watch.retry_ms = now_ms + watch.pace_ms
        self._network.wake(watch.retry_ms)

    def resolved(self, now_ms: int, call: Call) -> None:
        """It is known what a watch's name means now."""
        watch: Watch = call.watch
        if watch.is_ended:
            return
        watch.resolving = False
        primitive, shard_map = watch.ref.primitive, self._ledger.shared.shard_map
        if call.error is not None:
            error = call.error
            self._fail(now_ms, watch, error if isinstance(error, QuorateError) else QuorateError(str(error)))
        elif call.answer is None or primitive is None or shard_map is None:
            self._absent(now_ms, watch)
        elif watch.primitive is None:
            self._begin(now_ms, watch, shard_map)
        elif watch.primitive != primitive:
            self._fail(now_ms, watch, _deleted())

    def _absent(self, now_ms: int, watch: Watch) -> None:
        """The name means nothing."""
        if watch.primitive is not None or watch.after is not None:
            self._fail(now_ms, watch, _deleted())
            return
        if not watch.is_standing:  # Whatever comes is told from its first event on.
            watch.is_standing = True
            self.wake(watch)
        self._resolve_later(now_ms, watch)

    def _begin(self, now_ms: int, watch: Watch, shard_map: ShardMap) -> None:
        primitive, spread = watch.ref.primitive, watch.ref.spread
        if primitive is None or spread is None:
            return
        count = max(1, spread)
        if watch.after is not None:
            try:
                watch.after.check(shard_map.cluster_id, primitive, count)
            except BadPosition as error:
                self._fail(now_ms, watch, error)
                return
        partitions: Iterable[int] = range(count)
        if watch.is_keyed and spread:
            partitions = [partition_of_key(shard_map.salt, watch.key, spread)]
        salt, own = shard_map.salt, primitive.slot
        slots = {at: slot_of_partition(salt, primitive, at) if spread else own for at in partitions}
        watch.existed = not watch.is_standing
        watch.begin(shard_map.cluster_id, primitive, count, slots)
        for stream in watch.streams:
            self.streams.put(self._ledger.group(shard_map.group(stream.slot)), stream)
            self._idle[stream] = None

    # --- Asking nodes for streams -------------------------------------------------------------------

    def send(self, now_ms: int) -> None:
        """Asks for streams that nobody serves, and allows nodes to send more."""
        if self._idle:
            for stream in list(self._idle):
                self._open(now_ms, stream)
        if self._owing:
            for stream in self._owing:
                self._allow(stream)
            self._owing.clear()

    def _open(self, now_ms: int, stream: Stream) -> None:
        session = stream.session
        if session is None or stream.retry_ms > now_ms:
            self._network.wake(stream.retry_ms)
            return
        link = self._pick(now_ms, session.group)
        if link is not None:
            self.ask(now_ms, stream, link)

    def _pick(self, now_ms: int, group: GroupId) -> Link | None:
        """The link to the leader's node, or else to one with a replica; None if none is connected yet."""
        routes, shard_map = self._network.routes, self._ledger.shared.shard_map
        info = None if shard_map is None else shard_map.groups.get(group)
        self._network.want(now_ms, group)
        if info is None:
            return None
        leader, best, best_rank = routes.leaders.get(group), None, 4
        for _, node in info.replicas:
            link = routes.nodes.get(node)
            if link is None:
                if not routes.nodes.keys() & {other for _, other in info.replicas}:
                    self._network.dial_node(now_ms, node)
                continue
            avoided = link.leaving or self._avoided.get((group, node), 0) > now_ms
            rank = 2 * avoided + (node != leader)
            if rank < best_rank:
                best, best_rank = link, rank
        return best

    def ask(self, now_ms: int, stream: Stream, link: Link) -> None:
        """Asks a node for a stream, from where it stands."""
        self._leave(stream)
        session, watch = stream.session, stream.watch
        if session is None or watch.primitive is None:
            return
        self._idle.pop(stream, None)
        stream.id = self._next
        self._next += 1
        self._by_id[stream.id] = stream
        stream.link = link
        link.streams += 1
        stream.asked_ms = now_ms
        self._asking[stream] = None
        stream.covered = False
        stream.credit = max(stream.window - stream.buffered, 0)
        stream.owed = 0
        mark = stream.mark
        after, number = (FROM_NOW, WHOLE) if mark is None else (revision_of(mark), mark & WHOLE)
        shared = self._ledger.shared
        self._network.send(link, encode_watch(WatchRequest(
            stream.id, session.group, stream.slot, shared.epoch(stream.slot), *watch.primitive,
            stream.partition, watch.ref.type, after, watch.flags, watch.key, stream.credit,
            number,
        )))  # fmt: skip
        self._network.wake(now_ms + ANSWER_MS)

    def _leave(self, stream: Stream) -> None:
        """Nothing more is wanted of the node that serves the stream."""
        link = stream.link
        if link is not None:
            if link.is_up:
                self._network.send(link, encode_control(FrameKind.UNWATCH, [stream.id]))
            self._forget(stream, link)

    def _forget(self, stream: Stream, link: Link) -> None:
        del self._by_id[stream.id]
        self._owing.pop(stream, None)
        self._asking.pop(stream, None)
        link.streams -= 1
        stream.link = stream.asked_ms = None
        stream.covered = False
        self._idle[stream] = None

    def _allow(self, stream: Stream) -> None:
        link = stream.link
        if link is not None and stream.owed:
            stream.credit += stream.owed
            self._network.send(link, encode_control(FrameKind.CREDIT, [stream.id, stream.owed]))
            stream.owed = 0

    def _again(self, now_ms: int, stream: Stream) -> None:
        """The stream is to be asked for after a while, longer each time."""
        stream.tries += 1
        stream.retry_ms = now_ms + min(RETRY_FIRST_MS << min(stream.tries, 10), RETRY_MAX_MS)
        self._network.wake(stream.retry_ms)

    # --- What nodes say -----------------------------------------------------------------------------

    def on_watching(self, now_ms: int, link: Link, payload: bytes) -> None:
        """A WATCHING."""
        number, _, revision = decode_watching(payload)
        stream = self._mine(link, number)
        if stream is None:
            return
        stream.stand(revision)
        self._asking.pop(stream, None)
        watch = stream.watch
        if not watch.is_standing and all(one.mark is not None and one.is_standing for one in watch.streams):
            watch.is_standing = True
            self.wake(watch)

    def _mine(self, link: Link, number: int) -> Stream | None:
        stream = self._by_id.get(number)
        return stream if stream is not None and stream.link is link else None

    def on_events(self, now_ms: int, link: Link, payload: bytes) -> None:
        """An EVENTS."""
        for number, event, size in decode_events(payload):
            stream = self._mine(link, number)
            if stream is None:
                continue
            watch = stream.watch
            if event.kind == EventKind.DELETED:
                self._fail(now_ms, watch, _deleted())
            elif not stream.take(event, size):
                self._owing[stream] = None
            else:
                if watch.is_empty:
                    self.wake(watch)
                watch.buffer(stream, event, size)

    def on_marks(self, now_ms: int, link: Link, payload: bytes) -> None:
        """A MARKS."""
        for group, revision, number, covered in decode_marks(payload):
            if number is not None:
                stream = self._mine(link, number)
                if stream is not None:
                    stream.covered = covered
                    stream.holds = stream.holds or covered
                    self._reached(now_ms, stream, revision)
            else:
                for stream in self.streams.get(GroupId(group), ()):
                    if stream.link is link and stream.covered:
                        self._reached(now_ms, stream, revision)
            self.holds.release(now_ms, GroupId(group))

    def _reached(self, now_ms: int, stream: Stream, revision: int) -> None:
        stream.reach(revision)
        watch = stream.watch
        if watch.progress and watch.is_empty:
            self._tell_progress(now_ms, watch)

    def _tell_progress(self, now_ms: int, watch: Watch) -> None:
        if not watch.mark_progress(now_ms, PROGRESS_MS):
            self._due[watch] = None
            self._network.wake(watch.progress_ms)
        elif not watch.is_empty:
            self.wake(watch)

    def on_ended(self, now_ms: int, link: Link, payload: bytes) -> None:
        """A WATCH_ENDED."""
        number, code, text = decode_watch_ended(payload)
        stream = self._mine(link, number)
        if stream is None or stream.session is None:
            return
        watch, group = stream.watch, stream.session.group
        self._forget(stream, link)
        self._again(now_ms, stream)
        if code == Code.WRONG_SLOT:
            self._network.ask_map(link)
        elif code == Code.UNKNOWN_PRIMITIVE:
            self._look_again(now_ms, watch)
        elif code == Code.UNAVAILABLE or (code == Code.OVERLOADED and stream.tries < OVERLOADED_MAX):
            if link.node_id is not None:
                self._avoid(now_ms, group, link.node_id)
        elif code == Code.COMPACTED:
            self._fail(now_ms, watch, Compacted(text or "the position is no longer in the history"))
        else:
            error = error_of(Answer(code, Revision(0), text.encode()))
            self._fail(now_ms, watch, error if isinstance(error, QuorateError) else QuorateError(text))

    def _avoid(self, now_ms: int, group: GroupId, node: NodeId) -> None:
        if len(self._avoided) > 1000:
            self._avoided = {key: until for key, until in self._avoided.items() if until > now_ms}
        self._avoided[group, node] = now_ms + self._ledger.shared.settings.avoid_ms

    def _look_again(self, now_ms: int, watch: Watch) -> None:
        """The group knows no such primitive: either it was deleted, or what the name meant was out of date
        from the beginning, or the partition is not open yet."""
        if watch.primitive is not None:
            self._ledger.directory.forget(watch.ref, watch.primitive)
        if not watch.is_standing:
            for stream in watch.streams:
                self._leave(stream)
                self._idle.pop(stream, None)
                self.streams.drop(stream)
            watch.streams.clear()
            watch.primitive = None
        if not watch.resolving:
            self._resolve(now_ms, watch)

    # --- What happens to links, slots and time ------------------------------------------------------

    def dropped(self, link: Link) -> None:
        """A link is gone."""
        if link.streams:
            for stream in [stream for stream in self._by_id.values() if stream.link is link]:
                self._forget(stream, link)

    def moved(self, shard_map: ShardMap) -> None:
        """Slots may be with other groups now."""
        for streams in list(self.streams.values()):
            for stream in list(streams):
                group = self._ledger.group(shard_map.group(stream.slot))
                if group is not stream.session:
                    self._leave(stream)
                    self.streams.put(group, stream)

    def patient(self, now_ms: int) -> None:
        """The process stood still: nobody was slow."""
        for stream in self._asking:
            stream.asked_ms = now_ms

    def tick(self, now_ms: int) -> None:
        """Does what time asks for."""
        for watch in list(self._watches):
            if watch.retry_ms is not None:
                if watch.retry_ms <= now_ms:
                    self._resolve(now_ms, watch)
                else:
                    self._network.wake(watch.retry_ms)
        due, self._due = self._due, {}
        for watch in due:
            self._tell_progress(now_ms, watch)
        for stream in list(self._asking):
            link, asked_ms = stream.link, stream.asked_ms
            if link is None or asked_ms is None or stream.session is None:
                continue
            if now_ms >= asked_ms + ANSWER_MS:
                if link.node_id is not None:
                    self._avoid(now_ms, stream.session.group, link.node_id)
                self._leave(stream)
            else:
                self._network.wake(asked_ms + ANSWER_MS)
        for stream in self._idle:
            self._network.wake(max(stream.retry_ms, now_ms + RETRY_FIRST_MS))
        self.holds.tick(now_ms)


def _deleted() -> Deleted:
    return Deleted("the primitive was deleted: watch its name anew to wait for its next creation")
