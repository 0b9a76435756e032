"""A system to compare with, put together from its parts; see :class:`bench.runs.subjects.Subject`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.peers.serving import Servers
from bench.runs.results import Shape
from bench.runs.subjects import Cluster


@dataclass(frozen=True, slots=True)
class Peer:
    """One server with one load generator."""

    name: str
    title: str
    server: str
    workloads: frozenset[str]
    starter: Callable[[Path, int], Servers]
    """Of the servers, given a directory and the number of nodes."""
    loader: Callable[[str, Shape, float, float], list[str]]
    """To the command line of the load, given the target, what it is made of, and the seconds of the measurement
    and of the warm-up."""
    lacks: Callable[[], str | None]
    says_version: Callable[[], str]
    note: str = ""

    def missing(self) -> str | None:
        """Why it cannot run here, and what to do about it; None if it can."""
        return self.lacks()

    def version(self) -> str:
        """Of the server and of the client."""
        return self.says_version()

    def start(self, directory: Path, nodes: int, groups: int) -> Cluster:
        """Starts a fresh cluster; peers have one group, whatever ``groups`` says."""
        directory.mkdir(parents=True, exist_ok=True)
        return self.starter(directory, nodes)

    def load(self, cluster: Cluster, shape: Shape, seconds: float, warm_up: float) -> list[str]:
        """The command line of the load."""
        return self.loader(cluster.target, shape, seconds, warm_up)
