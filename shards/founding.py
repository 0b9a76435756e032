"""How listed nodes found a cluster once, and only once.

Each node of ``--cluster`` has a store with an id that was never used before. A node that hears the ids of all
the others records the set (synced, for good) and tells it. Group 0 is formed of that set when all have told
the same one, or when a member says that it has formed with it. So at most one set with any given store in it
can ever form: each store tells one set, and a set needs all of its stores.

A store that is not in the set, such as that of a wiped node under its old name, never takes part: an empty
store that voted under an old identity could undo what it had acknowledged. Nodes that were started with
different lists, ``--groups``, ``--replicas`` or ``--leaders`` do not found a cluster together.

The rules are a pure state machine; what it must remember goes through :class:`FoundingRecord`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

from primitives.codec import pack
from primitives.errors import InvariantViolation, ProtocolError
from primitives.ids import NodeId
from router.shardmap import NodeInfo
from shards.handshake import decode_items
from shards.peerwire import PeerFrameKind, frame
from shards.placement import Founding
from shards.ports import StoreDamaged

NODES_MAX: Final = 64
"""Nodes that a statement may list."""


class ListMismatch(Exception):
    """The directory was founded with other nodes than it is started with now."""


class FoundingRecord(Protocol):
    """What a store remembers of its founding."""

    @property
    def store_id(self) -> bytes:
        """The store's id, 16 bytes, durable."""

    @property
    def founding(self) -> dict[str, bytes] | None:
        """The recorded set: store id by node name. None before there is one."""

    def record_founding(self, stores: Mapping[str, bytes]) -> None:
        """Records the set, durably and for good. Blocks for a sync."""


class Started(NamedTuple):
    """What a node was started with."""

    name: str
    client_address: str
    peer_address: str
    cluster: tuple[tuple[str, str], ...]
    """Name and peer address of every founding node, in the order of names."""
    groups: int
    replicas: int
    together: bool
    """Whether one node is to lead all groups."""
    data: str
    """Its directory, for messages."""


class Statement(NamedTuple):
    """What a node tells each peer when they meet, and again whenever it changes."""

    name: str
    store_id: bytes
    client_address: str
    peer_address: str
    cluster: tuple[tuple[str, str], ...]
    groups: int
    replicas: int
    told: tuple[tuple[str, bytes], ...]
    """The recorded set in the order of names, empty before there is one."""
    formed: bool
    clients: tuple[tuple[str, str], ...]
    """Client addresses that the node knows of others."""
    age_ms: int
    """Since the process started; of two that disagree the younger one gives way."""
    together: bool = False


class Verdict(NamedTuple):
    """Whether two nodes go on together, and which of them stops if not."""

    i_go: bool
    they_go: bool
    text: str
    """Why not, for the node that stops or for both; empty when they go on."""

    @property
    def accepted(self) -> bool:
        """Whether they go on together."""
        return not self.text


ACCEPTED: Final = Verdict(False, False, "")


def encode_statement(statement: Statement) -> bytes:
    """A FOUNDING frame."""
    return frame(PeerFrameKind.FOUNDING, pack(_listed(statement)[: None if statement.together else -1]))


def _listed(value: Any) -> Any:
    return [_listed(part) for part in value] if isinstance(value, tuple) else value


_FORM: Final = [str, bytes, str, str, list, int, int, list, bool, list, int]
"""One more, a bool, is there if it is true: of nodes whose leaders are to be together."""


def decode_statement(payload: bytes) -> Statement:
    """The statement in a FOUNDING frame. Raises :class:`ProtocolError`."""
    items = decode_items(payload)
    form = [*_FORM, bool] if len(items) > len(_FORM) else _FORM
    if [type(item) for item in items] != form:
        raise ProtocolError("a founding statement of another form")
    items[4], items[7], items[9] = _pairs(items[4], str), _pairs(items[7], bytes), _pairs(items[9], str)
    statement = Statement(*items)
    if any(len(store) != 16 for store in (statement.store_id, *(store for _, store in statement.told))):
        raise ProtocolError("a founding statement with ids of another length")
    names = [name for name, _ in statement.cluster]
    if names != sorted(set(names)) or (statement.told and [name for name, _ in statement.told] != names):
        raise ProtocolError("a founding statement whose lists do not fit")
    return statement


def _pairs(rows: list[Any], kind: type) -> tuple[tuple[str, Any], ...]:
    if len(rows) > NODES_MAX or any(
        type(row) is not list or [type(part) for part in row] != [str, kind] for row in rows
    ):
        raise ProtocolError("a founding statement with a list of another form")
    return tuple((name, value) for name, value in rows)


def judge(mine: Statement, theirs: Statement, data: str) -> Verdict:
    """Whether two nodes go on together. Both ends come to the same result, each from its own side.

    ``data`` is this node's directory, for the message should it be this one that stops.
    """
    if mine.formed and theirs.formed:
        return ACCEPTED if mine.told == theirs.told and _known(mine, theirs) else _strangers(mine, theirs)
    if mine.formed:
        text = _outsider(theirs, mine, "DIR")
        return Verdict(False, bool(text), text)
    if theirs.formed:
        text = _outsider(mine, theirs, data)
        return Verdict(bool(text), False, text)
    difference = _difference(mine, theirs)
    if difference:
        i_go = (bool(mine.told), mine.age_ms, mine.name) < (bool(theirs.told), theirs.age_ms, theirs.name)
        return Verdict(i_go, not i_go, difference)
    if mine.told and theirs.told:
        return ACCEPTED if mine.told == theirs.told and _known(mine, theirs) else _split(mine, theirs)
    if mine.told and not _known(mine, theirs):
        return Verdict(False, True, _wiped(theirs, mine, "DIR"))
    if theirs.told and not _known(theirs, mine):
        return Verdict(True, False, _wiped(mine, theirs, data))
    return ACCEPTED


def _known(teller: Statement, other: Statement) -> bool:
    """Whether the other's store is in the set that ``teller`` told."""
    return (other.name, other.store_id) in teller.told


def _outsider(other: Statement, member: Statement, data: str) -> str:
    """Why a node that has not formed has no place in the cluster of ``member``; empty when it has."""
    names = tuple(name for name, _ in member.told)
    if other.name not in names:
        return (
            f"{other.name} is not one of the nodes that founded the cluster ({', '.join(names)}); "
            + _admission(other, member, data)
        )
    if not _known(member, other):
        return _wiped(other, member, data)
    if tuple(name for name, _ in other.cluster) != names:
        return _difference(other, member)
    if other.told != member.told:
        return (
            f"{member.name} has formed the cluster with {other.name}, but the store of {other.name} does not "
            f"remember it, so it lost what it had written; " + _admission(other, member, data)
        )
    return _difference(other._replace(cluster=member.cluster), member)


def _wiped(other: Statement, member: Statement, data: str) -> str:
    return (
        f"{member.name} knows {other.name} by another store: its directory was wiped or replaced, and an "
        "empty one must not vote under an old identity; " + _admission(other, member, data)
    )


def _admission(other: Statement, member: Statement, data: str) -> str:
    return (
        f"admit it as a new node with `quorate member add {other.name}` and "
        f"`quorate serve --name {other.name} --data {data} --join {member.peer_address}` "
        "(not in this release: the others serve on without it)"
    )


def _difference(one: Statement, other: Statement) -> str:
    """How the two were started differently, in one line that reads the same from both ends; else empty."""
    first, second = sorted((one, other))
    for flag, left, right in (
        ("--cluster", _shown(first.cluster), _shown(second.cluster)),
        ("--groups", first.groups, second.groups),
        ("--replicas", first.replicas, second.replicas),
        ("--leaders", leaders_text(first.together), leaders_text(second.together)),
    ):
        if left != right:
            return (
                f"the founding nodes must agree: {first.name} has {flag} {left}, "
                f"{second.name} has {flag} {right}"
            )
    return ""


def leaders_text(together: bool) -> str:
    """The choice, as it is made on the command line."""
    return "together" if together else "spread"


def _shown(cluster: tuple[tuple[str, str], ...]) -> str:
    return ",".join(f"{name}={address}" for name, address in cluster)


def _strangers(mine: Statement, theirs: Statement) -> Verdict:
    first, second = sorted((mine.name, theirs.name))
    return Verdict(False, False, f"{first} and {second} belong to two clusters that were founded apart")


def _split(mine: Statement, theirs: Statement) -> Verdict:
    """Two sets were told while neither can have formed: each needs the teller of the other."""
    first, second = sorted((mine.name, theirs.name))
    text = (
        f"{first} and {second} recorded different founding sets, as a node's directory was replaced while "
        "the cluster was being founded; it never formed: empty all its nodes' directories and start again"
    )
    return Verdict(True, True, text)


class Founder:
    """One node's part in founding its cluster."""

    def __init__(self, started: Started, record: FoundingRecord, *, formed: bool) -> None:
        """``formed``: whether the store holds group 0's replica. Raises :class:`ListMismatch` if it was
        founded with other nodes than ``started`` lists, :class:`StoreDamaged` if its record is gone."""
        self._started: Final = started
        self._record: Final = record
        self._names: Final = tuple(name for name, _ in started.cluster)
        self._heard: dict[str, bytes] = {started.name: record.store_id}
        self._clients: dict[str, str] = {started.name: started.client_address}
        self._told: dict[str, tuple[tuple[str, bytes], ...]] = {}
        self.formed = formed
        """Whether the cluster has formed, as far as this node knows."""
        self.changes = 0
        """Raised whenever the statement changes, so that it is told again."""
        if formed and record.founding is None:
            raise StoreDamaged(f"{started.data} holds a replica of group 0, and no founding record")
        if record.founding is not None and tuple(sorted(record.founding)) != self._names:
            raise ListMismatch(
                f"{started.data} was founded with nodes {', '.join(sorted(record.founding))}; "
                f"--cluster lists {', '.join(self._names)}"
            )
        self._advance()

    @property
    def told(self) -> tuple[tuple[str, bytes], ...]:
        """The recorded set in the order of names, empty before there is one."""
        stores = self._record.founding
        return () if stores is None else tuple(sorted(stores.items()))

    def statement(self, age_ms: int) -> Statement:
        """What this node tells its peers now, ``age_ms`` after its start."""
        started = self._started
        return Statement(
            started.name, self._record.store_id, started.client_address, started.peer_address,
            started.cluster, started.groups, started.replicas, self.told, self.formed,
            tuple(sorted(self._clients.items())), age_ms, started.together,
        )  # fmt: skip

    def judge(self, theirs: Statement, age_ms: int) -> Verdict:
        """Whether this node and the one that made the statement go on together. Changes nothing."""
        return judge(self.statement(age_ms), theirs, self._started.data)

    def hear(self, theirs: Statement, age_ms: int) -> Verdict:
        """Takes a connected peer's statement. Blocks for a sync when it completes the set."""
        verdict = self.judge(theirs, age_ms)
        if not verdict.accepted:
            return verdict
        for name, address in (*theirs.clients, (theirs.name, theirs.client_address)):
            if name in self._names and name != self._started.name:
                self._clients[name] = address
        if theirs.told:
            self._told[theirs.name] = theirs.told
            if not self.told:
                # Another heard them all before. A set of one's own could only differ, and form neither.
                self._tell(dict(theirs.told))
        self._heard[theirs.name] = theirs.store_id
        if theirs.formed:
            self._form()
        self._advance()
        return verdict

    def lost(self, name: str) -> None:
        """A peer's connection is gone: it may come back with another store. What it told holds for good."""
        self._heard.pop(name, None)

    def founding(self) -> Founding:
        """What the cluster is founded of. Only once it has formed."""
        stores = dict(self.told)
        if not self.formed:
            raise InvariantViolation("the cluster has not formed")
        peers = dict(self._started.cluster)
        nodes = tuple(
            NodeInfo(NodeId(number), name, self._clients.get(name, ""), peers[name], stores[name])
            for number, name in enumerate(self._names, start=1)
        )
        return Founding(nodes, self._started.groups, self._started.replicas, self._started.together)

    def _advance(self) -> None:
        if not self.told and all(name in self._heard for name in self._names):
            self._tell({name: self._heard[name] for name in self._names})
        mine = self.told
        others = (name for name in self._names if name != self._started.name)
        if mine and all(self._told.get(name) == mine for name in others):
            self._form()

    def _tell(self, stores: dict[str, bytes]) -> None:
        self._record.record_founding(stores)
        self.changes += 1

    def _form(self) -> None:
        if not self.formed:
            self.formed = True
            self.changes += 1
