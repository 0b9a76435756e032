"""Connections of clients to nodes: ordered streams that take their time, and that may break or be cut off.

A :class:`Door` is what one boot of a node shows to clients: the handshake, and the way into the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Final, Protocol

from bench.world.clock import Heap
from bench.world.nodes import SimNode
from primitives.errors import InvariantViolation
from router.connection import Connection, Role, Welcome, decode_hello, encode_welcome
from router.frames import VERSION, FrameKind

DELAY_MS: Final = (0, 2)
REFUSAL_MS: Final = (0, 5)
TIMEOUT_MS: Final = (500, 2000)
"""How long a dial takes that nobody answers."""
BREAK_MS: Final = (0, 40)
"""How soon an end is told that the connection is gone."""


class Caller(Protocol):
    """The client's end."""

    @property
    def number(self) -> int:
        """The client's number."""

    @property
    def is_cut_off(self) -> bool:
        """Whether nothing gets to it or from it for now."""

    def hears(self, connection: int, data: bytes) -> None:
        """Bytes arrived."""

    def loses(self, connection: int) -> None:
        """The connection is gone."""


class Wire:
    """One connection: the client's number of it, the door at the other end, and what is under way."""

    def __init__(self, heap: Heap, random: Random, client: Caller, connection: int, door: Door) -> None:
        self.connection: Final = connection
        self.client: Final = client
        self.door: Final = door
        self.broken = False
        self.protocol: Final = Connection(Role.NODE)
        """The node's side of the protocol."""
        self._heap = heap
        self._random = random
        self._free_at_ms = {"up": 0, "down": 0}
        self._held: list[Callable[[], None]] = []

    def to_node(self, data: bytes) -> None:
        """The client sends."""
        self._carry("up", lambda: self.door.node.run(partial(self.door.hears, self, data)))

    def to_client(self, data: bytes) -> None:
        """The node sends."""
        self._carry("down", partial(self.client.hears, self.connection, data))

    def end(self) -> None:
        """The node closes, behind what it sent."""
        self._carry("down", self.snap)

    def snap(self, *, client_knows: bool = False, node_knows: bool = False) -> None:
        """The connection breaks; what is under way is lost, each end that does not know is told soon."""
        if self.broken:
            return
        self.broken = True
        self._held.clear()
        if not client_knows:
            delay = self._random.randint(*BREAK_MS)
            self._heap.after(delay, lambda: self.client.loses(self.connection))
        if not node_knows:
            delay = self._random.randint(*BREAK_MS)
            self._heap.after(delay, lambda: self.door.node.run(partial(self.door.loses, self)))

    def release(self) -> None:
        """The client is no longer cut off: what was held back arrives, in order."""
        held, self._held = self._held, []
        for arrive in held:
            arrive()

    def _carry(self, way: str, arrive: Callable[[], None]) -> None:
        if self.broken:
            return
        at = max(self._heap.now_ms + self._random.randint(*DELAY_MS), self._free_at_ms[way])
        self._free_at_ms[way] = at
        self._heap.at(at, lambda: self._arrive(arrive))

    def _arrive(self, arrive: Callable[[], None]) -> None:
        if self.broken:
            return
        if self.client.is_cut_off:
            self._held.append(lambda: self._arrive(arrive))
        else:
            arrive()


class Door:
    """One boot of a node, as clients reach it."""

    def __init__(self, node: SimNode) -> None:
        self.node: Final = node
        self.wires: Final[dict[int, Wire]] = {}
        """By the node's number of the connection."""
        self._numbers: dict[Wire, int] = {}
        self._opened = 0
        node.clients = self

    @property
    def is_open(self) -> bool:
        """Whether the node takes clients: it does once it knows the shard map."""
        return self.node.alive and self.node.engine.shard_map is not None

    def accept(self, wire: Wire) -> None:
        """A client has connected."""
        self._numbers[wire] = self._opened
        self.wires[self._opened] = wire
        self._opened += 1

    def hears(self, wire: Wire, data: bytes) -> None:
        """Bytes of a client arrived."""
        engine = self.node.engine
        number = self._numbers.get(wire)
        if number is None:
            return
        for kind, payload in wire.protocol.receive(data):
            if kind == FrameKind.HELLO:
                decode_hello(payload)
                shard_map = engine.shard_map
                if shard_map is None:
                    raise InvariantViolation("a node forgot the shard map")
                welcome = Welcome(
                    VERSION, shard_map.cluster_id, self.node.node, self.node.boot_id, shard_map.version
                )
                wire.to_client(wire.protocol.sending(encode_welcome(welcome)))
            else:
                engine.client_frame(number, kind, payload)
        self.node.wake(0)

    def loses(self, wire: Wire) -> None:
        """A client's connection is gone."""
        number = self._numbers.pop(wire, None)
        if number is not None:
            del self.wires[number]
            if self.node.alive:
                self.node.engine.client_closed(number)
                self.node.wake(0)

    def to_client(self, connection: int, frames: Sequence[bytes]) -> None:
        """See :class:`bench.world.nodes.ClientEnd`."""
        wire = self.wires.get(connection)
        if wire is not None and not wire.broken:
            wire.to_client(b"".join([wire.protocol.sending(frame) for frame in frames]))

    def close_client(self, connection: int) -> None:
        """See :class:`bench.world.nodes.ClientEnd`."""
        wire = self.wires.get(connection)
        if wire is not None:
            wire.end()

    def shut(self) -> None:
        """The node's process is gone."""
        for wire in list(self.wires.values()):
            wire.snap(node_knows=True)
        self.wires.clear()
        self._numbers.clear()
