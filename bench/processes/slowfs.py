"""A file system that passes everything on to a directory, but whose syncs can be made slow or to fail.

Runs until its mount is taken away. Lines on standard input set it: ``slow SECONDS``, ``fail``, ``well``. It
says ``ready`` once it is mounted, and ``failed`` for each sync that it let fail. Needs pyfuse3.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pyfuse3
import trio

KEEP_SECONDS: Final = 0.0
"""For how long the kernel may believe what it was told of an entry."""


class Passing(pyfuse3.Operations):
    """See the module. Inodes are this file system's own; each knows the paths that it has."""

    def __init__(self, root: str) -> None:
        super().__init__()
        self.sync_seconds = 0.0
        self.is_failing = False
        self._paths: Final[dict[int, str]] = {pyfuse3.ROOT_INODE: root}
        self._lookups: Final[defaultdict[int, int]] = defaultdict(int)
        self._by_real: Final[dict[tuple[int, int], int]] = {}
        self._next = pyfuse3.ROOT_INODE + 1

    # --- Names and attributes -------------------------------------------------------------------------

    def _entry(self, path: str) -> Any:
        found = os.lstat(path)
        real = (found.st_dev, found.st_ino)
        inode = self._by_real.get(real)
        if inode is None:
            inode = self._by_real[real] = self._next
            self._next += 1
        self._paths[inode] = path
        self._lookups[inode] += 1
        return self._attributes(inode, found)

    def _attributes(self, inode: int, found: os.stat_result) -> Any:
        entry = pyfuse3.EntryAttributes()
        for name in ("st_mode", "st_nlink", "st_uid", "st_gid", "st_rdev", "st_size", "st_atime_ns",
                     "st_mtime_ns", "st_ctime_ns"):  # fmt: skip
            setattr(entry, name, getattr(found, name))
        entry.st_ino = inode
        entry.generation = 0
        entry.entry_timeout = entry.attr_timeout = KEEP_SECONDS
        entry.st_blksize = 4096
        entry.st_blocks = (entry.st_size + 511) // 512
        return entry

    def _child(self, parent: int, name: bytes) -> str:
        return os.path.join(self._paths[parent], os.fsdecode(name))

    async def lookup(self, parent: int, name: bytes, ctx: Any = None) -> Any:
        """See pyfuse3."""
        with _errors():
            return self._entry(self._child(parent, name))

    async def forget(self, inodes: Any) -> None:
        """See pyfuse3."""
        for inode, times in inodes:
            self._lookups[inode] -= times

    async def getattr(self, inode: int, ctx: Any = None) -> Any:
        """See pyfuse3."""
        with _errors():
            return self._attributes(inode, os.lstat(self._paths[inode]))

    async def setattr(self, inode: int, attr: Any, fields: Any, fh: int | None, ctx: Any) -> Any:
        """See pyfuse3."""
        with _errors():
            target: Any = self._paths[inode] if fh is None else fh
            if fields.update_size:
                os.truncate(target, attr.st_size)
            if fields.update_mode:
                os.chmod(target, attr.st_mode & 0o7777)
            if fields.update_atime or fields.update_mtime:
                now = os.stat(target)
                times = (attr.st_atime_ns if fields.update_atime else now.st_atime_ns,
                         attr.st_mtime_ns if fields.update_mtime else now.st_mtime_ns)  # fmt: skip
                os.utime(target, ns=times)
            return self._attributes(inode, os.stat(target))

    async def statfs(self, ctx: Any) -> Any:
        """See pyfuse3."""
        told = pyfuse3.StatvfsData()
        found = os.statvfs(self._paths[pyfuse3.ROOT_INODE])
        for name in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree",
                     "f_favail", "f_namemax"):  # fmt: skip
            setattr(told, name, getattr(found, name))
        return told

    async def access(self, inode: int, mode: int, ctx: Any) -> bool:
        """See pyfuse3."""
        return True

    # --- Directories ----------------------------------------------------------------------------------

    async def mkdir(self, parent: int, name: bytes, mode: int, ctx: Any) -> Any:
        """See pyfuse3."""
        with _errors():
            path = self._child(parent, name)
            os.mkdir(path, mode)
            return self._entry(path)

    async def rmdir(self, parent: int, name: bytes, ctx: Any) -> None:
        """See pyfuse3."""
        with _errors():
            os.rmdir(self._child(parent, name))

    async def unlink(self, parent: int, name: bytes, ctx: Any) -> None:
        """See pyfuse3."""
        with _errors():
            path = self._child(parent, name)
            found = os.lstat(path)
            os.unlink(path)
            if found.st_nlink == 1:
                # Its number may be used anew at once, for another file.
                self._by_real.pop((found.st_dev, found.st_ino), None)

    async def symlink(self, parent: int, name: bytes, target: bytes, ctx: Any) -> Any:
        """See pyfuse3."""
        with _errors():
            path = self._child(parent, name)
            os.symlink(os.fsdecode(target), path)
            return self._entry(path)

    async def readlink(self, inode: int, ctx: Any) -> bytes:
        """See pyfuse3."""
        with _errors():
            return os.fsencode(os.readlink(self._paths[inode]))

    async def rename(
        self, old_parent: int, old_name: bytes, new_parent: int, new_name: bytes, flags: int, ctx: Any
    ) -> None:
        """See pyfuse3."""
        if flags:
            raise pyfuse3.FUSEError(errno.EINVAL)
        with _errors():
            old, new = self._child(old_parent, old_name), self._child(new_parent, new_name)
            self._forget_file(new)
            os.rename(old, new)
            for inode, path in self._paths.items():
                if path == old or path.startswith(f"{old}/"):
                    self._paths[inode] = new + path[len(old) :]

    def _forget_file(self, path: str) -> None:
        """What is at the path, if anything, goes; its number may be used anew."""
        with suppress(FileNotFoundError):
            gone = os.lstat(path)
            self._by_real.pop((gone.st_dev, gone.st_ino), None)

    async def link(self, inode: int, new_parent: int, new_name: bytes, ctx: Any) -> Any:
        """See pyfuse3."""
        with _errors():
            path = self._child(new_parent, new_name)
            os.link(self._paths[inode], path)
            return self._entry(path)

    async def opendir(self, inode: int, ctx: Any) -> int:
        """See pyfuse3."""
        return inode

    async def readdir(self, inode: int, start: int, token: Any) -> None:
        """See pyfuse3."""
        with _errors():
            names = sorted(os.listdir(self._paths[inode]))
        for at, name in enumerate(names[start:], start + 1):
            try:
                entry = self._entry(os.path.join(self._paths[inode], name))
            except FileNotFoundError:
                continue
            if not pyfuse3.readdir_reply(token, os.fsencode(name), entry, at):
                self._lookups[entry.st_ino] -= 1
                return

    # --- Files ----------------------------------------------------------------------------------------

    async def open(self, inode: int, flags: int, ctx: Any) -> Any:
        """See pyfuse3."""
        with _errors():
            return pyfuse3.FileInfo(fh=os.open(self._paths[inode], flags & ~os.O_CREAT))

    async def create(self, parent: int, name: bytes, mode: int, flags: int, ctx: Any) -> Any:
        """See pyfuse3."""
        with _errors():
            path = self._child(parent, name)
            number = os.open(path, flags | os.O_CREAT, mode)
            return pyfuse3.FileInfo(fh=number), self._entry(path)

    async def read(self, fh: int, offset: int, length: int) -> bytes:
        """See pyfuse3."""
        with _errors():
            return os.pread(fh, length, offset)

    async def write(self, fh: int, offset: int, data: bytes) -> int:
        """See pyfuse3."""
        with _errors():
            return os.pwrite(fh, data, offset)

    async def flush(self, fh: int) -> None:
        """See pyfuse3."""

    async def release(self, fh: int) -> None:
        """See pyfuse3."""
        with _errors():
            os.close(fh)

    async def fsync(self, fh: int, datasync: bool) -> None:
        """See pyfuse3. The directory underneath is not synced: what is killed here is processes, not the
        machine."""
        if self.sync_seconds:
            await trio.sleep(self.sync_seconds)
        if self.is_failing:
            print("failed", flush=True)
            raise pyfuse3.FUSEError(errno.EIO)

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """See pyfuse3."""
        await self.fsync(fh, datasync)


class _errors:
    """Errors of the system, as the file system gives them on."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            raise pyfuse3.FUSEError(error.errno or errno.EIO) from None


async def _obey(file_system: Passing) -> None:
    rest = b""
    async for data in trio.lowlevel.FdStream(os.dup(0)):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            word, _, seconds = line.decode().partition(" ")
            file_system.sync_seconds = float(seconds) if word == "slow" else 0.0
            file_system.is_failing = word == "fail"
    pyfuse3.terminate()


async def serve(file_system: Passing) -> None:
    """Serves until it is unmounted or its input ends."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_obey, file_system)
        print("ready", flush=True)
        await pyfuse3.main()
        nursery.cancel_scope.cancel()


def main() -> None:
    """The command line, which is the harness's."""
    parser = argparse.ArgumentParser(prog="python -m bench.processes.slowfs", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("mount", type=Path)
    arguments = parser.parse_args()
    file_system = Passing(str(arguments.directory))
    options = {*pyfuse3.default_options, "fsname=quorate-slow"}
    options.discard("default_permissions")
    pyfuse3.init(file_system, str(arguments.mount), options)
    try:
        trio.run(serve, file_system)
    finally:
        pyfuse3.close(unmount=True)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
