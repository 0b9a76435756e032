"""How a type's commands are made of functions over its handle: their arguments, options and outcomes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from cyclopts import Parameter

import ops.commands
from ops import runner
from ops.app import build
from ops.arguments import ABSENT, CONDITIONS, Flag, KeyArgument, ValueArgument
from ops.commands import Commands
from ops.common import Common
from ops.output import Answer, Rows
from primitives.handle import LINEARIZABLE, SEQUENTIAL, Handle, Stale

Rule = Parameter(group=CONDITIONS)


class Box(Handle):
    NAME = "box"


class FakeClient:
    """Opens whatever it is asked for, and remembers what that was."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, str, dict[str, Any]]] = []

    def open(self, type_name: str, name: str, **options: Any) -> str:
        self.opened.append((type_name, name, options))
        return f"the {type_name} {name}"


Ran = Callable[..., tuple[int, str, str]]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    client = FakeClient()

    @asynccontextmanager
    async def within(common: Common, *, changes: bool) -> AsyncIterator[FakeClient]:
        yield client

    monkeypatch.setattr(ops.commands, "within_limit", within)
    return client


@pytest.fixture
def run(client: FakeClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ran:
    def call(commands: Commands[Any], *tokens: str) -> tuple[int, str, str]:
        def app() -> Any:
            program = build()
            program.command(commands.app, name="box")
            return program

        monkeypatch.setattr(runner, "build", app)
        code = runner.run(["box", *tokens])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def commands() -> Commands[Box]:
    commands = Commands(Box, "Boxes.")
    @commands.change
    async def put(
        box: Box, key: KeyArgument, /, *values: ValueArgument,
        unless: Annotated[ValueArgument, Rule] = ABSENT, first: Annotated[Flag, Rule] = False,
    ) -> Answer:  # fmt: skip
        """Put it.

        Parameters
        ----------
        values
            What to put.
        """
        told = "absent" if unless is ABSENT else unless
        return Answer({"key": key, "values": list(values), "unless": told, "first": first})

    @commands.query
    async def get_(box: Box) -> Answer | None:
        """Get it."""
        return None

    @commands.query
    async def items(box: Box) -> Rows:
        """Show it."""
        return Rows(("a",), [{"a": 1}], code=9)

    @commands.query
    async def refuse(box: Box, /, *, how: str = "value") -> Answer:
        """Refuse it."""
        if how == "value":
            raise ValueError("a box has\nno such thing")
        raise IndexError("there is no element 7")

    return commands


def test_keys_and_values_arrive_as_what_they_mean(commands: Commands[Box], run: Ran) -> None:
    _, out, _ = run(commands, "put", "b", "k", "1", "[2]", "x", "-w", "jsonl")
    assert json.loads(out) == {"key": "k", "values": [1, [2], "x"], "unless": "absent", "first": False}
    _, out, _ = run(commands, "put", "b", "07", "1", "--text", "--key-as", "hex", "-w", "jsonl")
    assert json.loads(out) == {"key": {"base64": "Bw=="}, "values": ["1"], "unless": "absent", "first": False}


def test_null_is_a_value_and_not_an_option_left_out(commands: Commands[Box], run: Ran) -> None:
    assert json.loads(run(commands, "put", "b", "k", "--unless", "null", "-w", "jsonl")[1])["unless"] is None


def test_conditions_exclude_one_another(commands: Commands[Box], run: Ran) -> None:
    code, out, err = run(commands, "put", "b", "k", "--unless", "1", "--first")
    assert (code, out, err) == (2, "", "quorate: --unless and --first exclude one another\n")


@pytest.mark.parametrize(
    "wrong", [("b", "k" * 1025), ("b", "k", "9" * 30), ("", "k"), ("b", "7x", "--key-as", "int")]
)
def test_what_cannot_be_meant_is_refused_before_a_client_is_asked(
    commands: Commands[Box], run: Ran, client: FakeClient, wrong: tuple[str, ...]
) -> None:
    code, _, err = run(commands, "put", *wrong)
    assert (code, err.count("\n")) == (2, 1)
    assert client.opened == []


def test_nothing_found_is_code_3_without_a_word(commands: Commands[Box], run: Ran) -> None:
    assert run(commands, "get", "b") == (3, "", "")


def test_a_result_brings_its_exit_code(commands: Commands[Box], run: Ran) -> None:
    assert run(commands, "items", "b", "-w", "simple") == (9, "1\n", "")


@pytest.mark.parametrize(
    ("text", "level"),
    [("sequential", SEQUENTIAL), ("stale:250ms", Stale(max_age=0.25)), (None, LINEARIZABLE)],
)
def test_a_question_is_asked_at_the_level_that_was_told(
    commands: Commands[Box], run: Ran, client: FakeClient, text: str | None, level: object
) -> None:
    run(commands, "get", "b", *(() if text is None else ("--read", text)))
    assert client.opened == [("box", "b", {"read": level})]


def test_only_questions_have_a_level(commands: Commands[Box], run: Ran) -> None:
    code, _, err = run(commands, "put", "b", "k", "--read", "sequential")
    assert code == 2
    assert "--read" in err


def test_what_a_handle_refuses_is_one_line(commands: Commands[Box], run: Ran) -> None:
    assert run(commands, "refuse", "b") == (2, "", "quorate: a box has no such thing\n")
    assert run(commands, "refuse", "b", "--how", "index") == (3, "", "quorate: there is no element 7\n")


def test_help_tells_of_every_argument(commands: Commands[Box], run: Ran) -> None:
    code, out, _ = run(commands, "put", "--help")
    assert code == 0
    for words in ("The box's name", "What to put.", "--text", "--key-as", "--timeout", "Put it."):
        assert words in out
