"""``python -m bench.streams --seed N [--verbose]``: runs seeds and, on failure, says how to repeat one."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from bench.streams.faults import KINDS
from bench.streams.run import Setting, World, repeat_command
from bench.world.run import VIOLATIONS
from bench.world.setting import make_workload

TAIL_SHOWN = 60


def _faults(text: str) -> tuple[str, ...]:
    names = tuple(text.split(",")) if text else ()
    for name in names:
        if name not in KINDS:
            raise argparse.ArgumentTypeError(f"{name!r} is no kind of fault: {', '.join(KINDS)}")
    return names


def _workloads(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        try:
            make_workload(name)
        except KeyError:
            raise argparse.ArgumentTypeError(f"{name!r} is no workload") from None
    return names


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 1000,2000") from None


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) < int(first):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form FIRST-LAST, as 0-99")
    return range(int(first), int(last or first) + 1)


def _parser() -> argparse.ArgumentParser:
    default = Setting()
    parser = argparse.ArgumentParser(
        prog="python -m bench.streams", description="Runs whole clusters on trio over simulated streams."
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", dest="seeds", type=_range, metavar="N", help="run this one")
    which.add_argument(
        "--seeds", type=_range, metavar="FIRST-LAST", help="run all of these, up to the first failure"
    )
    parser.add_argument("--verbose", action="store_true", help="print every line of the trace")
    parser.add_argument("--twice", action="store_true", help="run each twice and compare the traces")
    parser.add_argument(
        "--history", type=Path, metavar="FILE", help="write there what callers were told, of the last seed"
    )
    parser.add_argument("--nodes", type=int, default=default.nodes)
    parser.add_argument("--groups", type=int, default=default.groups, help="data groups")
    parser.add_argument("--replicas", type=int, default=default.replicas)
    parser.add_argument("--clients", type=int, default=default.clients)
    parser.add_argument("--callers", type=int, default=default.callers, help="of each client")
    parser.add_argument("--fault-ms", type=int, default=default.fault_ms, help="length of the safety phase")
    parser.add_argument(
        "--workloads", type=_workloads, default=default.workloads, help="by commas"
    )
    parser.add_argument(
        "--sessions-ms", type=_numbers, default=default.sessions_ms, help="timeouts to draw from, by commas"
    )
    parser.add_argument("--faults", type=_faults, default=default.faults, help=f"of {','.join(KINDS)}")
    return parser


def _run(number: int, setting: Setting, *, verbose: bool, history: Path | None = None) -> str | None:
    """The trace's digest, or None after a failure, which is told."""
    began = time.process_time()
    world = World(number, setting, print if verbose else None)
    try:
        world.run()
    except (Exception, *VIOLATIONS) as violation:
        if not verbose:
            print("\n".join(list(world.trace.tail)[-TAIL_SHOWN:]))
        print(f"seed {number} failed: {type(violation).__name__}: {violation}")
        print(f"repeat it with: {repeat_command(number, setting)} --verbose")
        return None
    finally:
        if history is not None:
            history.write_text("".join(world.history), encoding="utf-8")
    took = time.process_time() - began
    digest = world.trace.digest()
    print(
        f"seed {number}: {world.calls} calls, {world.ended_ms} ms, {world.trace.count} lines, "
        f"trace {digest}, {took:.2f} s of processor", flush=True,
    )  # fmt: skip
    return digest


def _wrong(setting: Setting) -> str | None:
    """What of its numbers cannot be meant, or None."""
    for name, least in (("nodes", 1), ("groups", 1), ("replicas", 1), ("clients", 0), ("callers", 0)):
        if getattr(setting, name) < least:
            return f"--{name} is from {least}"
    if setting.replicas > setting.nodes:
        return f"{setting.replicas} replicas do not fit on {setting.nodes} nodes"
    return None


def main() -> int:
    """The command line; the exit code is 0 if every seed holds, else 1."""
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.history is not None and not os.access(arguments.history.absolute().parent, os.W_OK):
        parser.error(f"--history: {arguments.history.parent} is no directory that can be written to")
    setting = Setting(
        nodes=arguments.nodes, groups=arguments.groups, replicas=arguments.replicas,
        clients=arguments.clients, callers=arguments.callers, fault_ms=arguments.fault_ms,
        workloads=arguments.workloads, sessions_ms=arguments.sessions_ms, faults=arguments.faults,
    )  # fmt: skip
    if (wrong := _wrong(setting)) is not None:
        parser.error(wrong)
    began, began_cpu = time.perf_counter(), time.process_time()
    for number in arguments.seeds:
        digest = _run(number, setting, verbose=arguments.verbose, history=arguments.history)
        if digest is None:
            return 1
        if arguments.twice and _run(number, setting, verbose=False) != digest:
            print(f"seed {number} failed: two runs left different traces")
            print(f"repeat it with: {repeat_command(number, setting)} --twice")
            return 1
    took, count = time.process_time() - began_cpu, len(arguments.seeds) * (1 + arguments.twice)
    print(
        f"{count} runs hold, in {time.perf_counter() - began:.1f} s: {took:.1f} s of one processor, "
        f"{count / took * 3600:.0f} an hour"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
