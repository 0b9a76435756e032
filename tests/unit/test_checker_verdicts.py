"""Histories that a correct cluster can have told, and the classic ones that none can, for all kinds."""

from __future__ import annotations

import pytest
from checker_story import UNKNOWN, Story

from bench.checker.record import HistoryFormatError


def test_a_read_of_a_value_that_was_overwritten_before_it_began_is_blamed() -> None:
    story = Story("register")
    story.call("a", "set", 1)
    story.call("a", "set", 2)
    story.call("b", "get", gives=1)
    story.call("a", "set", 3)
    assert story.blamed() == "get 1"
    assert "fits nowhere" in story.reason()


def test_a_read_beside_a_write_may_see_either_value_but_not_go_back() -> None:
    story = Story("register")
    story.call("a", "set", 1)
    story.begin("a", "set", 2)
    story.call("b", "get", gives=2)
    assert story.blamed() == ""
    story.call("c", "get", gives=1)
    assert story.blamed() == "get 1"


def test_a_value_that_was_never_written_is_blamed() -> None:
    story = Story("map")
    story.call("a", "put", "k", 1)
    story.call("b", "get", "k", gives=7)
    assert story.blamed() == "get 7"


def test_a_write_of_unknown_outcome_may_take_effect_late_once_or_never() -> None:
    story = Story("register")
    story.begin("a", "set", 1)
    story.end("a", UNKNOWN)
    story.call("b", "get", gives=None)
    story.call("b", "set", 2)
    story.call("b", "get", gives=1)
    assert story.blamed() == ""
    story.call("b", "set", 3)
    story.call("b", "get", gives=1)
    assert story.blamed() == "get 1"


def test_a_write_that_was_refused_takes_no_effect() -> None:
    story = Story("register")
    story.begin("a", "set", 1)
    story.recorder.fail("a", "refused")
    story.call("b", "get", gives=1)
    assert story.blamed() == "get 1"


def test_a_lost_update_is_blamed() -> None:
    story = Story("counter")
    story.begin("a", "increment")
    story.begin("b", "increment")
    story.end("a", 1)
    story.end("b", 1)
    assert story.blamed() == "increment 1"


def test_an_increment_that_took_effect_twice_is_blamed() -> None:
    story = Story("counter")
    story.begin("a", "increment")
    story.end("a", UNKNOWN)
    story.call("b", "get", gives=1)
    assert story.blamed() == ""
    story.call("b", "get", gives=2)
    assert story.blamed() == "get 2"


def test_two_compare_and_set_of_one_value_cannot_both_succeed() -> None:
    story = Story("map")
    story.call("a", "put", "k", 1)
    story.begin("a", "compare_and_set", "k", 1, 2)
    story.begin("b", "compare_and_set", "k", 1, 3)
    story.end("a", True)
    story.end("b", True)
    assert story.blamed() == "compare_and_set true"


def test_revisions_that_go_back_are_blamed() -> None:
    story = Story("map")
    story.call("a", "put", "k", 1, gives=9)
    story.call("b", "put", "k", 2, gives=8)
    assert story.blamed() == "put 8"


def test_an_entry_of_another_revision_than_its_write_was_told_is_blamed() -> None:
    story = Story("map")
    story.call("a", "put", "k", 1, gives=9)
    story.call("b", "entry", "k", gives={"value": 1, "revision": 9})
    assert story.blamed() == ""
    story.call("b", "entry", "k", gives={"value": 1, "revision": 10})
    assert story.blamed().startswith("entry")


def test_a_replace_of_a_revision_that_is_no_more_is_blamed() -> None:
    story = Story("map")
    story.call("a", "put", "k", 1, gives=5)
    story.call("a", "put", "k", 2, gives=6)
    story.call("b", "replace", "k", 3, 5, gives=True)
    assert story.blamed() == "replace true"


def test_keys_are_judged_apart_unless_a_call_concerns_all() -> None:
    story = Story("map")
    story.call("a", "put", "k", 1)
    story.call("a", "put", "l", 1)
    assert len(story.verdict().judgements) == 2
    story.call("a", "size", gives=2)
    assert [judgement.outcome for judgement in story.verdict().judgements] == ["valid"]
    story.call("a", "clear")
    story.call("a", "items", gives=[["k", 1]])
    assert story.blamed().startswith("items")


def test_an_element_added_twice_is_told_so() -> None:
    story = Story("set")
    story.call("a", "add", "e", gives=True)
    story.call("b", "add", "e", gives=True)
    assert story.blamed() == "add true"


def test_an_element_that_is_delivered_twice_is_blamed() -> None:
    story = Story("queue")
    story.call("a", "offer", "e")
    story.begin("b", "poll")
    story.begin("c", "take")
    story.end("b", "e")
    story.end("c", "e")
    assert story.blamed() == 'take "e"'


def test_elements_that_overtake_one_another_are_blamed() -> None:
    story = Story("queue")
    story.call("a", "offer", 1)
    story.call("a", "offer", 2)
    story.call("b", "poll", gives=2)
    assert story.blamed() == "poll 2"


def test_an_acknowledged_element_is_not_lost_but_to_a_call_of_unknown_outcome() -> None:
    story = Story("queue")
    story.call("a", "offer", 1)
    story.call("b", "poll", gives=None)
    assert story.blamed() == "poll null"
    story = Story("queue")
    story.call("a", "offer", 1)
    story.call("a", "offer", 2)
    story.begin("b", "take")
    story.end("b", UNKNOWN)
    story.call("c", "poll", gives=2)
    assert story.blamed() == ""


def test_what_a_cancelled_call_took_may_be_put_back_to_where_it_was_once() -> None:
    story = Story("queue")
    story.call("a", "offer", 1)
    story.call("a", "offer", 2)
    story.begin("b", "take")
    story.end("b", UNKNOWN)
    story.call("c", "poll", gives=2)
    story.call("c", "poll", gives=1)
    assert story.blamed() == ""
    story.call("c", "poll", gives=1)
    assert story.blamed() == "poll 1"


def test_a_list_is_changed_in_one_order() -> None:
    story = Story("list")
    story.call("a", "append", "x")
    story.call("a", "insert", 0, "y")
    story.call("b", "slice", gives=["y", "x"])
    story.call("b", "pop", gives="x")
    assert story.blamed() == ""
    story.call("b", "get", 0, gives="x")
    assert story.blamed() == 'get "x"'


@pytest.mark.parametrize(("kind", "acquire"), [("lock", "acquire"), ("election", "campaign")])
def test_two_holders_at_once_are_blamed(kind: str, acquire: str) -> None:
    story = Story(kind)
    story.call("a", acquire, gives=3)
    story.call("b", acquire, gives=4)
    assert story.blamed() == f"{acquire} 4"


def test_a_token_that_does_not_grow_is_blamed() -> None:
    story = Story("lock")
    story.call("a", "acquire", gives={"token": 3})
    story.call("a", "release", 3, gives=True)
    story.call("b", "try_acquire", gives={"token": 3})
    assert "try_acquire" in story.blamed()


def test_a_lost_lease_may_free_the_lock_at_any_time_from_then_on_but_not_before() -> None:
    story = Story("lock")
    story.call("a", "acquire", gives=3)
    story.recorder.expire("lock", "x", 3)
    story.call("b", "try_acquire", gives=None)
    story.call("a", "release", 3, gives=False)
    story.call("b", "try_acquire", gives=5)
    story.call("c", "holder", gives={"session": 1, "token": 5})
    assert story.blamed() == ""
    early = Story("lock")
    early.call("a", "acquire", gives=3)
    early.call("b", "acquire", gives=5)
    early.recorder.expire("lock", "x", 3)
    assert early.blamed() == "acquire 5"


def test_a_free_lock_is_refused_only_while_somebody_stands_in_line() -> None:
    story = Story("lock")
    story.call("b", "try_acquire", gives=None)
    assert story.blamed() == "try_acquire null"
    story = Story("lock")
    story.begin("a", "acquire")
    story.call("b", "try_acquire", gives=None)
    assert story.blamed() == ""


def test_a_grant_to_a_call_of_unknown_outcome_may_come_free_by_itself() -> None:
    story = Story("lock")
    story.begin("a", "acquire")
    story.end("a", UNKNOWN)
    story.call("b", "try_acquire", gives=None)
    story.call("b", "try_acquire", gives=4)
    assert story.blamed() == ""
    story.call("b", "try_acquire", gives=5)
    assert story.blamed() == "try_acquire 5"


def test_the_token_of_a_grant_of_unknown_outcome_may_be_what_is_given_back() -> None:
    story = Story("lock")
    story.begin("a", "acquire")
    story.end("a", UNKNOWN)
    story.call("b", "release", 7, gives=True)
    assert story.blamed() == ""
    story.call("b", "try_acquire", gives=7)
    assert story.blamed() == "try_acquire 7"
    story = Story("lock")
    story.call("c", "acquire", gives=7)
    story.call("c", "release", 7, gives=True)
    story.begin("a", "acquire")
    story.end("a", UNKNOWN)
    story.call("b", "release", 7, gives=True)
    assert story.blamed() == "release true"


@pytest.mark.parametrize(("op", "args"), [("replace", [2, 5]), ("unset", [5])])
def test_a_value_is_not_of_a_revision_that_somebody_was_told_it_does_not_have(
    op: str, args: list[object]
) -> None:
    for at, wrong in ((5, True), (6, False)):
        story = Story("register")
        story.call("a", "set", 1)
        story.call("a", op, *args, gives=False)
        story.call("a", "entry", gives={"value": 1, "revision": at})
        assert story.blamed().startswith("entry") == wrong
    story = Story("register")
    story.call("a", "set", 1)
    story.call("a", op, *args, gives=False)
    story.call("a", "set", 1)
    story.call("a", "entry", gives={"value": 1, "revision": 5})
    assert story.blamed() == ""


def entry(value: int, revision: int) -> dict[str, int]:
    return {"value": value, "revision": revision}


@pytest.mark.parametrize(
    ("first", "second", "wrong"), [(3, 4, False), (4, 3, True), (4, 4, True)]
)
@pytest.mark.parametrize("is_turned", [False, True])
def test_revisions_that_are_learned_of_two_keys_agree_with_the_order_of_their_changes(
    first: int, second: int, wrong: bool, is_turned: bool
) -> None:
    story = Story("map")
    story.call("a", "put", "k", 1)
    story.call("a", "put", "l", 2)
    story.call("a", "size", gives=2)
    learned = [("k", entry(1, first)), ("l", entry(2, second))]
    for key, shown in reversed(learned) if is_turned else learned:
        story.call("b", "get_and_put", key, 0, gives=shown)
    assert bool(story.blamed()) == wrong


def test_a_learned_revision_is_below_that_of_a_later_change_of_another_key() -> None:
    for at, wrong in ((8, False), (9, True), (10, True)):
        story = Story("map")
        story.begin("u", "put", "k", 1)
        story.end("u", UNKNOWN)
        story.call("a", "size", gives=1)
        story.call("a", "put", "l", 2, gives=9)
        story.call("b", "remove", "k", at, gives=True)
        assert bool(story.blamed()) == wrong


def test_a_search_that_meets_its_bounds_says_that_it_is_undecided() -> None:
    story = Story("list")
    for number in range(14):
        story.begin(f"p{number}", "append", number % 3)
    for number in range(14):
        story.end(f"p{number}")
    story.call("a", "slice", gives=[9])
    for bounds in ({"seconds": 0.0}, {"memory_mb": 0.1}):
        verdict = story.verdict(**bounds)
        assert verdict.outcome == "undecided"
        worst = verdict.worst()
        assert worst is not None
        assert "bound was reached" in worst.reason


def test_a_violation_beside_something_undecided_is_a_violation() -> None:
    story = Story("register")
    story.call("a", "get", gives=1)
    for number in range(14):
        story.begin(f"p{number}", "append", number % 3, kind="list")
    for number in range(14):
        story.end(f"p{number}")
    story.call("a", "slice", kind="list", gives=[9])
    assert story.verdict(memory_mb=0.1).outcome == "violation"


@pytest.mark.parametrize(
    ("kind", "op", "args", "result"),
    [
        ("counter", "get", [], "one"),
        ("map", "contains", ["k"], None),
        ("map", "entry", ["k"], 5),
        ("map", "items", [], {"k": 1}),
        ("lock", "acquire", [], None),
        ("lock", "acquire", [], 0),
        ("counter", "add", ["x"], 1),
        ("queue", "offer_many", [5], None),
    ],
)
def test_a_result_that_no_call_can_give_is_named_with_its_line(
    kind: str, op: str, args: list[object], result: object
) -> None:
    story = Story(kind)
    story.call("a", op, *args, gives=result)
    with pytest.raises(HistoryFormatError, match=f"{kind} {op}") as raised:
        story.verdict()
    assert raised.value.line == 3
