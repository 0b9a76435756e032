"""What a run is made of, drawn by its seed or named, and the command line that repeats it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from bench.workloads import CounterWorkload, RegisterWorkload, ValueWorkload, Workload
from bench.workloads_conditions import ConditionWorkload
from bench.workloads_held import ElectionWorkload, KeyLockWorkload, LockWorkload, PresenceWorkload
from bench.workloads_names import NamesWorkload
from bench.workloads_queues import BoundedQueueWorkload, ListWorkload, QueueWorkload
from bench.workloads_reads import ReadWorkload
from bench.workloads_sets import SetWorkload
from bench.workloads_together import TogetherWorkload
from bench.workloads_watches import WatchWorkload
from bench.workloads_watchlogs import PinnedWatchLogWorkload, WatchLogWorkload
from bench.world.clock import Seed
from bench.world.faults import KINDS, USUAL

WORKLOADS: Final[dict[str, type[Workload]]] = {
    kind.NAME: kind for kind in (
        CounterWorkload, RegisterWorkload, LockWorkload, ValueWorkload, SetWorkload, QueueWorkload,
        ListWorkload, ElectionWorkload, KeyLockWorkload, PresenceWorkload, ReadWorkload, WatchWorkload,
        WatchLogWorkload, PinnedWatchLogWorkload, NamesWorkload, ConditionWorkload, BoundedQueueWorkload,
        TogetherWorkload,
    )
}  # fmt: skip
TIMED: Final = frozenset({"lock", "election", "key", "presence", "reads"})
"""Workloads that are judged by clocks: a clock that jumps breaks what is promised there."""
SIZES: Final = {
    "nodes": (1, 9), "groups": (1, 64), "replicas": (1, 9), "clients": (0, 100), "callers": (0, 100),
    "fault_ms": (0, 3_600_000), "heal_ms": (1, 3_600_000),
}  # fmt: skip
"""What each number may be."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a run is made of. The same for a seed means the same run."""

    nodes: int = 3
    groups: int = 2
    """Data groups."""
    replicas: int = 3
    clients: int = 3
    callers: int = 2
    """Callers of each client; each takes up a workload for itself."""
    workloads: tuple[str, ...] = ("counter", "register", "lock")
    fault_ms: int = 8000
    heal_ms: int = 60_000
    """Within so much simulated time after healing everything must be done."""
    sessions_ms: tuple[int, ...] = (1000, 2000, 5000)
    """Session timeouts to draw from, one for each run."""
    faults: tuple[str, ...] = USUAL
    """Kinds to draw from; each seed has its own mix."""

    @classmethod
    def draw(cls, number: int) -> Setting:
        """The setting that the seed itself draws: any workloads, any faults that they bear."""
        random = Seed(number).stream("setting")
        nodes = random.choice((3, 3, 5))
        workloads = tuple(sorted(random.sample(sorted(WORKLOADS), random.choice((1, 2, 3, 5)))))
        faults = set(USUAL) | {"transfer"}
        if random.random() < 0.5 and not TIMED.intersection(workloads):
            faults.add("clock_jump")
        return cls(
            nodes=nodes, groups=random.choice((1, 2, 3)), replicas=random.choice((3, nodes)),
            clients=random.randint(2, 5), callers=random.choice((1, 2, 3)), workloads=workloads,
            fault_ms=random.choice((3000, 8000)), faults=tuple(sorted(faults)),
        )  # fmt: skip

    def as_plain(self) -> dict[str, Any]:
        """As a seed file holds it."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> Setting:
        """The inverse of :meth:`as_plain`, or a part of it with the defaults for the rest. Raises ValueError
        that says what is wrong."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(plain) - known):
            raise ValueError(f"a setting has no {unknown[0]!r}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()
        }
        setting = cls(**values)
        setting.check()
        return setting

    def check(self) -> None:
        """Raises ValueError that says what cannot be meant."""
        for name, (least, most) in SIZES.items():
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise ValueError(f"{name.replace('_', '-')} is {least} to {most}, not {value!r}")
        for name, allowed in (("workloads", WORKLOADS), ("faults", KINDS)):
            for one in getattr(self, name):
                if one not in allowed:
                    known = ", ".join(sorted(allowed))
                    raise ValueError(f"there is no {name[:-1]} {one!r}; there are {known}")
        if not self.workloads:
            raise ValueError("at least one workload is needed")
        if self.replicas > self.nodes:
            raise ValueError(f"{self.replicas} replicas do not fit on {self.nodes} nodes")
        if self.nodes < 2 and self.faults:
            raise ValueError("faults need two nodes at least")
        if not self.sessions_ms or min(self.sessions_ms) < 100:
            raise ValueError("session timeouts are of 100 ms at least")


def make_workload(name: str) -> Workload:
    """A fresh workload of that name; raises KeyError."""
    return WORKLOADS[name]()


def repeat_command(number: int, setting: Setting) -> str:
    """The command line that repeats a run: the seed, and all in which the setting is not what it draws."""
    parts = [f"quorate simulate --seed {number}"]
    drawn = Setting.draw(number)
    for field in fields(Setting):
        value: int | Sequence[object] = getattr(setting, field.name)
        if value != getattr(drawn, field.name):
            text = value if isinstance(value, int) else ",".join(map(str, value)) or "none"
            parts.append(f"--{field.name.replace('_', '-')} {text}")
    return " ".join(parts)
