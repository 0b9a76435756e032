"""The shard map: slot → group → replicas → nodes, as of one version.

Group 0 keeps it; nodes and clients cache it. It routes only: whether a group owns a slot stands in the
group's own log. ``leaders`` is soft: what some node believed when it sent the map.

Encoded: a format byte, then zlib over a struct header, the salt, the nodes (each an envelope behind its
length), and arrays of the groups, the leaders, the owners and the epochs of the slots.
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from primitives.codec import pack, unpack
from primitives.errors import ProtocolError, TooLarge
from primitives.ids import SLOTS, GroupId, NodeId

FORMAT: Final = 1
MAP_BYTES_MAX: Final = 8 << 20
"""A map takes no more than this when it is unpacked."""
_HEADER: Final = struct.Struct(">Q16sHIIII")
_LENGTH: Final = struct.Struct(">I")
_LITTLE: Final = sys.byteorder == "little"


class NodeInfo(NamedTuple):
    """A node of the cluster. Addresses are ``host:port``."""

    id: NodeId
    name: str
    client_address: str
    peer_address: str
    store_id: bytes


class GroupInfo(NamedTuple):
    """A group, with the id and the node of each of its replicas; the first is the one to lead at first."""

    id: GroupId
    replicas: tuple[tuple[int, NodeId], ...]


class ShardMap:
    """The map as of ``version``; never changed. Lookups by slot are array accesses."""

    __slots__ = ("cluster_id", "epochs", "groups", "leaders", "nodes", "owners", "salt", "version")

    def __init__(
        self, version: int, cluster_id: bytes, salt: bytes, nodes: Mapping[NodeId, NodeInfo],
        groups: Mapping[GroupId, GroupInfo], owners: Iterable[int], epochs: Iterable[int],
        leaders: Mapping[GroupId, NodeId] | None = None,
    ) -> None:  # fmt: skip
        self.version: Final = version
        self.cluster_id: Final = cluster_id
        self.salt: Final = salt
        self.nodes: Final[Mapping[NodeId, NodeInfo]] = MappingProxyType(dict(nodes))
        self.groups: Final[Mapping[GroupId, GroupInfo]] = MappingProxyType(dict(groups))
        self.owners: Final[Sequence[int]] = _frozen(owners)
        """The group that owns each slot."""
        self.epochs: Final[Sequence[int]] = _frozen(epochs)
        """The epoch of each slot: how often it changed hands."""
        self.leaders: Final[Mapping[GroupId, NodeId]] = MappingProxyType(dict(leaders or {}))
        """The node that is believed to lead each group, where one is known."""
        if len(self.owners) != SLOTS or len(self.epochs) != SLOTS:
            raise ValueError(f"a map of {len(self.owners)} slots and {len(self.epochs)} epochs")

    def group(self, slot: int) -> GroupId:
        """The group that owns the slot."""
        return GroupId(self.owners[slot])

    def epoch(self, slot: int) -> int:
        """The slot's epoch."""
        return self.epochs[slot]

    def slots_of(self, group: int) -> list[int]:
        """The slots that the group owns, ascending. Looks at every slot."""
        return [slot for slot, owner in enumerate(self.owners) if owner == group]

    def with_leaders(self, leaders: Mapping[GroupId, NodeId]) -> ShardMap:
        """The same map with other leaders."""
        return ShardMap(
            self.version, self.cluster_id, self.salt, self.nodes, self.groups, self.owners, self.epochs,
            leaders,
        )  # fmt: skip

    def encode(self) -> bytes:
        """The map as bytes, leaders included. The same map gives the same bytes in one process."""
        nodes = [pack(list(self.nodes[node])) for node in sorted(self.nodes)]
        groups = [part for group in sorted(self.groups) for part in _flat(self.groups[group])]
        leaders = [part for group in sorted(self.leaders) for part in (group, self.leaders[group])]
        parts = [
            _HEADER.pack(
                self.version, self.cluster_id, len(self.salt), len(nodes), len(groups), len(leaders), SLOTS
            ),
            self.salt,
        ]
        for node in nodes:
            parts += (_LENGTH.pack(len(node)), node)
        parts += (_array("Q", groups), _array("Q", leaders))
        parts += (_array("I", self.owners), _array("I", self.epochs))
        return bytes((FORMAT,)) + zlib.compress(b"".join(parts), 1)

    @classmethod
    def decode(cls, data: bytes) -> ShardMap:
        """The inverse of :meth:`encode`; raises :class:`ProtocolError` for anything else."""
        if not data or data[0] != FORMAT:
            raise ProtocolError("a shard map of an unknown format")
        try:
            return _read(cls, _inflate(data))
        except (struct.error, zlib.error, ValueError, TypeError, TooLarge) as error:
            raise ProtocolError(f"not a shard map: {error}") from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShardMap) and all(
            getattr(self, field) == getattr(other, field) for field in self.__slots__
        )

    def __hash__(self) -> int:
        return hash((self.version, self.cluster_id))

    def __repr__(self) -> str:
        return f"<ShardMap {self.version}: {len(self.nodes)} nodes, {len(self.groups)} groups>"


def _frozen(numbers: Iterable[int]) -> Sequence[int]:
    held = numbers if isinstance(numbers, array | memoryview) else array("I", numbers)
    return memoryview(held).toreadonly()


def _flat(group: GroupInfo) -> list[int]:
    return [group.id, len(group.replicas), *(part for replica in group.replicas for part in replica)]


def _array(kind: str, numbers: Iterable[int]) -> bytes:
    packed = array(kind, numbers)
    if _LITTLE:
        packed.byteswap()
    return packed.tobytes()


def _inflate(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    plain = unpacker.decompress(memoryview(data)[1:], MAP_BYTES_MAX)
    if unpacker.unconsumed_tail:
        raise ValueError(f"more than {MAP_BYTES_MAX} bytes")
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("cut short, or followed by more")
    return plain


def _read(cls: type[ShardMap], plain: bytes) -> ShardMap:
    version, cluster_id, salt_bytes, node_count, group_count, leader_count, slots = _HEADER.unpack_from(plain)
    at = _HEADER.size + salt_bytes
    salt = plain[_HEADER.size : at]
    nodes: dict[NodeId, NodeInfo] = {}
    for _ in range(node_count):
        (size,) = _LENGTH.unpack_from(plain, at)
        at += 4
        node = _node(unpack(plain[at : at + size]))
        nodes[node.id] = node
        at += size
    if len(plain) - at != 8 * (group_count + leader_count) + 8 * slots:
        raise ValueError("of another length than its header says")
    groups = _groups(_numbers("Q", plain[at : at + 8 * group_count]))
    at += 8 * group_count
    pairs = _numbers("Q", plain[at : at + 8 * leader_count])
    at += 8 * leader_count
    owners, epochs = _numbers("I", plain[at : at + 4 * slots]), _numbers("I", plain[at + 4 * slots :])
    leaders = {GroupId(group): NodeId(node) for group, node in zip(pairs[0::2], pairs[1::2], strict=True)}
    return cls(version, cluster_id, salt, nodes, groups, owners, epochs, leaders)


def _node(row: list[object]) -> NodeInfo:
    if [type(part) for part in row] != [int, str, str, str, bytes]:
        raise ValueError("a node of another form")
    return NodeInfo(*row)  # type: ignore[arg-type]  # their types were compared above


def _groups(numbers: Sequence[int]) -> dict[GroupId, GroupInfo]:
    groups: dict[GroupId, GroupInfo] = {}
    at = 0
    while at < len(numbers):
        if at + 2 > len(numbers) or at + 2 + 2 * numbers[at + 1] > len(numbers):
            raise ValueError("a group cut short")
        group, end = GroupId(numbers[at]), at + 2 + 2 * numbers[at + 1]
        pairs = zip(numbers[at + 2 : end : 2], numbers[at + 3 : end : 2], strict=True)
        groups[group] = GroupInfo(group, tuple((replica, NodeId(node)) for replica, node in pairs))
        at = end
    return groups


def _numbers(kind: str, data: bytes) -> array[int]:
    numbers = array(kind)
    numbers.frombytes(data)
    if _LITTLE:
        numbers.byteswap()
    return numbers

