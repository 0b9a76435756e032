"""The kinds of faults: what each draws from the seed, and its course from beginning to end.

A further kind is a drawing function, a course, and a line in :data:`KINDS`. A course is a generator over the
target: it begins the fault, yields when it goes on (in ms, or None for not before its end), and is sent True
to go on or False to end. One that has nothing to end returns at once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from bench.world.clock import PPM
from bench.world.failpoints import POINTS
from bench.world.network import Weather
from bench.world.target import CLOCK_DRIFT_PPM_MAX, QUICK_SYNC_MS, Details, Pairs, Target
from primitives.ids import NodeId

Course = Generator[int | None, bool, None]
Nodes = Sequence[NodeId]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault."""

    draw: Callable[[Random, Nodes], Details]
    course: Callable[[Target, Details], Course]
    is_usual: bool = True
    """It is drawn unless kinds are named."""
    in_bare: bool = True
    """It needs neither an engine nor clients."""
    times: int = 1
    """So many times longer than other kinds."""


# --- What is drawn ------------------------------------------------------------------------------------


def _minority(random: Random, nodes: Nodes) -> list[NodeId]:
    return sorted(random.sample(nodes, random.randint(1, max(1, (len(nodes) - 1) // 2))))


def _one_node(random: Random, nodes: Nodes) -> Details:
    return {"node": random.choice(nodes)}


def _nodes(random: Random, nodes: Nodes) -> Details:
    return {"nodes": _minority(random, nodes)}


def _both_ways(one: Nodes, other: Nodes) -> list[tuple[NodeId, NodeId]]:
    return [pair for a in one for b in other for pair in ((a, b), (b, a))]


def _isolation(random: Random, nodes: Nodes) -> Details:
    node = random.choice(nodes)
    return {"pairs": _both_ways([node], [other for other in nodes if other != node])}


def _halves(random: Random, nodes: Nodes) -> Details:
    side = _minority(random, nodes)
    return {"pairs": _both_ways(side, [node for node in nodes if node not in side])}


def _direction(random: Random, nodes: Nodes) -> Details:
    one, other = random.sample(nodes, 2)
    return {"pairs": [(one, other)]}


def _deafness(random: Random, nodes: Nodes) -> Details:
    """A node hears nothing, or nobody hears it."""
    node, hears = random.choice(nodes), random.random() < 0.5
    others = [other for other in nodes if other != node]
    return {"pairs": [(node, other) if hears else (other, node) for other in others]}


def _bridge(random: Random, nodes: Nodes) -> Details:
    """Two sides that a single node reaches."""
    order = random.sample(nodes, len(nodes))
    half = (len(nodes) - 1) // 2
    return {"pairs": _both_ways(order[:half], order[half + 1 :])}


def _ring(random: Random, nodes: Nodes) -> Details:
    """Each node reaches a majority, no two the same: neighbours in a ring; of three, one way round."""
    order = random.sample(nodes, len(nodes))
    count = len(order)
    if count == 3:
        return {"pairs": [(order[at], order[(at + 1) % 3]) for at in range(3)]}
    return {"pairs": [
        (order[a], order[b]) for a in range(count) for b in range(count)
        if a != b and (a - b) % count not in (1, count - 1)
    ]}  # fmt: skip


def _flapping(random: Random, nodes: Nodes) -> Details:
    shape = random.choice((_isolation, _halves, _direction, _bridge))
    return {"pairs": shape(random, nodes)["pairs"], "gap_ms": random.choice((15, 60, 250, 700))}


def _clog(random: Random, nodes: Nodes) -> Details:
    return random.choice((_direction, _direction, _isolation, _deafness))(random, nodes)


def _weather(random: Random, nodes: Nodes) -> Details:
    return {
        "delay_ms": random.choice((3, 20, 200)), "drop": random.choice((0, 10, 100, 300)),
        "double": random.choice((0, 30, 200)), "overtake": random.choice((0, 30, 200)),
        "reset": random.choice((0, 0, 2, 20)),
    }  # fmt: skip


def _slowness(random: Random, nodes: Nodes) -> Details:
    return {"node": random.choice(nodes), "slow_ms": random.choice((20, 150, 500))}


def _rate(random: Random, nodes: Nodes) -> Details:
    drift = random.randint(-CLOCK_DRIFT_PPM_MAX, CLOCK_DRIFT_PPM_MAX)
    return {"node": random.choice(nodes), "rate_ppm": PPM + drift}


def _jump(random: Random, nodes: Nodes) -> Details:
    return {"node": random.choice(nodes), "jump_ms": random.choice((200, 3000, 60_000))}


def _failpoint(random: Random, nodes: Nodes) -> Details:
    point = random.choice(sorted(POINTS))
    return {"node": random.choice(nodes), "point": point, "hits": random.choice((1, 1, 2, 5, 20))}


def _transfer(random: Random, nodes: Nodes) -> Details:
    return {"pick": random.randrange(1000), "to": random.choice(nodes)}


def _storm(random: Random, nodes: Nodes) -> Details:
    order = [random.choice(nodes) for _ in range(7)]
    return {"pick": random.randrange(1000), "to": order, "gap_ms": random.choice((5, 40, 200))}


def _client(random: Random, nodes: Nodes) -> Details:
    how = random.choice(("pause", "pause", "drop", "disconnect", "isolate", "die"))
    lengths = {"pause": (200, 1500, 8000), "isolate": (500, 3000, 9000), "die": (10, 300, 1000)}
    length = random.choice(lengths.get(how, (0,)))
    return {"pick": random.randrange(1000), "how": how, "length_ms": length}


def _burst(random: Random, nodes: Nodes) -> Details:
    return {"clients": random.choice((2, 5, 12)), "length_ms": random.choice((100, 300, 1000))}


# --- Courses ------------------------------------------------------------------------------------------


def _restart(target: Target, nodes: Nodes) -> None:
    for node in nodes:
        if not target.is_up(node):
            target.restart(node)


def _crash(target: Target, details: Details) -> Course:
    crashed = [node for node in details.get("nodes", target.nodes) if target.is_up(node)]
    for node in crashed:
        target.crash(node)
    yield None
    _restart(target, crashed)


def _crash_one(target: Target, details: Details) -> Course:
    return _crash(target, {"nodes": [details["node"]]})


def _pairs(details: Details) -> Pairs:
    return [(one, other) for one, other in details["pairs"]]


def _shown(pairs: Pairs) -> str:
    return " ".join(f"{one}>{other}" for one, other in pairs)


def _cut(target: Target, details: Details) -> Course:
    pairs = _pairs(details)
    target.say(f"cut {_shown(pairs)}")
    target.block(pairs)
    yield None
    target.say(f"open {_shown(pairs)}")
    target.unblock(pairs)


def _stop_up(target: Target, details: Details) -> Course:
    pairs = _pairs(details)
    target.say(f"clog {_shown(pairs)}")
    target.clog(pairs)
    yield None
    target.say(f"all arrives {_shown(pairs)}")
    target.unblock(pairs)


def _flap(target: Target, details: Details) -> Course:
    goes_on = True
    while goes_on:
        cut = _cut(target, details)
        next(cut)
        goes_on = yield details["gap_ms"]
        next(cut, None)
        if goes_on:
            goes_on = yield details["gap_ms"]


def _worsen(target: Target, details: Details) -> Course:
    rest = {key: value for key, value in details.items() if key != "delay_ms"}
    weather = Weather(delay_ms=(1, details["delay_ms"]), **rest)
    target.say(f"weather {weather}")
    target.set_weather(weather)
    yield None
    target.say("weather clears")
    target.set_weather(Weather())


def _slow_sync(target: Target, details: Details) -> Course:
    node, slow_ms = details["node"], details["slow_ms"]
    target.say(f"node {node} syncs in up to {slow_ms} ms")
    target.set_sync_delay(node, (slow_ms // 4, slow_ms))
    yield None
    target.set_sync_delay(node, QUICK_SYNC_MS)


def _stall_sync(target: Target, details: Details) -> Course:
    node = details["node"]
    target.say(f"node {node}'s syncs stall")
    target.set_sync_stalled(node, True)
    yield None
    target.say(f"node {node}'s syncs go on")
    target.set_sync_stalled(node, False)


def _refuse(target: Target, details: Details) -> Course:
    node = details["node"]
    target.say(f"node {node} refuses writes")
    target.set_refusing(node, True)
    yield None
    target.say(f"node {node} takes writes again")
    target.set_refusing(node, False)


def _sync_failure(target: Target, details: Details) -> Course:
    node = details["node"]
    target.say(f"node {node}'s next sync fails")
    target.fail_next_sync(node)
    yield None
    _restart(target, [node])


def _damage(target: Target, details: Details) -> Course:
    """A node finds its disk damaged when it starts: it stays away until the disk is put right, whole."""
    node = details["node"]
    target.say(f"node {node}'s disk is damaged")
    target.set_damaged(node, True)
    if target.is_up(node):
        target.crash(node)
    target.restart(node)
    yield None
    target.say(f"node {node}'s disk is put right")
    target.set_damaged(node, False)
    _restart(target, [node])


def _drift(target: Target, details: Details) -> Course:
    node, rate_ppm = details["node"], details["rate_ppm"]
    target.say(f"node {node}'s clock runs at {rate_ppm} ppm")
    target.set_clock_rate(node, rate_ppm)
    yield None
    target.set_clock_rate(node, PPM)


def _jump_once(target: Target, details: Details) -> Course:
    target.say(f"node {details['node']}'s clock jumps by {details['jump_ms']} ms")
    target.jump_clock(details["node"], details["jump_ms"])
    yield from ()


def _freeze(target: Target, details: Details) -> Course:
    node = details["node"]
    if target.is_frozen(node) or not target.is_up(node):
        return
    target.say(f"node {node} stands still")
    pairs = _both_ways([node], [other for other in target.nodes if other != node])
    target.set_frozen(node, True)
    target.block(pairs)
    yield None
    target.say(f"node {node} goes on")
    target.unblock(pairs)
    target.set_frozen(node, False)


def _die_there(target: Target, details: Details) -> Course:
    node = details["node"]
    target.say(f"node {node} will die at {details['point']}, time {details['hits']}")
    target.arm(node, details["point"], details["hits"])
    yield None
    target.disarm(node)
    _restart(target, [node])


def _hand_over(target: Target, details: Details) -> Course:
    target.transfer(details["pick"], details["to"])
    yield from ()


def _hand_over_again(target: Target, details: Details) -> Course:
    at, to = details["pick"], details["to"]
    goes_on = True
    while goes_on:
        target.transfer(at, to[at % len(to)])
        at += 1
        goes_on = yield details["gap_ms"]


def _depose(target: Target, details: Details) -> Course:
    """A leader hands over and hears nothing more: another one leads while it still takes itself for one."""
    node = target.transfer(details["pick"], details["to"])
    if node is None:
        return
    pairs = [(other, node) for other in target.nodes if other != node]
    yield from _cut(target, {"pairs": pairs})


def _disturb(target: Target, details: Details) -> Course:
    target.disturb_client(details)
    yield from ()


def _overload(target: Target, details: Details) -> Course:
    target.burst(details["clients"], details["length_ms"])
    yield from ()


KINDS: Final[dict[str, Kind]] = {
    "crash": Kind(_one_node, _crash_one),
    "crash_minority": Kind(_nodes, _crash),
    "crash_all": Kind(lambda random, nodes: {}, _crash),
    "isolate": Kind(_isolation, _cut),
    "split": Kind(_halves, _cut),
    "one_way": Kind(_direction, _cut),
    "deaf": Kind(_deafness, _cut),
    "bridge": Kind(_bridge, _cut),
    "ring": Kind(_ring, _cut),
    "flap": Kind(_flapping, _flap),
    "clog": Kind(_clog, _stop_up),
    "weather": Kind(_weather, _worsen),
    "slow_sync": Kind(_slowness, _slow_sync),
    "stall_sync": Kind(_one_node, _stall_sync),
    "refuse": Kind(_one_node, _refuse),
    "full_disk": Kind(_one_node, _refuse, times=5),
    "sync_failure": Kind(_one_node, _sync_failure),
    "damage": Kind(_one_node, _damage, in_bare=False, times=2),
    "clock": Kind(_rate, _drift),
    "clock_jump": Kind(_jump, _jump_once, is_usual=False),
    "freeze": Kind(_one_node, _freeze),
    "sleep": Kind(_one_node, _freeze, times=10),
    "failpoint": Kind(_failpoint, _die_there, in_bare=False, times=3),
    "transfer": Kind(_transfer, _hand_over, is_usual=False),
    "transfer_storm": Kind(_storm, _hand_over_again),
    "depose": Kind(_transfer, _depose),
    "client": Kind(_client, _disturb, in_bare=False),
    "burst": Kind(_burst, _overload, in_bare=False),
}
"""By name. A clock that jumps breaks what leases rest on, so that one is drawn only where nothing rests on
them."""
USUAL: Final = tuple(name for name, kind in KINDS.items() if kind.is_usual)
