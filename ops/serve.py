"""``quorate serve``: one node in this process, from its start to a signal that ends it."""

from __future__ import annotations

import os
import signal
import sys

import trio

from ops.config import Settings
from ops.exits import DONE, INTERRUPTED, Failure, leaf
from shards.config import NodeConfig, NodeFailed, StartError
from shards.node import run_node

_READ_BYTES = 4096


def node_config(settings: Settings) -> NodeConfig:
    """The node's own configuration."""
    return NodeConfig(
        name=settings.name, data=settings.data, listen=settings.listen, peer=settings.peer,
        advertise=settings.advertise, cluster=settings.cluster, groups=settings.groups,
        replicas=settings.replicas,
        together=settings.leaders == "together",
    )  # fmt: skip


async def run(settings: Settings, *, until_eof: bool) -> int:
    """Runs the node until a signal, or the end of standard input if ``until_eof``; the exit code. Raises
    Failure with one line if the node cannot start, or had to stop."""
    ended: list[int] = []
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_signal, nursery.cancel_scope, ended)
            if until_eof:
                nursery.start_soon(_until_eof, nursery.cancel_scope)
            running = await nursery.start(run_node, node_config(settings))
            await running.ready.wait()
            sys.stdout.write(f"ready: {settings.advertise}\n")
            sys.stdout.flush()
    except (StartError, NodeFailed, BaseExceptionGroup) as error:
        found = leaf(error)
        if isinstance(found, StartError | NodeFailed):
            raise Failure(str(found)) from None
        raise
    return INTERRUPTED if ended == [signal.SIGINT] else DONE


async def _until_signal(scope: trio.CancelScope, ended: list[int]) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        ended.append(await anext(signals))
        scope.cancel()


async def _until_eof(scope: trio.CancelScope) -> None:
    """Reads in a thread, since not everything that standard input may be can be waited for."""
    while await trio.to_thread.run_sync(os.read, sys.stdin.fileno(), _READ_BYTES, abandon_on_cancel=True):
        pass
    scope.cancel()
