"""Reads that need not be linearizable, and watches: each of their promises, kept and broken."""

from __future__ import annotations

from typing import Any

import pytest
from checker_story import Story


def shown(value: object, revision: int) -> dict[str, object]:
    return {"value": value, "revision": revision}


def written(*revisions: int) -> Story:
    story = Story("map")
    for revision in revisions:
        story.call("w", "put", "k", f"v{revision}", gives=revision)
    return story


def test_a_sequential_read_may_be_of_the_past() -> None:
    story = written(3, 5)
    story.call("a", "entry", "k", read="sequential", gives=shown("v3", 3))
    assert story.reason() == ""


@pytest.mark.parametrize("read", ["sequential", "causal", "stale"])
def test_no_clients_view_goes_back_at_any_level(read: str) -> None:
    story = written(3, 5)
    bound = {"bound_ms": 60_000} if read == "stale" else {}
    story.call("a.0", "get", "k", session="a", gives="v5")
    story.call("a.1", "get", "k", read=read, session="a", gives="v3", **bound)
    assert "told of a later state before" in story.reason()
    story = written(3, 5)
    story.call("a.0", "get", "k", session="a", gives="v5")
    story.call("b.1", "get", "k", read=read, session="b", gives="v3", **bound)
    assert story.reason() == ""


def test_a_client_sees_its_own_writes_in_sequential_reads() -> None:
    story = written(3, 5)
    story.call("w", "get", "k", read="sequential", gives="v3")
    assert "told of a later state before" in story.reason()


def test_a_read_shows_something_that_was_written_and_not_later() -> None:
    story = written(3)
    story.call("a", "get", "k", read="sequential", gives="v9")
    assert "nobody wrote that" in story.reason()
    story.call("w", "put", "k", "v9", gives=9)
    assert "later only" in story.reason()


def test_a_read_of_a_wrong_revision_shows_nothing_that_was_written() -> None:
    story = written(3, 5)
    story.call("a", "entry", "k", read="sequential", gives=shown("v3", 5))
    assert "nobody wrote that" in story.reason()


def test_a_causal_read_is_not_older_than_its_position() -> None:
    for after, wrong in ((2, False), (4, False), (5, True), (70, True)):
        story = written(3, 5)
        story.call("a", "entry", "k", read="causal", after=after, gives=shown("v3", 3))
        assert ("older than position" in story.reason()) == wrong


def test_a_stale_read_is_not_older_than_its_bound() -> None:
    for bound_ms, wrong in ((1, True), (60_000, False)):
        story = written(3, 5)
        story.now_us += 10_000
        story.call("a", "get", "k", read="stale", bound_ms=bound_ms, gives="v3")
        assert ("was acknowledged more than" in story.reason()) == wrong


def test_a_removed_entry_may_not_come_back_for_a_client_that_saw_it_gone() -> None:
    story = written(3)
    story.call("w", "remove", "k", gives=True)
    story.call("a", "get", "k", gives=None)
    story.call("a", "get", "k", read="sequential", gives="v3")
    assert "told of a later state before" in story.reason()


def test_reads_of_which_nothing_can_be_said_are_counted() -> None:
    story = Story("queue")
    story.call("a", "size", read="sequential", gives=3)
    assert story.verdict().unjudged == 1


def told(revision: int, kind: str = "put", **more: Any) -> dict[str, Any]:
    value = f"v{revision}" if kind == "put" else None
    return {"kind": kind, "key": "k", "value": value, "revision": revision, "partition": 0, **more}


def watched(*events: dict[str, Any], after: list[int] | None = None) -> Story:
    """A watch, while revisions 3, 5 and 7 of one key are written."""
    story = Story("map")
    story.call("w1", "open", "map", *(after or []), kind="watch")
    for revision in (3, 5, 7):
        story.call("a", "put", "k", f"v{revision}", gives=revision)
    for event in events:
        story.call("w1", "next", kind="watch", gives=event)
    return story


def test_a_watch_that_is_told_each_change_once_and_in_order_is_valid() -> None:
    story = watched(told(3), told(5), told(7))
    assert story.reason() == ""
    assert [one.check for one in story.verdict().judgements] == ["linearizable", "watch"]


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([told(3), told(3)], "told twice"),
        ([told(4, kind="progress"), told(3)], "after progress"),
        ([told(3, kind="progress"), told(3)], "after progress"),
        ([told(3), told(7), told(5)], "after put"),
        ([told(3), told(7)], "never told"),
        ([told(5), told(7)], "never told"),
        ([told(3), told(7, kind="progress")], "never told"),
        ([told(3, value="v5")], "but a: put"),
        ([told(3), told(4)], "nobody wrote"),
        ([told(3, key="l")], "nobody wrote"),
    ],
)
def test_what_a_watch_may_not_be_told(events: list[dict[str, Any]], reason: str) -> None:
    assert reason in watched(*events).reason()


def test_a_watch_behind_a_revision_is_told_all_that_is_later() -> None:
    assert watched(told(5), told(7), after=[3]).reason() == ""
    assert "never told" in watched(told(7), after=[3]).reason()
    for after in (3, 5):
        assert "opened behind" in watched(told(3), told(5), told(7), after=[after]).reason()


def test_progress_without_a_revision_says_nothing() -> None:
    assert watched(told(3), told(0, kind="progress"), told(5), told(7)).reason() == ""


def test_watches_agree_on_what_nobody_acknowledged() -> None:
    for value, wrong in (("one", False), ("other", True)):
        story = watched(told(3), told(5), told(7))
        story.begin("b", "put", "k", "one")
        story.begin("c", "put", "k", "other")
        story.call("w1", "next", kind="watch", gives=told(9, value="one"))
        story.call("w2", "open", "map", 5, kind="watch")
        story.call("w2", "next", kind="watch", gives=told(7))
        story.call("w2", "next", kind="watch", gives=told(9, value=value))
        assert ("another of put" in story.reason()) == wrong


def test_an_event_does_not_come_before_its_write_began() -> None:
    story = watched(told(3), told(5), told(7), told(9))
    story.call("a", "put", "k", "v9", gives=9)
    assert "before it was written" in story.reason()
