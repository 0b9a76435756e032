"""The types of primitives. To add one is to add its file and its line here.

Nothing is imported until it is asked for, so that a client loads the handles it uses and no more.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

if TYPE_CHECKING:
    from primitives.handle import Handle
    from primitives.machine import Machine


class Registered(NamedTuple):
    """Where a type's two halves are."""

    name: str
    """The type's name for people, also that of its opener on a client."""
    module: str
    machine: str
    handle: str


TYPES: Final = (
    Registered("map", "primitives.map", "MapMachine", "Map"),
    Registered("counter", "primitives.counter", "CounterMachine", "Counter"),
    Registered("lock", "primitives.lock", "LockMachine", "Lock"),
    Registered("value", "primitives.value", "ValueMachine", "Value"),
    Registered("set", "primitives.set", "SetMachine", "Set"),
    Registered("queue", "primitives.queue", "QueueMachine", "Queue"),
    Registered("election", "primitives.election", "ElectionMachine", "Election"),
    Registered("list", "primitives.list", "ListMachine", "List"),
)

_BY_NAME: Final = {entry.name: entry for entry in TYPES}


def machines() -> dict[int, Machine]:
    """One machine of each type, by the type's number, the catalog's included."""
    from primitives.catalog import CatalogMachine

    built: dict[int, Machine] = {CatalogMachine.TYPE: CatalogMachine()}
    for entry in TYPES:
        machine = cast("Machine", getattr(import_module(entry.module), entry.machine)())
        built[machine.TYPE] = machine
    return built


@cache
def handle(name: str) -> type[Handle]:
    """The handle's class of the type called ``name``; raises KeyError for an unknown one."""
    entry = _BY_NAME[name]
    return cast("type[Handle]", getattr(import_module(entry.module), entry.handle))


@cache
def names() -> dict[int, str]:
    """Names of the types by their numbers."""
    built: dict[Any, str] = {handle(entry.name).TYPE: entry.name for entry in TYPES}
    return built
