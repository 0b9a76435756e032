"""Who may import whom: every import of the packages is read, and any arrow that the architecture does not
draw fails. The checks work on a mapping of paths to sources, so that they are shown to fail, too."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]

BELOW: Final[dict[str, frozenset[str]]] = {
    "quorate": frozenset({"ops", "bench", "shards", "router", "raftgroup", "primitives"}),
    "ops": frozenset({"bench", "shards", "router", "raftgroup", "primitives"}),
    "bench": frozenset({"shards", "router", "raftgroup", "primitives"}),
    "shards": frozenset({"router", "raftgroup", "primitives"}),
    "router": frozenset({"primitives"}),
    "raftgroup": frozenset(),
    "primitives": frozenset(),
}
"""The packages that each one may import, besides itself."""

CONFINED: Final = {"cbor2": "primitives/codec.py", "rocksdict": "shards/rocks.py"}
"""Libraries that one file alone may import."""
APART: Final = frozenset({"bench/peers/pipeline.py"})
"""What is measured beside us and shares no code of ours: it may import the same libraries."""

WORLD: Final = frozenset({
    "trio", "asyncio", "socket", "select", "selectors", "threading", "time", "logging", "structlog", "random",
    "secrets",
})  # fmt: skip
"""What reaches the clock, the network, threads, logs or chance."""
PURE: Final[dict[str, frozenset[str]]] = {
    "raftgroup/*": WORLD | {"anyio", "os", "datetime"},
    "shards/engine*.py": WORLD | {"anyio"},
    "shards/group*.py": WORLD | {"anyio"},
    "shards/system*.py": WORLD | {"anyio"},
    "router/session*.py": WORLD | {"anyio"},
    "primitives/*": WORLD,
}
"""Files that do no input or output, and what they may therefore not import. ``random`` may be named where
only type checkers see it: sources of randomness are injected."""


class Import(NamedTuple):
    """One import statement's target: a dotted name, and for ``from m import n`` also ``m.n``."""

    path: str
    line: int
    module: str
    typing_only: bool

    @property
    def top(self) -> str:
        """The outermost package."""
        return self.module.partition(".")[0]


def is_typing_guard(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def targets(path: str, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        package = path.split("/")[:-node.level]
        base = ".".join([*package, *([base] if base else [])])
    yield base
    yield from (f"{base}.{alias.name}" for alias in node.names)


def walk(path: str, node: ast.AST, typing_only: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        for module in targets(path, node):
            yield Import(path, node.lineno, module, typing_only)
        return
    guarded = isinstance(node, ast.If) and is_typing_guard(node.test)
    for child in ast.iter_child_nodes(node):
        inside = guarded and isinstance(node, ast.If) and child in node.body
        yield from walk(path, child, typing_only or inside)


def imports(tree: Mapping[str, str]) -> list[Import]:
    """Every import in ``tree`` (paths relative to the root, to sources), wherever in a file it stands."""
    return [found for path, source in tree.items() for found in walk(path, ast.parse(source, path), False)]


def wrong_arrows(tree: Mapping[str, str]) -> list[str]:
    """Imports of ours that point up or sideways; examples may import only what users import."""
    wrong = []
    for found in imports(tree):
        package = found.path.partition("/")[0]
        allowed = BELOW.get(package, frozenset({"quorate"})) | {package}
        if found.top in BELOW and found.top not in allowed:
            wrong.append(f"{found.path}:{found.line}: {package} imports {found.module}")
    return sorted(set(wrong))


def strays(tree: Mapping[str, str]) -> list[str]:
    """Imports of a confined library outside its file."""
    return sorted({
        f"{found.path}:{found.line}: {found.top} belongs to {CONFINED[found.top]}"
        for found in imports(tree)
        if found.top in CONFINED and found.path != CONFINED[found.top] and found.path not in APART
    })


def impurities(tree: Mapping[str, str]) -> list[str]:
    """Imports by which a file that must do no input or output could do some."""
    wrong = []
    for found in imports(tree):
        for pattern, forbidden in PURE.items():
            if not fnmatch(found.path, pattern) or found.top not in forbidden:
                continue
            if found.top == "random" and found.typing_only:
                continue
            wrong.append(f"{found.path}:{found.line}: imports {found.top}")
    return sorted(set(wrong))


def file_of(module: str, tree: Mapping[str, str]) -> str | None:
    stem = module.replace(".", "/")
    return next((path for path in (f"{stem}.py", f"{stem}/__init__.py") if path in tree), None)


def circle(tree: Mapping[str, str]) -> list[str] | None:
    """Some circle of files that import one another, its first file repeated at the end; or None."""
    edges: dict[str, set[str]] = {path: set() for path in tree}
    for found in imports(tree):
        target = file_of(found.module, tree)
        if target is not None and target != found.path:
            edges[found.path].add(target)
    done: set[str] = set()

    def visit(path: str, trail: list[str]) -> list[str] | None:
        if path in trail:
            return [*trail[trail.index(path) :], path]
        if path in done:
            return None
        for target in sorted(edges[path]):
            if (found := visit(target, [*trail, path])) is not None:
                return found
        done.add(path)
        return None

    return next((found for path in sorted(tree) if (found := visit(path, [])) is not None), None)


@pytest.fixture(scope="module")
def project() -> dict[str, str]:
    """Sources of the packages and the examples, by path."""
    folders = [*BELOW, "examples"]
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def test_arrows_point_down_only(project: dict[str, str]) -> None:
    assert wrong_arrows(project) == []


def test_confined_libraries_stay_in_their_file(project: dict[str, str]) -> None:
    assert strays(project) == []


def test_cores_do_no_input_or_output(project: dict[str, str]) -> None:
    assert impurities(project) == []


def test_files_import_one_another_in_no_circle(project: dict[str, str]) -> None:
    assert circle(project) is None


def test_every_package_is_installed(project: dict[str, str]) -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {path.rpartition("/")[0].replace("/", ".") for path in project} - {"examples"}
    assert found == listed


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("router/a.py", "import shards.node"),
        ("router/a.py", "from raftgroup import types"),
        ("raftgroup/a.py", "def f():\n    from primitives.ids import NodeId"),
        ("primitives/a.py", "if TYPE_CHECKING:\n    import router.slots"),
        ("ops/a.py", "from quorate import connect"),
        ("examples/a.py", "from router.client import connect"),
    ],
)
def test_an_arrow_up_or_sideways_is_found(path: str, source: str) -> None:
    assert len({line.split(": ")[0] for line in wrong_arrows({path: source})}) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("ops/a.py", "import primitives.ids"),
        ("shards/a.py", "from router.slots import slot_of_name"),
        ("raftgroup/a.py", "from .types import Term"),
        ("examples/a.py", "import quorate"),
    ],
)
def test_an_arrow_down_is_let_pass(path: str, source: str) -> None:
    assert wrong_arrows({path: source}) == []


def test_a_stray_library_is_found() -> None:
    assert strays({"primitives/values.py": "import cbor2", "primitives/codec.py": "import cbor2"}) == [
        "primitives/values.py:1: cbor2 belongs to primitives/codec.py"
    ]
    assert len(strays({"shards/node.py": "def f():\n    from rocksdict import Rdict"})) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("raftgroup/a.py", "import trio"),
        ("raftgroup/a.py", "from time import monotonic"),
        ("shards/engine.py", "import logging"),
        ("shards/group.py", "import random"),
        ("router/session_leases.py", "if TYPE_CHECKING:\n    pass\nelse:\n    import random"),
        ("primitives/a.py", "def f():\n    import socket"),
    ],
)
def test_input_and_output_in_a_core_is_found(path: str, source: str) -> None:
    assert len(impurities({path: source})) == 1


def test_the_type_of_an_injected_source_of_randomness_may_be_named() -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from random import Random"
    assert impurities({"shards/engine.py": source}) == []


def test_a_circle_of_files_is_found() -> None:
    tree = {
        "shards/a.py": "from shards.b import x",
        "shards/b.py": "def f():\n    from shards import c",
        "shards/c.py": "import shards.a",
        "shards/d.py": "import shards.a",
    }
    assert circle(tree) == ["shards/a.py", "shards/b.py", "shards/c.py", "shards/a.py"]
    assert circle({**tree, "shards/c.py": ""}) is None
