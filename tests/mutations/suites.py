"""What may notice a planted bug: files of tests, and seeds of the simulated worlds.

A suite of seeds runs one after the other, for as long as there is time. Tests that plant bugs themselves are
left out of suites of files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from bench.world.bare import run_bare
from bench.world.outcomes import judge
from bench.world.run import Setting, run_seed


@dataclass(frozen=True, slots=True)
class Files:
    """Tests of pytest."""

    paths: tuple[str, ...]
    words: str = "not planted"
    """An expression over the names of tests, as of ``-k``."""


@dataclass(frozen=True, slots=True)
class Seeds:
    """Seeds from ``first`` on."""

    run: Callable[[int], object]
    """Runs a seed; raises if something does not hold."""
    first: int = 0


def _world(setting: Setting, first: int = 0) -> Seeds:
    return Seeds(partial(_run, setting), first)


def _run(setting: Setting, number: int) -> object:
    return run_seed(number, setting)


def _judged(setting: Setting, first: int = 0) -> Seeds:
    """With the search in what callers were told."""
    return Seeds(partial(_judge, setting), first)


def _judge(setting: Setting, number: int) -> object:
    return judge(number, setting)


def _units(*names: str) -> Files:
    return Files(tuple(f"tests/unit/test_{name}.py" for name in names))


_ALONE: Final = Setting(groups=1, fault_ms=4000)
_LOCK: Final = Setting(workloads=("lock",), groups=1, fault_ms=6000)
_AWAY: Final = Setting(workloads=("counter", "register"), groups=1, faults=("crash", "isolate", "split"))


def _of(name: str) -> Setting:
    return replace(_ALONE, workloads=(name,))


SUITES: Final[dict[str, Files | Seeds]] = {
    # Consensus.
    "transcripts": Files(("tests/transcripts",)),
    "consensus-unit": _units("raftgroup_replica"),
    "consensus-properties": Files((
        "tests/properties/test_raftgroup_log.py", "tests/properties/test_raftgroup_quorum.py",
        "tests/properties/test_raftgroup_cluster.py",
    )),
    "bare": Seeds(partial(run_bare, count=3, fault_ms=5000)),
    "bare-5": Seeds(partial(run_bare, count=5)),
    # The engine, sessions and leases.
    "engine-unit": _units("group_waiters", "late_waiters", "leaderships", "local_reads", "node_driver"),
    "sessions-unit": _units(
        "primitives_sessions", "primitives_applier", "primitives_numbering", "group_waiters",
        "late_waiters", "session_closing",
    ),
    "bursts-unit": _units(
        "burst_records", "burst_apply", "burst_lanes", "burst_sessions", "burst_rounds", "burst_disorder",
        "primitives_numbering",
    ),
    "bursts-properties": Files(("tests/properties/test_burst_properties.py",)),
    "together": _world(_of("together")),
    "leases-unit": _units("leader_leases", "router_leases", "group_waiters", "session_closing"),
    "boots-unit": _units("forwarding", "mux_connections", "mux_queue"),
    "scenes": Files(("tests/simulation/test_former_leaders.py",)),
    "counter": _world(Setting(workloads=("counter",), groups=1, fault_ms=6000)),
    "lock": _world(_LOCK),
    "lock-clients": _world(replace(_LOCK, faults=("client",))),
    "lock-partitions": _world(replace(_LOCK, faults=("client", "isolate", "split"))),
    "whole": _world(Setting()),
    "more-nodes": _world(Setting(nodes=5, groups=3, replicas=3, fault_ms=3000), 1014),
    # The store and snapshots.
    "store-unit": _units("store_rocks", "store_syncer", "store_logrecord"),
    "snapshots-unit": _units("snapshots"),
    "tables-unit": _units("primitives_tables"),
    "history-properties": Files(("tests/properties/test_history_properties.py",)),
    "away": _world(_AWAY, 500),
    # Primitives.
    "machines-unit": _units(
        "lock_machine", "election_machine", "queue_machine", "map_machine", "map_sessions", "set_primitive",
        "counter_primitive", "primitives_timers", "primitives_deletion", "primitives_catalog",
    ),
    "machines-properties": Files((
        "tests/properties/test_lock_properties.py", "tests/properties/test_election_properties.py",
        "tests/properties/test_queue_properties.py", "tests/properties/test_map_properties.py",
        "tests/properties/test_counter_properties.py",
    )),
    "cancellations": _units("cancellations"),
    "presence": _world(_of("presence")),
    "presence-clients": _world(replace(_of("presence"), faults=("client",))),
    "timers": _world(replace(_ALONE, workloads=("set", "key", "queue"), faults=("client", "crash"))),
    "election": _world(_of("election")),
    "queue": _world(_of("queue")),
    "set": _world(_of("set")),
    "conditions": _judged(_of("conditions")),
    "bounded": _judged(_of("bounded")),
    "names": _world(Setting(workloads=("names",), callers=3, groups=3)),
    # Reads and watches.
    "reads-unit": _units("local_reads", "router_reads"),
    "reads": _world(Setting(workloads=("reads",), callers=3)),
    "deposed": _judged(replace(
        _ALONE, clients=5, callers=3, workloads=("register", "reads"), faults=("depose", "weather"),
        fault_ms=8000,
    )),
    "far-reads": Files(("tests/simulation/test_stale_reads.py",)),
    "watches-unit": _units("watching", "router_watches", "watching_deletions", "client_watches"),
    "watch": _world(Setting(workloads=("watch",))),
    "watch-log": _world(Setting(workloads=("watch-log", "watch-log-pinned"))),
}  # fmt: skip
"""By name."""

CONSENSUS: Final = ("transcripts", "consensus-unit", "consensus-properties", "bare", "bare-5", "counter")
ENGINE: Final = ("engine-unit", "counter", "whole")
SNAPSHOTS: Final = ("snapshots-unit", "away")
STORE: Final = ("store-unit", "counter", "away")
LEASES: Final = ("leases-unit", "lock-partitions", "lock", "whole")
SESSIONS: Final = ("sessions-unit", "engine-unit", "counter", "whole")
BURSTS: Final = ("bursts-unit", "bursts-properties", "together")
BOOTS: Final = ("boots-unit", "more-nodes")
MACHINES: Final = ("machines-unit", "machines-properties", "cancellations")
READS: Final = ("reads-unit", "reads")
WATCHES: Final = ("watches-unit", "watch", "watch-log")
