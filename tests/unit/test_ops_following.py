"""Commands that go on until they are ended: watches, and the cluster at work."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import trio

from ops.common import Common
from ops.following import follow
from ops.output import Format, Live, Row
from ops.survey import frame
from ops.top_command import _PAGES

LIVE = Live(lambda row: f"n is {row['n']}", ("n",))


async def numbers(up_to: int) -> AsyncGenerator[Row, None]:
    """So many rows, and then nothing for good."""
    for n in range(up_to):
        yield {"n": n}
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("format", "out"),
    [
        ("table", "n is 0\nn is 1\n"), ("simple", "0\n1\n"), ("jsonl", '{"n": 0}\n{"n": 1}\n'),
        ("json", '[\n  {"n": 0},\n  {"n": 1}\n]\n'),
    ],
)  # fmt: skip
async def test_rows_are_written_as_they_come(
    capsys: pytest.CaptureFixture[str], format: Format, out: str
) -> None:
    assert await follow(Common(write=format), LIVE, numbers(5), count=2) == 0
    assert capsys.readouterr().out == out


async def test_json_is_whole_however_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    assert await follow(Common(write="json", timeout=0.05), LIVE, numbers(1)) == 0
    assert json.loads(capsys.readouterr().out) == [{"n": 0}]
    assert await follow(Common(write="json", timeout=0.05), LIVE, numbers(0)) == 0
    assert json.loads(capsys.readouterr().out) == []


async def test_fewer_than_were_wanted_by_the_limit_is_code_4() -> None:
    assert await follow(Common(timeout=0.05), LIVE, numbers(1), count=2) == 4
    assert await follow(Common(timeout=0.05), LIVE, numbers(2), count=2) == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_ends_it_in_order(number: signal.Signals, code: int) -> None:
    async def rows() -> AsyncGenerator[Row, None]:
        os.kill(os.getpid(), number)
        yield {"n": 0}
        await trio.sleep_forever()

    with trio.fail_after(5):
        assert await follow(Common(), LIVE, rows()) == code


def group(number: int, role: str, *, term: int = 1, commit: int = 10, applied: int = 10) -> dict[str, Any]:
    return {
        "group": number, "role": role, "term": term, "commit": commit, "applied": applied, "sessions": 2,
        "slots": 64,
    }  # fmt: skip


NODES = [{"node": n, "name": f"n{n}", "client": f"h:{n}"} for n in (1, 2)]


def status(*groups: dict[str, Any]) -> dict[str, Any]:
    return {"cluster": "c1", "groups": list(groups)}


def test_rates_are_of_committed_entries_and_counted_for_the_leader() -> None:
    before = {1: status(group(1, "leader", commit=10)), 2: status(group(1, "follower", commit=9))}
    follower = group(1, "follower", commit=28, applied=25)
    now = {1: status(group(1, "leader", commit=30, applied=30)), 2: status(follower)}
    shown = frame(NODES, now, before, 2.0)
    group_1 = shown["groups"][0]
    assert (shown["entries_s"], group_1["entries_s"], group_1["behind"]) == (10.0, 10.0, 5)
    assert [(node["leads"], node["entries_s"]) for node in shown["nodes"]] == [(1, 10.0), (0, None)]


def test_of_two_that_say_they_lead_the_later_one_is_shown() -> None:
    told = {1: status(group(1, "leader", term=3)), 2: status(group(1, "leader", term=4))}
    shown = frame(NODES, told, None, 0)
    assert (shown["groups"][0]["leader"], shown["groups"][0]["term"]) == ("n2", 4)


def test_a_node_that_says_nothing_is_shown_as_down_and_its_groups_go_on() -> None:
    shown = frame(NODES, {2: status(group(1, "follower"))}, None, 0)
    assert [node["up"] for node in shown["nodes"]] == [False, True]
    assert shown["groups"][0]["leader"] is None
    page = _PAGES.line(shown)
    assert "nodes 1 of 2 up   groups 0 of 1 led" in page


def test_nothing_at_all_can_be_shown() -> None:
    shown = frame(NODES, {}, None, 0)
    assert "nodes 0 of 2 up" in _PAGES.line(shown)
    assert _PAGES.simple is not None
    assert _PAGES.simple(shown).count("\n") == 1
