"""A network between nodes that delays, cuts and, where the protocol claims to survive it, drops, doubles and
reorders.

Each pair of nodes has one connection at a time, like the multiplexer's. What a node sends in one round
travels as one frame, in order. Only sections that may get lost singly (the caller says which: messages
between replicas) are dropped, doubled or overtaken; anything else is lost with its connection alone. A
blocked direction holds frames back, as retransmission would; a connection that is blocked for long breaks,
and both ends are told, each in its own time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final, Generic, Protocol, TypeVar

from bench.world.clock import Heap, Trace
from primitives.ids import NodeId

S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)

CONNECT_RETRY_MS: Final = (20, 250)
SILENCE_MS: Final = (300, 2500)
"""After how long a blocked connection breaks."""


class Endpoint(Protocol[S_contra]):
    """One boot of a node, as the network sees it."""

    @property
    def node(self) -> NodeId:
        """The node's id."""

    @property
    def boot_id(self) -> bytes:
        """This boot's id."""

    def peer_up(self, node: NodeId, boot_id: bytes) -> None:
        """A connection to that boot of a peer stands."""

    def peer_down(self, node: NodeId) -> None:
        """The connection is gone."""

    def receive(self, node: NodeId, sections: Sequence[S_contra]) -> None:
        """A frame came in."""


@dataclass(slots=True)
class Weather:
    """How bad the network is. Chances are per thousand."""

    delay_ms: tuple[int, int] = (1, 3)
    drop: int = 0
    """Of a section that may get lost singly."""
    double: int = 0
    overtake: int = 0
    """Of such a section being late, so that later ones come first."""
    reset: int = 0
    """Of a frame breaking its connection."""


class _Line(Generic[S]):
    """One direction of a connection."""

    __slots__ = ("free_at_ms", "held")

    def __init__(self) -> None:
        self.free_at_ms = 0
        self.held: list[Sequence[S]] = []


class _Connection(Generic[S]):
    """A connection between two boots, named by its lower node first."""

    __slots__ = ("broken", "ends", "lines", "up")

    def __init__(self, low: Endpoint[S], high: Endpoint[S]) -> None:
        self.ends: Final = (low, high)
        self.lines: Final[dict[NodeId, _Line[S]]] = {low.node: _Line(), high.node: _Line()}
        """By sender."""
        self.up: set[NodeId] = set()
        """Ends that were told it stands and not yet that it broke."""
        self.broken = False

    def peer(self, node: NodeId) -> Endpoint[S]:
        return self.ends[1] if self.ends[0].node == node else self.ends[0]


class Network(Generic[S]):
    """All connections between nodes."""

    def __init__(
        self, heap: Heap, random: Random, trace: Trace, *, loose: Callable[[S], bool], weather: Weather
    ) -> None:
        self._heap = heap
        self._random = random
        self._trace = trace
        self._loose = loose
        self.weather = weather
        self._endpoints: dict[NodeId, Endpoint[S]] = {}
        self._connections: dict[tuple[NodeId, NodeId], _Connection[S]] = {}
        self._blocked: dict[tuple[NodeId, NodeId], int] = {}
        """How many reasons block each direction."""

    def attach(self, endpoint: Endpoint[S]) -> None:
        """A node has started."""
        self._endpoints[endpoint.node] = endpoint
        for other in sorted(self._endpoints):
            if other != endpoint.node:
                self._connect_soon(endpoint.node, other)

    def detach(self, node: NodeId) -> None:
        """A node's process is gone; it hears nothing any more, its peers notice soon or late."""
        gone = self._endpoints.pop(node)
        for connection in [c for c in self._connections.values() if gone in c.ends]:
            connection.up.discard(node)
            self._break(connection, "its end died", far=(1, 1500))

    def send(self, sender: Endpoint[S], to: NodeId, sections: Sequence[S]) -> bool:
        """Sends one frame; False when there is no connection, so that nothing was sent."""
        connection = self._connections.get(_pair(sender.node, to))
        if connection is None or connection.broken or sender.node not in connection.up:
            return False
        weather, random = self.weather, self._random
        if weather.reset and random.randrange(1000) < weather.reset:
            self._break(connection, "reset")
            return True
        now, late = self._sort_out(sections)
        line = connection.lines[sender.node]
        if now:
            at_ms = max(self._heap.now_ms + random.randint(*weather.delay_ms), line.free_at_ms)
            line.free_at_ms = at_ms
            self._heap.at(at_ms, lambda: self._arrive(connection, sender.node, now))
        for section in late:
            delay = random.randint(weather.delay_ms[0], 4 * weather.delay_ms[1] + 20)
            self._heap.after(delay, partial(self._arrive, connection, sender.node, (section,)))
        return True

    def block(self, pairs: Iterable[tuple[NodeId, NodeId]]) -> None:
        """Nothing gets from the first to the second of each pair until :meth:`unblock`; a pair may be
        blocked several times over."""
        for pair in pairs:
            self._blocked[pair] = self._blocked.get(pair, 0) + 1
            connection = self._connections.get(_pair(*pair))
            if connection is not None and not connection.broken:
                self._heap.after(self._random.randint(*SILENCE_MS), partial(self._silent, connection, pair))

    def clog(self, pairs: Iterable[tuple[NodeId, NodeId]]) -> None:
        """Like :meth:`block`, but no connection breaks for it: all arrives in the end."""
        for pair in pairs:
            self._blocked[pair] = self._blocked.get(pair, 0) + 1

    def unblock(self, pairs: Iterable[tuple[NodeId, NodeId]]) -> None:
        """Takes back one :meth:`block` or :meth:`clog` of each pair. What was held back arrives."""
        for pair in pairs:
            left = self._blocked.get(pair, 0) - 1
            if left > 0:
                self._blocked[pair] = left
                continue
            self._blocked.pop(pair, None)
            connection = self._connections.get(_pair(*pair))
            if connection is None or connection.broken:
                continue
            held = connection.lines[pair[0]].held
            connection.lines[pair[0]].held = []
            for sections in held:
                self._arrive(connection, pair[0], sections)

    def heal(self) -> None:
        """Ends every block and the bad weather."""
        self.weather = Weather()
        for pair, count in sorted(self._blocked.items()):
            self.unblock([pair] * count)

    def connected(self, one: NodeId, other: NodeId) -> bool:
        """Whether a connection stands between the two."""
        connection = self._connections.get(_pair(one, other))
        return connection is not None and not connection.broken and len(connection.up) == 2

    def _sort_out(self, sections: Sequence[S]) -> tuple[list[S], list[S]]:
        """Which sections go now, in order, and which late; some are lost, some are in both."""
        weather, random = self.weather, self._random
        if not (weather.drop or weather.double or weather.overtake):
            return list(sections), []
        now: list[S] = []
        late: list[S] = []
        for section in sections:
            if not self._loose(section):
                now.append(section)
            elif random.randrange(1000) < weather.drop:
                continue
            elif random.randrange(1000) < weather.double:
                now.append(section)
                late.append(section)
            elif random.randrange(1000) < weather.overtake:
                late.append(section)
            else:
                now.append(section)
        return now, late

    def _arrive(self, connection: _Connection[S], sender: NodeId, sections: Sequence[S]) -> None:
        receiver = connection.peer(sender)
        if connection.broken or receiver.node not in connection.up:
            return
        if (sender, receiver.node) in self._blocked:
            connection.lines[sender].held.append(sections)
            return
        receiver.receive(sender, sections)

    def _silent(self, connection: _Connection[S], pair: tuple[NodeId, NodeId]) -> None:
        if pair in self._blocked and not connection.broken:
            self._break(connection, "silent for too long")

    def _break(self, connection: _Connection[S], why: str, far: tuple[int, int] = (0, 60)) -> None:
        if connection.broken:
            return
        connection.broken = True
        low, high = (end.node for end in connection.ends)
        self._trace("net", f"{low}-{high} breaks: {why}")
        told_ms = 0
        for end in connection.ends:
            if end.node in connection.up:
                delay = self._random.randint(*far)
                told_ms = max(told_ms, delay)
                self._heap.after(delay, partial(self._tell_down, connection, end))
        self._heap.after(told_ms + self._random.randint(*CONNECT_RETRY_MS), lambda: self._replace(connection))

    def _tell_down(self, connection: _Connection[S], end: Endpoint[S]) -> None:
        if end.node in connection.up and self._endpoints.get(end.node) is end:
            connection.up.discard(end.node)
            end.peer_down(connection.peer(end.node).node)

    def _replace(self, connection: _Connection[S]) -> None:
        low, high = (end.node for end in connection.ends)
        del self._connections[low, high]
        self._connect(low, high)

    def _connect_soon(self, one: NodeId, other: NodeId) -> None:
        self._heap.after(self._random.randint(*CONNECT_RETRY_MS), lambda: self._connect(*_pair(one, other)))

    def _connect(self, low: NodeId, high: NodeId) -> None:
        if (low, high) in self._connections:
            return
        ends = self._endpoints.get(low), self._endpoints.get(high)
        if ends[0] is None or ends[1] is None:
            return
        if (low, high) in self._blocked or (high, low) in self._blocked:
            self._connect_soon(low, high)
            return
        connection = _Connection(ends[0], ends[1])
        self._connections[low, high] = connection
        delays = [self._random.randint(0, 4) for _ in connection.ends]
        for end, delay in zip(connection.ends, delays, strict=True):
            self._heap.after(delay, partial(self._tell_up, connection, end))
        for line in connection.lines.values():
            line.free_at_ms = self._heap.now_ms + max(delays)

    def _tell_up(self, connection: _Connection[S], end: Endpoint[S]) -> None:
        if connection.broken or self._endpoints.get(end.node) is not end:
            return
        connection.up.add(end.node)
        peer = connection.peer(end.node)
        end.peer_up(peer.node, peer.boot_id)


def _pair(one: NodeId, other: NodeId) -> tuple[NodeId, NodeId]:
    return (one, other) if one < other else (other, one)
