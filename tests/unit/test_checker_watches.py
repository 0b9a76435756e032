"""Watches: which calls can have made the events, what may be lost, and of what a watch is told at all."""

from __future__ import annotations

from typing import Any

import pytest
from checker_story import UNKNOWN, Story

from bench.checker.record import HistoryFormatError


def event(value: object, revision: int, kind: str = "put", **more: Any) -> dict[str, Any]:
    return {"kind": kind, "key": "k", "value": value, "revision": revision, **more}


def watched(**fields: Any) -> Story:
    story = Story("map")
    story.call("w", "open", "map", kind="watch", **fields)
    return story


def tell(story: Story, *events: dict[str, Any], process: str = "w") -> Story:
    for one in events:
        story.call(process, "next", kind="watch", gives=one)
    return story


def test_one_call_makes_one_event() -> None:
    story = watched()
    story.call("a", "put", "k", 1)
    tell(story, event(1, 1))
    assert story.reason() == ""
    assert "written once at the most" in tell(story, event(1, 2)).reason()


def test_a_call_of_unknown_outcome_makes_one_event_at_the_most() -> None:
    story = watched()
    story.begin("a", "put", "k", 1)
    story.end("a", UNKNOWN)
    tell(story, event(1, 1))
    assert story.reason() == ""
    assert "written once at the most" in tell(story, event(1, 2)).reason()


@pytest.mark.parametrize("told", [None, 9])
def test_events_come_in_the_order_in_which_calls_followed_one_another(told: int | None) -> None:
    story = watched()
    story.call("a", "put", "k", 1)
    story.call("b", "put", "k", 2, gives=told)
    assert "before put" in tell(story, event(2, 9), event(1, 10)).reason()


def test_events_of_calls_beside_each_other_come_in_any_order() -> None:
    story = watched()
    story.begin("a", "put", "k", 1)
    story.call("b", "put", "k", 2)
    story.end("a")
    assert tell(story, event(2, 9), event(1, 10)).reason() == ""


def test_keys_of_a_partition_have_one_order_and_those_of_others_have_theirs() -> None:
    for partition, wrong in ((0, True), (1, False)):
        story = watched()
        story.call("a", "put", "k", 1)
        story.call("a", "put", "l", 1)
        told = event(1, 9, key="l", partition=partition), event(1, 10, partition=0)
        assert ("before put" in tell(story, *told).reason()) == wrong


def test_of_calls_that_wrote_the_same_any_may_have_made_an_event() -> None:
    story = watched()
    story.begin("a", "put", "k", 1)
    story.call("b", "put", "k", 1)
    story.call("b", "put", "k", 2)
    story.end("a")
    tell(story, event(1, 3), event(2, 4), event(1, 5))
    assert story.reason() == ""


def test_each_of_several_events_has_a_call_that_was_under_way() -> None:
    story = watched()
    story.call("a", "put", "k", 1)
    story.call("a", "put", "k", 2)
    story.call("a", "put", "k", 1)
    story.call("a", "put", "k", 3)
    assert tell(story, event(1, 1), event(2, 2), event(1, 3), event(3, 4)).reason() == ""
    story = watched()
    story.call("a", "put", "k", 1)
    story.call("a", "put", "k", 1)
    story.call("a", "put", "k", 2)
    assert "before put" in tell(story, event(1, 1), event(2, 2), event(1, 3)).reason()


def test_an_increment_of_unknown_outcome_may_have_made_any_number() -> None:
    story = watched()
    story.begin("a", "increment", "k")
    story.end("a", UNKNOWN)
    tell(story, event(7, 1))
    assert not story.reason().startswith("told")


def untold(**fields: Any) -> Story:
    story = watched(**fields)
    for key, revision in (("k", 1), ("b", 2), ("k", 3)):
        story.call("a", "put", key, revision, gives=revision)
    return story


def test_a_key_that_nobody_was_told_of_is_not_left_out_where_there_is_one_partition() -> None:
    assert "never told of \"b\"" in tell(untold(), event(1, 1), event(3, 3)).reason()
    told = event(1, 1, partition=4), event(3, 3, partition=4)
    assert tell(untold(), *told).reason() == ""
    assert "never told of \"b\"" in tell(untold(pinned=True), *told).reason()


@pytest.mark.parametrize("kind", ["expired", "removed"])
def test_what_goes_was_there(kind: str) -> None:
    story = watched()
    story.call("a", "put", "l", 1, gives=1)
    assert "where nothing was" in tell(story, event(None, 2, kind)).reason()
    story = watched()
    story.call("a", "put", "k", 1, gives=5)
    assert "where nothing was" in tell(story, event(None, 2, kind)).reason()


def test_a_watch_of_one_key_is_told_of_no_other_and_misses_none_of_them() -> None:
    assert "opened for \"b\" alone" in tell(untold(key="b"), event(1, 1)).reason()
    assert tell(untold(key="k"), event(1, 1), event(3, 3)).reason() == ""


def lost(*events: dict[str, Any], infos: int = 1) -> Story:
    """Events that are told after so many calls of unknown outcome."""
    story = watched()
    for revision in (1, 2, 3):
        story.call("a", "put", "k", revision, gives=revision)
    process = "w"
    for _ in range(infos):
        story.begin(process, "next", kind="watch")
        story.end(process, UNKNOWN)
        process = story.recorder.fresh(process)
    return tell(story, *events, process=process)


def test_a_next_of_unknown_outcome_may_have_taken_one_event() -> None:
    for infos, wrong in ((0, True), (1, False)):
        assert ("never told" in lost(event(2, 2), event(3, 3), infos=infos).reason()) == wrong
    for infos, wrong in ((1, True), (2, False)):
        assert ("never told" in lost(event(3, 3), infos=infos).reason()) == wrong


def test_what_is_lost_lies_where_the_call_was() -> None:
    assert "never told of \"k\" at revision 2" in lost(event(1, 1), event(3, 3)).reason()


def test_an_unknown_kind_of_event_is_named() -> None:
    story = tell(watched(), event(1, 1, "banana"))
    with pytest.raises(HistoryFormatError, match="unknown kind of event 'banana': one of put, removed"):
        story.verdict()
