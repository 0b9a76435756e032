"""Made-up runs of the benchmark, of a size and with figures as real ones have them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from random import Random
from statistics import NormalDist
from typing import Any, Final

from hdrh.histogram import HdrHistogram

from bench.runs.results import Cost, Failed, Load, Machine, Measurement, Run, Shape, SubjectInfo

MACHINE: Final = Machine(
    cpu="Made-up 3000 at 2.4 GHz", cores=2, memory_gb=24.0, system="Linux 6.18", python="3.11.7",
    disk="ext4 on /dev/vda, 280 µs a sync",
)  # fmt: skip
SUBJECTS: Final = (
    SubjectInfo(name="quorate", title="Quorate (Python)", version="0.1.0"),
    SubjectInfo(name="etcd", title="etcd (Python, grpcio)", version="3.4.23, grpcio 1.76"),
    SubjectInfo(name="etcd-native", title="etcd (Go)", version="3.4.23", note="connected to the leader"),
    SubjectInfo(name="zookeeper", title="ZooKeeper (Python, kazoo)", version="3.8.0, kazoo 2.10"),
    SubjectInfo(
        name="nats", title="NATS JetStream (Python)", version="2.9.10", note="does not sync <each> write"
    ),
    SubjectInfo(name="pysyncobj", title="PySyncObj", missing="it is not installed: pip install pysyncobj"),
)
CALLERS: Final = (1, 16, 64, 256)
WRITES: Final = {
    "quorate": (1072, 4850, 11430, 21900), "etcd": (860, 2540, 4120, 7670),
    "etcd-native": (1040, 5150, 10600, 14600), "zookeeper": (1110, 2310, 3050, 3650),
    "nats": (1720, 8560, 16300, 19800),
}  # fmt: skip
READS: Final = {
    "quorate": (2226, 11591, 27410, 52409), "etcd": (1380, 3090, 5180, 5090),
    "etcd-native": (1790, 9070, 15700, 18500),
}  # fmt: skip
RATES: Final = (1000.0, 2000.0, 4000.0, 8000.0)


@cache
def latencies(p50_us: int) -> tuple[str, Any]:
    """A distribution about that median with a long tail: encoded, and as it is."""
    histogram: Any = HdrHistogram(1, 60_000_000, 3)
    normal = NormalDist()
    for step in range(1, 200):
        histogram.record_value(int(p50_us * 2.718 ** (0.35 * normal.inv_cdf(step / 200))) + 1, 20)
    for step in range(1, 20):
        histogram.record_value(int(p50_us * (2 + step * step / 12)) + 1)
    return histogram.encode().decode(), histogram


def measurement(
    subject: str, shape: Shape, repeat: int, rate: float, *, p50_ms: float | None = None,
    extra: dict[str, float] | None = None, errors: int = 0,
) -> Measurement:  # fmt: skip
    """Four seconds of so many operations a second."""
    p50_us = int((p50_ms or 1000 * shape.callers / rate) * 1000)
    encoded, histogram = latencies(p50_us)
    p50, p90, p99, p999 = (histogram.get_value_at_percentile(at) / 1e3 for at in (50, 90, 99, 99.9))
    spent = {"quorate": 140.0, "etcd-native": 190.0, "zookeeper": 230.0}.get(subject, 200.0)
    is_foreign = subject == "zookeeper"
    load = Load(
        operations=int(rate * 4), seconds=4.0, latencies=None if is_foreign else encoded, p50_ms=p50,
        p90_ms=p90, p99_ms=p99, p999_ms=p999, longest_ms=histogram.get_max_value() / 1e3, errors=errors,
        cpu_seconds=None if is_foreign else rate * 4 * 55e-6, peak_mb=None if is_foreign else 48.5,
        extra=extra or {},
    )  # fmt: skip
    memory = {"quorate": 62.0, "zookeeper": 310.0}.get(subject, 140.0)
    cost = Cost(
        cpu_seconds=rate * 4 * spent / 1e6, resident_mb=[memory + node + repeat for node in range(3)],
        written_bytes=int(rate * 4 * 620), syncs=int(rate * 4 / (1 + shape.callers / 8)),
    )  # fmt: skip
    return Measurement(subject=subject, shape=shape, repeat=repeat, load=load, cost=cost)


def run(*, repeats: int = 3, factor: float = 1.0, seed: int = 4711) -> Run:
    """All systems in several workloads; Quorate's rates are those of the tables above times ``factor``."""
    draw = Random(seed)
    taken = []
    for repeat in range(repeats):
        for subject, shape, rate, p50_ms, extra in _loads():
            is_changed = subject == "quorate" and shape.rate is None
            reached = rate * (factor if is_changed else 1.0) * draw.uniform(0.99, 1.01)
            taken.append(measurement(subject, shape, repeat, reached, p50_ms=p50_ms, extra=extra))
    return Run(
        began="2026-11-26T14:00:00Z", command="quorate bench run --workloads write,read -o run.json",
        machine=MACHINE, subjects=list(SUBJECTS), measurements=taken, failed=[
            Failed(subject="nats", shape=Shape(workload="lock", callers=1), repeat=0, reason="it has <none>")
        ],
    )  # fmt: skip


def _loads() -> Iterator[tuple[str, Shape, float, float | None, dict[str, float] | None]]:
    for workload, table in (("write", WRITES), ("read", READS)):
        for subject, rates in table.items():
            for callers, rate in zip(CALLERS, rates, strict=True):
                yield subject, Shape(workload=workload, callers=callers), rate, None, None
    for subject, rates in WRITES.items():
        for rate in RATES:
            reached = min(rate, rates[3] * 0.9)
            late = 1.2 + 900 / rates[0] + 3 * rate / rates[3] if reached == rate else 900.0
            yield subject, Shape(workload="write", callers=256, rate=rate), reached, late, None
    for groups in (1, 64, 256):
        rate = 23000.0 - 20 * groups
        yield "quorate", Shape(workload="write", callers=256, groups=groups), rate, None, None
    for size in (16, 1024, 65536):
        for subject in ("quorate", "etcd"):
            rate = WRITES[subject][2] / (1 + size / 4096)
            yield subject, Shape(workload="write", callers=64, value_bytes=size), rate, None, None
    for subject, gap_s in (("quorate", 0.21), ("etcd", 1.4)):
        extra = {"gap_s": gap_s, "serving_s": 1.1}
        yield subject, Shape(workload="recovery", callers=1), 800.0, None, extra
