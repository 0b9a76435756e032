"""The engine's ports: what it needs of a store, a clock and randomness, and what it hands to its driver.

The trio driver and the simulation each bring their own; the engine is the same object in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from primitives.ids import GroupId, NodeId
from raftgroup.types import Entry, HardState, Index, LogReader, Membership, ReplicaId, Term


class StoreFailed(Exception):
    """The store cannot write or sync. The node stops: nothing it says would be safe."""


class StoreDamaged(Exception):
    """The store lost or altered records that were acknowledged. The node refuses to serve."""


class ReplicaIdentity(NamedTuple):
    """Which member of which group a store holds."""

    group: GroupId
    replica: ReplicaId


class StoredReplica(NamedTuple):
    """What a replica starts from."""

    identity: ReplicaIdentity
    membership: Membership
    hard_state: HardState
    applied: Index
    epoch: int
    """State epoch: which copy of the group's rows is the valid one."""
    epoch_used: int = 0
    """The highest epoch that a snapshot being received used, if above ``epoch``; rows may be left there."""


class StateView(Protocol):
    """Rows of one group's state; keys are relative to (group, epoch)."""

    def get(self, key: bytes) -> bytes | None:
        """The row's value, or None."""

    def scan(
        self, start: bytes, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows with ``start <= key`` and, unless None, ``key < end``."""


class Batch(Protocol):
    """The writes of one round, for all groups, atomic together."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was put into it."""

    def append(self, group: GroupId, entries: Sequence[Entry], last_stored: Index) -> None:
        """Stores entries and deletes every stored one from ``entries[0].index`` to ``last_stored``."""

    def hard_state(self, group: GroupId, state: HardState) -> None:
        """Stores a group's term, vote and commit."""

    def put_state(self, group: GroupId, epoch: int, key: bytes, value: bytes) -> None:
        """Sets a row of a group's state."""

    def delete_state(self, group: GroupId, epoch: int, key: bytes) -> None:
        """Removes a row of a group's state."""

    def write_state(
        self, group: GroupId, epoch: int, prefix: bytes, rows: Mapping[bytes, bytes | None]
    ) -> None:
        """Sets rows of a group's state, or removes those without a value, by their keys behind ``prefix``."""

    def drop_rows(self, group: GroupId, epoch: int, first: bytes, last: bytes) -> None:
        """Removes the rows of a group's state from the key ``first`` to ``last``, both included, but those
        that are set after this. Costs little, however many they are."""

    def applied(self, group: GroupId, index: Index, membership: Membership) -> None:
        """Stores the applied index with the membership as of it."""

    def create(self, replica: StoredReplica) -> None:
        """Stores a new replica with everything it starts from."""

    def cut_log(self, group: GroupId, index: Index, term: Term, *, keep: bool = True) -> None:
        """From now on the log begins behind the entry ``index`` of ``term``, whose term stays known: deletes
        every entry up to it, and, unless ``keep``, those behind it too. Costs little, however many they are.
        The batch, or an earlier one, has the effects of what goes."""

    def use_epoch(self, group: GroupId, epoch: int) -> None:
        """Notes that the epoch's number was used, and deletes whatever rows are left under it. What the
        batch puts there stays."""

    def drop_state(self, group: GroupId, epoch: int) -> None:
        """Deletes all rows of a group's epoch. Costs little, however many they are."""

    def switch(self, replica: StoredReplica) -> None:
        """Rewrites what a stored replica starts from: another epoch becomes the valid one."""


class Store(Protocol):
    """One store for all replicas of a node. Synchronous; only the syncer's work may take long."""

    @property
    def last_round(self) -> int:
        """Number of the last batch in the store, 0 in a new one; the next batch's is one more."""

    def batch(self, round_number: int) -> Batch:
        """An empty batch for a round; numbers grow by one for each batch written."""

    def write(self, batch: Batch) -> bool:
        """Writes, without syncing. False: refused for now (a stall); try the same batch again, before any
        other. Raises :class:`StoreFailed`."""

    def synced(self, round_number: int) -> None:
        """Tells the store, on the engine's thread, that this round and all before it are durable, so that
        the next batch can carry the fact."""

    def replicas(self) -> Sequence[StoredReplica]:
        """Every replica stored."""

    def log(self, group: GroupId) -> LogReader:
        """A group's log."""

    def state(self, group: GroupId, epoch: int) -> StateView:
        """A group's rows, as written so far."""

    def state_snapshot(self, group: GroupId, epoch: int) -> StateView:
        """A group's rows as of now, unmoved by later writes. Dropped by dropping every reference."""


class Syncer(Protocol):
    """Makes written rounds durable, off the engine's thread."""

    def request(self, round_number: int) -> None:
        """Asks that everything written up to ``round_number`` be synced. The answer comes as
        ``Engine.sync_done(round_number)``. One sync at a time runs; requests during it share the next."""

    def begin(self) -> None:
        """Lets the sync that was just asked for begin, unless another one runs: to be called where much is to
        be done before this thread waits for something, since until then it may let no other thread run."""


class RandomSource(Protocol):
    """The engine's only randomness."""

    def randrange(self, start: int, stop: int) -> int:
        """A whole number with ``start <= n < stop``."""

    def randbytes(self, n: int) -> bytes:
        """``n`` bytes."""


class Clock(Protocol):
    """The engine's only time."""

    def monotonic_ms(self) -> int:
        """Milliseconds that only grow; by their differences alone."""


class Usage(Protocol):
    """What the node's process takes of its machine."""

    def describe(self, groups: int) -> dict[str, Any]:
        """Plain values by name, with so many replicas here."""


class Origin(NamedTuple):
    """Who waits for an answer: a client's connection on some node, and its request number there.

    ``connection`` is negative for the node itself (see ``engine``).
    """

    node: NodeId
    connection: int
    request: int


class Priority:
    """Classes of peer traffic, most urgent first."""

    CONTROL: Final = 0
    """Heartbeats, votes and their replies."""
    LOG: Final = 1
    """Appends, client operations passed on, answers."""
    BULK: Final = 2
    """Snapshots."""


class Effects:
    """What a round wants carried out by the driver, in this order."""

    __slots__ = ("bad_peers", "clients", "close", "goes_on", "notes", "peers", "sync_round", "wake_in_ms")

    def __init__(
        self, *, peers: dict[NodeId, list[tuple[int, bytes]]] | None = None,
        clients: dict[int, list[bytes]] | None = None, close: list[int] | None = None,
        bad_peers: list[tuple[NodeId, str]] | None = None, sync_round: int | None = None,
        wake_in_ms: int = 1000, goes_on: bool = False,
    ) -> None:  # fmt: skip
        self.peers: dict[NodeId, list[tuple[int, bytes]]] = {} if peers is None else peers
        """For each peer, encoded sections with their :class:`Priority`; sections are packed into frames."""
        self.clients: dict[int, list[bytes]] = {} if clients is None else clients
        """For each client connection, whole frames."""
        self.close: list[int] = [] if close is None else close
        """Client connections to close once their frames are sent."""
        self.bad_peers: list[tuple[NodeId, str]] = [] if bad_peers is None else bad_peers
        """Peers that sent what the protocol does not allow, and what; their connections are to be closed."""
        self.notes: list[str] = []
        """What people should know, for the log: rare, a line each."""
        self.sync_round = sync_round
        """Ask the syncer for this round."""
        self.wake_in_ms = wake_in_ms
        """Run another round at the latest after this long."""
        self.goes_on = goes_on
        """Whether the round goes on with something that takes long: the sync is to begin before."""

__all__ = [
    "Batch", "Clock", "Effects", "Entry", "HardState", "Index", "LogReader", "Membership", "Origin",
    "Priority", "RandomSource", "ReplicaId", "ReplicaIdentity", "StateView", "Store", "StoreDamaged",
    "StoreFailed", "StoredReplica", "Syncer", "Term",
]  # fmt: skip
