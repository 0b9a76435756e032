"""``python -m bench.processes --minutes 60``: episodes of faults on real nodes, one after the other, and a
report of them.

``python -m bench.processes gap``: how long writes stand still when a leader's node is killed."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from bench.processes import gap
from bench.processes.client import WORKLOADS
from bench.processes.episode import Outcome, Plan, play
from bench.processes.faults import REGISTRY
from bench.processes.faults_all import LOADED, possible
from bench.processes.judging import judge
from bench.processes.network import CannotRun, Network, a_network
from bench.processes.nodes import remove
from bench.processes.planning import SECONDS, plans
from bench.processes.report import Run, write_report

NODES_MAX: Final = 7


def listed(text: str, known: Sequence[str], what: str) -> list[str]:
    """Names by commas, each of which must be known. Raises argparse.ArgumentTypeError."""
    names = text.split(",")
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"unknown {what} {name!r}: one of {', '.join(known)}")
    return names


def sizes(text: str) -> list[int]:
    """Numbers of nodes by commas. Raises argparse.ArgumentTypeError."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of nodes, nor several by commas") from None
    if not all(3 <= number <= NODES_MAX for number in found):
        raise argparse.ArgumentTypeError(f"nodes are 3 to {NODES_MAX}")
    return found


def minutes(text: str) -> float:
    """Above 0, a day at the most. Raises argparse.ArgumentTypeError."""
    try:
        found = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes") from None
    if not 0 < found <= 24 * 60:
        raise argparse.ArgumentTypeError("minutes are above 0 and at most 1440")
    return found


def seconds(text: str) -> tuple[float, float]:
    """5 to 600, as a range. Raises argparse.ArgumentTypeError."""
    try:
        found = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds") from None
    if not 5 <= found <= 600:
        raise argparse.ArgumentTypeError("an episode has 5 to 600 seconds of load")
    return found, found


def parser() -> argparse.ArgumentParser:
    """Of the command that runs episodes."""
    made = argparse.ArgumentParser(
        prog="python -m bench.processes", description=__doc__,
        epilog="`python -m bench.processes gap --help` for the other command. Both need root.",
    )  # fmt: skip
    made.add_argument("--minutes", type=minutes, default=10.0, help="begin no episode later (default 10)")
    made.add_argument("--episodes", type=int, default=None, help="at most so many")
    made.add_argument("--nodes", type=sizes, default=[3, 5], metavar="N,N", help="by turns (default 3,5)")
    made.add_argument("--faults", type=lambda text: listed(text, LOADED, "fault"), default=None,
                      metavar="NAME,…", help=f"of {', '.join(LOADED)} (default: all)")  # fmt: skip
    made.add_argument("--workloads", type=lambda text: listed(text, list(WORKLOADS), "workload"),
                      default=list(WORKLOADS), metavar="NAME,…", help="default: all")  # fmt: skip
    made.add_argument("--seconds", type=seconds, default=None, metavar="N",
                      help="of load in each episode, about (default: 60 to 110)")  # fmt: skip
    made.add_argument("--seed", type=int, default=1, help="decides faults and calls, not what comes of them")
    made.add_argument("--report", type=Path, default=Path("processes-report"), metavar="DIR",
                      help="for the report, and what failed episodes left (default %(default)s)")  # fmt: skip
    return made


def run(arguments: argparse.Namespace) -> int:
    """Plays episodes until the time is over or one of them fails; the exit code."""
    report: Path = arguments.report
    try:
        report.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotRun(f"--report {report}: {error.strerror}") from error
    kinds = [REGISTRY[name] for name in _chosen(arguments.faults)]
    done = Run.begin(seed=arguments.seed, minutes=arguments.minutes)
    length = arguments.seconds or SECONDS
    until = time.monotonic() + arguments.minutes * 60
    with a_network([f"n{number + 1}" for number in range(max(arguments.nodes))]) as network:
        for plan in plans(arguments.seed, arguments.nodes, kinds, arguments.workloads, length):
            is_over = time.monotonic() >= until
            if is_over or (arguments.episodes is not None and plan.number > arguments.episodes):
                break
            done.outcomes.append(_episode(plan, network, report, until))
            write_report(done, report)
    failed = [outcome for outcome in done.outcomes if not outcome.is_good]
    say(f"{len(done.outcomes)} episodes, {len(failed)} failed; the report is {report / 'report.html'}")
    return 1 if failed else 0


def _chosen(names: Sequence[str] | None) -> list[str]:
    """The faults asked for, or all that are possible here; those that are not are told. Raises
    :class:`CannotRun`."""
    here = possible()
    absent = [name for name in names or LOADED if name not in here]
    if absent and names is not None:
        raise CannotRun(f"{', '.join(absent)}: needs /dev/fuse, and pyfuse3 from requirements-faults.lock")
    if absent:
        say(f"without {', '.join(absent)}: there is no /dev/fuse, or no pyfuse3 (requirements-faults.lock)")
    return list(names or here)


def _episode(plan: Plan, network: Network, report: Path, until: float) -> Outcome:
    left = max(0.0, until - time.monotonic()) / 60
    names = ", ".join(kind.NAME for kind in plan.faults)
    say(f"episode {plan.number} ({left:.0f} min left): {plan.nodes} nodes; {names}")
    directory = report / f"episode-{plan.number}"
    if directory.exists():
        remove(directory)
    directory.mkdir()
    try:
        outcome = trio.run(play, plan, network, directory)
    except BaseException:
        remove(directory)
        raise
    judge(outcome, directory)
    with (report / "episodes.jsonl").open("a" if plan.number > 1 else "w", encoding="utf-8") as file:
        file.write(outcome.to_json() + "\n")
    if outcome.is_good:
        remove(directory)
        writes = sum(sample["writes"] for sample in outcome.samples)
        verdicts = ", ".join(sorted({verdict["verdict"] for verdict in outcome.verdicts.values()}))
        say(f"  good: {writes} writes, progress {outcome.progress_seconds:.1f} s after healing; {verdicts}")
    else:
        outcome.kept = directory.name
        for problem in outcome.problems:
            say(f"  FAILED: {problem}")
        say(f"  all of it is kept in {directory}")
    return outcome


def say(line: str) -> None:
    """A line of progress."""
    print(line, flush=True)


def _is_interrupt(error: BaseException) -> bool:
    """Whether an interrupt is among what was raised."""
    if isinstance(error, BaseExceptionGroup):
        return any(_is_interrupt(part) for part in error.exceptions)
    return isinstance(error, KeyboardInterrupt)


def main() -> None:
    """The command line."""
    # Also when started in the background, where a shell has interrupts ignored; TERM does the same.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        if sys.argv[1:2] == ["gap"]:
            code = gap.run(gap.parser().parse_args(sys.argv[2:]))
        else:
            code = run(parser().parse_args())
    except CannotRun as error:
        print(f"bench.processes: {error}", file=sys.stderr)
        code = 1
    except BaseException as error:
        if not _is_interrupt(error):
            raise
        print("bench.processes: interrupted; what was made is removed", file=sys.stderr)
        code = 130
    raise SystemExit(code)


if __name__ == "__main__":
    main()
