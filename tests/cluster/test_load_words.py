"""The example that loads a word list, while a node is killed with -9 and started again."""

from __future__ import annotations

import random
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
import trio

import quorate
from tests.devprocess import ROOT, environment
from tests.nodeprocess import NAMES, a_cluster

pytestmark = pytest.mark.cluster
LINES = 20_000
LOAD_SECONDS = 120.0
"""Of the example, on a machine that has much else to do."""


def word_list(path: Path) -> None:
    """Distinct lines as word lists have them: accents, apostrophes, spaces, several scripts; each form of a
    letter is a line of its own."""
    dice = random.Random(7)
    alphabets = [
        "abcdefghijklmnopqrstuvwxyz'", "àéîõüçñåøß ",
        "абвгдежзиклмн", "αβγδεζηθ-", "日月火水木金土", "🦀🐍é\t",
    ]  # fmt: skip
    lines = {"naïve", unicodedata.normalize("NFD", "naïve"), " ", "'", "a" * 1024}
    while len(lines) < LINES:
        alphabet = alphabets[0] if dice.random() < 0.8 else dice.choice(alphabets)
        lines.add("".join(dice.choices(alphabet, k=dice.randrange(1, 16))))
    path.write_text("".join(f"{line}\n" for line in sorted(lines)), encoding="utf-8")


async def loaded(url: str, at_least: int) -> None:
    """Waits until the map has that many entries."""
    async with quorate.connect(url) as client:
        words = client.map("words")
        with trio.fail_after(LOAD_SECONDS):
            while await words.size() < at_least:
                await trio.sleep(0.05)


def test_every_line_is_there_though_a_node_is_killed_during_the_load(tmp_path: Path) -> None:
    word_list(tmp_path / "words")
    with a_cluster(tmp_path, groups=16) as cluster:
        with subprocess.Popen(
            [sys.executable, str(ROOT / "examples" / "load_words.py"), str(tmp_path / "words"), "--verify"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=environment(QUORATE_URL=cluster.url()),
        ) as example:  # fmt: skip
            try:
                trio.run(loaded, cluster.url(), LINES // 5)
                cluster.kill("n2")
                trio.run(loaded, cluster.url("n1", "n3"), LINES // 2)
                assert example.poll() is None
                cluster.start("n2")
                output, _ = example.communicate(timeout=LOAD_SECONDS)
            finally:
                example.kill()
        assert example.returncode == 0, output
        assert f"{LINES} of {LINES} entries are right; the map has {LINES}\n" in output
        cluster.wait_until_ready("n2")
        told = cluster.status("--hashes", name="n2")
        assert told["hashes_missing"] == []
        replicas = Counter(one["group"] for one in told["hashes"])
        assert replicas == {group: len(NAMES) for group in range(17)}
        states = {(one["group"], one["revision"], one["hash"], one["rows"]) for one in told["hashes"]}
        assert len(states) == 17
