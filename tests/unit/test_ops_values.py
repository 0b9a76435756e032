"""Values, keys and durations as typed on the command line, and values as shown."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.exits import USAGE, UsageError
from ops.values import (
    jsonable,
    parse_key,
    parse_read,
    parse_seconds,
    parse_value,
    parse_whole,
    show,
    show_bytes,
    show_seconds,
    to_json,
)
from primitives.handle import LINEARIZABLE, SEQUENTIAL, ReadLevel, Stale

CARRIED = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="utf-8"))
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("-3", -3), ("1.5", 1.5), ("true", True), ("null", None), ('"3"', "3"), ("[1, 2]", [1, 2]),
        ('{"age": 3}', {"age": 3}), ("three", "three"), ("", ""), ("{age: 3}", "{age: 3}"), ("NaN", "NaN"),
        ("-Infinity", "-Infinity"), (" 3 ", 3), ("01", "01"),
    ],
)  # fmt: skip
def test_a_value_is_json_if_it_parses_as_such_else_text(text: str, value: Any) -> None:
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_text_is_taken_as_it_is_when_asked_for() -> None:
    assert parse_value("3", as_text=True) == "3"


@pytest.mark.parametrize("text", [str(2**63), "[1, 99999999999999999999]", "9" * 5000, "1e999", '"\\ud800"'])
def test_a_value_that_cannot_be_carried_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_value(text)
    assert caught.value.code == USAGE


@given(CARRIED)
def test_what_is_shown_as_json_is_read_back_as_the_same_value(value: Any) -> None:
    assert parse_value(to_json(value)) == value


def test_bytes_and_datetimes_are_shown_as_objects_that_name_their_type() -> None:
    moment = datetime(2024, 2, 29, 12, tzinfo=UTC)
    assert jsonable([b"\x00\xff", moment]) == [
        {"base64": "AP8="}, {"datetime": "2024-02-29T12:00:00+00:00"},
    ]  # fmt: skip


def test_floats_that_are_no_numbers_do_not_break_json() -> None:
    assert json.loads(to_json([float("nan"), float("inf"), -float("inf")])) == ["nan", "inf", "-inf"]


def test_text_is_shown_as_it_is_and_the_rest_as_json() -> None:
    assert show("a b") == "a b"
    assert show({"ä": [1, None]}) == '{"ä": [1, null]}'


@pytest.mark.parametrize(
    ("text", "kind", "key"), [("7", "text", "7"), ("-7", "int", -7), ("00ff", "hex", b"\x00\xff")]
)
def test_a_key_is_of_the_kind_asked_for(text: str, kind: str, key: object) -> None:
    assert parse_key(text, kind) == key


@pytest.mark.parametrize(
    ("text", "kind"), [("x", "int"), ("0g", "hex"), (str(2**63), "int"), ("\udcff", "text")]
)
def test_a_key_that_is_none_is_a_usage_error(text: str, kind: str) -> None:
    with pytest.raises(UsageError):
        parse_key(text, kind)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5s", 1.5), ("250ms", 0.25), ("2m", 120), ("2h", 7200), ("7d", 604800)],
)
def test_durations_have_units_and_seconds_are_the_default(text: str, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "s", "1w", "1.s", "inf", "nan", "1 h 2 m"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_seconds(text)


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_whole_number_is_taken_exactly(number: int) -> None:
    assert parse_whole(str(number)) == number


@pytest.mark.parametrize(
    "text",
    ["1.5", "1e3", "0x10", "", "-", "nan", " 1", "\u0663", str(2**63), str(-(2**63) - 1), "9" * 5000],
)
def test_nothing_else_is_rounded_to_a_whole_number(text: str) -> None:
    with pytest.raises(ValueError, match=r"whole number|64 bits"):
        parse_whole(text)


@pytest.mark.parametrize(
    ("text", "level"),
    [("linearizable", LINEARIZABLE), ("sequential", SEQUENTIAL), ("stale:5", Stale(max_age=5.0)),
     ("stale:250ms", Stale(max_age=0.25))],
)  # fmt: skip
def test_a_read_level_is_read(text: str, level: ReadLevel) -> None:
    assert parse_read(text) == level


@pytest.mark.parametrize("text", ["", "nonsense", "stale", "stale:", "stale:0", "sequential:1", "Sequential"])
def test_a_read_level_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"read level|duration"):
        parse_read(text)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s"), (0.0004, "0.4ms"), (0.25, "250ms"), (4.2, "4.2s"), (59, "59s"), (90, "1.5m"), (7200, "2h"),
     (7 * 86400, "7d")],
)  # fmt: skip
def test_durations_are_short_for_people(seconds: float, shown: str) -> None:
    assert show_seconds(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (512, "512 B"), (1023, "1 KiB"), (1536, "1.5 KiB"), (64 << 20, "64 MiB"),
     (5 << 50, "5120 TiB")],
)  # fmt: skip
def test_sizes_are_short_for_people(count: int, shown: str) -> None:
    assert show_bytes(count) == shown
