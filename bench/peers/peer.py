"""A system to compare with, put together from its parts; see :class:`bench.runs.subjects.Subject`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.peers.serving import Servers
from bench.runs.recording import LoaderArguments
from bench.runs.results import Shape
from bench.runs.subjects import Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One server with one load generator."""

    name: str
    title: str
    server: str
    workloads: frozenset[str]
    starter: Callable[[Path, int], Servers]
    """Of the servers, given a directory and the number of nodes."""
    loader: Callable[[LoaderArguments], list[str]]
    """To the command line of the load."""
    lacks: Callable[[], str | None]
    """Why it cannot run here, and what to do about it."""
    versions: Callable[[], str]
    note: str = ""

    def missing(self) -> str | None:
        """Why it cannot run here, and what to do about it; None if it can."""
        return self.lacks()

    def version(self) -> str:
        """Of the server and of the client."""
        return self.versions()

    def start(self, directory: Path, nodes: int, groups: int) -> Cluster:
        """Starts a fresh cluster. Peers have one group, whatever ``groups`` says. Raises RuntimeError that
        says what the servers said."""
        directory.mkdir(parents=True, exist_ok=True)
        return self.starter(directory, nodes)

    def load(self, cluster: Cluster, shape: Shape, seconds: float, warm_up: float) -> list[str]:
        """The command line of the load. Raises ValueError for a workload that it cannot do."""
        if shape.workload not in self.workloads:
            able = ", ".join(sorted(self.workloads))
            raise ValueError(f"{self.name} cannot do {shape.workload}: it does {able}")
        placed = cluster.placed() if isinstance(cluster, Servers) else []
        target = ",".join(address for address, _ in placed) or cluster.target
        pids = tuple(pid for _, pid in placed if pid is not None)
        return self.loader(
            LoaderArguments(target=target, shape=shape, seconds=seconds, warm_up=warm_up, pids=pids)
        )
