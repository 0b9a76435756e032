"""Parses of what measurements share on their command lines. Each raises argparse.ArgumentTypeError."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

NUMBER_MAX: Final = 1000.0


def option(parser: argparse.ArgumentParser, flag: str, text: str, **more: Any) -> None:
    """Adds an option, whose help ends with its default, if it has one."""
    shown = " (%(default)s)" if more.get("default") is not None else ""
    parser.add_argument(flag, help=text + shown, **more)


def numbers(text: str) -> list[float]:
    """By commas, above 0."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers by commas") from None
    if not all(0 < one <= NUMBER_MAX for one in found):
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers above 0, at most {NUMBER_MAX:g}")
    return found


def seconds(text: str) -> float:
    """One of them."""
    found = numbers(text)
    if len(found) != 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of seconds")
    return found[0]


def counts(text: str) -> list[int]:
    """Whole numbers by commas, above 0."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected whole numbers by commas") from None
    if not all(one > 0 for one in found):
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers above 0")
    return found


def count(text: str) -> int:
    """One of them."""
    found = counts(text)
    if len(found) != 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number")
    return found[0]


def new_file(text: str) -> Path:
    """Where a file may be made, or made anew."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a directory; name a file")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: there is no directory {path.parent}")
    return path


def directory(text: str) -> Path:
    """One that is there."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no directory {text}")
    return Path(text)
