"""What every command that talks to a cluster shares: its options, its client and its time limit."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final

import trio
from cyclopts import Parameter

from ops.arguments import GLOBAL, Seconds
from ops.exits import CONDITION, UNAVAILABLE, UNKNOWN, Failure, UsageError
from ops.output import Format
from primitives.codec import check_name
from primitives.errors import QuorateError
from router.client import Client, connect

URL_DEFAULT: Final = "quorate://127.0.0.1:7400"
TIMEOUT_S: Final = 10.0


@Parameter(name="*", group=GLOBAL)
@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """Options of every command that talks to a cluster."""

    write: Annotated[Format, Parameter(name=["--write", "-w"])] = "table"
    """Format of standard output."""
    url: Annotated[str | None, Parameter(metavar="URL")] = None
    """Where the cluster is: quorate://HOST:PORT[,HOST:PORT…][/NAMESPACE]. Unless given, $QUORATE_URL or
    quorate://127.0.0.1:7400."""
    timeout: Seconds | None = None
    """Time limit in seconds, or with a unit: 250ms, 2m. 10 s unless said."""

    @property
    def limit_s(self) -> float:
        """The time limit, where the command has one unless it is told."""
        return TIMEOUT_S if self.timeout is None else self.timeout

    @property
    def address(self) -> str:
        """The cluster's URL."""
        return self.url or os.environ.get("QUORATE_URL") or URL_DEFAULT


DEFAULTS: Final = Common()
"""Nothing said."""


def checked_name(name: str, what: str = "name") -> str:
    """``name`` in NFC, if a primitive may have it. Raises UsageError with the reason."""
    try:
        return check_name(name, what)
    except (TypeError, ValueError, QuorateError) as error:
        raise UsageError(str(error)) from None


@asynccontextmanager
async def connected(common: Common, **options: Any) -> AsyncIterator[Client]:
    """A client of the cluster, without a time limit. Raises UsageError for a wrong URL."""
    entered = False
    try:
        async with connect(common.address, **options) as client:
            entered = True
            yield client
    except ValueError as error:
        if entered:
            raise
        raise UsageError(str(error)) from None


async def reach(client: Client, common: Common) -> None:
    """Waits until a node answers. Raises Failure (unavailable) after the time limit, or the default one where
    the command has none: nothing can have changed then."""
    with trio.move_on_after(common.limit_s) as scope:
        await client.status()
    if scope.cancelled_caught:
        raise Failure(f"no node answered within {common.limit_s:g} s at {common.address}", UNAVAILABLE)


@asynccontextmanager
async def within_limit(common: Common, *, changes: bool) -> AsyncIterator[Client]:
    """A client that has reached a node, within the time limit from first to last.

    Raises Failure after the limit: unavailable, or with an unknown outcome if the command ``changes``
    something.
    """
    started = trio.current_time()
    try:
        async with connected(common) as client:
            await reach(client, common)
            with trio.fail_at(started + common.limit_s):
                yield client
    except trio.TooSlowError:
        text = f"no answer within {common.limit_s:g} s"
        if changes:
            raise Failure(f"{text}; the change may or may not have taken effect", UNKNOWN) from None
        raise Failure(text, UNAVAILABLE) from None


@asynccontextmanager
async def lasting(common: Common) -> AsyncIterator[Client]:
    """A client that has reached a node, for as long as the block takes. Its time limit is its own affair."""
    async with connected(common) as client:
        await reach(client, common)
        yield client


@asynccontextmanager
async def unlimited(common: Common) -> AsyncIterator[Client]:
    """A client that has reached a node, for as long as the block takes unless a time limit was told.

    Once the limit has passed, or TERM or HUP came, what the block waits for is withdrawn in order, and
    Failure is raised.
    """
    limit = trio.current_time() + (math.inf if common.timeout is None else common.timeout)
    scope = trio.CancelScope()
    ended: list[int] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(cancel_when_ended, scope, ended)
        async with connected(common) as client:
            # Inside the client's block, so that it still runs to withdraw what was called off.
            with scope:
                await reach(client, common)
                scope.deadline = limit
                yield client
        nursery.cancel_scope.cancel()
    if ended:
        raise Failure("", 128 + ended[0])
    if scope.cancelled_caught:
        raise Failure(f"nothing came within {common.limit_s:g} s", CONDITION)


async def cancel_when_ended(
    scope: trio.CancelScope, ended: list[int], *signals: signal.Signals,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:  # fmt: skip
    """Cancels ``scope`` when a signal comes, whose number is put into ``ended``: TERM and HUP, and those of
    ``signals``."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGHUP, *signals) as received:
        task_status.started()
        ended.append(await anext(received))
        scope.cancel()
