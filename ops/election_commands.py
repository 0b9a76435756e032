"""``quorate election``: run a command as the leader, and see who leads."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final

from ops.arguments import Flag, Positive, Seconds
from ops.child import GRACE_S
from ops.commands import Commands
from ops.common import DEFAULTS, Common, checked_name
from ops.exits import UsageError
from ops.following import follow
from ops.held import SESSION_TIMEOUT_S, run_holding
from ops.output import Answer, Live, Row, printable
from ops.values import parse_value, show
from primitives.election import Candidate, Deposed, Election, Leadership
from router.client import Client

commands: Final = Commands(Election, "Elections: one leader at a time among those who campaign.")
app: Final = commands.app


@app.command
async def run(
    name: str, /, *command: str, data: str | None = None, text: Flag = False,
    session_timeout: Seconds = SESSION_TIMEOUT_S, grace: Seconds = GRACE_S, common: Common = DEFAULTS,
) -> int:  # fmt: skip
    """Campaign, and run COMMAND while leading: quorate election run NAME -- COMMAND ARGUMENT…

    The child finds QUORATE_FENCING_TOKEN (the term), QUORATE_NAME and QUORATE_SESSION in its environment.
    Signals are forwarded to it. If the lease is lost, or somebody ends the leadership, it gets TERM, a grace,
    and KILL, and the exit code is 8; else the exit code is its own. --timeout limits the wait to lead, which
    has no limit otherwise once a node has answered; exit code 4 if it passed.

    Parameters
    ----------
    name
        The election's name; the election is created if need be.
    command
        What to run, after --.
    data
        What others are to see of this candidate, JSON if it parses as such, else text; the host's name unless
        given.
    text
        Take the data as text, whatever it looks like.
    session_timeout
        Somebody else may lead this long after the last sign of life from here.
    grace
        From TERM to KILL when the leadership is lost.
    """
    name = checked_name(name)
    if not command:
        raise UsageError("nothing to run: quorate election run NAME -- COMMAND …")
    brought = socket.gethostname() if data is None else parse_value(data, as_text=text)

    @asynccontextmanager
    async def hold(client: Client) -> AsyncIterator[int | None]:
        async with client.election(name).campaign(brought) as term:
            yield term.term

    return await run_holding(
        "leadership of", name, command, hold, common, session_timeout=session_timeout, grace=grace,
        lost_by=(Deposed,),
    )  # fmt: skip


@commands.query
async def leader(election: Election) -> Answer | None:
    """Print who leads, and the term, which is the fencing token. Exit code 3 if nobody does."""
    found = await election.leader()
    if found is None or found.leader is None:
        return None
    return Answer({"name": election.name, **_parts(found)}, parts=True)


@commands.follow
async def observe(
    election: Election, /, *, count: Positive | None = None, common: Common = DEFAULTS
) -> int:
    """Print who leads, and each change of it as it happens, until interrupted.

    Parameters
    ----------
    count
        End after so many lines.
    """
    live = Live(_line, ("term", "leader", "session", "candidate"))
    return await follow(common, live, _told(election), count=count)


async def _told(election: Election) -> AsyncGenerator[Row, None]:
    async with aclosing(election.observe()) as changes:
        async for found in changes:
            yield _parts(found)


def _parts(found: Leadership) -> Row:
    """Who leads, by name: nulls while nobody does."""
    leader: Candidate | None = found.leader
    return {
        "term": found.term if leader is not None else None,
        "leader": None if leader is None else leader.data,
        "session": None if leader is None else leader.session,
        "candidate": None if leader is None else leader.id,
    }


def _line(row: Row) -> str:
    if row["candidate"] is None:
        return "nobody leads"
    return printable(f"term {row['term']}: {show(row['leader'])}")
