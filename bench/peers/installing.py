"""What of a peer is installed here, and how the rest is to be had."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import metadata, util
from pathlib import Path
from typing import Final

from bench.peers.serving import find_program

HOW: Final = "run `make install-peers` as root"
"""How everything of every peer is installed at once."""
HOW_CLIENTS: Final = "run `make install-peers`"
NATIVE: Final = Path(sys.prefix) / "peers"
"""Where ``make install-peers`` puts the native load generators: in the virtual environment."""


def missing_program(program: str, package: str) -> str | None:
    """Why a server's program cannot be used; None if it can."""
    if find_program(program) is not None:
        return None
    return f"{program} is not installed: {HOW}, or `apt-get install {package}`"


def missing_module(module: str, package: str) -> str | None:
    """Why a Python client cannot be used; None if it can. It is not imported."""
    if util.find_spec(module) is not None:
        return None
    return f"the Python package {package} is not installed: {HOW_CLIENTS}"


def missing_file(path: Path, what: str, how: str = HOW_CLIENTS) -> str | None:
    """Why something that is built or packaged cannot be used; None if it can."""
    if path.exists():
        return None
    return f"{what} ({path}): {how}"


def first(reasons: Iterable[str | None]) -> str | None:
    """The first reason, if there is any."""
    return next((reason for reason in reasons if reason is not None), None)


def package_version(package: str) -> str:
    """Of an installed Python package, ``kazoo 2.11.0``; the name alone if it is not installed."""
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return package
