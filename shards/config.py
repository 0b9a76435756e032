"""What a node is started with, and the two ways in which it ends by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from primitives.errors import QuorateError
from shards.settings import EngineSettings

Address = tuple[str, int]
"""Host, as a name or a number, and port."""


class StartError(QuorateError):
    """The node cannot start, or must not: one line for whoever started it. Exit code 1."""


class DirectoryInUse(StartError):
    """The data directory is open already, in this process or in another one."""


class NodeFailed(QuorateError):
    """A running node stopped because going on would not be safe: one line. Exit code 1."""


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """A node's configuration, checked by whoever made it."""

    name: str
    data: Path
    """Directory of the store; it belongs to this node for good."""
    listen: Address | None
    """For clients; None: only from within this process."""
    peer: Address | None
    """For other nodes; None: a node by itself."""
    advertise: Address
    """Where clients reach this node."""
    cluster: Mapping[str, Address]
    """Peer address of every founding node by name, this one included."""
    groups: int = 16
    """Data groups that the founding nodes make."""
    replicas: int = 3
    """Copies of each data group; no more than founding nodes."""
    together: bool = False
    """Whether one node is to lead all groups, rather than each its share."""
    clients_max: int | None = None
    """Client connections at a time; by the limit of descriptors unless given."""
    engine: EngineSettings = field(default_factory=EngineSettings)
    owns_process: bool = True
    """Whether the process is there for this node, so that what holds for all of it may be set: how it
    collects garbage and switches threads, and how many descriptors it may have."""


def address_text(address: Address) -> str:
    """``HOST:PORT``, with brackets around an IPv6 address."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
