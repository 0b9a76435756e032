"""Seed files: a run that is kept, with its faults spelled out, to be played again or to be made smaller."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from bench.world.faults import KINDS
from bench.world.nemesis import Plan
from bench.world.setting import Setting
from bench.world.target import Fault
from primitives.ids import NodeId

FORMAT: Final = "quorate-seed"
VERSION: Final = 1
LENGTH_MAX_MS: Final = 3_600_000


class SeedFileError(ValueError):
    """A file that cannot be played, and why."""


@dataclass(frozen=True, slots=True)
class SeedFile:
    """What such a file holds."""

    product: str
    """The program's version: another one's runs differ."""
    number: int
    setting: Setting
    plan: Plan | None
    """None: what the seed draws."""
    digest: str
    """Of the trace; empty if it is not known."""
    violation: str | None = None

    def encode(self) -> str:
        """The file's text."""
        head = {
            "format": FORMAT, "version": VERSION, "product": self.product, "seed": self.number,
            "setting": self.setting.as_plain(), "digest": self.digest, "violation": self.violation,
        }  # fmt: skip
        faults = [
            json.dumps({"at_ms": one.at_ms, "kind": one.kind, "last_ms": one.last_ms, **one.details})
            for one in self.plan or ()
        ]
        text = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}")
        return text + ',\n "faults": [\n  ' + ",\n  ".join(faults) + "\n ]\n}\n"


def decode(text: str) -> SeedFile:
    """The inverse of :meth:`SeedFile.encode`. Raises SeedFileError."""
    try:
        plain = json.loads(text)
    except RecursionError:
        raise SeedFileError("it is nested too deep") from None
    except ValueError as error:
        raise SeedFileError(f"it is no JSON: {error}") from None
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise SeedFileError("it is no seed file")
    if plain.get("version") != VERSION:
        found = plain.get("version")
        raise SeedFileError(f"it is of version {found!r}; this program reads version {VERSION}")
    try:
        setting = Setting.of_plain(plain["setting"])
        plan = tuple(_fault(one) for one in _typed(plain, "faults", list))
        _check_nodes(plan, setting.nodes)
        return SeedFile(
            _typed(plain, "product", str), _typed(plain, "seed", int), setting, plan,
            _typed(plain, "digest", str), plain.get("violation"),
        )  # fmt: skip
    except KeyError as error:
        raise SeedFileError(f"it lacks {error.args[0]!r}") from None
    except (TypeError, AttributeError) as error:
        raise SeedFileError(f"it is malformed: {error}") from None
    except ValueError as error:
        raise SeedFileError(str(error)) from None


def _typed(plain: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    value = plain[name]
    if type(value) is not kind:
        raise ValueError(f"{name} is {value!r}")
    return value


def _fault(plain: Any) -> Fault:
    if not isinstance(plain, dict):
        raise TypeError(f"a fault is an object, not {plain!r}")
    details = dict(plain)
    kind = details.pop("kind")
    if kind not in KINDS:
        raise ValueError(f"there is no fault {kind!r}; there are {', '.join(sorted(KINDS))}")
    times = [details.pop(name) for name in ("at_ms", "last_ms")]
    if any(type(one) is not int or not 0 <= one <= LENGTH_MAX_MS for one in times):
        raise ValueError(f"a fault is at {times[0]!r} for {times[1]!r} ms")
    wanted = KINDS[kind].draw(Random(0), [NodeId(number) for number in (1, 2, 3)])
    for name in sorted(wanted.keys() - details.keys()):
        raise ValueError(f"a {kind} lacks {name!r}")
    return Fault(times[0], kind, times[1], details)


def _check_nodes(plan: Plan, nodes: int) -> None:
    for fault in plan:
        named = [fault.details[name] for name in ("node",) if name in fault.details]
        named += fault.details.get("nodes", ())
        for one, other in fault.details.get("pairs", ()):
            named += [one, other]
        for node in named:
            if type(node) is not int or not 1 <= node <= nodes:
                raise ValueError(f"a fault is on node {node!r}; there are {nodes}")
