"""Where Quorate is to be beside its peers, each target with what was reached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from bench.runs.medians import P50, THROUGHPUT, more_is_better
from bench.runs.merging import Merged
from bench.runs.ratios import times_better
from bench.runs.results import Shape

BASE: Final = "quorate"
NATIVE: Final = ("etcd-native", "zookeeper-native")
PYTHON: Final = ("etcd", "zookeeper")
SYNCING: Final = (*NATIVE, *PYTHON)
"""Peers that sync each write before they acknowledge it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Some figure of a load, as many times better than the best of some peers, or a limit by itself."""

    workload: str
    callers: int
    figure: str = THROUGHPUT.name
    peers: tuple[str, ...] = ()
    """None: ``value`` is the limit itself."""
    value: float
    nodes: int = 3
    groups: int = 16
    peer_groups: int | None = None
    """Of the peers, if they are measured with another number."""

    @property
    def limit_told(self) -> str:
        """For people."""
        if not self.peers:
            return f"{'≥' if more_is_better(self.figure) else '≤'} {self.value:,g}"
        beside = f" with {self.peer_groups} group" if self.peer_groups else ""
        return f"≥ {self.value:g} × {', '.join(self.peers)}{beside}"

    def fits(self, shape: Shape) -> bool:
        """Whether it speaks of such a load."""
        return (
            (shape.workload, shape.callers, shape.nodes) == (self.workload, self.callers, self.nodes)
            and shape.rate is None and shape.value_bytes == 128 and shape.groups == self.groups
        )  # fmt: skip


TARGETS: Final = (
    Target(workload="write", callers=64, peers=("floor",), value=0.7, groups=1),
    Target(workload="write", callers=256, peers=("floor",), value=0.7, groups=1),
    Target(workload="write", callers=256, peers=("quorate",), value=0.85, peer_groups=1),
    Target(workload="write", callers=1024, peers=("quorate",), value=0.6, groups=64, peer_groups=1),
    Target(workload="write", callers=256, peers=NATIVE, value=4),
    Target(workload="write", callers=256, peers=PYTHON, value=7),
    Target(workload="write", callers=64, peers=NATIVE, value=2.5),
    Target(workload="write", callers=16, peers=NATIVE, value=2),
    Target(workload="write", callers=1, figure=P50.name, peers=("zookeeper-native",), value=1),
    Target(workload="write", callers=256, peers=("zookeeper-native",), value=2, nodes=1),
    Target(workload="read", callers=256, peers=("etcd-native",), value=3),
    Target(workload="read", callers=64, peers=("etcd-native",), value=3),
    Target(workload="read", callers=1, figure=P50.name, peers=("etcd-native",), value=1),
    Target(workload="read-sequential", callers=64, peers=("zookeeper-native",), value=2),
    Target(workload="lock", callers=1, peers=SYNCING, value=1.2),
    Target(workload="lock-contended", callers=16, peers=SYNCING, value=4),
    Target(workload="lock", callers=16, peers=SYNCING, value=3),
    Target(workload="fanout", callers=1, value=100_000),
    Target(workload="recovery", callers=1, figure="gap_s", value=0.4),
)


@dataclass(frozen=True, slots=True)
class Reached:
    """What became of a target."""

    target: Target
    value: float
    """Times better, or the figure itself."""
    peer: str | None
    """The best of those that were measured."""

    @property
    def is_met(self) -> bool:
        """Whether it is as good, or better."""
        limit = self.target.value
        if self.target.peers or more_is_better(self.target.figure):
            return self.value >= limit
        return self.value <= limit


def reached(merged: Merged) -> Iterator[Reached]:
    """All targets that the figures speak of."""
    for target in TARGETS:
        shape = next((shape for shape in merged.shapes(target.workload) if target.fits(shape)), None)
        ours = merged.find(BASE, shape) if shape else None
        if shape is None or ours is None or target.figure not in ours.figures:
            continue
        if not target.peers:
            yield Reached(target, ours.figures[target.figure].median, None)
            continue
        beside = msgspec.structs.replace(shape, groups=target.peer_groups or shape.groups)
        ratios = {
            peer: ratio
            for peer in target.peers
            if (ratio := times_better(target.figure, ours, merged.find(peer, beside))) is not None
        }
        if ratios:
            best = min(ratios, key=lambda peer: ratios[peer])
            yield Reached(target, ratios[best], best)
