"""Quorate within the process that loads it: a single node, on disk, without a network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.runs import loader
from bench.runs.quorate_subject import product
from bench.runs.recording import LoaderArguments
from bench.runs.results import Shape
from bench.runs.subjects import Cluster


@dataclass(frozen=True, slots=True)
class Embedded:
    """A directory; the node runs when the load does."""

    target: str

    @property
    def pids(self) -> list[int]:
        """There is no server."""
        return []

    def stop(self) -> None:
        """Has nothing to end."""


class EmbeddedSubject:
    """``quorate.embedded`` as a system."""

    name: Final = "quorate-embedded"
    title: Final = "Quorate, embedded"
    server: Final = name
    note: Final = "one node in the process that makes the load, whose processor time has the node's in it"
    workloads: Final = frozenset(loader.CALLS) - {"sessions"}

    def missing(self) -> str | None:
        """Never: it is this program."""
        return None

    def version(self) -> str:
        """Of this program."""
        return product()

    def start(self, directory: Path, nodes: int, groups: int) -> Embedded:
        """Makes the directory; see :class:`~bench.runs.subjects.Subject`."""
        data = directory.absolute() / "data"
        data.mkdir(parents=True)
        return Embedded(f"{loader.EMBEDDED}{data}")

    def load(self, cluster: Cluster, shape: Shape, seconds: float, warm_up: float) -> list[str]:
        """The command of the loader."""
        asked = LoaderArguments(target=cluster.target, shape=shape, seconds=seconds, warm_up=warm_up)
        return asked.command(loader.MODULE)


QUORATE_EMBEDDED: Final = EmbeddedSubject()
