"""Running a command while something is held: a lock, a leadership."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final

import trio

from ops.child import Child
from ops.common import Common, connected, reach
from ops.exits import CONDITION, LOST, Failure, leaf, one_line
from primitives.errors import QuorateError, SessionLost
from router.client import Client

SESSION_TIMEOUT_S: Final = 10.0
_TERMINATED: Final = 128 + signal.SIGTERM

Hold = Callable[[Client], AbstractAsyncContextManager[int | None]]
"""Waits for what is to be held and holds it for a block; gives the fencing token, or None if it was not
obtained. The block is cancelled, and SessionLost raised, when it is lost."""


@dataclass(slots=True)
class _Run:
    """How far it has come."""

    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Around the wait for what is to be held, and the child."""
    child: Child | None = None
    code: int | None = None
    terminated: bool = False


async def run_holding(
    what: str, name: str, command: Sequence[str], hold: Hold, common: Common, *, session_timeout: float,
    grace: float, lost_by: tuple[type[QuorateError], ...] = (),
) -> int:  # fmt: skip
    """Runs ``command`` while ``hold`` holds ``what`` (a "lock") of that name; its exit code.

    The time limit is for the wait; without one there is none once a node has answered. The child gets the
    token in its environment, and TERM, ``grace`` seconds and KILL when what is held is lost: with the lease,
    or by an error of ``lost_by``. Raises Failure: not obtained, or lost.
    """
    state = _Run()
    limit = trio.current_time() + (math.inf if common.timeout is None else common.timeout)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_waiting_when_terminated, state)
            async with connected(common, session_timeout=session_timeout) as client:
                # Inside the client's block, so that it still runs to withdraw what was called off.
                with state.scope:
                    await reach(client, common)
                    state.scope.deadline = limit
                    async with hold(client) as token:
                        if token is not None:
                            await _run_child(client, name, command, token, grace, state)
            nursery.cancel_scope.cancel()
    except (QuorateError, BaseExceptionGroup) as error:
        _judge(what, name, leaf(error), state, lost_by)
    if state.terminated:
        return _TERMINATED
    if state.code is None:
        raise Failure(f"the {what} {name} was not obtained", CONDITION)
    return state.code


async def _run_child(
    client: Client, name: str, command: Sequence[str], token: int, grace_s: float, state: _Run
) -> None:
    state.scope.deadline = math.inf
    environment: dict[str, str] = {
        "QUORATE_FENCING_TOKEN": str(token),
        "QUORATE_NAME": name,
        "QUORATE_SESSION": str(client.session.id),
    }
    state.child = await Child.start(command, environment)
    state.code = await state.child.wait(grace_s=grace_s)


def _judge(
    what: str, name: str, error: BaseException, state: _Run, lost_by: tuple[type[QuorateError], ...]
) -> None:
    """Raises what ``error`` means for the command. Once the child ended by itself, its exit code is what
    counts: what could not be released comes free with its lease."""
    if not isinstance(error, QuorateError):
        raise error
    if state.code is not None:
        sys.stderr.write(f"quorate: the {what} {name} was not released: {one_line(error)}\n")
    elif state.child is not None and isinstance(error, (SessionLost, *lost_by)):
        raise Failure(f"lost the {what} {name} while the command ran; it was stopped", LOST) from None
    else:
        raise error


async def _stop_waiting_when_terminated(state: _Run) -> None:
    """Ends the wait in order, so that the queue forgets it. While a child runs, its own receiver gets the
    signals instead."""
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        await anext(signals)
        state.terminated = True
        state.scope.cancel()
