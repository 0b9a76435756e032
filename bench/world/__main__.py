"""``python -m bench.world --seed N [--verbose]``: runs seeds and, on failure, says how to repeat one."""

from __future__ import annotations

import argparse
import sys
import time

from bench.world.faults import KINDS
from bench.world.run import VIOLATIONS, Setting, World, repeat_command

TAIL_SHOWN = 60


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _parser() -> argparse.ArgumentParser:
    default = Setting()
    parser = argparse.ArgumentParser(prog="python -m bench.world", description="Runs the simulated world.")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="run this one")
    which.add_argument("--seeds", metavar="FIRST-LAST", help="run all of these, up to the first failure")
    parser.add_argument("--verbose", action="store_true", help="print every line of the trace")
    parser.add_argument("--twice", action="store_true", help="run each twice and compare the traces")
    parser.add_argument("--nodes", type=int, default=default.nodes)
    parser.add_argument("--groups", type=int, default=default.groups, help="data groups")
    parser.add_argument("--replicas", type=int, default=default.replicas)
    parser.add_argument("--clients", type=int, default=default.clients)
    parser.add_argument("--callers", type=int, default=default.callers, help="of each client")
    parser.add_argument("--fault-ms", type=int, default=default.fault_ms, help="length of the safety phase")
    parser.add_argument("--workloads", type=_names, default=default.workloads, help="by commas")
    parser.add_argument(
        "--sessions-ms", type=_numbers, default=default.sessions_ms, help="timeouts to draw from, by commas"
    )
    parser.add_argument("--faults", type=_names, default=default.faults, help=f"of {','.join(KINDS)}")
    return parser


def _run(number: int, setting: Setting, *, verbose: bool) -> str | None:
    """The trace's digest, or None after a failure, which is told."""
    began = time.perf_counter()
    world = World(number, setting, print if verbose else None)
    try:
        world.run()
    except VIOLATIONS as violation:
        if not verbose:
            print("\n".join(list(world.trace.tail)[-TAIL_SHOWN:]))
        print(f"seed {number} failed: {type(violation).__name__}: {violation}")
        print(f"repeat it with: {repeat_command(number, setting)} --verbose")
        return None
    took = time.perf_counter() - began
    digest = world.trace.digest()
    print(f"seed {number}: {world.calls} calls, {world.heap.steps} steps, trace {digest}, {took:.2f} s")
    return digest


def main() -> int:
    """The command line; the exit code is 0 if every seed holds, else 1."""
    arguments = _parser().parse_args()
    setting = Setting(
        nodes=arguments.nodes, groups=arguments.groups, replicas=arguments.replicas,
        clients=arguments.clients, callers=arguments.callers, fault_ms=arguments.fault_ms,
        workloads=arguments.workloads, sessions_ms=arguments.sessions_ms, faults=arguments.faults,
    )  # fmt: skip
    if arguments.seed is not None:
        first = last = arguments.seed
    else:
        first, last = (int(part) for part in arguments.seeds.split("-"))
    for number in range(first, last + 1):
        digest = _run(number, setting, verbose=arguments.verbose)
        if digest is None:
            return 1
        if arguments.twice and _run(number, setting, verbose=False) != digest:
            print(f"seed {number} failed: two runs left different traces")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
