"""Latency at parts of the peak: first the peak, of a closed loop, then calls at a rate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from bench.growth.asked import Asked, SectionFailed
from bench.growth.results import AtRate
from bench.runs.loader import BEYOND_SECONDS
from bench.runs.quorate_subject import QUORATE, DevCluster
from bench.runs.results import Measurement, Shape
from bench.runs.runner import Costs, run_load
from bench.runs.scratch import a_cluster, a_directory, say
from bench.runs.workloads import OPEN_CALLERS

PEAK_CALLERS: Final = 256


def measure(asked: Asked) -> Iterator[AtRate]:
    """The peak and its parts, on one cluster. Raises SectionFailed, and what a load raises."""
    shape = Shape(workload="write", callers=PEAK_CALLERS, groups=asked.groups, nodes=asked.nodes)
    with a_directory(asked.data) as directory, a_cluster(directory, asked.nodes, asked.groups) as cluster:
        say(f"load: the peak, {PEAK_CALLERS} callers for {asked.seconds:g} s")
        peak = _measure(asked, cluster, shape)
        yield AtRate(part=1.0, measurement=peak)
        for part in asked.parts:
            at = msgspec.structs.replace(shape, callers=OPEN_CALLERS, rate=round(peak.rate * part, 1))
            say(f"load: {part:.0%} of the peak, {at.rate:,.0f} calls a second")
            yield AtRate(part=part, measurement=_measure(asked, cluster, at))


def _measure(asked: Asked, cluster: DevCluster, shape: Shape) -> Measurement:
    costs = Costs(cluster)
    command = QUORATE.load(cluster, shape, asked.seconds, asked.warm_up)
    load = run_load(command, asked.seconds + asked.warm_up + BEYOND_SECONDS, costs)
    if costs.found is None:
        raise SectionFailed("a server ended meanwhile")
    say(f"load: {load.operations / load.seconds:,.0f} a second, p99 {load.p99_ms:.2f} ms")
    return Measurement(subject=QUORATE.name, shape=shape, repeat=0, load=load, cost=costs.found)
