"""What can be measured, by name, and what counts as one operation of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

USUAL: Final = (1, 64)
"""Callers, where more of them do more at once; a sweep is asked for."""
OPEN_CALLERS: Final = 1024
"""The most calls that may be under way at a rate, unless said otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One kind of load. Loaders keep to these words, so that systems are asked for the same."""

    title: str
    """For people: what one operation is."""
    unit: str = "calls"
    """What is counted."""
    callers: tuple[int, ...] = USUAL
    """How many, unless asked otherwise."""
    fixed_callers: bool = False
    """That number belongs to the workload, and cannot be chosen."""
    at_rate: bool = True
    """Whether calls can be begun at a rate. Not where one waits for another or each needs its own turn."""
    has_values: bool = False
    """Whether the size of the values matters."""
    value_bytes: tuple[int, ...] = ()
    """The sizes of the values, where they are swept."""
    load: str = ""
    """The workload that a loader is asked for, if it is another one."""


_WRITE: Final = "an entry of a map is put: a random key of those there are, and a value"
WORKLOADS: Final[dict[str, Workload]] = {
    "write": Workload(title=_WRITE, unit="writes", has_values=True),
    "read": Workload(title="an entry of a map is got, linearizably", unit="reads", has_values=True),
    "read-sequential": Workload(
        title="an entry of a map is got as some replica has it, never older than what the caller has seen",
        unit="reads", has_values=True,
    ),
    "mixed": Workload(title="nine linearizable reads to one write, drawn at random", has_values=True),
    "counter": Workload(title="one counter, which all callers share, is incremented", unit="increments"),
    "lock": Workload(
        title="a lock, each caller's own, is acquired and released", unit="pairs", callers=(1, 16),
    ),
    "lock-contended": Workload(
        title="one lock is acquired and released by 16 callers who contend for it", unit="pairs",
        callers=(16,), fixed_callers=True, at_rate=False,
    ),
    "election": Workload(
        title="leadership goes from one of two campaigners to the other, timed from where the first begins to"
        " resign until the other knows that it leads", unit="hand-overs", callers=(2,), fixed_callers=True,
        at_rate=False,
    ),
    "queue": Workload(
        title="an element is offered to a queue, which all callers share, and one taken", unit="pairs",
        callers=(1, 16), has_values=True,
    ),
    "fanout": Workload(
        title="one writer puts entries, each when the one before is acknowledged, and 1,000 watchers, each on"
        " a connection of its own, are told; an operation is an event that arrived, a latency from the call"
        " of a put until the last watcher has it",
        unit="events", callers=(1,), at_rate=False, has_values=True,
    ),
    "sessions": Workload(
        title="a client connects, makes one linearizable read and closes", unit="sessions", callers=(1, 16),
    ),
    "recovery": Workload(
        title="one serial writer, while the node that leads what it writes is killed by KILL and started"
        " again; beside its writes: gap_s, the longest time without an acknowledged one, and serving_s, from"
        " the start of the new process until it serves", unit="writes", callers=(1,), fixed_callers=True,
        at_rate=False, has_values=True,
    ),
    "values": Workload(
        title=_WRITE + ", of sizes from 16 bytes to 64 KiB", unit="writes", callers=(64,), has_values=True,
        value_bytes=(16, 128, 1024, 4096, 16384, 65536), load="write",
    ),
}  # fmt: skip
"""By the name that is asked for. Those that only sweep another are measured, and kept, as that one."""
