"""``python -m bench.processes gap``: a node that leads is killed under load, again and again, and timed is
how long no write of its groups is acknowledged, and where that time goes."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, Final

import trio

from bench.processes.network import CLIENTS, Network, Rule, a_network
from bench.processes.nodes import CLIENT_PORT, Cluster, a_cluster, environment

NAMES: Final = ("n1", "n2", "n3")
GROUPS: Final = 4
WARM_SECONDS: Final = 8.0
"""Before each kill: leaderships go back to where they belong meanwhile."""
DOWN_SECONDS: Final = 3.0
"""Before the node is started again."""
TARGETS: Final = {0.5: 0.4, 0.99: 1.0}


@dataclass
class Trial:
    """One kill. Times are seconds after it."""

    node: str
    killed: float
    """By the monotonic clock."""
    noticed: float = float("nan")
    """When the last of the others logged that it was gone."""
    led: dict[int, float] = field(default_factory=dict)
    """For each data group that the node led: when a node was seen to know another leader."""
    gaps: dict[int, float] = field(default_factory=dict)
    """For each of these: the longest time between two acknowledged writes, then."""

    @property
    def gap(self) -> float:
        """The longest of its groups."""
        return max(self.gaps.values())


def parser() -> argparse.ArgumentParser:
    """Of the command."""
    made = argparse.ArgumentParser(prog="python -m bench.processes gap", description=__doc__)
    made.add_argument("--trials", type=int, default=20)
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--silent", action="store_true",
                      help="as if the machine lost its power: its connections are not reset")  # fmt: skip
    made.add_argument("--json", type=Path, default=None, metavar="FILE", help="for the trials, as JSON lines")
    return made


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints; the exit code."""
    if arguments.trials < 1:
        raise SystemExit("bench.processes gap: --trials is from 1")
    directory = Path(tempfile.mkdtemp(prefix="quorate-gap-"))
    try:
        with a_network(NAMES) as network:
            trials = trio.run(_measure, network, directory, arguments)
    finally:
        shutil.rmtree(directory)
    if arguments.json is not None:
        arguments.json.write_text("".join(json.dumps(asdict(trial)) + "\n" for trial in trials))
    _print(trials)
    return 0


def _print(trials: list[Trial]) -> None:
    for trial in trials:
        groups = ", ".join(f"{group}: {gap:.3f}" for group, gap in sorted(trial.gaps.items()))
        print(
            f"{trial.node}: {trial.gap:.3f} s (death noticed {trial.noticed:.3f}, led again "
            f"{max(trial.led.values()):.3f}; by group {groups})"
        )
    for name, values in (
        ("gap", [trial.gap for trial in trials]),
        ("gap of a group", [gap for trial in trials for gap in trial.gaps.values()]),
        ("death noticed", [trial.noticed for trial in trials]),
        ("group led again", [moment for trial in trials for moment in trial.led.values()]),
    ):
        values = sorted(values)
        print(f"{name:>16}: p50 {at(values, 0.5):.3f} s, p99 {at(values, 0.99):.3f} s, of {len(values)}")
    print(f"{'targets':>16}: " + ", ".join(f"p{share * 100:.0f} {most} s" for share, most in TARGETS.items()))


def at(values: list[float], share: float) -> float:
    """The value at a share of the sorted ones, the higher one if it is between two."""
    return values[min(len(values) - 1, int(len(values) * share))]


async def _measure(network: Network, directory: Path, arguments: argparse.Namespace) -> list[Trial]:
    random = Random(arguments.seed)
    trials = []
    told = directory / "probe.jsonl"
    async with a_cluster(network, NAMES, directory, groups=GROUPS) as cluster:
        await cluster.start_all(NAMES)
        urls = [cluster.url, *(f"quorate://{network.address(name)}:{CLIENT_PORT}" for name in NAMES)]
        command = network.command(CLIENTS, sys.executable, "-P", "-m", "bench.processes.probe", *urls)
        with told.open("wb") as output:
            probe = await trio.lowlevel.open_process(command, stdout=output, env=environment())
        try:
            for number in range(arguments.trials):
                await trio.sleep(WARM_SECONDS + random.random())
                name = random.choice(NAMES)
                print(f"trial {number + 1} of {arguments.trials}: {name}", file=sys.stderr, flush=True)
                trials.append(Trial(name, time.monotonic()))
                rules = _isolated(network, name) if arguments.silent else []
                await cluster.kill([name])
                await trio.sleep(DOWN_SECONDS)
                for rule in rules:
                    rule.lift()
                await cluster.start_all([name])
        finally:
            probe.kill()
            with trio.CancelScope(shield=True):
                await probe.wait()
        if probe.returncode != -9:
            raise RuntimeError("the probe ended by itself")
        _analyse(trials, list(_lines(told)))
        for trial in trials:
            others = [name for name in NAMES if name != trial.node]
            trial.noticed = max(_noticed(cluster, trial, other) for other in others)
    return [trial for trial in trials if trial.gaps]


def _isolated(network: Network, name: str) -> list[Rule]:
    others = [member for member in network.members if member != name]
    return [network.cut(*pair) for other in others for pair in ((name, other), (other, name))]


def _lines(path: Path) -> Iterator[list[Any]]:
    """What the probe said, but for a line that it was killed in."""
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)


def _analyse(trials: list[Trial], lines: list[list[Any]]) -> None:
    acknowledged: dict[int, list[float]] = {}
    for what, group, moment in lines:
        if what == "ack":
            acknowledged.setdefault(group, []).append(moment)
    looks = [(moment, leaders) for what, leaders, moment in lines if what == "leaders"]
    for trial in trials:
        node = NAMES.index(trial.node) + 1
        before = next(leaders for moment, leaders in reversed(looks) if moment < trial.killed)
        for group in (int(group) for group, leader in before.items() if leader == node and group != "0"):
            trial.led[group] = next(
                moment - trial.killed
                for moment, leaders in looks
                if moment > trial.killed and leaders.get(str(group)) not in (None, node)
            )
            trial.gaps[group] = _longest(acknowledged[group], trial.killed)


def _longest(moments: Iterable[float], killed: float) -> float:
    """The longest time between two of these, from just before the kill until the node is started again."""
    near = [moment for moment in moments if killed - 0.5 < moment < killed + DOWN_SECONDS]
    if not near:
        return float("inf")
    return max(after - before for before, after in pairwise([*near, killed + DOWN_SECONDS]))


def _noticed(cluster: Cluster, trial: Trial, other: str) -> float:
    """Seconds from the kill until a node logged that the one that was killed was gone."""
    offset = time.time() - time.monotonic()
    for line in cluster.nodes[other].log.read_text().splitlines():
        event: dict[str, Any] = json.loads(line)
        if event["event"] == "peer down" and event["peer"] == trial.node:
            moment = datetime.fromisoformat(event["timestamp"]).timestamp() - offset
            if moment > trial.killed - 0.01:
                return moment - trial.killed
    return float("inf")
