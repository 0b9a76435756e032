"""``quorate lock``: run a command while holding a lock, and see who holds it."""

from __future__ import annotations

import math
import signal
import sys
from dataclasses import dataclass
from typing import Annotated, Final

import trio
from cyclopts import App, Parameter

from ops.child import GRACE_S, Child
from ops.common import DEFAULTS, Common, Seconds, checked_name, connected, reach, within_limit
from ops.exits import CONDITION, DONE, LOST, NOT_FOUND, Failure, UsageError, leaf, one_line
from ops.output import write_record
from primitives.errors import QuorateError, SessionLost
from router.client import Client

app = App("lock", help="Locks, held by one session at a time, first come first served.")

SESSION_TIMEOUT_S: Final = 10.0
_TERMINATED: Final = 128 + signal.SIGTERM


@dataclass(slots=True)
class _Run:
    """How far ``lock run`` has come."""

    child: Child | None = None
    code: int | None = None
    terminated: bool = False


@app.command
async def run(
    name: str, /, *command: str, no_wait: Annotated[bool, Parameter(negative="")] = False,
    session_timeout: Seconds = SESSION_TIMEOUT_S, grace: Seconds = GRACE_S, common: Common = DEFAULTS,
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
    state = _Run()
    limit = trio.current_time() + (math.inf if common.timeout is None else common.timeout)
    scope = trio.CancelScope()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_waiting_when_terminated, scope, state)
            async with connected(common, session_timeout=session_timeout) as client:
                # Inside the client's block, so that it still runs to withdraw what was called off.
                with scope:
                    await reach(client, common)
                    scope.deadline = limit
                    await _hold(client, name, command, scope, no_wait, grace, state)
            nursery.cancel_scope.cancel()
    except (QuorateError, BaseExceptionGroup) as error:
        _judge(name, leaf(error), state)
    if state.terminated:
        return _TERMINATED
    if state.code is None:
        raise Failure(f"the lock {name} was not obtained", CONDITION)
    return state.code


def _judge(name: str, error: BaseException, state: _Run) -> None:
    """Raises what ``error`` means for the command. Once the child ended by itself, its exit code is what
    counts: a lock that could not be released comes free with its lease."""
    if not isinstance(error, QuorateError):
        raise error
    if state.code is not None:
        sys.stderr.write(f"quorate: the lock {name} was not released: {one_line(error)}\n")
    elif state.child is not None and isinstance(error, SessionLost):
        raise Failure(f"lost the lock {name} while the command ran; it was stopped", LOST) from None
    else:
        raise error


async def _stop_waiting_when_terminated(scope: trio.CancelScope, state: _Run) -> None:
    """Ends the wait for the lock in order, so that the queue forgets it. While a child runs, its own
    receiver gets the signals instead."""
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        await anext(signals)
        state.terminated = True
        scope.cancel()


async def _hold(
    client: Client, name: str, command: tuple[str, ...], scope: trio.CancelScope, no_wait: bool,
    grace_s: float, state: _Run,
) -> None:  # fmt: skip
    lock = client.lock(name)
    grant = await (lock.try_acquire() if no_wait else lock.acquire())
    if grant is None:
        return
    scope.deadline = math.inf
    async with grant:
        environment = {
            "QUORATE_FENCING_TOKEN": str(grant.token),
            "QUORATE_NAME": name,
            "QUORATE_SESSION": str(client.session.id),
        }
        state.child = await Child.start(command, environment)
        state.code = await state.child.wait(grace_s=grace_s)


@app.command
async def show(name: str, /, *, common: Common = DEFAULTS) -> int:
    """Print who holds a lock, and the fencing token. Exit code 3 if nobody does.

    Parameters
    ----------
    name
        The lock's name.
    """
    name = checked_name(name)
    async with within_limit(common, changes=False) as client:
        holder = await client.lock(name).holder()
    if holder is None:
        return NOT_FOUND
    write_record(common.write, {"name": name, "session": holder.session, "token": holder.token})
    return DONE
