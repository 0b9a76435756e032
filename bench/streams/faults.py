"""What goes wrong in this tier: the faults of ``bench.world`` that need no hand inside a node, and those of
connections."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from bench.streams.cluster import StreamCluster
from bench.world.clock import Heap, Trace
from bench.world.faults import KINDS as WORLD_KINDS
from bench.world.faults import Nemesis, Plan

KINDS: Final = (
    *(kind for kind in WORLD_KINDS if kind != "freeze"), "reset", "silence", "refuse_dials", "stop",
)  # fmt: skip
"""Every kind of fault that is drawn unless others are named."""


class StreamNemesis(Nemesis):
    """Carries a plan out on a cluster on trio."""

    def __init__(
        self, heap: Heap, random: Random, trace: Trace, cluster: StreamCluster, plan: Plan
    ) -> None:
        super().__init__(heap, random, trace, cluster, plan)
        self._cluster: Final = cluster
        self._kinds.update({
            "reset": self._reset, "silence": self._silence, "refuse_dials": self._refuse_dials,
            "stop": self._stop,
        })  # fmt: skip

    def _reset(self) -> None:
        self._cluster.internet.reset_some(self._random)

    def _silence(self) -> Callable[[], None] | None:
        return self._cluster.internet.lose_some(self._random)

    def _refuse_dials(self) -> Callable[[], None]:
        internet, name = self._cluster.internet, f"n{self._some_node()}"
        self._say(f"{name} refuses connections")
        internet.refuse(name, 1)

        def end() -> None:
            self._say(f"{name} takes connections again")
            internet.refuse(name, -1)

        return end

    def _stop(self) -> Callable[[], None] | None:
        node = self._some_node()
        if not self._target.is_up(node):
            return None
        self._cluster.stop(node)

        def end() -> None:
            if not self._target.is_up(node):
                self._target.restart(node)

        return end
