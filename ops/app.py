"""The command line as a whole: the program's commands and its global options.

A group of commands is loaded when it is used, so that ``quorate map get`` loads no store and no node.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cyclopts import App

from ops.exits import UsageError
from ops.versions import product_version

GLOBAL_OPTIONS: Final = ("-w", "--write", "--url", "--timeout", "--read", "--log-level")
"""Options that several commands have, and that may stand before the subcommand. All take a value."""

_GROUPS: Final = {
    "map": ("ops.map_commands:app", "Maps: entries of a key and a value."),
    "counter": ("ops.counter_commands:app", "Counters: replicated 64-bit numbers."),
    "value": ("ops.value_commands:app", "Values: one value each, set or unset."),
    "set": ("ops.set_commands:app", "Sets: elements, each there or not."),
    "queue": ("ops.queue_commands:app", "Queues: elements in the order offered, each for one taker."),
    "election": ("ops.election_commands:app", "Elections: one leader at a time among those who campaign."),
    "list": ("ops.list_commands:app", "Lists: elements by index, from 0; negative ones count from the end."),
    "lock": ("ops.lock_commands:app", "Locks, held by one session at a time, first come first served."),
    "primitive": ("ops.primitive_commands:app", "Primitives of all types: what there is, and where."),
    "session": ("ops.session_commands:app", "Sessions: who is connected, and what they hold."),
    "group": ("ops.group_commands:app", "Groups: each a Raft log with replicas on some nodes."),
    "check": ("ops.check_commands:app", "Judge recorded histories, offline."),
    "bench": ("ops.bench_command:app", "Measure Quorate and its peers, and read what was measured."),
    "slot": ("ops.slot_commands:app", "Slots, the units of placement, and the groups that own them."),
}
_COMMANDS: Final = {
    "dev": ("ops.start_commands:dev", "Run a cluster on this machine, for development."),
    "serve": ("ops.start_commands:serve", "Run one node of a cluster."),
    "simulate": ("ops.simulate_command:simulate", "Run simulated clusters under faults, from seeds."),
    "top": ("ops.top_command:top", "Show nodes and groups at work, refreshed until interrupted."),
    "status": ("ops.status_command:status", "Print nodes and groups as a node sees them."),
}


def build() -> App:
    """The program."""
    app = App(
        "quorate", help="A sharded coordination service: locks, elections, maps and more, by Raft groups.",
        version=product_version, backend="trio", result_action="return_value", exit_on_error=False,
        print_error=False, suppress_keyboard_interrupt=False,
    )  # fmt: skip
    for name, (path, text) in {**_COMMANDS, **_GROUPS}.items():
        app.command(path, name=name, help=text)
    return app


def hoist(tokens: Sequence[str]) -> list[str]:
    """``tokens`` with the global options moved behind the subcommand and its arguments, but before ``--``,
    so that they may stand anywhere. Raises :class:`~ops.exits.UsageError` if one lacks its value."""
    tokens = list(tokens)
    end = tokens.index("--") if "--" in tokens else len(tokens)
    kept: list[str] = []
    moved: list[str] = []
    at = 0
    while at < end:
        token = tokens[at]
        at += 1
        if token in GLOBAL_OPTIONS:
            if at == end:
                raise UsageError(f"{token} needs a value")
            moved += [token, tokens[at]]
            at += 1
        elif token.startswith(tuple(f"{option}=" for option in GLOBAL_OPTIONS)):
            moved.append(token)
        else:
            kept.append(token)
    return [*kept, *moved, *tokens[end:]]
