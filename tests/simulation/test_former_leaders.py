"""A leader of the past that takes itself for the present one: it stood still while another was elected.

One scene, played step by step: a node that leads stands still, cut off from its peers. A client that now
reaches that node alone goes on sending to it, while the others elect a leader and serve another client. Then
the node goes on: it finds the client's frames in its inbox and has heard nothing of its successor.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import pytest

from bench.workloads_held import HELD
from bench.world.clients import SimClient
from bench.world.clock import Heap, Seed, Trace
from bench.world.cluster import Cluster
from bench.world.tasks import Task
from bench.world.wires import Door
from primitives.ids import GroupId, NodeId
from tests.mutations.bugs import plant

T = TypeVar("T")

GROUP: Final = GroupId(1)
TIMEOUT_MS: Final = 5000
"""Of the sessions: an election goes by within the lease of who is cut off with the former leader."""
SETTLED_MS: Final = 6000
"""After so long leaderships are where they belong, and stay."""
KEEPALIVE_MS: Final = TIMEOUT_MS // 3 + TIMEOUT_MS // 12
"""Within so long a client sends a keepalive, whatever was confirmed."""
PATIENCE_MS: Final = 30_000
SEEDS: Final = 3
"""Of delays and elections' timeouts; the scene is the same for all of them."""


class Stage:
    """Three nodes with one data group, and two clients: one will be cut off with the leader's node, the other
    one from it."""

    def __init__(self, number: int) -> None:
        self._heap: Final = Heap()
        self._trace: Final = Trace(self._heap)
        self._seed: Final = Seed(number)
        self._doors: Final[dict[NodeId, Door]] = {}
        self.cluster: Final = Cluster(self._heap, self._trace, self._seed, nodes=3, groups=1, replicas=3)
        self.cluster.started = self._started
        for node in self.cluster.nodes:
            self.cluster.restart(node)
        self.until(self.cluster.has_formed)
        self.run(SETTLED_MS)
        (self.former,) = self.leaders()
        self.rest: Final = [node for node in self.cluster.nodes if node != self.former]
        self._cuts: Final = [
            pair for node in self.rest for pair in ((node, self.former), (self.former, node))
        ]
        self._reached: Final = {number: dict(self._doors) for number in (1, 2)}
        """By client: the doors that it finds open."""
        self.inside: Final = self._client(1)
        self.outside: Final = self._client(2)

    def leaders(self) -> list[NodeId]:
        """The nodes that take themselves for the data group's leader."""
        return [number for number, node in sorted(self.cluster.up.items()) if node.engine.groups[GROUP].leads]

    def stand_still(self) -> None:
        """The leader's process stops, and its node is cut off with one of the clients; until others have
        elected a leader."""
        assert self.leaders() == [self.former]
        self.cluster.block(self._cuts)
        self._cut_off(self.inside, self.rest)
        self._cut_off(self.outside, [self.former])
        self.cluster.set_frozen(self.former, True)
        self.until(lambda: len(self.leaders()) > 1)

    def go_on(self) -> None:
        """The process goes on and does what it finds in its inbox; its node is still cut off."""
        self.cluster.set_frozen(self.former, False)

    def heal(self) -> None:
        """Everybody reaches everybody again, and the former leader follows."""
        self.cluster.unblock(self._cuts)
        for reached in self._reached.values():
            reached.update(self._doors)
        self.until(lambda: len(self.leaders()) == 1)

    def begin(self, client: SimClient, call: Coroutine[Any, Any, T]) -> Task[T]:
        """Starts a call of a client."""
        task: Task[T] = Task(call, lambda task: None)
        client.track(task)
        task.start()
        return task

    def outcome(self, task: Task[T]) -> T:
        """Waits for a call's result; raises what it raised."""
        self.until(lambda: task.is_done)
        if task.error is not None:
            raise task.error
        return task.result  # type: ignore[return-value]  # it is done, without an error

    def run(self, length_ms: int) -> None:
        """Lets so much time go by."""
        self._heap.run_until(self._heap.now_ms + length_ms)

    def until(self, holds: Callable[[], bool]) -> None:
        """Lets time go by until something is so; fails if it never is."""
        assert holds() or self._heap.run_until(self._heap.now_ms + PATIENCE_MS, holds), self.cluster.report()

    def _started(self, node: NodeId) -> None:
        self._doors[node] = Door(self.cluster.up[node])

    def _cut_off(self, client: SimClient, nodes: list[NodeId]) -> None:
        for node in nodes:
            door = self._reached[client.number].pop(node)
            for wire in [wire for wire in door.wires.values() if wire.client is client]:
                wire.snap()

    def _client(self, number: int) -> SimClient:
        return SimClient(
            number=number, heap=self._heap, trace=self._trace, seed=self._seed, cluster=self.cluster,
            doors=self._reached[number], timeout_ms=TIMEOUT_MS,
            addresses=[node.client_address for node in self.cluster.founding.nodes],
        )  # fmt: skip


def holders(number: int) -> int:
    """How many believe that they hold the lock, once the second client is granted it: the first one's lease
    is expired by the new leader, while a keepalive of it lay in the former leader's inbox."""
    stage = Stage(number)
    kept = stage.outcome(stage.begin(stage.inside, stage.inside.lock("guard").acquire()))
    stage.stand_still()
    waiting = stage.begin(stage.outside, stage.outside.lock("guard").acquire())
    stage.run(KEEPALIVE_MS)
    assert kept.state in HELD, "its lease was to last until the former leader goes on"
    assert not waiting.is_done
    stage.go_on()
    granted = stage.outcome(waiting)
    found = [kept, granted]
    believing = sum(one.state in HELD for one in found)
    assert granted.token > kept.token
    stage.heal()
    return believing


def counts(number: int) -> tuple[int, int]:
    """What the second client was told of a counter by the new leader, and what the first one then reads, who
    asks the former leader."""
    stage = Stage(number)
    stage.outcome(stage.begin(stage.inside, stage.inside.counter("count").increment()))
    stage.stand_still()
    told = stage.outcome(stage.begin(stage.outside, stage.outside.counter("count").increment()))
    asking = stage.begin(stage.inside, stage.inside.counter("count").get())
    stage.run(100)
    stage.go_on()
    stage.run(1000)
    stage.heal()
    return told, stage.outcome(asking)


@pytest.mark.parametrize("number", range(SEEDS))
def test_a_former_leader_confirms_no_lease_beyond_its_expiry(number: int) -> None:
    assert holders(number) == 1


@pytest.mark.parametrize("number", range(SEEDS))
def test_planted_confirmation_by_a_leader_of_the_past_is_noticed(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    plant(monkeypatch, "renewal-by-a-stale-leader")
    assert holders(number) == 2


@pytest.mark.parametrize("number", range(SEEDS))
def test_a_former_leader_serves_no_read_of_the_past(number: int) -> None:
    assert counts(number) == (2, 2)


@pytest.mark.parametrize("number", range(SEEDS))
def test_planted_reads_without_a_quorum_round_are_noticed(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    plant(monkeypatch, "readindex-without-a-quorum")
    assert counts(number) == (2, 1)
