"""``quorate.Replica``: a full member of a cluster inside the user's own process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final

from ops import logs
from ops.config import Leaders, Options, read_file, settings
from ops.exits import Failure
from ops.serve import node_config
from router.client import Client
from shards.config import NodeConfig
from shards.embedding import local_client, running
from shards.node import RunningNode


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaConfig:
    """What a node is started with: the flags of ``quorate serve``, with the same defaults. Addresses are
    ``HOST:PORT``, an IPv6 host in brackets."""

    name: str
    """The node's name in its cluster."""
    data: str | os.PathLike[str]
    """Directory of its store, made if need be; it belongs to this node for good."""
    listen: str
    """For clients of other processes."""
    cluster: str | Mapping[str, str] | None = None
    """Peer address of every founding node by name, this one included; None: this node alone. Text is
    ``n1=HOST:PEERPORT,n2=…``."""
    peer: str | None = None
    """For other nodes; this node's in ``cluster`` unless given."""
    advertise: str | None = None
    """Where clients reach this node, if not at ``listen``."""
    groups: int | None = None
    """Data groups, 16 unless said. The founding nodes must agree."""
    replicas: int | None = None
    """Copies of each group: 3, or as many as nodes. The founding nodes must agree."""
    leaders: Leaders | None = None
    """``"spread"``, unless said: each node leads its share of the groups; ``"together"``: one node leads all
    of them while it is up. The founding nodes must agree."""
    allow_plaintext: bool = False
    """Permit addresses that other machines can reach, although nothing is encrypted."""
    log_level: logs.Level | None = None
    """Configures structlog for the whole process, to log to standard error from this level on. None leaves
    structlog as it is, and says no more than warnings unless the program has configured it."""


class Replica:
    """A full member of a cluster inside this process, for the time of an ``async with`` block.

    It founds a cluster and takes part in it like ``quorate serve``. Several may run in one process, each with
    a directory of its own.

        async with quorate.Replica(config) as replica, replica.client() as client:
            ...

    ``config`` is a :class:`ReplicaConfig`, or the path of a TOML file whose keys are the flags' names. Raises
    ValueError here for one that cannot be meant.

    Entering opens the store, which blocks the event loop for as long as that takes, and listens; it does not
    wait for other nodes: :meth:`ready` does. Raises ``StartError`` if the node cannot start; if it must not
    go on later, because its store fails or the others have founded a cluster without it, the block is
    cancelled, and ``NodeFailed`` or ``StartError`` raised. Leaving stops the node; the others take it for
    dead.
    """

    def __init__(self, config: ReplicaConfig | str | os.PathLike[str]) -> None:
        try:
            options = _options(config) if isinstance(config, ReplicaConfig) else read_file(Path(config))
            checked = settings(options)
        except Failure as failure:
            raise ValueError(str(failure)) from None
        self._level: Final = options.log_level
        self._config: Final[NodeConfig] = replace(node_config(checked), owns_process=False)
        self._block: AbstractAsyncContextManager[RunningNode] | None = None
        self._node: RunningNode | None = None

    @property
    def name(self) -> str:
        """The node's name."""
        return self._config.name

    async def __aenter__(self) -> Replica:
        if self._block is not None:
            raise RuntimeError("a Replica is entered once: make another one")
        if self._level is not None:
            logs.configure(self._level)
        self._block = running(self._config)
        self._node = await self._block.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if self._block is None:
            raise RuntimeError("a Replica is left that was not entered")
        return await self._block.__aexit__(kind, error, trace)

    async def ready(self) -> None:
        """Waits until every group with a copy here has a leader and clients are served: until then the other
        founding nodes may not have come."""
        await self._running().ready.wait()

    def client(
        self, *, session_timeout: float = 10.0, namespace: str = "", name: str | None = None
    ) -> AbstractAsyncContextManager[Client]:
        """A client as :func:`quorate.connect` makes one. What it asks of groups that are led here takes no
        network. Its block stands within that of the replica."""
        return local_client(
            self._running(), session_timeout=session_timeout, namespace=namespace, name=name
        )

    def _running(self) -> RunningNode:
        if self._node is None:
            raise RuntimeError("the Replica does not run: use it inside its `async with` block")
        return self._node

    def __repr__(self) -> str:
        return f"<replica {self.name} at {self._config.data}>"


def _options(config: ReplicaConfig) -> Options:
    cluster = config.cluster
    return Options(
        name=config.name, data=os.fspath(config.data), listen=config.listen, peer=config.peer,
        advertise=config.advertise, cluster=dict(cluster) if isinstance(cluster, Mapping) else cluster,
        groups=config.groups, replicas=config.replicas, allow_plaintext=config.allow_plaintext,
        log_level=config.log_level,
    )  # fmt: skip
