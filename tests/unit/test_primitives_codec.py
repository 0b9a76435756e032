"""Bytes of envelopes, values, keys and names: what is refused, and that what is carried comes back."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from cbor2 import dumps, loads
from hypothesis import given
from hypothesis import strategies as st

from primitives.codec import (
    ENVELOPE_DEPTH_MAX,
    check_name,
    check_namespace,
    decode_key,
    decode_value,
    encode_key,
    encode_value,
    pack,
    unpack,
)
from primitives.errors import TooLarge
from primitives.limits import (
    ENVELOPE_BYTES_MAX,
    INT_MAX,
    INT_MIN,
    KEY_BYTES_MAX,
    NAME_BYTES_MAX,
    VALUE_BYTES_MAX,
    VALUE_DEPTH_MAX,
)

ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
SCALARS = (
    st.none() | st.booleans() | st.integers(INT_MIN, INT_MAX) | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])) | st.binary() | st.datetimes(timezones=ZONES)
)  # fmt: skip
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
KEYS = TEXT | st.binary(max_size=20) | st.integers(INT_MIN, INT_MAX)


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@given(VALUES)
def test_a_value_comes_back_as_it_went(value: Any) -> None:
    assert decode_value(encode_value(value)) == value


@given(st.dictionaries(TEXT, st.integers(0, 9), max_size=6), st.randoms())
def test_equal_dicts_have_equal_bytes_whatever_their_order(value: dict[str, int], random: Any) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert encode_value(dict(items)) == encode_value(value)


def test_keys_of_dicts_are_in_the_order_of_rfc_8949() -> None:
    assert encode_value({"bb": 1, "c": 2, "": 3, "a": 4}).hex() == "a4" "6003" "616104" "616302" "62626201"


class _Text(str):
    pass


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ((1, 2), "the value is of type tuple"),
        ({1, 2}, "set"),
        (Decimal(1), "Decimal"),
        (bytearray(b"a"), "bytearray"),
        (_Text("a"), "_Text"),
        (1 << 63, "beyond 64 bits"),
        (-(1 << 63) - 1, "beyond 64 bits"),
        ([0, {"a": [1, 1 << 64]}], "the value's part [1]['a'][1]"),
        ({"a": {"b": {1: 2}}}, "the value's part ['a']['b'] has a key of type int"),
        (datetime(2020, 1, 1), "without a time zone"),
        (datetime(2020, 1, 1, tzinfo=timezone(timedelta(seconds=30))), "whole minutes"),
        ("\ud800", "cannot be carried"),
        (["\ud800"], "cannot be carried"),
    ],
)
def test_what_cannot_be_carried_is_a_type_error_that_names_the_part(value: Any, part: str) -> None:
    with pytest.raises(TypeError) as caught:
        encode_value(value)
    assert part in str(caught.value)


def test_depth_and_size_of_values_are_bounded_both_ways() -> None:
    deepest = _nested(VALUE_DEPTH_MAX)
    assert decode_value(encode_value(deepest)) == deepest
    with pytest.raises(TooLarge):
        encode_value([deepest])
    with pytest.raises(ValueError, match="deep"):
        decode_value(dumps([deepest]))
    with pytest.raises(TooLarge):
        encode_value(_nested(10_000))
    assert len(encode_value(b"a" * (VALUE_BYTES_MAX - 5))) == VALUE_BYTES_MAX
    with pytest.raises(TooLarge):
        encode_value(b"a" * VALUE_BYTES_MAX)


@pytest.mark.parametrize(
    "leaf", [1, None, "text", b"bytes", b"quorate!", datetime(2020, 1, 1, tzinfo=UTC), [], {}], ids=repr
)
def test_the_deepest_value_comes_back_whatever_is_innermost(leaf: Any) -> None:
    levels = VALUE_DEPTH_MAX - (leaf in ([], {}))
    lists, dicts = leaf, leaf
    for _ in range(levels):
        lists, dicts = [lists], {"a": dicts}
    assert decode_value(encode_value(lists)) == lists
    assert decode_value(encode_value(dicts)) == dicts
    for beyond in ([lists], {"a": dicts}):
        with pytest.raises(TooLarge):
            encode_value(beyond)
        with pytest.raises(ValueError, match="deep"):
            decode_value(dumps(beyond, canonical=True))


def test_a_cyclic_value_is_too_large() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(TooLarge):
        encode_value(value)


@pytest.mark.parametrize(
    "data", ["f7", "e5", "f8ff", "1bffffffffffffffff", "a10102", "a2616101616102", "0102", ""]
)
def test_a_value_that_no_client_makes_is_refused(data: str) -> None:
    with pytest.raises(ValueError):
        decode_value(bytes.fromhex(data))


@pytest.mark.parametrize("data", ["c001", "c06161", "c074" + b"2013-03-21T20:04:00 ".hex(), "c11a514b67b0"])
def test_of_dates_only_the_text_form_with_a_zone_is_read(data: str) -> None:
    with pytest.raises(ValueError):
        decode_value(bytes.fromhex(data))


@given(st.lists(st.none() | st.booleans() | st.integers(INT_MIN, (1 << 64) - 1) | st.binary() | TEXT))
def test_an_envelope_comes_back_as_it_went(items: list[Any]) -> None:
    assert unpack(pack(items)) == items


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ("8001", "something behind it"),
        ("80" "f6", "something behind it"),
        ("8148" + b"quorate!".hex() + "00", "something behind it, and the mark inside"),
        ("80" "48" + b"quorate!".hex(), "the mark behind it"),
        ("80" "5808" + b"quorate!".hex(), "the mark behind it, another way"),
        ("8201", "a missing item"),
        ("8145", "a missing end"),
        ("", "nothing"),
        ("01", "no array"),
        ("a0", "no array"),
        ("9fff", "an indefinite array"),
        ("817f6161ff", "an indefinite text"),
        ("81bfff", "an indefinite map"),
        ("81a201020103", "duplicate keys"),
        ("81a2010201f5", "duplicate keys behind"),
        ("81a1f501", "a key of another type"),
        ("81a18001", "a list as a key"),
        ("81f7", "undefined"),
        ("81e5", "a simple value"),
        ("8181f8ff", "a simple value inside"),
        ("81ff", "a break"),
        ("811c", "a reserved length"),
        ("8161ff", "no UTF-8"),
        ("9b7fffffffffffffff", "a length beyond all"),
        ("81bb7fffffffffffffff", "a length beyond all"),
    ],
)
def test_an_envelope_that_pack_does_not_make_is_refused(data: str, what: str) -> None:
    with pytest.raises(ValueError):
        unpack(bytes.fromhex(data))


NEARLY_SHORT = st.binary(max_size=24).map(lambda data: bytes((0x81, 0x40 + len(data))) + data)


@given(st.binary(max_size=40) | NEARLY_SHORT)
def test_an_envelope_is_read_as_cbor_says_or_refused(data: bytes) -> None:
    try:
        items = unpack(data)
    except ValueError:
        return
    assert items == loads(data)


@pytest.mark.parametrize("items", [[], *([n] for n in range(-1, 26))])
def test_an_envelope_of_a_small_number_is_what_cbor_makes_of_it(items: list[int]) -> None:
    data = dumps(items, canonical=True)
    assert pack(items) == data
    unpack(data).append("changed by whoever asked")
    assert unpack(data) == items


@pytest.mark.parametrize("size", [0, 1, 22, 23, 24, 25, 255, 256])
def test_an_envelope_of_one_byte_string_is_what_cbor_makes_of_it(size: int) -> None:
    items = [b"x" * size]
    assert pack(items) == dumps(items, canonical=True)
    assert unpack(pack(items)) == items
    with pytest.raises(ValueError):
        unpack(pack(items) + b"\x00")


@pytest.mark.parametrize("size", [0, 1, 22, 23, 24, 25, 26, 254, 255, 256, 257, 258, 70_000])
@pytest.mark.parametrize("letter", [b"x", "x", "ß"])
def test_a_value_that_is_a_string_is_what_cbor_makes_of_it(size: int, letter: bytes | str) -> None:
    value = letter * size
    data = encode_value(value)
    assert data == dumps(value, canonical=True)
    assert decode_value(data) == value
    for damaged in (data + b"x", data[:-1]):
        with pytest.raises(ValueError):
            decode_value(damaged)


@given(st.binary(min_size=1, max_size=300))
def test_a_value_of_text_that_is_not_unicode_is_refused(text: bytes) -> None:
    data = dumps("x" * len(text))[: -len(text)] + text
    try:
        expected = text.decode()
    except UnicodeDecodeError:
        with pytest.raises(ValueError, match="not the CBOR expected"):
            decode_value(data)
    else:
        assert decode_value(data) == expected


def test_an_envelope_may_hold_the_mark() -> None:
    assert unpack(pack([b"quorate!", "quorate!"])) == [b"quorate!", "quorate!"]


def test_depth_and_size_of_envelopes_are_bounded() -> None:
    assert unpack(dumps(_nested(ENVELOPE_DEPTH_MAX))) == _nested(ENVELOPE_DEPTH_MAX)
    for data in (dumps(_nested(ENVELOPE_DEPTH_MAX + 1)), dumps([b"quorate!", _nested(ENVELOPE_DEPTH_MAX)])):
        with pytest.raises(ValueError, match="depth"):
            unpack(data)
    with pytest.raises(ValueError, match="bytes"):
        unpack(dumps([b"a" * ENVELOPE_BYTES_MAX]))
    with pytest.raises(TooLarge):
        pack([b"a" * ENVELOPE_BYTES_MAX])


def _tagged(tag: int, payload: bytes) -> bytes:
    if tag < 24:
        return bytes((0xC0 | tag,)) + payload
    return (bytes((0xD8, tag)) if tag < 256 else struct.pack(">BI", 0xDA, tag)) + payload


PAYLOADS = [bytes.fromhex(data) for data in ("01", "60", "40", "80", "820102", "a0", "447f000001")]
PAYLOADS.append(b"\x50" + bytes(16))


@pytest.mark.parametrize("tags", [range(1100), [43000, 55799, 55800, 65535, 1 << 31]])
def test_every_tag_is_refused_in_envelopes_and_values(tags: Any) -> None:
    for tag in tags:
        for payload in [*PAYLOADS, b"\x74" + b"2013-03-21T20:04:00Z"]:
            with pytest.raises(ValueError):
                unpack(b"\x81" + _tagged(tag, payload))
            if tag != 0 or payload[0] != 0x74:
                with pytest.raises(ValueError):
                    decode_value(b"\x81" + _tagged(tag, payload))


def test_shared_references_do_not_make_cycles() -> None:
    cyclic = bytes.fromhex("d81c81d81d00")
    assert isinstance(loads(cyclic), list)  # cbor2 by itself makes one
    for decode in (unpack, decode_value):
        with pytest.raises(ValueError):
            decode(cyclic)


def test_a_datetime_keeps_its_instant_and_offset() -> None:
    moment = datetime(2026, 2, 3, 4, 5, 6, 7, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    again = decode_value(encode_value([moment, moment.astimezone(UTC)]))
    assert again[0].isoformat() == moment.isoformat()
    assert again[1].utcoffset() == timedelta(0)


@given(KEYS)
def test_a_key_comes_back_as_it_went(key: Any) -> None:
    assert decode_key(encode_key(key)) == key


@given(st.lists(TEXT) | st.lists(st.binary()) | st.lists(st.integers(INT_MIN, INT_MAX)))
def test_encoded_keys_sort_as_the_keys_do(keys: list[Any]) -> None:
    assert sorted(keys, key=encode_key) == sorted(keys)


@pytest.mark.parametrize("key", [True, None, 1.5, (1,), 1 << 63, "\ud800", bytearray(b"a"), _Text("a")])
def test_other_keys_are_type_errors(key: Any) -> None:
    with pytest.raises(TypeError):
        encode_key(key)


def test_keys_are_bounded_and_taken_as_given() -> None:
    assert decode_key(encode_key("e\u0301\n")) == "e\u0301\n"
    assert len(encode_key("a" * KEY_BYTES_MAX)) == KEY_BYTES_MAX + 1
    for key in ("a" * (KEY_BYTES_MAX + 1), b"a" * (KEY_BYTES_MAX + 1)):
        with pytest.raises(TooLarge):
            encode_key(key)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x01abc", b"\x03\xff", b"\x04a", b"\x02" + b"a" * 1025])
def test_bytes_of_no_key_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode_key(data)


def test_names_are_nfc_bounded_and_without_control_characters() -> None:
    assert check_name("e\u0301") == "\u00e9"
    assert check_name("a b/c") == "a b/c"
    assert check_namespace("") == ""
    refused = {"": "empty", "a\nb": "U\\+000A", "a\x7f": "U\\+007F", "\x85": "U\\+0085", "\ud800": "Unicode"}
    for name, what in refused.items():
        with pytest.raises(ValueError, match=what):
            check_name(name)
    assert check_name("\u00e9" * (NAME_BYTES_MAX // 2))
    with pytest.raises(TooLarge):
        check_name("\u00e9" * (NAME_BYTES_MAX // 2) + "a")
    with pytest.raises(TypeError):
        check_name(b"a")  # type: ignore[arg-type]  # that is what is refused
