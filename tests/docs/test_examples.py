"""What the documentation shows is run: programs and commands marked as runnable, against a real node."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.devprocess import ROOT, Dev, environment

pytestmark = pytest.mark.cluster

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = ("quorate", "ops", "bench", "shards", "router", "raftgroup", "primitives")
BLOCK = re.compile(r"<!-- runnable -->\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "@@ the command ended @@"


class Example(NamedTuple):
    """A runnable block."""

    where: str
    language: str
    text: str


def from_page(path: Path) -> Iterator[Example]:
    text = path.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 2
        yield Example(f"{path.relative_to(ROOT)}:{line}", match[1], match[2])


def from_docstrings(path: Path) -> Iterator[Example]:
    """Blocks in docstrings, written as on the pages."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            for match in BLOCK.finditer(text):
                name = getattr(node, "name", "module")
                yield Example(f"{path.relative_to(ROOT)}:{name}", match[1], match[2])


EXAMPLES = [example for page in PAGES for example in from_page(page)] + [
    example
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    for example in from_docstrings(path)
]


@pytest.fixture
def place(dev: Dev, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A directory to run in, and an environment where ``quorate`` is a command and finds the node."""
    command = tmp_path / "bin" / "quorate"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m ops.main "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}:{os.environ['PATH']}"
    return tmp_path, environment(QUORATE_URL=f"quorate://{dev.address}", PATH=path)


def commands(text: str) -> list[tuple[str, str]]:
    """Commands of a console block, each with the output shown under it."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append((line[2:], ""))
        else:
            found[-1] = (found[-1][0], found[-1][1] + line)
    return found


def matches(shown: str, seen: str) -> bool:
    """Whether ``seen`` is what ``shown`` shows; ``...`` is any text of a line."""
    pattern = "[^\n]*".join(re.escape(part) for part in shown.split("..."))
    return re.fullmatch(pattern, seen) is not None


@pytest.mark.parametrize("example", [pytest.param(one, id=one.where) for one in EXAMPLES])
def test_example_does_what_it_shows(
    dev: Dev, place: tuple[Path, dict[str, str]], example: Example
) -> None:
    directory, env = place
    text = example.text.replace("127.0.0.1:7400", dev.address)
    if example.language == "python":
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", text], cwd=directory, env=env, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return
    assert example.language == "console", "only python and console blocks can be run"
    steps = commands(text)
    script = "".join(f"{command}\necho '{MARK}'\n" for command, _ in steps)
    done = subprocess.run(
        ["bash", "-c", f"exec 2>&1\n{script}"], cwd=directory, env=env, capture_output=True, text=True,
        timeout=120, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    outputs = done.stdout.split(f"{MARK}\n")
    for (command, shown), seen in zip(steps, outputs, strict=False):
        assert matches(shown, seen), f"{command}shows\n{shown}but printed\n{seen}"
    assert len(outputs) == len(steps) + 1


def test_there_are_examples_in_readme_and_pages() -> None:
    assert {"README.md", "docs/cli.md"} <= {one.where.partition(":")[0] for one in EXAMPLES}


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_a_wrong_output_would_be_noticed() -> None:
    assert matches('"revision": ...\n', '"revision": 7\n')
    assert not matches("grey\n", "blue\n")
    assert not matches("...\n", "a\nb\n")
