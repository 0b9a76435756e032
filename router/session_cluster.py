"""What nodes tell a session of their cluster: which one it is, its shard map, and who leads."""

from __future__ import annotations

from typing import Any, Final

from primitives.errors import ProtocolError
from primitives.ids import GroupId, NodeId
from router.connection import decode_refused, decode_welcome
from router.session_ledger import Ledger
from router.session_links import Link
from router.session_network import Network
from router.session_shared import Shared
from router.session_watches import Watches
from router.shardmap import ShardMap

_HOPELESS: Final = frozenset(("version", "protocol"))
"""Codes of refusals that another try does not mend."""


class ClusterNews:
    """Takes news of the cluster, and has calls and watches follow it."""

    __slots__ = ("_cluster_id", "_ledger", "_network", "_shared", "_watches")

    def __init__(self, shared: Shared, network: Network, ledger: Ledger, watches: Watches) -> None:
        self._shared: Final = shared
        self._network: Final = network
        self._ledger: Final = ledger
        self._watches: Final = watches
        self._cluster_id: bytes | None = None
        """The cluster that the first node welcomed this session to."""

    def on_welcome(self, now_ms: int, link: Link, payload: bytes) -> bool:
        """A node welcomes the session; whether the link is of use. Raises :class:`ProtocolError` for a node
        of another cluster."""
        welcome = decode_welcome(payload)
        if self._cluster_id is None:
            self._cluster_id = welcome.cluster_id
        elif self._cluster_id != welcome.cluster_id:
            raise ProtocolError(f"{link.address} belongs to another cluster")
        if not self._network.routes.welcomed(link, NodeId(welcome.node_id)):
            return False
        self._network.probe(now_ms, link)  # Its answer is the map.
        self._ledger.dirty.update(self._ledger.groups)
        return True

    def on_refused(self, link: Link, payload: bytes) -> None:
        """A node refuses the session, for now. Raises :class:`ProtocolError` if it would refuse it again."""
        code, text = decode_refused(payload)
        if code in _HOPELESS:
            raise ProtocolError(f"{link.address} refused the connection: {text}")

    def on_map(self, now_ms: int, blob: bytes) -> None:
        """A shard map: calls and watches go where their slots are now."""
        shard_map = ShardMap.decode(blob)
        routes, shared, ledger = self._network.routes, self._shared, self._ledger
        former = shared.shard_map
        if former is not None and former.cluster_id != shard_map.cluster_id:
            raise ProtocolError("a shard map of another cluster")
        routes.learn(shard_map)
        self._network.map_came()
        shared.shard_map = routes.shard_map
        if former is not None and former.version < shard_map.version and former.owners != shard_map.owners:
            ledger.moved(now_ms, former, shard_map)
            self._watches.moved(shard_map)
        ledger.place(now_ms, ledger.directory.mapped())
        ledger.dirty.update(ledger.groups)

    def on_leaders(self, items: list[Any]) -> None:
        """Who leads groups that are led elsewhere than where they were asked for."""
        leaders, groups = self._network.routes.leaders, self._ledger.groups
        try:
            for group, node in items:
                leaders[GroupId(group)] = NodeId(node)
                if group in groups:
                    self._ledger.dirty[group] = groups[group]
        except (TypeError, ValueError) as error:
            raise ProtocolError("a LEADERS of another form") from error
