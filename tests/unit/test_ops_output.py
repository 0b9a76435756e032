"""The four formats of standard output."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ops.output import Format, write_answer, write_record, write_rows, write_stream

ROWS = [{"key": "a", "value": [1]}, {"key": "b\x1b[31m", "value": "x" * 200}]
FORMATS: list[Format] = ["table", "json", "jsonl", "simple"]


async def stream(rows: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    for row in rows:
        yield row


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], []])
async def test_a_stream_of_rows_is_json_whatever_its_length(
    capsys: pytest.CaptureFixture[str], rows: list[dict[str, Any]]
) -> None:
    assert await write_stream("json", ("key", "value"), stream(rows)) == len(rows)
    assert json.loads(capsys.readouterr().out) == rows


async def test_jsonl_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    await write_stream("jsonl", ("key", "value"), stream(ROWS))
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == ROWS


async def test_simple_is_columns_between_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    await write_stream("simple", ("key", "value"), stream(ROWS[:1]))
    assert capsys.readouterr().out == "a\t[1]\n"


def test_a_table_off_a_terminal_is_not_folded_and_carries_no_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_rows("table", ("key", "value"), ROWS)
    out = capsys.readouterr().out
    assert "x" * 200 in out
    assert "\x1b" not in out
    assert "\\x1b[31m" in out


def test_an_empty_table_still_has_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows("table", ("key", "value"), [])
    assert "key" in capsys.readouterr().out


@pytest.mark.parametrize("format", FORMATS)
def test_an_answer_is_its_plain_line_or_all_of_it(
    capsys: pytest.CaptureFixture[str], format: Format
) -> None:
    write_answer(format, {"value": 3}, "3")
    out = capsys.readouterr().out
    assert out == "3\n" if format in ("table", "simple") else json.loads(out) == {"value": 3}


def test_an_answer_without_a_plain_line_is_silent_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    write_answer("table", {"done": True})
    assert capsys.readouterr().out == ""


def test_a_record_shows_its_parts_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    write_record("simple", {"name": "nightly", "token": 7})
    assert capsys.readouterr().out == "name\tnightly\ntoken\t7\n"
    write_record("table", {"name": "nightly", "token": 7})
    assert capsys.readouterr().out.split() == ["name", "nightly", "token", "7"]
