"""The checker against brute force: every order of every choice of unknown calls, tried one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.checker.cells import CellModel
from bench.checker.check import VALID, VIOLATION, check
from bench.checker.maps import WholeMapModel
from bench.checker.models import CounterModel, ListModel, LockModel, WholeSetModel
from bench.checker.moves import Model, State
from bench.checker.objects import WHOLE
from bench.checker.operations import KINDS
from bench.checker.queues import QueueModel
from bench.checker.record import Call, History

KEYS: Final = ("a", "b")
WHOLE_MODELS: Final[dict[str, Callable[[list[Call]], Model]]] = {
    "register": lambda calls: CellModel(is_register=True),
    "map": WholeMapModel,
    "counter": lambda calls: CounterModel(),
    "set": lambda calls: WholeSetModel(),
    "queue": QueueModel,
    "list": lambda calls: ListModel(),
    "lock": LockModel,
    "election": LockModel,
}


def has_an_order(calls: list[Call]) -> bool:
    """Whether some order of all known calls, and of some unknown ones, agrees with real time and the model.
    Nothing is remembered or narrowed. The keys of maps and sets are taken apart, since their revisions need
    not be comparable, unless a call concerns all of them."""
    kept = [one for one in calls if one.outcome != "fail"]
    kept = [one for one in kept if not (one.is_unknown and KINDS[one.kind][one.op].is_query)]
    if calls[0].kind in WHOLE and not any(one.op in WHOLE[one.kind] for one in kept):
        keys = {one.args[0] for one in kept}
        return all(_has_an_order(calls, [one for one in kept if one.args[0] == key]) for key in keys)
    return _has_an_order(calls, kept)


def _has_an_order(calls: list[Call], kept: list[Call]) -> bool:
    model = WHOLE_MODELS[calls[0].kind](calls)
    steps = {one: model.effect(one).step for one in kept}

    def go(left: frozenset[Call], state: State) -> bool:
        known = [one for one in left if not one.is_unknown]
        if not known:
            return True
        end = min(one.end_line or 0 for one in known)
        return any(
            go(left - {one}, after)
            for one in sorted(left, key=lambda one: one.line)
            if one.line < end
            for after in steps[one](state)
        )

    return go(frozenset(kept), model.initial)


class Object:
    """What a correct object answers, so that histories are often valid. Written apart from the models."""

    def __init__(self) -> None:
        self.revision = 0
        self.value: Any = None
        self.entries: dict[str, tuple[Any, int]] = {}
        self.elements: list[Any] = []
        self.members: set[Any] = set()
        self.number = 0
        self.token = 0
        self.last = 0

    def call(self, kind: str, op: str, args: list[Any]) -> Any:
        self.revision += 1
        return getattr(self, f"on_{kind}")(op, args)

    def on_register(self, op: str, args: list[Any]) -> Any:
        entries = {"": self.entries.get("", (None, 0))} if "" in self.entries else {}
        old = entries.get("")
        if op == "get":
            return None if old is None else old[0]
        if op == "get_and_set":
            self.entries[""] = (args[0], self.revision)
            return None if old is None else old[0]
        if op == "compare_and_set" and args[0] is None:
            return self.on_map("put_if_absent", ["", args[1]])
        if op == "replace" and args[1] == 0:
            return self.on_map("put_if_absent", ["", args[0]])
        return self.on_map({"set": "put", "unset": "remove"}.get(op, op), ["", *args])

    def on_map(self, op: str, args: list[Any]) -> Any:
        if op == "size":
            return len(self.entries)
        if op == "items":
            return [[key, value] for key, (value, _) in self.entries.items()]
        if op == "clear":
            self.entries.clear()
            return None
        key, *rest = args
        old = self.entries.get(key)
        shown = None if old is None else {"value": old[0], "revision": old[1]}
        met = {
            "put": True,
            "get_and_put": True,
            "put_if_absent": old is None,
            "replace": old is not None and len(rest) > 1 and old[1] == rest[1],
            "compare_and_set": old is not None and old[0] == rest[0] if rest else False,
            "remove": old is not None and (not rest or old[1] == rest[0]),
        }
        match op:
            case "get":
                return None if old is None else old[0]
            case "entry":
                return shown
            case "contains":
                return old is not None
            case "increment":
                before = 0 if old is None else old[0]
                self.entries[key] = (before + 1, self.revision)
                return before + 1
        if met[op] and op == "remove":
            del self.entries[key]
        elif met[op]:
            self.entries[key] = (rest[1 if op == "compare_and_set" else 0], self.revision)
        return {"put": self.revision, "get_and_put": shown}.get(op, met[op])

    def on_counter(self, op: str, args: list[Any]) -> Any:
        before = self.number
        match op:
            case "get":
                return before
            case "set":
                self.number = args[0]
                return self.revision
            case "compare_and_set":
                self.number = args[1] if before == args[0] else before
                return before == args[0]
            case "get_and_add":
                self.number += args[0]
                return before
        self.number += {"increment": 1, "decrement": -1}.get(op) or args[0]
        return self.number

    def on_set(self, op: str, args: list[Any]) -> Any:
        match op:
            case "size":
                return len(self.members)
            case "elements":
                return sorted(self.members)
            case "clear":
                return self.members.clear()
            case "contains":
                return args[0] in self.members
        changed = (args[0] in self.members) == (op == "remove")
        self.members ^= {args[0]} if changed else set()
        return changed

    def on_queue(self, op: str, args: list[Any]) -> Any:
        held = self.elements
        match op:
            case "offer":
                held.append(args[0])
                return self.revision
            case "offer_many":
                return held.extend(args[0])
            case "poll":
                return held.pop(0) if held else None
            case "peek":
                return held[0] if held else None
            case "size":
                return len(held)
            case "elements":
                return list(held)
        return held.clear()

    def on_list(self, op: str, args: list[Any]) -> Any:
        held = self.elements
        match op:
            case "append":
                held.append(args[0])
            case "insert":
                held.insert(args[0], args[1])
            case "set" if held:
                held[0] = args[1]
            case "pop" | "get" if held:
                return held.pop(args[0]) if op == "pop" else held[args[0]]
            case "remove":
                found = args[0] in held
                held[:] = held[: held.index(args[0])] + held[held.index(args[0]) + 1 :] if found else held
                return found
            case "index":
                return held.index(args[0]) if args[0] in held else None
            case "size":
                return len(held)
            case "slice":
                return list(held)
            case "clear":
                return held.clear()
            case "set" | "pop" | "get":
                raise IndexError
        return self.revision

    def on_lock(self, op: str, args: list[Any]) -> Any:
        match op:
            case "try_acquire" | "acquire" if not self.token:
                self.token = self.last = self.last + 1
                return self.token
            case "try_acquire":
                return None
            case "acquire":
                raise IndexError
            case "holder":
                return {"session": 1, "token": self.token} if self.token else None
        held = self.token == args[0]
        self.token = 0 if held else self.token
        return held


def arguments(kind: str, op: str, random: Random, fresh: int) -> list[Any]:
    """Arguments for a call: few values, so that they meet, or one of its own."""
    value = random.choice((1, 2, fresh + 10))
    by_op: dict[str, list[Any]] = {
        "compare_and_set": [random.choice((1, 2)), value],
        "replace": [value, random.randrange(8)],
        "insert": [random.randrange(3), value],
        "set": [value],
        "offer_many": [[value, value + 100]],
        "extend": [[value, value + 100]],
        "pop": [random.choice((0, -1))],
        "get_and_add": [1],
        "increment": [],
        "release": [random.randrange(1, 4)],
        "expire": [random.randrange(1, 4)],
    }
    shape = KINDS[kind][op]
    if kind == "map" and op not in ("size", "items", "clear"):
        key = random.choice(KEYS)
        rest = by_op.get(op, [value] if shape.least == 2 else [])
        return [key, *rest]
    if kind == "list" and op == "set":
        return [0, value]
    if kind == "list" and op == "get":
        return [random.choice((0, -1))]
    if op in by_op:
        return by_op[op]
    return [value] if shape.least else []


OPERATIONS: Final = {
    "register": ("set", "get", "entry", "compare_and_set", "get_and_set", "replace", "unset"),
    "map": ("put", "get", "entry", "put_if_absent", "compare_and_set", "remove", "replace", "contains",
            "increment", "get_and_put"),
    "whole map": ("put", "get", "entry", "get_and_put", "replace", "remove", "size", "items", "clear"),
    "counter": ("get", "add", "increment", "set", "compare_and_set", "get_and_add"),
    "set": ("add", "remove", "contains"),
    "whole set": ("add", "remove", "contains", "size", "elements", "clear"),
    "queue": ("offer", "poll", "poll"),
    "whole queue": ("offer", "offer_many", "poll", "peek", "size", "elements", "clear"),
    "list": ("append", "insert", "get", "set", "pop", "remove", "index", "size", "slice", "clear"),
    "lock": ("acquire", "try_acquire", "try_acquire", "release", "release", "expire", "holder"),
}  # fmt: skip


def history(name: str, seed: int, length: int) -> list[Call]:
    """A history of concurrent calls on one object: made by a correct one, then perhaps with something wrong
    in it, or with the outcome of some calls unknown."""
    random = Random(seed)
    kind = name.split()[-1]
    made = Object()
    line = 1
    calls: list[Call] = []
    running: list[Call] = []
    with_places = random.random() < 0.5
    spoil = random.random() < 0.5
    while len(calls) < length or running:
        line += 1
        if len(calls) < length and len(running) < 3 and random.random() < 0.6:
            op = random.choice(OPERATIONS[name])
            args = arguments(kind, op, random, len(calls))
            call = Call(f"p{len(calls)}", line, kind, "o", op, args, line=line)
            calls.append(call)
            running.append(call)
        elif running:
            call = running.pop(random.randrange(len(running)))
            _end(call, made, random, line, with_places)
    if spoil and (known := [one for one in calls if one.outcome == "ok"]):
        victim, donor = random.choice(known), random.choice(known)
        if type(victim.result) is type(donor.result) and victim.op != "offer_many":
            victim.result = donor.result
        elif isinstance(victim.result, bool):
            victim.result = not victim.result
    return calls


def _end(call: Call, made: Object, random: Random, line: int, with_places: bool) -> None:
    """The call ends: it took effect, or, if unknown, perhaps."""
    unknown = call.op == "expire" or random.random() < 0.2
    if unknown and random.random() < 0.4:
        call.outcome = "info"
        call.end_line = line
        return
    try:
        result = made.call(call.kind, call.op, call.args)
    except IndexError:
        call.outcome = "fail"
        call.end_line = line
        return
    call.end_line = line
    call.outcome = "info" if unknown else "ok"
    if not unknown:
        call.end_us = line
        call.result = result
        is_change = not KINDS[call.kind][call.op].is_query and result is not False
        if with_places and is_change and call.kind not in ("lock",) and random.random() < 0.7:
            call.position = made.revision


@pytest.mark.parametrize("name", OPERATIONS)
@given(seed=st.integers(0, 1 << 40), length=st.integers(2, 9))
@settings(max_examples=150, deadline=None)
def test_the_search_and_brute_force_agree(name: str, seed: int, length: int) -> None:
    calls = history(name, seed, length)
    verdict = check(History({}, calls))
    assert verdict.outcome == (VALID if has_an_order(calls) else VIOLATION), calls


@pytest.mark.parametrize("name", OPERATIONS)
def test_both_verdicts_are_met(name: str) -> None:
    found: Sequence[bool] = [has_an_order(history(name, seed, 7)) for seed in range(200)]
    assert 20 < sum(found) < 195


@pytest.mark.parametrize("name", OPERATIONS)
@given(seed=st.integers(0, 1 << 40))
@settings(max_examples=30, deadline=None)
def test_the_order_that_is_found_is_one(name: str, seed: int) -> None:
    """Each call in it is what the model says, and none stands before one that had ended before it began."""
    calls = history(name, seed, 9)
    verdict = check(History({}, calls))
    models = WHOLE_MODELS[calls[0].kind](calls)
    for judgement in verdict.judgements:
        # Beside a violation, calls that had not ended then stand as if their outcome were unknown.
        order = judgement.order if judgement.outcome == VALID else []
        assert len(set(map(id, order))) == len(order)
        states: set[Any] = {models.initial}
        for at, call in enumerate(order):
            states = {after for state in states for after in models.effect(call).step(state)}
            assert states
            assert all(call.line < (one.end_line or 0) for one in order[at + 1 :] if not one.is_unknown)
