"""``quorate session``: who is connected, what they hold, and the end of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from cyclopts import App

from ops.arguments import Whole
from ops.commands import changing, reading
from ops.common import DEFAULTS, Common
from ops.exits import DONE, NOT_FOUND, Failure, UsageError
from ops.output import Answer, Column, Row, write_result, write_rows
from ops.values import show_seconds
from router.client import Client

app: Final = App("session", help="Sessions: the clients that hold something, or did something lately.")

_ID_LENGTH: Final = 32


def _ms(value: Any) -> str:
    return show_seconds(value / 1000)


_SESSIONS: Final = (
    "id", Column("groups"), Column("holdings", title="holds"), Column("timeout_ms", _ms, "timeout"),
    Column("heard_ms_ago", _ms, "heard"), Column("ending"),
)  # fmt: skip
_PARTS: Final = ("group", "id", "number", "timeout_ms", "heard_ms_ago", "ending", "holdings")
_REGISTRATIONS: Final = (
    "group", "number", Column("holdings", title="holds"), Column("timeout_ms", _ms, "timeout"),
    Column("heard_ms_ago", _ms, "heard"), Column("ending"),
)  # fmt: skip


@app.command
async def ls(*, group: Whole | None = None, common: Common = DEFAULTS) -> int:
    """Print sessions: the groups that know them, how many things they hold there, when they were last heard.

    Parameters
    ----------
    group
        Only those that this group knows.
    """
    async with reading(common) as client:
        sessions = _merged([one async for one in _registrations(client, group)])
    write_rows(common.write, _SESSIONS, sessions)
    return DONE


@app.command
async def show(id: str, /, *, common: Common = DEFAULTS) -> int:
    """Print a session's registration in each group that knows it. Exit code 3 if none does.

    Parameters
    ----------
    id
        Its id, or a beginning that no other has.
    """
    beginning = _checked(id)
    async with reading(common) as client:
        found = await _find(client, beginning)
        told = [] if found is None else await client.admin("session", found)
    if not told:
        return NOT_FOUND
    write_rows(common.write, _REGISTRATIONS, [{name: one[name] for name in _PARTS} for one in told])
    return DONE


@app.command
async def end(id: str, /, *, common: Common = DEFAULTS) -> int:
    """End a session: what it holds is void once its timeout has passed. Exit code 3 if no group knows it.

    Its leases are renewed no more, so its client is told in time to let go.

    Parameters
    ----------
    id
        Its id, or a beginning that no other has.
    """
    beginning = _checked(id)
    async with changing(common) as client:
        found = await _find(client, beginning)
        groups = [] if found is None else await client.admin("session-end", found)
    code = DONE if groups else NOT_FOUND
    return await write_result(common.write, Answer({"id": found or id, "groups": groups}, code=code))


def _checked(id: str) -> str:
    wanted = id.lower()
    if not 0 < len(wanted) <= _ID_LENGTH or set(wanted) - set("0123456789abcdef"):
        raise UsageError(f"{id!r} is not a session's id, which has {_ID_LENGTH} hexadecimal digits")
    return wanted


async def _find(client: Client, beginning: str) -> str | None:
    """The whole id of the session whose id begins so; None if there is none. Raises Failure if several do."""
    if len(beginning) == _ID_LENGTH:
        return beginning
    found = {one["id"] async for one in _registrations(client, None) if one["id"].startswith(beginning)}
    if len(found) > 1:
        raise Failure(f"{len(found)} sessions' ids begin with {beginning}")
    return found.pop() if found else None


async def _registrations(client: Client, group: int | None) -> AsyncIterator[dict[str, Any]]:
    """Sessions as groups know them, page by page."""
    shard_map = await client.shard_map()
    for one in sorted(shard_map.groups) if group is None else [group]:
        behind: int | None = 0
        while behind is not None:
            page = await client.admin("sessions", one, behind)
            for session in page["sessions"]:
                yield session
            behind = page["behind"]


def _merged(registrations: list[dict[str, Any]]) -> list[Row]:
    """One row for each session, by id: what its registrations say together."""
    sessions: dict[str, list[dict[str, Any]]] = {}
    for one in registrations:
        sessions.setdefault(one["id"], []).append(one)
    return [
        {
            "id": id,
            "groups": [one["group"] for one in every],
            "holdings": sum(one["holdings"] for one in every),
            "timeout_ms": max(one["timeout_ms"] for one in every),
            "heard_ms_ago": min(one["heard_ms_ago"] for one in every),
            "ending": any(one["ending"] for one in every),
        }
        for id, every in sorted(sessions.items())
    ]
