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
from dataclasses import dataclass
from inspect import Parameter as Declared
from inspect import cleandoc, signature
from typing import Annotated, Any, Concatenate, Final, Generic, ParamSpec, TypeVar, get_args, get_type_hints

from cyclopts import App, Parameter

from ops.arguments import Flag, KeyKind, Meaning, ReadOption
from ops.common import DEFAULTS, Common, checked_name, unlimited, within_limit
from ops.exits import NOT_FOUND, Failure, UsageError, one_line
from ops.output import Result, write_result
from ops.values import READ_LEVELS, parse_key, parse_value
from primitives.handle import LINEARIZABLE, Handle
from router.client import Client

H = TypeVar("H", bound=Handle)
P = ParamSpec("P")
Body = Callable[Concatenate[H, P], Awaitable[Result | None]]
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
_COMMON: Final = Option("common", Common, DEFAULTS, "")


class Commands(Generic[H]):
    """The commands of one type of primitive, collected by its decorators. ``app`` is the group of them.

    ``noun`` is what the type is called in texts; its own name unless given. ``opening`` are options of every
    changing command that are handed to the handle's opener, such as a queue's capacity.
    """

    def __init__(
        self, handle: type[H], text: str, *, noun: str | None = None, opening: tuple[Option, ...] = ()
    ) -> None:
        self.type: Final = handle.NAME
        self.noun: Final = noun or handle.NAME.replace("_", " ")
        self.app: Final = App(handle.NAME.replace("_", "-"), help=text)
        self._opening: Final = opening

    def query(self, body: Body[H, P]) -> Body[H, P]:
        """Declares a command that changes nothing."""
        return self._add(body, reading, (_READ,), f"The {self.noun}'s name.")

    def change(self, body: Body[H, P]) -> Body[H, P]:
        """Declares a command that changes something."""
        text = f"The {self.noun}'s name; the {self.noun} is created if need be."
        return self._add(body, changing, self._opening, text)

    def wait(self, body: Body[H, P]) -> Body[H, P]:
        """Declares a command that waits, without a limit once a node has answered unless it is told one. It
        is cancelled at the limit, and then what it obtained is withdrawn."""
        return self._add(body, unlimited, self._opening, f"The {self.noun}'s name.")

    def _add(
        self, body: Body[H, P], reach: Reach, more: tuple[Option, ...], text: str
    ) -> Body[H, P]:
        name = body.__name__.rstrip("_").replace("_", "-")
        self.app.command(_command(self, body, reach, more, text), name=name)
        return body


def _command(
    commands: Commands[Any], body: Callable[..., Awaitable[Result | None]], reach: Reach,
    more: tuple[Option, ...], text: str,
) -> Callable[..., Awaitable[int]]:  # fmt: skip
    """The function that cyclopts is given for ``body``: with the name in the handle's place, and the options
    of the command's kind behind its own."""
    hints = get_type_hints(body, include_extras=True)
    declared = list(signature(body).parameters.values())[1:]
    meanings = {one.name: meaning_of(hints[one.name]) for one in declared}
    options = [*more, _COMMON]
    if Meaning.KEY in meanings.values():
        options.insert(0, _KEY_AS)
    if Meaning.VALUE in meanings.values():
        options.insert(0, _TEXT)
    opening = {option.name for option in (*more,) if option in commands._opening}

    async def run(name: str, /, *given: Any, **named: Any) -> int:
        name = checked_name(name)
        extra = {option.name: named.pop(option.name, option.default) for option in options}
        bound = bare.bind(*given, **named)
        bound.apply_defaults()
        for one in declared:
            bound.arguments[one.name] = _meant(one, meanings[one.name], bound.arguments[one.name], extra)
        common: Common = extra["common"]
        opened = {option: extra[option] for option in opening if extra[option] is not None}
        async with reach(common) as client:
            handle = client.open(commands.type, name, read=extra.get("read", LINEARIZABLE), **opened)
            with _refusals():
                result = await body(handle, *bound.args, **bound.kwargs)
                return NOT_FOUND if result is None else await write_result(common.write, result)

    shown = [_as_typed(one, hints[one.name], meanings[one.name]) for one in declared]
    bare = signature(body).replace(parameters=shown)
    added = [
        Declared(option.name, Declared.KEYWORD_ONLY, default=option.default, annotation=option.type)
        for option in options
    ]
    first = Declared("name", Declared.POSITIONAL_ONLY, annotation=str)
    run.__signature__ = bare.replace(parameters=[first, *shown, *added])  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in (first, *shown, *added)}
    helps = [("name", text), *((option.name, option.help) for option in options)]
    run.__doc__ = _documented(body.__doc__ or "", helps)
    run.__name__ = body.__name__
    return run


@contextmanager
def _refusals() -> Iterator[None]:
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
