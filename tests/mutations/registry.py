"""The registry of planted bugs: mutations of the product that its tests must notice.

A mutation patches functions and attributes of the product's modules in memory, through whatever has the
``setattr`` and ``setitem`` of :class:`pytest.MonkeyPatch`, which takes them back. Each has one definition, in
the module of the part that it breaks; tests, the command and the plugin of pytest find it by its name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import pytest

PRODUCT: Final = ("raftgroup.", "primitives.", "shards.", "router.")
"""Where the names of modules begin that mutations may patch."""


class Patch(Protocol):
    """What takes a mutation's changes, and can take them back."""

    def setattr(self, target: Any, name: str, value: Any) -> None:
        """Sets an attribute that is there."""

    def setitem(self, dic: Any, name: Any, value: Any) -> None:
        """Sets an item."""


Plant = Callable[[Patch], None]


@dataclass(frozen=True, slots=True)
class Mutation:
    """A planted bug."""

    name: str
    breaks: str
    """One sentence: what is wrong with the product now."""
    rule: str
    """Which rule it violates: ``pitfall N``, by the table of docs/testing.md, or the rule in a few words."""
    suites: tuple[str, ...]
    """Names of the suites that could notice it, in the order in which they are tried; see ``suites``."""
    plant: Plant


MUTATIONS: Final[dict[str, Mutation]] = {}
"""By name."""


def mutation(name: str, breaks: str, *, rule: str, suites: tuple[str, ...]) -> Callable[[Plant], Plant]:
    """Registers the function below it, which plants a bug."""

    def register(plant: Plant) -> Plant:
        if name in MUTATIONS:
            raise ValueError(f"two mutations are named {name}")
        MUTATIONS[name] = Mutation(name, breaks, rule, suites, plant)
        return plant

    return register


@contextmanager
def planted(name: str) -> Iterator[Mutation]:
    """Has the bug planted while the context lasts."""
    found = MUTATIONS[name]
    with pytest.MonkeyPatch.context() as patch:
        found.plant(patch)
        yield found


def swap(patch: Patch, module: Any, name: str, replacement: Any) -> None:
    """Replaces a function of a module wherever the product refers to it: in other modules, which imported it
    by name, and in their tables."""
    original = getattr(module, name)
    for found in [found for key, found in sorted(sys.modules.items()) if key.startswith(PRODUCT)]:
        for at, value in list(vars(found).items()):
            if value is original:
                patch.setattr(found, at, replacement)
            elif type(value) is dict and not at.startswith("__"):
                for key in [key for key, item in value.items() if item is original]:
                    patch.setitem(value, key, replacement)
