"""What goes wrong in this tier: the faults of ``bench.world`` that need no hand inside a process, and those
of connections."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from bench.streams.cluster import StreamCluster
from bench.world.faults import KINDS as OF_THE_WORLD
from bench.world.faults import Course, Kind, Nodes
from bench.world.target import Details, Target

_INSIDE: Final = frozenset({
    "freeze", "sleep", "failpoint", "transfer", "transfer_storm", "depose", "burst",
    "clock_jump",
})  # fmt: skip
"""Kinds that stop or enter a single process, which here share one loop, or break what leases rest on."""


def _any(random: Random, nodes: Nodes) -> Details:
    return {"pick": random.randrange(1000)}


def _silence(random: Random, nodes: Nodes) -> Details:
    return {"pick": random.randrange(1000), "tells": random.random() < 0.5}


def _node(random: Random, nodes: Nodes) -> Details:
    return {"node": random.choice(nodes)}


def _reset(cluster: StreamCluster, details: Details) -> Course:
    cluster.internet.reset(details["pick"])
    yield from ()


def _lose(cluster: StreamCluster, details: Details) -> Course:
    """Half of the time somebody tells both ends in the end; else they have to find out by themselves."""
    tell = cluster.internet.lose(details["pick"])
    if tell is not None and details["tells"]:
        yield None
        tell()


def _refuse_dials(cluster: StreamCluster, details: Details) -> Course:
    name = f"n{details['node']}"
    cluster.say(f"{name} refuses connections")
    cluster.internet.refuse(name, 1)
    yield None
    cluster.say(f"{name} takes connections again")
    cluster.internet.refuse(name, -1)


def _stop(cluster: StreamCluster, details: Details) -> Course:
    node = details["node"]
    if not cluster.is_up(node):
        return
    cluster.stop(node)
    yield None
    if not cluster.is_up(node):
        cluster.restart(node)


_Course = Callable[[StreamCluster, Details], Course]
_OWN: Final[dict[str, tuple[Callable[[Random, Nodes], Details], _Course]]] = {
    "reset": (_any, _reset), "silence": (_silence, _lose), "refuse_dials": (_node, _refuse_dials),
    "stop": (_node, _stop),
}  # fmt: skip
_TAKEN: Final = {name: kind for name, kind in OF_THE_WORLD.items() if name not in _INSIDE}
KINDS: Final = (*_TAKEN, *_OWN)
"""Every kind of fault, by name; all are drawn unless some are named."""


def kinds_for(cluster: StreamCluster) -> dict[str, Kind]:
    """What each kind is, on that cluster."""
    found = dict(_TAKEN)
    for name, (draw, course) in _OWN.items():
        found[name] = Kind(draw, _on(cluster, course))
    return found


def _on(cluster: StreamCluster, course: _Course) -> Callable[[Target, Details], Course]:
    return lambda _, details: course(cluster, details)
