"""The simulated network keeps order, loses only what may get lost, and tells both ends of every break."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from bench.world.clock import Heap, Trace
from bench.world.network import Network, Weather
from primitives.ids import NodeId

ONE, TWO = NodeId(1), NodeId(2)


class Recorder:
    """An endpoint that writes down what it is told."""

    def __init__(self, node: NodeId, boot: int = 1) -> None:
        self.node = node
        self.boot_id = bytes([boot])
        self.heard: list[str] = []
        self.told: list[str] = []

    def peer_up(self, node: NodeId, boot_id: bytes) -> None:
        self.told.append(f"up {node} {boot_id.hex()}")

    def peer_down(self, node: NodeId) -> None:
        self.told.append(f"down {node}")

    def receive(self, node: NodeId, sections: Sequence[str]) -> None:
        assert self.told, "a frame before the connection"
        self.heard.extend(sections)


def pair(weather: Weather, seed: int = 1) -> tuple[Heap, Network[str], Recorder, Recorder]:
    heap = Heap()
    network: Network[str] = Network(
        heap, Random(seed), Trace(heap), loose=lambda section: section.startswith("loose"), weather=weather
    )
    ends = Recorder(ONE), Recorder(TWO)
    for end in ends:
        network.attach(end)
    heap.run_until(1000)
    assert network.connected(ONE, TWO)
    return heap, network, *ends


def test_frames_of_one_direction_arrive_in_order_whatever_their_delays() -> None:
    heap, network, one, two = pair(Weather(delay_ms=(1, 90)))
    for number in range(50):
        assert network.send(one, TWO, [f"{number}"])
        heap.run_until(heap.now_ms + 3)
    heap.run_until(heap.now_ms + 200)
    assert two.heard == [str(number) for number in range(50)]


def test_only_loose_sections_are_dropped_doubled_or_overtaken() -> None:
    heap, network, one, two = pair(Weather(drop=300, double=300, overtake=300))
    for number in range(200):
        assert network.send(one, TWO, [f"loose {number}", f"firm {number}"])
        heap.run_until(heap.now_ms + 1)
    heap.run_until(heap.now_ms + 500)
    firm = [section for section in two.heard if section.startswith("firm")]
    loose = [int(section.split()[1]) for section in two.heard if section.startswith("loose")]
    assert firm == [f"firm {number}" for number in range(200)]
    assert 0 < len(set(loose)) < 200
    assert len(loose) > len(set(loose))
    assert loose != sorted(loose)


def test_blocked_direction_holds_frames_back_and_a_short_block_delivers_them() -> None:
    heap, network, one, two = pair(Weather())
    network.block([(ONE, TWO)])
    network.send(one, TWO, ["held"])
    network.send(two, ONE, ["free"])
    heap.run_until(heap.now_ms + 100)
    assert (one.heard, two.heard) == (["free"], [])
    network.unblock([(ONE, TWO)])
    heap.run_until(heap.now_ms + 10_000)
    assert two.heard == ["held"]
    assert two.told == [f"up {ONE} 01"]


def test_long_block_breaks_the_connection_at_both_ends_and_it_returns_after_healing() -> None:
    heap, network, one, two = pair(Weather())
    network.block([(ONE, TWO)])
    heap.run_until(heap.now_ms + 4000)
    assert one.told[-1] == f"down {TWO}"
    assert two.told[-1] == f"down {ONE}"
    assert not network.send(one, TWO, ["lost"])
    network.heal()
    heap.run_until(heap.now_ms + 1000)
    assert network.connected(ONE, TWO)
    assert two.heard == []


def test_dead_node_hears_nothing_and_its_next_boot_is_told_apart() -> None:
    heap, network, one, two = pair(Weather(delay_ms=(5, 5)))
    network.send(one, TWO, ["to the dead"])
    network.detach(TWO)
    heap.run_until(heap.now_ms + 1)
    again = Recorder(TWO, boot=2)
    network.attach(again)
    heap.run_until(heap.now_ms + 4000)
    assert two.heard == again.heard == []
    assert one.told == [f"up {TWO} 01", f"down {TWO}", f"up {TWO} 02"]


def test_reset_loses_what_is_under_way_and_both_ends_connect_anew() -> None:
    heap, network, one, two = pair(Weather(reset=1000))
    network.send(one, TWO, ["lost"])
    network.weather = Weather()
    heap.run_until(heap.now_ms + 1000)
    assert two.heard == []
    assert [told.split()[0] for told in one.told] == ["up", "down", "up"]
    assert [told.split()[0] for told in two.told] == ["up", "down", "up"]
