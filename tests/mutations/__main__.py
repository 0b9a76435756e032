"""``python -m tests.mutations``: plants each bug in turn and shows which suite notices it, and how fast.

Exits with 1 if one is not noticed in time, and with 2 if a suite fails though nothing is planted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from tests.mutations.bugs import MUTATIONS
from tests.mutations.hunt import Found, Hunt, SuiteBroken
from tests.mutations.quick import BEGIN, END
from tests.mutations.suites import SUITES


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in MUTATIONS]
    if unknown:
        known = ", ".join(MUTATIONS)
        raise argparse.ArgumentTypeError(f"no mutation is named {', '.join(unknown)}; there are {known}")
    return names


def _suites(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in SUITES]
    if unknown:
        known = ", ".join(SUITES)
        raise argparse.ArgumentTypeError(f"no suite is named {', '.join(unknown)}; there are {known}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("--only", type=_names, metavar="NAME,…", help="these instead of all")
    parser.add_argument("--suites", type=_suites, metavar="NAME,…", help="try these alone, where they apply")
    parser.add_argument("--jobs", type=int, default=1, help="how many at once")
    parser.add_argument("--minutes", type=float, default=10, help="processor time for each")
    parser.add_argument(
        "--results", type=Path, metavar="FILE",
        help="adds what is found to FILE, and does not look again for what FILE has as noticed",
    )  # fmt: skip
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE",
        help=f"writes the table to FILE; where that has the line {BEGIN}, between it and {END}",
    )  # fmt: skip
    return parser


def _load(path: Path) -> dict[str, Found]:
    """What was noticed, as a former run told it. Raises ValueError, naming the line."""
    results: dict[str, Found] = {}
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            found = Found(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: not a result of this command: {error}") from error
        if found.suite is not None and found.name in MUTATIONS:
            results[found.name] = found
    return results


def _shown(found: Found) -> str:
    if found.suite is None:
        return f"{found.name}: NOT noticed in {found.seconds:.1f} s, tried {found.what}"
    return f"{found.name}: {found.seconds:.1f} s, {found.suite}, {found.what}"


def _row(found: Found) -> str:
    mutation = MUTATIONS[found.name]
    if found.suite is None:
        by = "**nothing**"
    elif found.what.startswith("seed "):
        by = f"{found.suite}, {found.what.partition(':')[0]}"
    else:
        by = f"{found.suite}, `{found.what}`"
    breaks = mutation.breaks.rstrip(".")
    return f"| {found.name} | {breaks} | {mutation.rule} | {by} | {found.seconds:.1f} |"


def table(found: dict[str, Found]) -> str:
    """The table in Markdown, in the order of the registry."""
    head = ["| planted bug | what is wrong | rule | noticed by | s |", "|---|---|---|---|---|"]
    return "\n".join([*head, *(_row(found[name]) for name in MUTATIONS if name in found)]) + "\n"


def _write(path: Path, text: str) -> None:
    if path.exists() and BEGIN in (whole := path.read_text(encoding="utf-8")):
        before, _, rest = whole.partition(BEGIN)
        text = f"{before}{BEGIN}\n{text}{END}{rest.partition(END)[2]}"
    path.write_text(text, encoding="utf-8")


def _tell(line: str) -> None:
    """Shows a line, whole whoever else shows one."""
    print(f"{line}\n", end="", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    for file in filter(None, (options.results, options.markdown)):
        if not file.absolute().parent.is_dir():
            parser.error(f"{file}: there is no directory {file.parent}")
    try:
        results = {} if options.results is None else _load(options.results)
    except ValueError as error:
        parser.error(str(error))
    wanted = [name for name in options.only or MUTATIONS if name not in results]
    hunt = Hunt(options.minutes * 60, lambda text: _tell(f"  {text} …"), options.suites or SUITES)
    with ThreadPoolExecutor(options.jobs) as pool:
        hunts = [pool.submit(hunt.hunt, MUTATIONS[name]) for name in wanted]
        try:
            for done, future in enumerate(as_completed(hunts), start=1):
                found = future.result()
                results[found.name] = found
                _tell(f"[{done}/{len(wanted)}] {_shown(found)}")
                if options.results is not None:
                    with options.results.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(asdict(found)) + "\n")
        except SuiteBroken as broken:
            pool.shutdown(cancel_futures=True)
            print(f"error: {broken}", file=sys.stderr)
            return 2
    shown = {name: found for name, found in results.items() if name in (options.only or MUTATIONS)}
    print(table(shown), end="")
    if options.markdown is not None:
        _write(options.markdown, table(results))
    missed = [found.name for found in shown.values() if found.suite is None]
    if missed:
        print(f"not noticed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
