"""A node whose disk takes no more: it says so in one line, and comes back with all that was acknowledged."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import trio

import quorate
from tests.devprocess import free_port
from tests.nodeprocess import NodeProcess

pytestmark = pytest.mark.cluster
ROOM_BYTES = 200_000
"""Beyond what the log has when the disk begins to refuse."""


def test_a_node_whose_disk_takes_no_more_says_so_in_one_line_and_comes_back_with_all(tmp_path: Path) -> None:
    port = free_port(1)
    arguments = ["--name", "n1", "--data", str(tmp_path / "n1"), "--listen", f"127.0.0.1:{port}",
                 "--cluster", f"n1=127.0.0.1:{port + 100}", "--groups", "2"]  # fmt: skip
    written: list[int] = []

    async def write_until_it_ends(node: NodeProcess) -> None:
        async with quorate.connect(f"quorate://127.0.0.1:{port}") as client, trio.open_nursery() as nursery:
            nursery.start_soon(write, client)
            with trio.fail_after(30):
                while node.process.poll() is None:
                    await trio.sleep(0.02)
            nursery.cancel_scope.cancel()

    async def write(client: quorate.Client) -> None:
        for number in range(10_000):
            await client.map("entries").put(number, bytes(4096))
            written.append(number)

    async def check() -> None:
        async with quorate.connect(f"quorate://127.0.0.1:{port}") as client:
            with trio.fail_after(60):
                found = {key async for key, _ in client.map("entries").items()}
        assert set(written) <= found <= {*written, len(written)}

    node = NodeProcess(arguments, tmp_path / "1.err")
    try:
        node.wait_until_ready()
        log = max((tmp_path / "n1" / "rocks").glob("*.log"))
        limit = log.stat().st_size + ROOM_BYTES
        resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (limit, limit))
        trio.run(write_until_it_ends, node)
        code = node.process.wait(timeout=30)
    finally:
        node.end()
    assert (code, len(node.said().splitlines())) == (1, 1), node.said()
    assert node.said().startswith("quorate: the store failed, and nothing that this node says would be safe")
    assert written
    again = NodeProcess(arguments, tmp_path / "2.err")
    try:
        again.wait_until_ready()
        trio.run(check)
    finally:
        again.end()
