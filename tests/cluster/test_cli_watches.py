"""Commands that print changes as they happen, each a process of its own, against real nodes."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.devprocess import COMMAND, Dev, Run, environment

pytestmark = pytest.mark.cluster


class Follower:
    """A command that goes on by itself, in JSON lines."""

    def __init__(self, dev: Dev, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *arguments, "-w", "jsonl"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment(QUORATE_URL=dev.url),
        )  # fmt: skip

    def line(self) -> dict[str, Any]:
        """The next line; waits for it."""
        assert self.process.stdout is not None
        row: dict[str, Any] = json.loads(self.process.stdout.readline())
        return row

    def end(self, number: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        """Ends it by a signal; the exit code, and what it said."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


@pytest.fixture
def follow(dev: Dev) -> Iterator[Callable[..., Follower]]:
    """Starts followers, which are ended after the test."""
    with ExitStack() as ends:

        def start(*arguments: str) -> Follower:
            follower = Follower(dev, *arguments)
            ends.callback(follower.end)
            return follower

        yield start


def rows(out: str) -> list[tuple[str, Any, Any]]:
    told = [json.loads(line) for line in out.splitlines()]
    return [(row["kind"], row["key"], row["value"]) for row in told]


def test_changes_are_told_in_order_and_gone_on_from_where_it_ended(
    run: Run, follow: Callable[..., Follower]
) -> None:
    run("map", "put", "m", "there", "0")
    watch = follow("map", "watch", "m", "--initial", "--previous")
    assert watch.line()["kind"] == "listed"
    for words in (("put", "m", "k", "1"), ("put", "m", "k", "[2]"), ("remove", "m", "k")):
        run("map", *words)
    told = [watch.line() for _ in range(3)]
    assert [(one["kind"], one["value"], one["previous"]) for one in told] == [
        ("put", 1, None), ("put", [2], 1), ("removed", None, [2])
    ]  # fmt: skip
    assert told[0]["revision"] < told[1]["revision"] < told[2]["revision"]
    code, said = watch.end()
    assert code == 130
    assert said.startswith("position: ")
    again = run("map", "watch", "m", "--position", told[0]["position"], "--count", "2", "-w", "jsonl")[1]
    assert rows(again) == [("put", "k", [2]), ("removed", "k", None)]
    run("map", "put", "m", "new", "3")
    later = run("map", "watch", "m", "--position", said.split()[1], "--count", "1", "-w", "jsonl")[1]
    assert rows(later) == [("put", "new", 3)]


def test_keys_and_their_beginnings_choose_what_is_told(run: Run) -> None:
    _, out, _ = run("map", "put", "chosen", "k", "0", "--show-position", "-w", "jsonl")
    position = json.loads(out)["position"]
    for key in ("a/1", "b/1", "a/2"):
        run("map", "put", "chosen", key, "1")
    watch = ("map", "watch", "chosen", "--position", position, "-w", "simple", "--timeout", "500ms")
    assert {line.split("\t")[1] for line in run(*watch, "--prefix", "a/")[1].splitlines()} == {"a/1", "a/2"}
    assert [line.split("\t")[1] for line in run(*watch, "--key", "b/1")[1].splitlines()] == ["b/1"]
    assert run(*watch, "--key", "x", "--prefix", "y")[0] == 2
    assert run(*watch, "--prefix", "7", "--key-as", "int")[0] == 2
    assert run(*watch, "--initial")[0] == 2


@pytest.mark.parametrize(
    ("change", "watch", "told"),
    [
        (("set", "add", "w", "x"), ("set", "watch", "w"), ("listed", "x", None)),
        (("value", "set", "wv", "7"), ("value", "watch", "wv"), ("listed", None, 7)),
        (("queue", "offer", "wq", "job"), ("queue", "watch", "wq"), ("listed", 0, "job")),
    ],
)  # fmt: skip
def test_other_types_are_watched_too(
    run: Run, change: tuple[str, ...], watch: tuple[str, ...], told: tuple[str, Any, Any]
) -> None:
    run(*change)
    assert rows(run(*watch, "--initial", "--count", "1", "-w", "jsonl")[1]) == [told]


def test_a_list_tells_of_indexes(run: Run, follow: Callable[..., Follower]) -> None:
    run("list", "append", "wl", "a")
    _, out, _ = run("list", "get", "wl", "0", "--show-position", "-w", "jsonl")
    run("list", "append", "wl", "b")
    run("list", "set", "wl", "0", "c")
    watch = ("list", "watch", "wl", "--position", json.loads(out)["position"], "--count", "2", "-w", "jsonl")
    assert rows(run(*watch)[1]) == [("inserted", 1, "b"), ("put", 0, "c")]


@pytest.mark.parametrize("position", ["", "x", "AfsKwSNBLIOyz"])
def test_a_position_that_is_none_is_a_usage_error(run: Run, position: str) -> None:
    code, out, err = run("map", "watch", "m", "--position", position)
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_a_watch_on_what_is_deleted_says_so(run: Run, follow: Callable[..., Follower]) -> None:
    run("set", "add", "doomed", "x")
    watch = follow("set", "watch", "doomed", "--initial")
    watch.line()
    assert run("primitive", "delete", "doomed") == (0, "", "")
    assert watch.process.wait(timeout=30) == 1
    assert "deleted" in watch.end()[1]


def test_who_leads_is_told_at_once_and_at_each_change(run: Run, follow: Callable[..., Follower]) -> None:
    observer = follow("election", "observe", "e")
    assert observer.line()["leader"] is None
    assert run("election", "run", "e", "--data", "one", "--", "true")[0] == 0
    assert run("election", "run", "e", "--data", "two", "--", "true")[0] == 0
    told = [observer.line() for _ in range(4)]
    assert [one["leader"] for one in told] == ["one", None, "two", None]
    assert told[0]["term"] < told[2]["term"]
    assert observer.end(signal.SIGTERM) == (143, "")
