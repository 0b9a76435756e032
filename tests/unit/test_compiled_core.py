"""What `make fast` compiles: the synchronous core, all of which mypyc must take."""

from __future__ import annotations

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
    for path in ("raftgroup/replica.py", "primitives/applier.py", "router/session.py", "shards/engine.py"):
        assert path in modules
    for path in ("shards/driver.py", "router/client.py", "primitives/lock.py", "primitives/machine.py"):
        assert path not in modules


def test_mypyc_takes_all_of_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _TRANSLATE, str(tmp_path), *_modules()],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(tmp_path.rglob("*replica*.c"))
