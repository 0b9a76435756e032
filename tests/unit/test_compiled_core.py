"""What `make fast` compiles: the synchronous core, all of which mypyc must take."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]

_TRANSLATE = """
import sys
from mypyc.build import mypycify
arguments = ["--config-file=pyproject.toml", *sys.argv[2:]]
mypycify(arguments, multi_file=True, group_name="quorate", target_dir=sys.argv[1])
"""


def _modules() -> list[str]:
    listed: Callable[[], list[str]] = runpy.run_path(str(ROOT / "setup.py"))["compiled_modules"]
    return sorted(listed())


def test_the_core_is_among_what_is_compiled_and_what_has_tasks_is_not() -> None:
    modules = _modules()
    for path in (
        "raftgroup/replica.py", "primitives/applier.py", "primitives/machine.py", "router/session.py",
        "shards/engine.py",
    ):  # fmt: skip
        assert path in modules
    for path in ("shards/driver.py", "router/client.py", "primitives/lock.py"):
        assert path not in modules


def test_mypyc_takes_all_of_it_and_lets_machines_be_written_outside(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _TRANSLATE, str(tmp_path), *_modules()],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(tmp_path.rglob("*replica*.c"))
    # Without them a class that is not compiled cannot derive from a compiled one.
    (machine,) = tmp_path.rglob("*primitives___machine.c")
    translated = machine.read_text(encoding="utf-8")
    for name in ("Machine", "Context", "View", "Table", "TableView"):
        assert f"___machine___{name}_vtable_shadow" in translated


def _names_of_errors(function: ast.FunctionDef) -> dict[str, set[str]]:
    """By name: the types that handlers in the function's own body give it to."""
    found: dict[str, set[str]] = {}
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.ExceptHandler) and node.name is not None and node.type is not None:
            found.setdefault(node.name, set()).add(ast.unparse(node.type))
        waiting.extend(ast.iter_child_nodes(node))
    return found


def test_no_function_that_is_compiled_gives_one_name_to_errors_of_two_types() -> None:
    """mypyc gives the name the first type: any other error would end in a TypeError, not in its handler."""
    alike = [
        f"{path}: {function.name}: {name}"
        for path in _modules()
        for function in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef)
        for name, types in _names_of_errors(function).items() if len(types) > 1
    ]  # fmt: skip
    assert alike == []
