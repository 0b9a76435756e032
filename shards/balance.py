"""Who leads: leaderships go back to where they belong after failures, and away before a planned stop.

Each group prefers the first replica of its placement, which spreads leaders evenly. A leader that is not that
replica hands over once the preferred node has been up for some seconds and its replica has the whole log, at
most one group a second for each node, and not while that node is being brought up to date. A group whose
leadership does not stay where it was handed waits longer each time.
"""

from __future__ import annotations

from typing import Final, Protocol

from primitives.ids import GroupId, NodeId
from router.shardmap import ShardMap
from shards.group import GroupDriver
from shards.settings import EngineSettings
from shards.snapshots import Snapshots

_PAUSE_MS: Final = 10_000
_PAUSES_MAX: Final = 5
"""A group's pause doubles with each transfer, up to this often."""
_FORGIVEN_MS: Final = 600_000


class Host(Protocol):
    """What the balancer needs of the engine."""

    @property
    def node(self) -> NodeId:
        """This node."""

    @property
    def groups(self) -> dict[GroupId, GroupDriver]:
        """The replicas here."""

    @property
    def settings(self) -> EngineSettings:
        """Timing and bounds."""

    @property
    def shard_map(self) -> ShardMap | None:
        """Where replicas belong."""

    @property
    def snapshots(self) -> Snapshots:
        """Snapshots on their way."""

    def boot_of(self, node: NodeId) -> bytes | None:
        """The boot id of a peer that is up."""

    def touch(self, driver: GroupDriver) -> None:
        """The group has something to do."""


class Balancer:
    """Hands over leaderships of one node."""

    __slots__ = ("_engine", "_handed", "_leaving", "_next_ms", "_up")

    def __init__(self, engine: Host) -> None:
        self._engine: Final = engine
        self._leaving = False
        self._next_ms = 0
        self._up: dict[NodeId, tuple[bytes, int]] = {}
        """Boot id of each peer, and since when it is known to be up."""
        self._handed: dict[GroupId, tuple[int, int]] = {}
        """When a group was last handed over from here, and how often lately."""

    def leave(self) -> None:
        """The node is about to stop: from now on it hands over whatever it leads, as fast as it goes."""
        self._leaving = True
        self._hand_all()

    @property
    def is_leaving(self) -> bool:
        """Whether the node is about to stop, and leads something that somebody else could take."""
        return self._leaving and any(
            driver.leads and self._heirs(driver) for driver in self._engine.groups.values()
        )

    def tick(self, now_ms: int) -> None:
        """Hands over what is due."""
        if self._leaving:
            self._hand_all()
        elif now_ms >= self._next_ms:
            self._next_ms = now_ms + self._engine.settings.balance_interval_ms
            self._note_peers(now_ms)
            self._hand_one(now_ms)

    def _note_peers(self, now_ms: int) -> None:
        shard_map, engine = self._engine.shard_map, self._engine
        up: dict[NodeId, tuple[bytes, int]] = {}
        for node in () if shard_map is None else shard_map.nodes:
            boot_id = engine.boot_of(node)
            if boot_id is not None:
                known = self._up.get(node)
                up[node] = known if known is not None and known[0] == boot_id else (boot_id, now_ms)
        self._up = up

    def _hand_one(self, now_ms: int) -> None:
        """One group goes to the replica that it prefers, if one is ready."""
        engine, shard_map = self._engine, self._engine.shard_map
        settled_ms = now_ms - engine.settings.balance_up_ms
        for group, driver in engine.groups.items():
            if not driver.leads or shard_map is None or group not in shard_map.groups:
                continue
            preferred = shard_map.groups[group].replicas[0][1]
            if preferred == engine.node or now_ms < self._paused_until_ms(group):
                continue
            known = self._up.get(preferred)
            if known is None or known[1] > settled_ms or engine.snapshots.sends_to(preferred):
                continue
            if driver.transfer(preferred):
                at_ms, times = self._handed.get(group, (now_ms, 0))
                self._handed[group] = (now_ms, times + 1 if now_ms - at_ms < _FORGIVEN_MS else 1)
                engine.touch(driver)
                return

    def _paused_until_ms(self, group: GroupId) -> int:
        handed = self._handed.get(group)
        return 0 if handed is None else handed[0] + (_PAUSE_MS << min(handed[1], _PAUSES_MAX))

    def _hand_all(self) -> None:
        for driver in self._engine.groups.values():
            if driver.leads and not driver.replica.is_handing_over:
                for node in self._heirs(driver):
                    if driver.transfer(node):
                        self._engine.touch(driver)
                        break

    def _heirs(self, driver: GroupDriver) -> list[NodeId]:
        """Connected nodes with other replicas of the group, in the order of its placement."""
        here = self._engine.node
        return [node for node in driver.nodes.values() if node != here and self._engine.boot_of(node)]
