"""Histories as files: what is recorded comes back, and each wrong line is named with its reason."""

from __future__ import annotations

import json
from itertools import count

import pytest

from bench.checker.record import History, HistoryFormatError, Recorder, parse
from primitives.map import Entry

HEAD = '{"format": "quorate-history", "version": 1}'


def invoke(process: str = "a", time_us: object = 1, **fields: object) -> str:
    call = {"kind": "map", "name": "m", "op": "put", "args": ["k", 1]}
    return json.dumps({"type": "invoke", "process": process, "time_us": time_us, **call, **fields})


def end(type: str = "ok", process: str = "a", time_us: int = 2, **fields: object) -> str:
    return json.dumps({"type": type, "process": process, "time_us": time_us, **fields})


def recorded() -> tuple[Recorder, list[str]]:
    lines: list[str] = []
    ticks = count(1)
    return Recorder(lines.append, lambda: next(ticks), seed=7), lines


def test_what_is_recorded_comes_back() -> None:
    recorder, lines = recorded()
    recorder.invoke("a", "map", "m", "put", ["k", b"\x00\xff"])
    recorder.invoke("b", "map", "m", "entry", ["k"], read="stale", bound_ms=50, session="s")
    recorder.ok("a", 17, position=17)
    recorder.ok("b", Entry("v", 17, 3, None, None))
    recorder.invoke("a", "map", "m", "remove", ["k"])
    recorder.fail("a", ValueError("no"))
    recorder.invoke("a", "map", "m", "size")
    recorder.info("a", "too late")
    recorder.invoke("b", "map", "m", "clear")
    history: History = parse(lines)
    assert history.metadata["seed"] == 7
    put, entry, remove, size, clear = history.calls
    assert (put.args, put.start_us, put.end_us, put.outcome, put.result, put.position) == (
        ["k", b"\x00\xff"], 1, 3, "ok", 17, 17,
    )  # fmt: skip
    assert entry.read == "stale"
    assert entry.extra == {"bound_ms": 50, "session": "s"}
    assert entry.result["revision"] == 17
    assert (remove.outcome, remove.error, remove.is_unknown) == ("fail", "no", False)
    assert (size.outcome, size.end_us, size.is_unknown) == ("info", None, True)
    assert (clear.outcome, clear.end_us, clear.is_unknown) == ("open", None, True)


def test_a_caller_goes_on_under_fresh_names() -> None:
    recorder, _ = recorded()
    assert [recorder.fresh(name) for name in ("c1.0", "c1.0#2", "c2.0")] == ["c1.0#2", "c1.0#3", "c2.0#2"]


def test_a_lost_lease_is_a_call_of_nobody_that_stays_open() -> None:
    recorder, lines = recorded()
    recorder.expire("lock", "l", 5)
    recorder.expire("lock", "l", 5)
    calls = parse(lines).calls
    assert [(call.op, call.args, call.is_unknown) for call in calls] == [("expire", [5], True)] * 2


def test_the_recorder_refuses_what_no_reader_would_take() -> None:
    recorder, _ = recorded()
    recorder.invoke("a", "counter", "c", "increment")
    with pytest.raises(ValueError, match="has a call open"):
        recorder.invoke("a", "counter", "c", "increment")
    recorder.info("a", "lost")
    with pytest.raises(ValueError, match="fresh name"):
        recorder.invoke("a", "counter", "c", "increment")
    with pytest.raises(ValueError, match="has no call open"):
        recorder.ok("b")
    with pytest.raises(ValueError, match="unknown operation 'grow' of a counter"):
        recorder.invoke("b", "counter", "c", "grow")


def test_the_recorder_refuses_a_clock_that_goes_back() -> None:
    times = iter((5, 4))
    recorder = Recorder(lambda line: None, lambda: next(times))
    recorder.invoke("a", "counter", "c", "increment")
    with pytest.raises(ValueError, match="time went back"):
        recorder.ok("a", 1)


@pytest.mark.parametrize(
    ("lines", "line", "reason"),
    [
        ([], 1, "empty"),
        (["{"], 1, "not JSON"),
        (["[]"], 1, "not a JSON object"),
        (["{}"], 1, "not a history"),
        (['{"format": "quorate-history", "version": 2}'], 1, "version 2"),
        (['{"format": "quorate-history"}'], 1, "'version' is missing"),
        ([HEAD, ""], 2, "not JSON"),
        ([HEAD, b"\xff\xfe{"], 2, "UTF-8"),
        ([HEAD, "[" * 100_000], 2, "nested too deep"),
        ([HEAD, invoke(args=["k", float("nan")])], 2, "no number"),
        ([HEAD, invoke(args=[{"b64": "!"}, 1])], 2, "base64"),
        ([HEAD, '{"process": "a", "time_us": 1}'], 2, "'type' is missing"),
        ([HEAD, '{"type": "begin", "process": "a", "time_us": 1}'], 2, "unknown type 'begin'"),
        ([HEAD, invoke(time_us=-1)], 2, "time_us"),
        ([HEAD, invoke(time_us=1.5)], 2, "time_us"),
        ([HEAD, invoke(time_us=True)], 2, "time_us"),
        ([HEAD, invoke(), end(time_us=0)], 3, "time goes back, from 1 to 0"),
        ([HEAD, invoke(process="")], 2, "'process'"),
        ([HEAD, invoke(kind="tree")], 2, "unknown kind 'tree'"),
        ([HEAD, invoke(op="putt")], 2, "unknown operation 'putt' of a map"),
        ([HEAD, invoke(args=["k"])], 2, "takes 2 arguments, not 1"),
        ([HEAD, invoke(op="get", args=[])], 2, "takes 1 argument, not 0"),
        ([HEAD, invoke(kind="watch", op="open", args=["map"], pinned=1)], 2, "'pinned'"),
        ([HEAD, invoke(kind="watch", op="open", args=["map"], watch=1)], 2, "'watch'"),
        ([HEAD, invoke(args="k1")], 2, "array"),
        ([HEAD, invoke(read="sequential")], 2, "no query"),
        ([HEAD, invoke(op="get", args=["k"], read="fresh")], 2, "unknown read level"),
        ([HEAD, invoke(op="get", args=["k"], read="stale")], 2, "bound_ms"),
        ([HEAD, invoke(op="get", args=["k"], read="stale", bound_ms="1")], 2, "bound_ms"),
        ([HEAD, invoke(), invoke()], 3, "has a call open since line 2"),
        ([HEAD, invoke(), end("info"), invoke(time_us=3)], 4, "needs a new name"),
        ([HEAD, end()], 2, "has no call open"),
        ([HEAD, invoke(), end(position=-1)], 3, "position"),
    ],
)
def test_a_wrong_line_is_named_with_its_reason(lines: list[str | bytes], line: int, reason: str) -> None:
    with pytest.raises(HistoryFormatError, match=reason) as raised:
        parse(lines)
    assert raised.value.line == line
    assert "\n" not in str(raised.value)
