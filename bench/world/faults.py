"""What goes wrong, and when: a seeded plan of faults, each with an end.

Each seed draws its own mix of kinds and its own pace, so that some runs see one kind only and others all of
them at once. :meth:`Nemesis.heal` ends everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

from bench.world.clock import PPM, Heap, Trace
from bench.world.network import Weather
from primitives.ids import NodeId

QUICK_SYNC_MS: Final = (1, 3)

CLOCK_DRIFT_PPM_MAX: Final = 5_000
"""How much faster or slower than true time a clock may run: far more than real ones, and within the margin
that leases are counted with."""


KINDS: Final = (
    "crash", "crash_minority", "crash_all", "isolate", "split", "one_way", "weather", "slow_sync", "refuse",
    "sync_failure", "clock", "freeze", "client",
)  # fmt: skip
"""Every kind of fault that is drawn unless others are named. A ``client`` fault is left to the world: a
pause, lost connections or a death."""
TRANSFER: Final = "transfer"
"""Leaderships are handed over, to any replica, at any time; only where it is named."""


class Target(Protocol):
    """The world, as faults reach it."""

    @property
    def nodes(self) -> Sequence[NodeId]:
        """Every node, up or down."""

    def is_up(self, node: NodeId) -> bool:
        """Whether the node's process runs."""

    def crash(self, node: NodeId) -> None:
        """Ends the process; what is unsynced may go with it."""

    def restart(self, node: NodeId) -> None:
        """Starts it again, from its disk."""

    def block(self, pairs: Sequence[tuple[NodeId, NodeId]]) -> None:
        """Cuts the directions."""

    def unblock(self, pairs: Sequence[tuple[NodeId, NodeId]]) -> None:
        """Opens them again."""

    def set_weather(self, weather: Weather) -> None:
        """Makes the network as bad as that."""

    def set_sync_delay(self, node: NodeId, delay_ms: tuple[int, int]) -> None:
        """How long a sync takes there, across restarts."""

    def set_refusing(self, node: NodeId, refusing: bool) -> None:
        """Whether the store refuses writes for now."""

    def fail_next_sync(self, node: NodeId) -> None:
        """The next sync fails, upon which the node must stop."""

    def set_clock_rate(self, node: NodeId, rate_ppm: int) -> None:
        """How fast the node's clock runs."""

    def set_frozen(self, node: NodeId, frozen: bool) -> None:
        """Whether the node's process stands still, as by SIGSTOP, while its clock and its peers go on."""

    def transfer(self, random: Random) -> None:
        """Has some leader hand over, if there is one."""

    def disturb_client(self, random: Random) -> None:
        """Lets some client pause, lose its connections or die."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The mix of one run."""

    kinds: tuple[str, ...]
    """Names of the kinds that occur."""
    gap_ms: tuple[int, int]
    """Time from one fault's beginning to the next one's."""
    last_ms: tuple[int, int]
    """How long a fault lasts."""

    @classmethod
    def draw(cls, random: Random, kinds: Sequence[str]) -> Plan:
        """A mix of ``kinds``: often a few, sometimes all."""
        count = random.choice((1, 2, 3, len(kinds)))
        pace = random.choice((100, 400, 1500))
        last = random.choice((200, 800, 3000))
        chosen = tuple(sorted(random.sample(sorted(kinds), min(count, len(kinds)))))
        return cls(kinds=chosen, gap_ms=(pace // 4, pace * 2), last_ms=(last // 4, last * 2))


class Nemesis:
    """Carries a plan out on a target."""

    def __init__(self, heap: Heap, random: Random, trace: Trace, target: Target, plan: Plan) -> None:
        self._heap = heap
        self._random = random
        self._trace = trace
        self._target = target
        self.plan = plan
        self._ended = False
        self._open: dict[int, Callable[[], None]] = {}
        """What ends each fault that has begun, by its number."""
        self._begun = 0
        self._frozen: set[NodeId] = set()
        self._kinds: dict[str, Callable[[], Callable[[], None] | None]] = {
            "crash": lambda: self._crash([self._some_node()]),
            "crash_minority": lambda: self._crash(self._some_minority()),
            "crash_all": lambda: self._crash(self._target.nodes),
            "isolate": self._isolate,
            "split": self._split,
            "one_way": lambda: self._cut([self._some_pair()]),
            "weather": self._weather,
            "slow_sync": self._slow_sync,
            "refuse": self._refuse,
            "sync_failure": self._sync_failure,
            "clock": self._clock,
            "freeze": self._freeze,
            TRANSFER: lambda: self._target.transfer(self._random),
            "client": lambda: self._target.disturb_client(self._random),
        }

    def start(self) -> None:
        """Begins, after a quiet moment in which the cluster forms."""
        if not self.plan.kinds:
            return
        self._heap.after(self._random.randint(500, 2000), self._next)

    def heal(self) -> None:
        """Ends every fault now and begins no more."""
        self._ended = True
        for number in sorted(self._open):
            self._end(number)
        for node in self._target.nodes:
            if not self._target.is_up(node):
                self._target.restart(node)

    def _next(self) -> None:
        if self._ended:
            return
        kind = self._random.choice(self.plan.kinds)
        end = self._kinds[kind]()
        if end is not None:
            self._begun += 1
            number = self._begun
            self._open[number] = end
            self._heap.after(self._random.randint(*self.plan.last_ms), lambda: self._end(number))
        self._heap.after(self._random.randint(*self.plan.gap_ms), self._next)

    def _end(self, number: int) -> None:
        end = self._open.pop(number, None)
        if end is not None:
            end()

    def _say(self, what: str) -> None:
        self._trace("fault", what)

    def _some_node(self) -> NodeId:
        return self._random.choice(self._target.nodes)

    def _some_pair(self) -> tuple[NodeId, NodeId]:
        one, other = self._random.sample(self._target.nodes, 2)
        return one, other

    def _some_minority(self) -> list[NodeId]:
        nodes = self._target.nodes
        return sorted(self._random.sample(nodes, self._random.randint(1, max(1, (len(nodes) - 1) // 2))))

    def _crash(self, nodes: Sequence[NodeId]) -> Callable[[], None]:
        crashed = [node for node in nodes if self._target.is_up(node)]
        for node in crashed:
            self._target.crash(node)

        def end() -> None:
            for node in crashed:
                if not self._target.is_up(node):
                    self._target.restart(node)

        return end

    def _cut(self, pairs: list[tuple[NodeId, NodeId]]) -> Callable[[], None]:
        self._say("cut " + " ".join(f"{one}>{other}" for one, other in pairs))
        self._target.block(pairs)

        def end() -> None:
            self._say("open " + " ".join(f"{one}>{other}" for one, other in pairs))
            self._target.unblock(pairs)

        return end

    def _isolate(self) -> Callable[[], None]:
        node = self._some_node()
        others = [other for other in self._target.nodes if other != node]
        return self._cut([pair for other in others for pair in ((node, other), (other, node))])

    def _split(self) -> Callable[[], None]:
        side = self._some_minority()
        rest = [node for node in self._target.nodes if node not in side]
        return self._cut([pair for one in side for other in rest for pair in ((one, other), (other, one))])

    def _weather(self) -> Callable[[], None]:
        random = self._random
        weather = Weather(
            delay_ms=(1, random.choice((3, 20, 200))), drop=random.choice((0, 10, 100, 300)),
            double=random.choice((0, 30, 200)), overtake=random.choice((0, 30, 200)),
            reset=random.choice((0, 0, 2, 20)),
        )  # fmt: skip
        self._say(f"weather {weather}")
        self._target.set_weather(weather)

        def end() -> None:
            self._say("weather clears")
            self._target.set_weather(Weather())

        return end

    def _slow_sync(self) -> Callable[[], None]:
        node, slow = self._some_node(), self._random.choice((20, 150, 500))
        self._say(f"node {node} syncs in up to {slow} ms")
        self._target.set_sync_delay(node, (slow // 4, slow))
        return lambda: self._target.set_sync_delay(node, QUICK_SYNC_MS)

    def _refuse(self) -> Callable[[], None]:
        node = self._some_node()
        self._say(f"node {node} refuses writes")
        self._target.set_refusing(node, True)

        def end() -> None:
            self._say(f"node {node} takes writes again")
            self._target.set_refusing(node, False)

        return end

    def _sync_failure(self) -> Callable[[], None]:
        node = self._some_node()
        self._say(f"node {node}'s next sync fails")
        self._target.fail_next_sync(node)

        def end() -> None:
            if not self._target.is_up(node):
                self._target.restart(node)

        return end

    def _clock(self) -> Callable[[], None]:
        node = self._some_node()
        rate = PPM + self._random.randint(-CLOCK_DRIFT_PPM_MAX, CLOCK_DRIFT_PPM_MAX)
        self._say(f"node {node}'s clock runs at {rate} ppm")
        self._target.set_clock_rate(node, rate)
        return lambda: self._target.set_clock_rate(node, PPM)

    def _freeze(self) -> Callable[[], None] | None:
        node = self._some_node()
        if node in self._frozen or not self._target.is_up(node):
            return None
        self._say(f"node {node} stands still")
        self._frozen.add(node)
        others = [other for other in self._target.nodes if other != node]
        pairs = [pair for other in others for pair in ((node, other), (other, node))]
        self._target.set_frozen(node, True)
        self._target.block(pairs)

        def end() -> None:
            self._say(f"node {node} goes on")
            self._frozen.remove(node)
            self._target.unblock(pairs)
            self._target.set_frozen(node, False)

        return end
