"""The public face: everything it names is there, nothing is loaded before it is used, and a user's module
that hides one of ours is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import quorate

ROOT = Path(__file__).resolve().parents[2]


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs ``code`` as a program in ``folder``, which comes first on its path. An editable installation finds
    our modules by other ways, so that way is closed."""
    program = folder / "program.py"
    program.write_text(
        f"import sys\nsys.path.append({str(ROOT)!r})\n"
        f"sys.meta_path[:] = [finder for finder in sys.meta_path if 'ditable' not in repr(finder)]\n{code}"
    )
    return subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=30, check=False, cwd=folder
    )


@pytest.mark.parametrize("name", quorate.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(quorate, name) is not None
    assert name in dir(quorate)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        quorate.nothing  # noqa: B018  # the access is what is tested


def test_a_client_loads_neither_the_store_nor_the_node(tmp_path: Path) -> None:
    done = run(
        "import quorate\n"
        "assert 'router' not in sys.modules and 'trio' not in sys.modules\n"
        "quorate.connect('quorate://localhost')\n"
        "wrong = {'rocksdict', 'shards', 'raftgroup', 'bench', 'ops', 'structlog'} & set(sys.modules)\n"
        "assert not wrong, wrong\n",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("hidden", ["router.py", "primitives.py", "router/__init__.py"])
def test_a_module_of_the_users_that_hides_one_of_ours_is_named(hidden: str, tmp_path: Path) -> None:
    (tmp_path / hidden).parent.mkdir(exist_ok=True)
    (tmp_path / hidden).write_text("mine = True\n")
    done = run("import quorate\nquorate.connect('quorate://localhost')\n", tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: Quorate's package")
    assert str(tmp_path / hidden) in last
