"""The model cluster behind real sockets on loopback, for tests of the trio client."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio
from router_model import ModelCluster, ModelConnection

from router.client_driver import boottime_ms
from router.link import Link, LinkLost


class ModelServer:
    """Listeners for every node of a model cluster."""

    def __init__(self, cluster: ModelCluster) -> None:
        self.cluster = cluster
        self.addresses: dict[int, str] = {}
        self.links: dict[int, list[Link]] = {}
        self.reads = 0
        self._listeners: dict[int, trio.SocketListener] = {}

    @property
    def url(self) -> str:
        return f"quorate://{self.addresses[1]}/"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            for node in self.cluster.map.nodes:
                (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
                self._listeners[node] = listener
                self.addresses[node] = f"127.0.0.1:{listener.socket.getsockname()[1]}"
                nursery.start_soon(self._listen, node, listener)
            self.cluster.with_addresses(self.addresses)
            task_status.started()
            while True:
                self.cluster.now_ms = boottime_ms()
                self.cluster.tick()
                await trio.sleep(0.02)

    async def _listen(self, node: int, listener: trio.SocketListener) -> None:
        async with listener, trio.open_nursery() as nursery:
            with suppress(trio.ClosedResourceError):
                while True:
                    nursery.start_soon(self._serve, node, await listener.accept())

    async def _serve(self, node: int, stream: trio.SocketStream) -> None:
        async with stream, trio.open_nursery() as nursery:
            link = Link(stream)
            self.links.setdefault(node, []).append(link)
            model = ModelConnection(self.cluster, node, link.send, link.finish)
            nursery.start_soon(link.run)
            with suppress(LinkLost):
                while True:
                    data = await link.receive()
                    self.reads += 1
                    self.cluster.now_ms = boottime_ms()
                    model.receive(data)
            model.lost()
            self.links[node].remove(link)
            nursery.cancel_scope.cancel()

    def cut(self) -> None:
        """Every connection breaks."""
        for links in self.links.values():
            for link in list(links):
                link.close()

    async def stop_listening(self) -> None:
        """Nobody can connect any more."""
        for listener in self._listeners.values():
            await listener.aclose()


@asynccontextmanager
async def serving(cluster: ModelCluster) -> AsyncIterator[ModelServer]:
    server = ModelServer(cluster)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        yield server
        nursery.cancel_scope.cancel()


async def until(condition: object, seconds: float = 3.0) -> None:
    """Waits until ``condition()`` holds; fails after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]  # any callable
        assert time.monotonic() < end, "it did not come to be in time"
        await trio.sleep(0.005)
