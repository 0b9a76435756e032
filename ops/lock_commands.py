"""``quorate lock``: run a command while holding a lock, and see who holds it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from ops.arguments import Flag, Seconds
from ops.child import GRACE_S
from ops.commands import Commands
from ops.common import DEFAULTS, Common, checked_name
from ops.exits import UsageError
from ops.held import SESSION_TIMEOUT_S, run_holding
from ops.output import Answer
from primitives.lock import Lock
from router.client import Client

commands: Final = Commands(Lock, "Locks, held by one session at a time, first come first served.")
app: Final = commands.app


@app.command
async def run(
    name: str, /, *command: str, no_wait: Flag = False, session_timeout: Seconds = SESSION_TIMEOUT_S,
    grace: Seconds = GRACE_S, common: Common = DEFAULTS,
) -> int:  # fmt: skip
    """Run COMMAND while holding a lock: quorate lock run NAME -- COMMAND ARGUMENT…

    The child finds QUORATE_FENCING_TOKEN, QUORATE_NAME and QUORATE_SESSION in its environment. Signals are
    forwarded to it. If the lease is lost, it gets TERM, a grace, and KILL, and the exit code is 8; else the
    exit code is its own. --timeout limits the wait for the lock, which has no limit otherwise once a node
    has answered; exit code 4 if the lock was not obtained.

    Parameters
    ----------
    name
        The lock's name; the lock is created if need be.
    command
        What to run, after --.
    no_wait
        Do not wait for a lock that somebody else holds.
    session_timeout
        The lock is free for others this long after the last sign of life from here.
    grace
        From TERM to KILL when the lease is lost.
    """
    name = checked_name(name)
    if not command:
        raise UsageError("nothing to run: quorate lock run NAME -- COMMAND …")

    @asynccontextmanager
    async def hold(client: Client) -> AsyncIterator[int | None]:
        lock = client.lock(name)
        grant = await (lock.try_acquire() if no_wait else lock.acquire())
        if grant is None:
            yield None
            return
        async with grant:
            yield grant.token

    return await run_holding(
        "lock", name, command, hold, common, session_timeout=session_timeout, grace=grace
    )


@commands.query
async def show(lock: Lock) -> Answer | None:
    """Print who holds a lock, and the fencing token. Exit code 3 if nobody does."""
    holder = await lock.holder()
    if holder is None:
        return None
    return Answer({"name": lock.name, "session": holder.session, "token": holder.token}, parts=True)
