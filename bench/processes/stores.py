"""What nodes' data lies on: the machine's own disk, a small one to be filled, or one with slow syncs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import trio

from bench.processes.network import run
from bench.processes.nodes import Broken, Cluster, environment

SMALL: Final = "small"
SLOW: Final = "slow"
SMALL_MEBIBYTES: Final = 192
FILLER: Final = ".filler"


def has_fuse() -> bool:
    """Whether file systems with slow syncs can be had here."""
    return find_spec("pyfuse3") is not None and Path("/dev/fuse").exists()


class Disk:
    """What one node's data lies on."""

    def __init__(self, mount: Path, process: trio.Process | None = None) -> None:
        self._mount: Final = mount
        self._process: Final = process
        self.failed = 0
        """Syncs that it let fail."""

    def fill(self) -> None:
        """Leaves no room."""
        block = bytes(1 << 20)
        with (self._mount / FILLER).open("wb", buffering=0) as file:
            try:
                while len(block) > 1:
                    if file.write(block) < len(block):
                        block = block[: len(block) // 2]
            except OSError:
                return

    def free(self) -> None:
        """Gives the room back."""
        (self._mount / FILLER).unlink()

    async def say(self, line: str) -> None:
        """Sets how syncs go; see ``slowfs``."""
        if self._process is None or self._process.stdin is None:
            raise Broken("this disk has no syncs that can be set")
        await self._process.stdin.send_all(line.encode() + b"\n")

    async def read(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Takes in what the file system says; has started once it is mounted."""
        if self._process is None or self._process.stdout is None:
            raise Broken("this disk is no process")
        rest = b""
        async for data in self._process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line == b"ready":
                    task_status.started()
                self.failed += line == b"failed"


@asynccontextmanager
async def disks(kind: str | None, cluster: Cluster) -> AsyncIterator[dict[str, Disk]]:
    """Mounts what each node's data is to lie on; unmounted in the end, when no node runs any more."""
    if kind is None:
        yield {}
        return
    mounts: list[Path] = []
    try:
        async with trio.open_nursery() as nursery:
            made: dict[str, Disk] = {}
            for name, node in cluster.nodes.items():
                # The node's directory is one of its own on that disk, which it may make as it likes.
                mount = cluster.directory / f"disk-{name}"
                mount.mkdir()
                if kind == SMALL:
                    run("mount", "-t", "tmpfs", "-o", f"size={SMALL_MEBIBYTES}m", "tmpfs", str(mount))
                    made[name] = Disk(mount)
                else:
                    made[name] = await _slow(cluster, name, mount, nursery)
                mounts.append(mount)
                node.data = mount / "data"
            try:
                yield made
            finally:
                await cluster.end()
                if kind == SMALL:
                    await trio.to_thread.run_sync(_save, cluster)
                _unmount(mounts)
                nursery.cancel_scope.cancel()
    finally:
        _unmount(mounts)


async def _slow(cluster: Cluster, name: str, mount: Path, nursery: trio.Nursery) -> Disk:
    directory = cluster.directory / f"disk-of-{name}"
    directory.mkdir()
    with (cluster.directory / f"disk-{name}.log").open("wb") as errors:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-P", "-m", "bench.processes.slowfs", str(directory), str(mount)],
            stdin=-1, stdout=-1, stderr=errors, env=environment(),
        )  # fmt: skip
    disk = Disk(mount, process)
    with trio.move_on_after(10):
        await nursery.start(disk.read)
        return disk
    raise Broken(f"no file system with slow syncs: {(cluster.directory / f'disk-{name}.log').read_text()}")


def _save(cluster: Cluster) -> None:
    """Copies the data, which goes with its mount, to where that of other clusters is."""
    for name, node in cluster.nodes.items():
        if node.data.exists():
            shutil.copytree(node.data, cluster.directory / "data" / name)


def _unmount(mounts: list[Path]) -> None:
    for mount in mounts:
        if mount.is_mount():
            run("umount", "-l", str(mount))
    mounts.clear()
