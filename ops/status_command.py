"""``quorate status``: the cluster as one node sees it, and whether all replicas hold the same state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from ops.arguments import Flag
from ops.common import DEFAULTS, Common, within_limit
from ops.exits import DONE, FAILED, UNAVAILABLE, Failure
from ops.output import Column, Format, Row, write_answer, write_line, write_rows

HASHES_TIMEOUT_S: Final = 30.0
"""Time limit unless said, when hashes are asked for: a node waits 20 s for replicas that do not tell."""

_NODES: Final = ("node", "name", "client", "peer", Column("connected"))
_GROUPS: Final = (
    "group", "role", Column("leader"), "term", "commit", "applied", "revision", "sessions", "slots"
)  # fmt: skip
_USAGE: Final = ("resident_bytes", "group_bytes", "cpu_percent", "cpu_s")
_HASHES: Final = ("group", "revision", "rows", "replicas", Column("equal"), "hash")


async def status(
    *, hashes: Flag = False, common: Common = DEFAULTS
) -> int:
    """Print nodes and groups as the node that was reached sees them.

    Exit code 5 if a group has no leader in its reach. With --hashes, exit code 1 if replicas of a group
    differ, 5 if some did not tell.

    Parameters
    ----------
    hashes
        Log a marker in every group, and compare the hashes of all replicas' state as of it.
    """
    if hashes and common.timeout is None:
        common = replace(common, timeout=HASHES_TIMEOUT_S)
    async with within_limit(common, changes=False) as client:
        told = await client.status(hashes=hashes)
    compared = compare(told.get("hashes", []))
    write(common.write, told, compared)
    return verdict(told, compared)


def compare(hashes: Sequence[Row]) -> list[dict[str, Any]]:
    """One row for each group: how many replicas told, and whether their hashes at the marker are equal."""
    groups: dict[int, list[Row]] = {}
    for told in hashes:
        groups.setdefault(told["group"], []).append(told)
    rows = []
    for group, replicas in sorted(groups.items()):
        first = replicas[0]
        equal = all((one["revision"], one["hash"]) == (first["revision"], first["hash"]) for one in replicas)
        rows.append({
            "group": group, "revision": first["revision"], "rows": first["rows"], "replicas": len(replicas),
            "equal": equal, "hash": first["hash"],
        })  # fmt: skip
    return rows


def verdict(told: Mapping[str, Any], compared: Sequence[Row]) -> int:
    """The exit code for a status; raises Failure with a line where replicas differ or did not tell."""
    differing = [str(row["group"]) for row in compared if not row["equal"]]
    if differing:
        raise Failure(f"replicas hold different state in group {', '.join(differing)}", FAILED)
    missing = told.get("hashes_missing", [])
    if missing:
        names = ", ".join(f"group {group} on node {node}" for group, node in missing[:8])
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        why = "its node may be away, or a snapshot took it past the marker: ask again"
        raise Failure(f"no hash from {names}{more}; {why}", UNAVAILABLE)
    if left_out := told.get("hashes_left_out"):
        raise Failure(f"the hashes of {left_out} replicas did not fit into the answer", UNAVAILABLE)
    return DONE if told["ready"] else UNAVAILABLE


def write(format: Format, told: Mapping[str, Any], compared: Sequence[Row]) -> None:
    """Shows a status: all of it as JSON, else its nodes, groups and compared hashes."""
    if format in ("json", "jsonl"):
        write_answer(format, told)
        return
    parts = [("node", _NODES, told["nodes"]), ("group", _GROUPS, told["groups"])]
    if told.get("usage") is not None:
        parts.append(("usage", _USAGE, [told["usage"]]))
    if "hashes" in told:
        parts.append(("hash", _HASHES, compared))
    for at, (kind, columns, rows) in enumerate(parts):
        if format == "simple":
            write_rows(format, ("kind", *columns), [{"kind": kind, **row} for row in rows])
        else:
            if at:
                write_line("")
            write_rows(format, columns, rows)
