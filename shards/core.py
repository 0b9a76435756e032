"""What the engine's parts may ask of it."""

from __future__ import annotations

from typing import Any, Protocol

from primitives.ids import GroupId, NodeId
from router.shardmap import ShardMap
from shards.forwarding import Forwarding
from shards.group import GroupDriver
from shards.outbox import Outbox
from shards.ports import Origin, Usage
from shards.settings import EngineSettings
from shards.snapshots import Snapshots


class Core(Protocol):
    """The engine, as its parts see it."""

    @property
    def node(self) -> NodeId:
        """This node."""

    @property
    def boot_id(self) -> bytes:
        """This start of the node."""

    @property
    def settings(self) -> EngineSettings:
        """Timing and bounds."""

    @property
    def usage(self) -> Usage | None:
        """What the process takes of its machine, where there is one."""

    @property
    def groups(self) -> dict[GroupId, GroupDriver]:
        """The replicas here."""

    @property
    def shard_map(self) -> ShardMap | None:
        """The map as this node knows it."""

    @property
    def ready(self) -> bool:
        """Whether clients are served."""

    @property
    def forwarding(self) -> Forwarding:
        """Connected peers and what is passed on to them."""

    @property
    def out(self) -> Outbox:
        """Where this round's effects go."""

    @property
    def syncs(self) -> int:
        """Syncs of the store's log that were done since this start."""

    @property
    def snapshots(self) -> Snapshots:
        """Snapshots of the replicas here, on their way."""

    def touch(self, driver: GroupDriver) -> None:
        """The group has something to do."""

    def route(self, origin: Origin, group: GroupId, record: bytes) -> None:
        """Takes an operation to its group's leader."""

    def answer_status(
        self, connection: int, request: int, hashes: list[dict[str, Any]] | None, missing: list[list[int]]
    ) -> None:
        """Answers a request for status."""
