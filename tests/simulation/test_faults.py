"""Each kind of fault alone, each named point, and plans: what a seed draws is all that happens."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from bench.histories import Ground
from bench.workloads import CounterWorkload
from bench.world.failpoints import POINTS
from bench.world.faults import KINDS
from bench.world.outcomes import play, play_many
from bench.world.run import VIOLATIONS, Setting, World, run_seed
from bench.world.seedfile import SeedFile
from bench.world.setting import WORKLOADS, repeat_command
from bench.world.target import Fault
from ops.versions import product_version
from primitives.counter import Counter
from router.openers import Openers

PLAIN = Setting(workloads=("counter", "register"), groups=1, fault_ms=4000)
SNAPSHOTS = ("snapshot_staged", "snapshot_installed")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_kind_of_fault_alone_happens_and_nothing_is_lost(kind: str) -> None:
    number = sorted(KINDS).index(kind)
    setting = replace(PLAIN, faults=(kind,), nodes=5 if number % 3 == 0 else 3)
    try:
        world = run_seed(number, setting)
    except VIOLATIONS as violation:
        pytest.fail(f"{repeat_command(number, setting)}: {violation}")
    assert world.nemesis.begun[kind] > 0
    assert world.calls > 5


@pytest.mark.parametrize("point", sorted(set(POINTS) - set(SNAPSHOTS)))
def test_processes_die_at_a_named_point_and_nothing_is_lost(point: str) -> None:
    plan = tuple(
        Fault(1500 + 300 * node, "failpoint", 1200, {"node": node, "point": point, "hits": 2})
        for node in (1, 2, 3)
    )
    assert run_seed(1, PLAIN, plan=plan).cluster.failpoints.struck[point] > 0


def test_processes_die_while_a_snapshot_comes_in_and_nothing_is_lost() -> None:
    struck = 0
    for seed in range(500, 506):
        away = [Fault(2000, "isolate", 1500, {"pairs": [(3, 1), (1, 3), (3, 2), (2, 3)]})]
        deaths = [
            Fault(2000, "failpoint", 3000, {"node": 3, "point": SNAPSHOTS[seed % 2], "hits": 1})
        ]
        struck += run_seed(seed, PLAIN, plan=(*away, *deaths)).cluster.failpoints.struck.total()
    assert struck > 0


def test_a_node_whose_disk_is_damaged_does_not_serve_and_the_others_go_on() -> None:
    lines: list[str] = []
    plan = (Fault(1000, "damage", 60_000, {"node": 2}),)
    world = run_seed(4, PLAIN, lines.append, plan=plan)
    at = next(number for number, line in enumerate(lines) if " n2 " in line and "does not serve" in line)
    healed = next(number for number, line in enumerate(lines) if "everything is healed" in line)
    assert not [line for line in lines[at + 1 : healed] if " n2 " in line and "starts" in line]
    assert sum("is done with" in line for line in lines[at:healed]) > 20
    assert world.cluster.is_up(world.cluster.nodes[1])


def test_a_clogged_link_loses_nothing_and_breaks_no_connection() -> None:
    lines: list[str] = []
    pairs = [(one, other) for one in (1, 2, 3) for other in (1, 2, 3) if one != other]
    run_seed(4, PLAIN, lines.append, plan=(Fault(2500, "clog", 1400, {"pairs": pairs}),))
    assert not [line for line in lines if "silent for too long" in line]
    began = next(number for number, line in enumerate(lines) if "fault  clog " in line)
    ended = next(number for number, line in enumerate(lines) if "all arrives" in line)
    assert not [line for line in lines[began:ended] if " hears n" in line]
    now = lines[ended].split()[0]
    assert sum(" hears n" in line and line.split()[0] == now for line in lines[ended:]) > 10


def test_the_plan_is_all_that_faults_take_from_the_seed() -> None:
    for seed in range(4):
        drawn = run_seed(seed, PLAIN)
        assert drawn.nemesis.plan
        again = World(seed, PLAIN, plan=drawn.nemesis.plan)
        again.run()
        assert again.trace.digest() == drawn.trace.digest()
    assert run_seed(0, PLAIN, plan=()).trace.digest() != run_seed(0, PLAIN).trace.digest()


def test_seeds_draw_every_workload_and_every_fault() -> None:
    settings = [Setting.draw(number) for number in range(400)]
    for setting in settings:
        setting.check()
    assert {name for setting in settings for name in setting.workloads} == set(WORKLOADS)
    assert {name for setting in settings for name in setting.faults} == set(KINDS)
    assert {setting.nodes for setting in settings} == {3, 5}
    assert repeat_command(7, Setting.draw(7)) == "quorate simulate --seed 7"


def test_drawn_seeds_hold() -> None:
    for number in range(300, 310):
        outcome = play(number, Setting.draw(number))
        assert outcome.violation is None, repeat_command(number, outcome.setting)


def test_runs_in_several_processes_are_those_of_one() -> None:
    numbers = range(8, 12)
    alone = {one.number: one.digest for one in play_many(numbers, Setting.draw)}
    together = {one.number: one.digest for one in play_many(numbers, Setting.draw, jobs=2)}
    assert alone == together
    assert len(set(alone.values())) == len(numbers)


def test_same_seeds_give_the_same_traces_twice_and_on_two_hash_seeds() -> None:
    summaries = {
        subprocess.run(
            [sys.executable, "-m", "ops.main", "simulate", "--replay", "/dev/stdin", "--verbose"],
            env={"PYTHONHASHSEED": hashes}, check=True, stdout=subprocess.PIPE, text=True,
            input=_file(21),
        ).stdout
        for hashes in ("5", "6")
    }  # fmt: skip
    assert len(summaries) == 1


def _file(number: int) -> str:
    outcome = play(number, Setting.draw(number), twice=True)
    return SeedFile(product_version(), number, outcome.setting, outcome.plan, outcome.digest).encode()


def test_the_search_notices_a_planted_read_of_the_past_that_no_workload_judges(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def finish(self: CounterWorkload, client: Openers, ground: Ground) -> None:
        pass

    monkeypatch.setattr(CounterWorkload, "finish", finish)
    setting = Setting(workloads=("counter",), faults=("crash",), fault_ms=3000)
    honest = play(2, setting)
    assert honest.violation is None
    assert honest.judged == {"valid": 1}
    get = Counter.get

    async def late(self: Counter, **options: Any) -> int:
        return max(await get(self, **options) - 3, 0)

    monkeypatch.setattr(Counter, "get", late)
    violation = play(2, setting).violation
    assert violation is not None
    assert violation.startswith("HistoryViolation: counter count: ")
