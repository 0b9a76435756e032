"""What a node tells of itself, for people and for whoever waits until it serves."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from primitives.ids import GroupId
from raftgroup.types import Role
from shards.core import Core

ROLES: Final = {
    Role.FOLLOWER: "follower", Role.PRE_CANDIDATE: "pre-candidate", Role.CANDIDATE: "candidate",
    Role.LEADER: "leader",
}  # fmt: skip


def describe(engine: Core) -> dict[str, Any]:
    """A node's status: plain values only, by name. Documented in ``docs/cli.md``."""
    shard_map = engine.shard_map
    slots: Counter[int] = Counter() if shard_map is None else Counter(shard_map.owners)
    nodes = []
    if shard_map is not None:
        for node in shard_map.nodes.values():
            up = node.id == engine.node or node.id in engine.forwarding.up
            nodes.append(
                {"node": node.id, "name": node.name, "client": node.client_address, "peer": node.peer_address,
                 "connected": up}
            )  # fmt: skip
    return {
        "node": engine.node,
        "ready": engine.ready,
        "cluster": None if shard_map is None else shard_map.cluster_id.hex(),
        "map_version": None if shard_map is None else shard_map.version,
        "nodes": nodes,
        "usage": None if engine.usage is None else engine.usage.describe(len(engine.groups)),
        "syncs": engine.syncs,
        "snapshots": {"sent": engine.snapshots.sent, "installed": engine.snapshots.installed},
        "groups": [_group(engine, group, slots[group]) for group in sorted(engine.groups)],
    }


def _group(engine: Core, group: GroupId, slots: int) -> dict[str, Any]:
    driver = engine.groups[group]
    status = driver.replica.status()
    return {
        "group": group,
        "replica": status.id,
        "role": ROLES[status.role],
        "leader": driver.leader_node,
        "term": status.term,
        "commit": status.commit,
        "applied": status.applied,
        "first": driver.log.first_index(),
        "last": status.last,
        "snapshots": engine.snapshots.describe(group),
        "revision": driver.applier.revision,
        "sessions": len(driver.applier.sessions),
        "memory_bytes": driver.applier.overlay_bytes + driver.applier.inspection.cache_bytes,
        "slots": slots,
    }
