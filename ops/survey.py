"""The cluster as all its nodes see it: their statuses, asked of each by itself, and what two of them, one
after the other, say of the rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import trio

from router.client import Client, connect

Told = dict[int, Mapping[str, Any]]
"""What each node that answered told, by its id."""


class Survey:
    """Asks every node of a cluster for its status, over connections that :meth:`run` keeps. For one task."""

    def __init__(self, client: Client) -> None:
        self._first: Final = client
        self._clients: Final[dict[str, Client]] = {}
        """A client by the address of the one node that it is for."""
        self._ready: Final[dict[str, trio.Event]] = {}
        self._send, self._receive = trio.open_memory_channel[str](math.inf)  # as many as there are nodes

    async def run(self) -> None:
        """Keeps a connection with each node that :meth:`ask` has heard of, until cancelled."""
        async with trio.open_nursery() as nursery:
            async for address in self._receive:
                nursery.start_soon(self._keep, address)

    async def _keep(self, address: str) -> None:
        async with connect(f"quorate://{address}") as client:
            self._clients[address] = client
            self._ready[address].set()
            await trio.sleep_forever()

    async def ask(self, limit_s: float) -> tuple[list[Mapping[str, Any]], Told]:
        """The cluster's nodes, and what those of them told that answered within ``limit_s``. Waits for one
        node at least."""
        nodes: list[Mapping[str, Any]] = (await self._first.status())["nodes"]
        for node in nodes:
            if node["client"] not in self._ready:
                self._ready[node["client"]] = trio.Event()
                self._send.send_nowait(node["client"])
        told: Told = {}

        async def one(node: Mapping[str, Any]) -> None:
            await self._ready[node["client"]].wait()
            status = await self._clients[node["client"]].status()
            # The client may have come to know other nodes; their answers are not this one's.
            if status["node"] == node["node"]:
                told[node["node"]] = status

        with trio.move_on_after(limit_s):
            async with trio.open_nursery() as nursery:
                for node in nodes:
                    nursery.start_soon(one, node)
        return nodes, told


def frame(
    nodes: list[Mapping[str, Any]], told: Told, before: Told | None, elapsed_s: float
) -> dict[str, Any]:
    """What there is to show of one survey, with rates since the one ``before``, ``elapsed_s`` ago."""
    groups = _groups(nodes, told, before, elapsed_s)
    rows = []
    for node in nodes:
        status = told.get(node["node"])
        usage = {} if status is None else status.get("usage") or {}
        mine = [group for group in groups if group["leader"] == node["name"]]
        row = {
            "node": node["node"], "name": node["name"], "client": node["client"], "up": status is not None,
            "groups": None if status is None else len(status["groups"]),
            "leads": len(mine),
            "entries_s": _sum(group["entries_s"] for group in mine),
            "resident_bytes": usage.get("resident_bytes"), "cpu_percent": usage.get("cpu_percent"),
        }  # fmt: skip
        rows.append(row)
    return {
        "cluster": next((status["cluster"] for status in told.values()), None),
        "interval": round(elapsed_s, 3),
        "entries_s": _sum(group["entries_s"] for group in groups),
        "nodes": rows,
        "groups": groups,
    }


def _groups(
    nodes: list[Mapping[str, Any]], told: Told, before: Told | None, elapsed_s: float
) -> list[dict[str, Any]]:
    names = {node["node"]: node["name"] for node in nodes}
    replicas: dict[int, list[tuple[int, Mapping[str, Any]]]] = {}
    for node, status in told.items():
        for group in status["groups"]:
            replicas.setdefault(group["group"], []).append((node, group))
    rows = []
    for number, seen in sorted(replicas.items()):
        # Of two that say they lead, the later one does.
        leading = max(
            ((node, one) for node, one in seen if one["role"] == "leader"),
            key=lambda pair: pair[1]["term"], default=None,
        )  # fmt: skip
        furthest = max(one["commit"] for _, one in seen)
        _, shown = leading or max(seen, key=lambda pair: pair[1]["commit"])
        rows.append({
            "group": number,
            "leader": None if leading is None else names.get(leading[0], str(leading[0])),
            "term": shown["term"],
            "commit": furthest,
            "entries_s": _rate(number, furthest, before, elapsed_s),
            "behind": max(furthest - one["applied"] for _, one in seen),
            "sessions": shown["sessions"],
            "slots": shown["slots"],
            "replicas": len(seen),
        })  # fmt: skip
    return rows


def _rate(group: int, commit: int, before: Told | None, elapsed_s: float) -> float | None:
    """Committed entries a second; None where there is nothing to compare with."""
    if before is None or elapsed_s <= 0:
        return None
    seen = (one for status in before.values() for one in status["groups"])
    former = [one["commit"] for one in seen if one["group"] == group]
    return max(0.0, round((commit - max(former)) / elapsed_s, 1)) if former else None


def _sum(rates: Any) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return round(sum(known), 1) if known else None
