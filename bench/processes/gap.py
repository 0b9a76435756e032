"""``python -m bench.processes gap``: the node that leads is killed under load, again and again."""

from __future__ import annotations

import argparse


def parser() -> argparse.ArgumentParser:
    """Of the command."""
    made = argparse.ArgumentParser(prog="python -m bench.processes gap", description=__doc__)
    made.add_argument("--trials", type=int, default=20)
    return made


def run(arguments: argparse.Namespace) -> int:
    return 0
