"""A node inside the user's own process: started and stopped with a block, and its clients without a network.

The node runs sheltered from the block's cancellation until the block has ended, so that the clients inside it
can let go what they hold. If the node cannot go on, the block is cancelled, and the reason raised.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from primitives.codec import check_namespace
from primitives.errors import InvariantViolation
from router.client import Client, attach
from router.client_driver import Dial, dial_tcp
from router.link import ByteLink
from router.session_settings import SessionSettings
from shards.config import NodeConfig, NodeFailed, StartError
from shards.node import RunningNode, run_node

GROUPS: Final = 4
"""Data groups of an embedded node unless said: there is one processor's work at most."""
GROUPS_MAX: Final = 4096
_NAME: Final = "(embedded)"
"""No node of a cluster can have this name, so directories of either kind are never taken for the other."""
_NOWHERE: Final = ("embedded", 0)


def embedded(
    directory: str | os.PathLike[str], *, groups: int = GROUPS, session_timeout: float = 10.0,
    namespace: str = "", name: str | None = None,
) -> AbstractAsyncContextManager[Client]:  # fmt: skip
    """A client of a single node inside this process, for the time of an ``async with`` block: the same
    :class:`~router.client.Client`, on disk, without any network.

    ``directory`` is made if need be, keeps everything, and is for one block at a time. ``groups``, 1 to 4096,
    counts once, when the directory is new. The rest is as for :func:`~router.client.connect`. What a call has
    returned from is synced to disk, and survives the process.

    Entering opens the store, which blocks the event loop for as long as that takes, and waits until the node
    serves. Raises :class:`DirectoryInUse` if the directory is open already, here or in another process, other
    kinds of :class:`StartError` if it is a node's of a cluster, damaged, or cannot be used, and ValueError at
    once for arguments that cannot be. If the store fails later, the block is cancelled and
    :class:`NodeFailed` raised.
    """
    if type(groups) is not int or not 1 <= groups <= GROUPS_MAX:
        raise ValueError(f"an embedded node has 1 to {GROUPS_MAX} groups, not {groups!r}")
    check_namespace(namespace)
    SessionSettings(timeout_ms=round(session_timeout * 1000))
    config = NodeConfig(
        name=_NAME, data=Path(directory).absolute(), listen=None, peer=None, advertise=_NOWHERE,
        cluster={_NAME: _NOWHERE}, groups=groups, replicas=1, owns_process=False,
    )  # fmt: skip
    return _embedded(config, session_timeout, namespace, name)


@asynccontextmanager
async def _embedded(
    config: NodeConfig, session_timeout: float, namespace: str, name: str | None
) -> AsyncGenerator[Client, None]:
    async with running(config) as node:
        await node.ready.wait()
        async with local_client(
            node, session_timeout=session_timeout, namespace=namespace, name=name
        ) as client:
            yield client


def local_client(
    node: RunningNode, *, session_timeout: float = 10.0, namespace: str = "", name: str | None = None
) -> AbstractAsyncContextManager[Client]:
    """A client whose connection to ``node`` takes no network; those to other nodes do."""
    return attach(
        [node.address], _dialling(node), session_timeout=session_timeout, namespace=namespace, name=name
    )


def _dialling(node: RunningNode) -> Dial:
    async def dial(address: str) -> ByteLink:
        if address != node.address:
            return await dial_tcp(address)
        await trio.lowlevel.checkpoint()
        return node.connect()

    return dial


@asynccontextmanager
async def running(config: NodeConfig) -> AsyncGenerator[RunningNode, None]:
    """A node that runs while the block does. Raises what :func:`~shards.node.run_node` does; a node that
    fails later cancels the block first."""
    raised: BaseException | None = None
    task = _NodeTask(config)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task.run, nursery.cancel_scope)
            try:
                yield await task.begun()
            except BaseException as error:
                raised = error
                raise
            finally:
                task.stop()
    except BaseExceptionGroup as group:
        # What the block raised is to come out as it is: that there is a nursery is nobody's business.
        if raised is None or group.exceptions != (raised,):
            raise
    if task.failure is not None:
        raise task.failure from None if isinstance(raised, trio.Cancelled) else raised
    if raised is not None:
        raise raised


class _NodeTask:
    """The task in which a block's node runs."""

    def __init__(self, config: NodeConfig) -> None:
        self._config: Final = config
        self._shelter: Final = trio.CancelScope(shield=True)
        self._node: RunningNode | None = None
        self._has_begun: Final = trio.Event()
        self.failure: StartError | NodeFailed | None = None
        """Why the node could not start, or had to stop."""

    @trio.lowlevel.enable_ki_protection
    async def run(self, block: trio.CancelScope) -> None:
        """Runs the node until :meth:`stop`; if it fails before, so does the block."""
        with self._shelter:
            try:
                await run_node(self._config, task_status=self)
            except (StartError, NodeFailed) as error:
                self.failure = error
                block.cancel()

    def started(self, value: Any = None) -> None:
        """The node runs; as a :class:`trio.TaskStatus` is told."""
        self._node = value
        self._has_begun.set()

    async def begun(self) -> RunningNode:
        """The node, once it runs."""
        await self._has_begun.wait()
        if self._node is None:
            raise InvariantViolation("a node has begun, and is not there")
        return self._node

    def stop(self) -> None:
        """Ends the node."""
        self._shelter.cancel()
