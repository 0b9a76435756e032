"""Builds the package. With ``QUORATE_COMPILE=1`` in the environment mypyc compiles its synchronous core.

That takes some minutes, a C compiler and Python's headers, and makes it faster; nothing else differs.
"""

from __future__ import annotations

import ast
import os
from pathlib import Path

from setuptools import setup

FOREIGN = {"trio", "rocksdict", "threading"}
PACKAGES = ("raftgroup", "primitives", "router", "shards")
INTERPRETED = {
    "primitives/compiling.py": "what it has is for whoever is not compiled",
    "router/openers.py": "the base of clients that are not compiled",
    "shards/moments.py": "its objects are referred to weakly",
}
"""What stays as it is though it is synchronous, and why."""


def is_synchronous(path: Path) -> bool:
    """Whether the module has neither tasks, threads nor a foreign event loop or database in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.AsyncFunctionDef, ast.Await)):
            return False
        if isinstance(node, ast.Import) and not FOREIGN.isdisjoint(name.name for name in node.names):
            return False
    return True


def compiled_modules() -> list[str]:
    """Paths of the modules that mypyc takes, in order."""
    found = (path for package in PACKAGES for path in sorted(Path(package).glob("*.py")))
    return [str(path) for path in found if path.as_posix() not in INTERPRETED and is_synchronous(path)]


def main() -> None:
    """Called by the build."""
    if os.environ.get("QUORATE_COMPILE") != "1":
        setup()
        return
    from mypyc.build import mypycify

    setup(ext_modules=mypycify(
        ["--config-file=pyproject.toml", *compiled_modules()],
        multi_file=True, group_name="quorate", debug_level="0",
    ))  # fmt: skip


if __name__ == "__main__":
    main()
