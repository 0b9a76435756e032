"""How a type of primitive gets its commands: each is declared as a function over the type's handle.

    commands = Commands(Counter, "Counters: replicated 64-bit numbers.")

    @commands.change
    async def add(counter: Counter, number: Whole = 1, /) -> Answer:
        \"\"\"Add to a counter, 1 unless said, and print its new value.\"\"\"
        return shown(counter, await counter.add(number))

The command made of it is ``quorate counter add NAME [NUMBER]``: it has the options that all commands have,
checks its name, keys and values before it connects, opens the handle, calls the function within the time
limit, and writes what that returns, or nothing, with the exit code of "not found", for None.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from inspect import Parameter as Declared
from inspect import Signature, cleandoc, signature
from typing import Annotated, Any, Concatenate, Final, Generic, ParamSpec, TypeVar, get_args, get_type_hints

from cyclopts import App, Parameter

from ops.arguments import Flag, KeyKind, Meaning, Positive, ReadOption
from ops.common import DEFAULTS, Common, checked_name, lasting, unlimited, within_limit
from ops.exits import NOT_FOUND, Failure, UsageError, one_line
from ops.output import Answer, Result, tell_position, write_result
from ops.values import READ_LEVELS, parse_key, parse_value
from primitives.handle import LINEARIZABLE, Handle
from primitives.position import Position
from router.client import Client

H = TypeVar("H", bound=Handle)
P = ParamSpec("P")
Outcome = Result | int | None
"""What is to be written, or an exit code, or nothing: not found."""
Body = Callable[Concatenate[H, P], Awaitable[Outcome]]
Reach = Callable[[Common], AbstractAsyncContextManager[Client]]

_POSITIONAL: Final = (Declared.POSITIONAL_ONLY, Declared.POSITIONAL_OR_KEYWORD, Declared.VAR_POSITIONAL)


def reading(common: Common) -> AbstractAsyncContextManager[Client]:
    """A client for a command that changes nothing, within the time limit."""
    return within_limit(common, changes=False)


def changing(common: Common) -> AbstractAsyncContextManager[Client]:
    """A client for a command that changes something, within the time limit."""
    return within_limit(common, changes=True)


@dataclass(frozen=True, slots=True)
class Option:
    """An option that a command has because of what it is or takes, beside those that it declares."""

    name: str
    type: Any
    default: Any
    help: str


_TEXT: Final = Option("text", Flag, False, "Take values as text, whatever they look like; else JSON is read.")
_KEY_AS: Final = Option(
    "key_as", KeyKind, "text", "How keys are meant: text, a 64-bit integer, or bytes in hexadecimal."
)
_READ: Final = Option(
    "read", ReadOption, LINEARIZABLE, f"How fresh the answer must be, linearizable unless told: {READ_LEVELS}"
)
_SHOW_POSITION: Final = Option(
    "show_position", Flag, False,
    "Tell a position that covers what was done or seen, for --read causal: and for watch --position.",
)  # fmt: skip
_MEANT: Final = {_TEXT.name: Meaning.VALUE, _KEY_AS.name: Meaning.KEY}
_COMMON: Final = Option("common", Common, DEFAULTS, "")


SPREAD: Final = (
    Option("partitions", Positive | None, None,
           "Spread it over this many, 16 unless told: set if this creates it, else what it must have."),
    Option("pinned", Flag, False,
           "Keep all of it in one group: set if this creates it, else as it must be."),
)  # fmt: skip
"""Options for the creation of a primitive that is spread over groups."""


class Commands(Generic[H]):
    """The commands of one type of primitive, collected by its decorators. ``app`` is the group of them.

    ``noun`` is what the type is called in texts; its own name unless given. ``opening`` are options of the
    commands that create a primitive, which are handed to the handle's opener, such as a queue's capacity.
    """

    def __init__(
        self, handle: type[H], text: str, *, noun: str | None = None, opening: tuple[Option, ...] = ()
    ) -> None:
        self.type: Final = handle.NAME
        self.noun: Final = noun or handle.NAME.replace("_", " ")
        self.app: Final = App(handle.NAME.replace("_", "-"), help=text)
        self.opening: Final = opening

    def query(self, body: Body[H, P]) -> Body[H, P]:
        """Declares a command that changes nothing."""
        return self._add(body, reading, (_READ, _SHOW_POSITION), f"The {self.noun}'s name.")

    def change(self, body: Body[H, P]) -> Body[H, P]:
        """Declares a command that changes something."""
        text = f"The {self.noun}'s name; the {self.noun} is created if need be."
        return self._add(body, changing, (_SHOW_POSITION,), text)

    def create(self, body: Body[H, P]) -> Body[H, P]:
        """Declares a command that changes something, and that has options for the primitive's creation."""
        text = f"The {self.noun}'s name; the {self.noun} is created if need be."
        return self._add(body, changing, (*self.opening, _SHOW_POSITION), text)

    def wait(self, body: Body[H, P]) -> Body[H, P]:
        """Declares a command that waits, without a limit once a node has answered unless it is told one. It
        is cancelled at the limit, and then what it obtained is withdrawn."""
        return self._add(body, unlimited, (), f"The {self.noun}'s name.")

    def follow(self, body: Body[H, P]) -> Body[H, P]:
        """Declares a command that goes on until it is ended, and writes and ends by itself. It is handed the
        common options if it declares ``common``."""
        return self._add(body, lasting, (), f"The {self.noun}'s name.")

    def _add(
        self, body: Body[H, P], reach: Reach, more: tuple[Option, ...], text: str
    ) -> Body[H, P]:
        name = body.__name__.rstrip("_").replace("_", "-")
        self.app.command(_Command(self, body, reach, more).function(text), name=name)
        return body


class _Command:
    """A command made of ``body``: with the name in the handle's place, and the options of its kind behind the
    declared ones."""

    def __init__(
        self, commands: Commands[Any], body: Callable[..., Awaitable[Outcome]], reach: Reach,
        more: tuple[Option, ...],
    ) -> None:  # fmt: skip
        hints = get_type_hints(body, include_extras=True)
        parameters = list(signature(body).parameters.values())[1:]
        self._type: Final = commands.type
        self._opening: Final = [option.name for option in more if option in commands.opening]
        self._body: Final = body
        self._reach: Final = reach
        self._declared: Final = [one for one in parameters if one.name != "common"]
        self._wants_common: Final = len(self._declared) < len(parameters)
        self._meanings: Final = {one.name: meaning_of(hints[one.name]) for one in self._declared}
        self.shown: Final = [
            _as_typed(one, hints[one.name], self._meanings[one.name]) for one in self._declared
        ]
        self._bare: Final = Signature(self.shown)
        kinds = self._meanings.values()
        values = [option for option in (_TEXT, _KEY_AS) if _MEANT[option.name] in kinds]
        self.options: Final = [*values, *more, _COMMON]

    async def run(self, name: str, given: tuple[Any, ...], named: dict[str, Any]) -> int:
        """Runs it with what was typed; the exit code."""
        name = checked_name(name)
        extra = {option.name: named.pop(option.name, option.default) for option in self.options}
        bound = self._bare.bind(*given, **named)
        bound.apply_defaults()
        for one in self._declared:
            given_text = bound.arguments[one.name]
            bound.arguments[one.name] = _meant(one, self._meanings[one.name], given_text, extra)
        common: Common = extra["common"]
        named = {**bound.kwargs, "common": common} if self._wants_common else bound.kwargs
        opened = {option: extra[option] for option in self._opening if extra[option] is not None}
        async with self._reach(common) as client:
            with refusals():
                handle = client.open(self._type, name, read=extra.get("read", LINEARIZABLE), **opened)
                outcome = await self._body(handle, *bound.args, **named)
                if extra.get("show_position"):
                    outcome = _with_position(common, outcome, await handle.position())
                if outcome is None or isinstance(outcome, int):
                    return NOT_FOUND if outcome is None else outcome
                return await write_result(common.write, outcome)

    def function(self, text: str) -> Callable[..., Awaitable[int]]:
        """What cyclopts is given; ``text`` is the help for the name."""

        async def run(name: str, /, *given: Any, **named: Any) -> int:
            return await self.run(name, given, named)

        added = [
            Declared(option.name, Declared.KEYWORD_ONLY, default=option.default, annotation=option.type)
            for option in self.options
        ]
        parameters = [Declared("name", Declared.POSITIONAL_ONLY, annotation=str), *self.shown, *added]
        helps = [("name", text), *((option.name, option.help) for option in self.options)]
        run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        run.__doc__ = _documented(self._body.__doc__ or "", helps)
        run.__name__ = self._body.__name__
        return run


def _with_position(common: Common, outcome: Outcome, position: Position | None) -> Outcome:
    """The outcome with a position in it, where it is a record for programs; else that is told apart."""
    if isinstance(outcome, Answer) and common.write in ("json", "jsonl"):
        text = None if position is None else str(position)
        return replace(outcome, record={**outcome.record, "position": text})
    tell_position(position)
    return outcome


@contextmanager
def refusals() -> Iterator[None]:
    """What a handle refuses by Python's own errors is not the program's mistake, but the command line's."""
    try:
        yield
    except IndexError as error:
        raise Failure(one_line(error), NOT_FOUND) from error
    except (ValueError, TypeError) as error:
        raise UsageError(one_line(error)) from error


def meaning_of(hint: Any) -> Meaning | None:
    """The meaning that an annotation marks its argument with, also within an optional one."""
    for part in get_args(hint):
        if isinstance(part, Meaning):
            return part
        if (found := meaning_of(part)) is not None:
            return found
    return None


def _as_typed(one: Declared, hint: Any, meaning: Meaning | None) -> Declared:
    """The parameter as cyclopts sees it: keys and values are text there."""
    if meaning is None:
        return one.replace(annotation=hint)
    optional = one.default is not Declared.empty
    marks = [Parameter(metavar=one.name.upper() if one.kind in _POSITIONAL else meaning.name)]
    marks += [part for part in get_args(hint)[1:] if isinstance(part, Parameter)]
    typed: Any = str | None if optional else str
    for mark in marks:
        typed = Annotated[typed, mark]
    return one.replace(annotation=typed, default=None if optional else Declared.empty)


def _meant(one: Declared, meaning: Meaning | None, given: Any, extra: dict[str, Any]) -> Any:
    """The argument that the command's function gets for what was typed."""
    if meaning is None:
        return given
    if one.kind is Declared.VAR_POSITIONAL:
        return tuple(_parsed(meaning, text, extra) for text in given)
    return one.default if given is None else _parsed(meaning, given, extra)


def _parsed(meaning: Meaning, text: str, extra: dict[str, Any]) -> Any:
    if meaning is Meaning.KEY:
        return parse_key(text, extra["key_as"])
    return parse_value(text, as_text=extra["text"])


def _documented(doc: str, helps: list[tuple[str, str]]) -> str:
    """``doc`` with what the added arguments are for, in its section of parameters."""
    text = cleandoc(doc)
    if "\nParameters\n" not in text:
        text += "\n\nParameters\n----------"
    return text + "".join(f"\n{name}\n    {help}" for name, help in helps if help)
