"""``python -m tests.fuzz --target NAME --seconds 60``: looks with atheris for inputs that a target fails at.

It begins with the target's examples and its kept corpus. With ``--keep N`` the inputs that together reach
all that was reached, or N of every size among them, become the kept corpus. An input that fails is written to
a file and told; exit code 1. Needs the extra ``fuzz``.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Final

MISSING: Final = (
    "error: atheris is not installed; install what is locked for it:"
    " pip install --require-hashes -r requirements-fuzz.lock"
)
KEPT_BYTES_MAX: Final = 2048
INPUT_SECONDS_MAX: Final = 5
MEMORY_MB_MAX: Final = 2048
PRODUCT: Final = ["primitives", "raftgroup", "router", "shards"]


def _instrumented(atheris: ModuleType) -> ModuleType:
    """The targets, with the product's code instrumented to tell what of it an input reaches."""
    with atheris.instrument_imports(include=PRODUCT):
        return importlib.import_module("tests.fuzz.targets")


def _fuzz(name: str, arguments: list[str]) -> None:
    """Hands the process over to libFuzzer, which ends it."""
    atheris = importlib.import_module("atheris")
    target = _instrumented(atheris).TARGETS[name]

    def once(data: bytes) -> None:
        try:
            target.run(data)
        except BaseException as error:
            # libFuzzer takes no notice of what is no Exception, such as a violated invariant.
            raise RuntimeError(f"{type(error).__name__}: {error}") from error

    atheris.Setup(arguments, once)
    atheris.Fuzz()


def _again(name: str, scratch: Path) -> str:
    """A program that libFuzzer can start by its name alone, as it does to merge."""
    path = scratch / "again"
    command = shlex.join([sys.executable, "-m", "tests.fuzz", "--target", name, "--libfuzzer", str(path)])
    path.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    path.chmod(0o700)
    return str(path)


def _keep(found: Path, kept: Path, count: int) -> int:
    """Makes inputs of every size the kept corpus; returns how many."""
    inputs = sorted((path.read_bytes() for path in found.iterdir()), key=lambda data: (len(data), data))
    inputs = [data for data in inputs if len(data) <= KEPT_BYTES_MAX]
    for path in kept.glob("*"):
        path.unlink()
    count = min(count, len(inputs))
    chosen = [inputs[at * len(inputs) // count] for at in range(count)]
    for data in chosen:
        kept.mkdir(parents=True, exist_ok=True)
        (kept / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    return len(chosen)


def _run(name: str, seconds: int, keep: int, examples: Sequence[bytes], kept: Path) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        seeds, grown, merged = (Path(scratch) / part for part in ("seeds", "grown", "merged"))
        for folder in (seeds, grown, merged):
            folder.mkdir()
        for at, data in enumerate(examples):
            (seeds / f"example-{at}").write_bytes(data)
        folders = [str(seeds), *([str(kept)] if kept.is_dir() else [])]
        limits = [f"-timeout={INPUT_SECONDS_MAX}", f"-rss_limit_mb={MEMORY_MB_MAX}", "-max_len=4096"]
        failed = Path.cwd() / f"fuzz-{name}-"
        again = _again(name, Path(scratch))
        code = subprocess.call([
            again, f"-max_total_time={seconds}", f"-artifact_prefix={failed}", "-print_final_stats=1",
            *limits, str(grown), *folders,
        ])  # fmt: skip
        if code:
            print(f"{name}: an input fails; it is in {failed}*, and keeps failing until it is mended")
            return 1
        if keep:
            code = subprocess.call([again, "-merge=1", *limits, str(merged), str(grown), *folders])
            if code:
                print(f"{name}: the corpus could not be made smaller (exit code {code})")
                return 1
            print(f"{name}: {_keep(merged, kept, keep)} inputs are kept of {len(list(merged.iterdir()))}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--target", required=True, help="what is fuzzed; 'all': one after the other")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--keep", type=int, default=0, metavar="N", help="keep N inputs at the most")
    parser.add_argument("--libfuzzer", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if find_spec("atheris") is None:
        print(MISSING, file=sys.stderr)
        return 2
    if options.libfuzzer is not None:
        _fuzz(options.target, options.libfuzzer)
        return 0
    targets = importlib.import_module("tests.fuzz.targets")
    names = sorted(targets.TARGETS) if options.target == "all" else [options.target]
    if not set(names) <= set(targets.TARGETS):
        known = ", ".join(sorted(targets.TARGETS))
        print(f"error: no target is named {options.target}; there are {known}", file=sys.stderr)
        return 2
    code = 0
    for name in names:
        print(f"{name}: {targets.TARGETS[name].about}, for {options.seconds} s", flush=True)
        kept = targets.CORPUS / name
        code |= _run(name, options.seconds, options.keep, targets.TARGETS[name].examples, kept)
    return code


if __name__ == "__main__":
    sys.exit(main())
