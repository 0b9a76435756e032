"""The systems that can be measured, each behind the same few methods."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from bench.runs.results import Shape


class Cluster(Protocol):
    """A system that runs."""

    @property
    def pids(self) -> list[int]:
        """Processes of the servers, one for each node, in the order of the nodes; none where the only node is
        in the process that makes the load."""

    @property
    def target(self) -> str:
        """Where loaders connect to, in the system's own spelling."""

    def stop(self) -> None:
        """Ends the servers, and waits until they have ended. Safe to repeat."""


@runtime_checkable
class CountsSyncs(Protocol):
    """A cluster whose servers count their syncs; most do not."""

    def syncs(self) -> int:
        """Syncs of the logs of all nodes together, since they began. Raises RuntimeError if a node does not
        tell."""


class Subject(Protocol):
    """A system, with one way to load it: a server with two load generators is two subjects."""

    @property
    def name(self) -> str:
        """By which it is asked for: ``quorate``, ``etcd``, ``etcd-native``."""

    @property
    def title(self) -> str:
        """For people, with the load generator: ``etcd (Go)``."""

    @property
    def server(self) -> str:
        """Subjects of one server share a cluster in a run: ``etcd``."""

    @property
    def note(self) -> str:
        """What one must know to compare; may be empty."""

    @property
    def workloads(self) -> frozenset[str]:
        """Which it can do, by their names."""

    def missing(self) -> str | None:
        """Why it cannot run here, and what to do about it; None if it can."""

    def version(self) -> str:
        """Of the server and of the client."""

    def start(self, directory: Path, nodes: int, groups: int) -> Cluster:
        """Starts a fresh cluster on loopback with its data in ``directory``, and waits until it serves.
        Raises RuntimeError that says what the servers said."""

    def load(self, cluster: Cluster, shape: Shape, seconds: float, warm_up: float) -> list[str]:
        """The command line of a process that makes the load, and prints a ``bench.runs.results.Load`` as one
        line of JSON, its last. It prepares what it needs, warms up, says ``measuring`` in a line when the
        measurement begins (else what the servers spend counts from its start), and ends with another status
        than 0 after saying why if it cannot."""
