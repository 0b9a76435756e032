"""A node's data directory: whose it is, that one process at a time uses it, and whether it may be used.

=============  =============================================================================
``lock``       locked by the process that uses the directory; holds its pid, for people
``store``      the store's id and the name of its node; drawn once, synced before it is told
``founding``   the stores that this one was told the cluster is founded of; written once
``recovering``  the round that a recovery under way must bring back
``damaged``    why this store must never vote again
``rocks/``     the database
=============  =============================================================================
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from primitives.errors import InvariantViolation
from shards.ports import StoreDamaged
from shards.smallfile import NEW_SUFFIX, SmallFileDamaged, read_small_file, sync_directory, write_small_file

FORMAT_VERSION: Final = 1
"""Of everything in the directory; raised when an older program could not read what a newer one writes."""
STORE_ID_BYTES: Final = 16


class DirectoryRefused(Exception):
    """The directory cannot be used as asked; the text is one line for whoever started the node."""


class InUse(DirectoryRefused):
    """It is open already."""


class OfAnotherNode(DirectoryRefused):
    """It belongs to the node ``node``."""

    def __init__(self, text: str, node: str) -> None:
        super().__init__(text)
        self.node: Final = node


class StoreDirectory:
    """An open, locked data directory. :meth:`open` makes one; :meth:`close` lets another process in."""

    __slots__ = ("_founding", "_has_database", "_lock", "name", "path", "store_id")

    def __init__(self, path: Path, name: str, store_id: bytes, lock: int) -> None:
        self.path: Final = path
        self.name: Final = name
        """The node's name, bound to the directory."""
        self.store_id: Final = store_id
        """128 random bits, drawn and synced when the directory was first used."""
        self._lock: int | None = lock
        self._has_database = False
        self._founding: dict[str, bytes] | None = None

    @classmethod
    def open(cls, path: Path, name: str) -> StoreDirectory:
        """Opens the directory for the node ``name``, making it (mode 0700) when there is none. Blocks for
        syncs. Never told to others before it returns: the store's id, which is durable then.

        Raises :class:`DirectoryRefused` when it is in use, of another node, of a newer format, or not a
        directory of ours; :class:`StoreDamaged` when it is marked as damaged or its own files are.
        """
        try:
            _make(path)
            lock = _locked(path)
        except OSError as error:
            raise DirectoryRefused(f"cannot use {path} as the data directory: {error.strerror}") from error
        try:
            return cls._open_locked(path, name, lock)
        except OSError as error:
            os.close(lock)
            raise DirectoryRefused(f"cannot use {path} as the data directory: {error.strerror}") from error
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    def _open_locked(cls, path: Path, name: str, lock: int) -> StoreDirectory:
        _check_marker(path)
        try:
            fields = read_small_file(path / "store")
            founding = read_small_file(path / "founding")
        except (SmallFileDamaged, ValueError) as error:
            raise _damaged(path, str(error)) from error
        if fields is None:
            _check_unused(path)
            fields = {"format": FORMAT_VERSION, "id": secrets.token_hex(STORE_ID_BYTES), "node": name,
                      "database": False}  # fmt: skip
            write_small_file(path / "store", fields)
        if fields["format"] != FORMAT_VERSION:
            raise DirectoryRefused(
                f"{path} has format {fields['format']}, this program knows {FORMAT_VERSION}: use the version "
                "of Quorate that wrote it, or a newer one"
            )
        if fields["node"] != name:
            raise OfAnotherNode(
                f"{path} is the directory of node {fields['node']!r}, not of {name!r}: "
                "give each node a directory of its own", fields["node"],
            )  # fmt: skip
        directory = cls(path, name, bytes.fromhex(fields["id"]), lock)
        directory._has_database = fields["database"]
        if founding is not None:
            directory._founding = {node: bytes.fromhex(told) for node, told in founding["stores"].items()}
        return directory

    @property
    def database(self) -> Path:
        """Where the database is."""
        return self.path / "rocks"

    @property
    def has_database(self) -> bool:
        """Whether the database was made and synced before: from then on its absence is damage."""
        return self._has_database

    def database_made(self) -> None:
        """Records, durably, that the database exists. Raises ``OSError``."""
        write_small_file(self.path / "store", self._fields(database=True))
        self._has_database = True

    @property
    def founding(self) -> dict[str, bytes] | None:
        """A copy of the founding record: each listed node's store id by its name; None before it is made."""
        return None if self._founding is None else dict(self._founding)

    def record_founding(self, stores: Mapping[str, bytes]) -> None:
        """Records, durably and for good, the store id heard of each listed node. The same again is no
        harm; another set is an :class:`InvariantViolation`. Blocks for syncs. Raises ``OSError``."""
        if self._founding is not None:
            if self._founding != dict(stores):
                raise InvariantViolation("a founding set is recorded once, and another one stands")
            return
        told = {node: store.hex() for node, store in stores.items()}
        write_small_file(self.path / "founding", {"stores": told})
        self._founding = dict(stores)

    @property
    def is_damaged(self) -> bool:
        """Whether the directory is marked as damaged."""
        return (self.path / "damaged").exists()

    def mark_damaged(self, reason: str) -> str:
        """Records, durably, that this store lost or altered what it had acknowledged; it never opens again.
        The first reason stays. Returns the text to refuse with. Raises ``OSError``."""
        return str(_damaged(self.path, reason))

    def require_round(self, round_number: int | None) -> None:
        """Records, durably, the round that a recovery under way must bring back, so that a crash in the
        middle of it does not lose the proof; None when it did. Raises ``OSError``."""
        path = self.path / "recovering"
        if round_number is not None:
            write_small_file(path, {"round": round_number})
        elif path.exists():
            path.unlink()
            sync_directory(self.path)

    @property
    def required_round(self) -> int:
        """The round that an interrupted recovery had to bring back, 0 when there was none.
        Raises :class:`StoreDamaged`."""
        try:
            fields = read_small_file(self.path / "recovering")
        except (SmallFileDamaged, ValueError) as error:
            raise _damaged(self.path, str(error)) from error
        return 0 if fields is None else int(fields["round"])

    def close(self) -> None:
        """Lets another process use the directory. The second call does nothing."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _fields(self, *, database: bool) -> dict[str, Any]:
        return {"format": FORMAT_VERSION, "id": self.store_id.hex(), "node": self.name, "database": database}


def _damaged(path: Path, reason: str) -> StoreDamaged:
    """Marks the directory, then gives the error to raise."""
    if not (path / "damaged").exists():
        write_small_file(path / "damaged", {"reason": reason})
    return StoreDamaged(_refusal(path, reason))


def _refusal(path: Path, reason: str) -> str:
    return (
        f"the store in {path} is damaged and will not serve again, as it may have lost acknowledged records: "
        f"{reason}. Keep the directory for inspection and admit this node anew, with an empty one"
    )


def _make(path: Path) -> None:
    if not path.exists():
        path.mkdir(mode=0o700, parents=True)
        sync_directory(path.parent)
    if not path.is_dir():
        raise DirectoryRefused(f"{path} is not a directory")
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)


def _locked(path: Path) -> int:
    """Locks the directory for this process, by a lock that ends with the process."""
    descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        if holder == str(os.getpid()):
            text = f"{path} is open in this process already: share what uses it, or take another directory"
        else:
            text = f"{path} is in use by process {holder}: stop it, or give this node another directory"
        raise InUse(text) from None
    except BaseException:
        os.close(descriptor)
        raise
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    return descriptor


def _check_marker(path: Path) -> None:
    if (path / "damaged").exists():
        try:
            fields = read_small_file(path / "damaged")
        except (SmallFileDamaged, ValueError):
            fields = None
        raise StoreDamaged(_refusal(path, fields["reason"] if fields else "its marker is unreadable too"))


def _check_unused(path: Path) -> None:
    """A directory without an identity must hold nothing: neither files of others nor a store of ours whose
    identity is gone."""
    for other in sorted(path.iterdir()):
        if other.name in ("rocks", "founding", "recovering"):
            raise _damaged(path, f"it holds {other.name}, and no identity")
        if other.name != "lock" and not other.name.endswith(NEW_SUFFIX):
            raise DirectoryRefused(
                f"{path} holds other files ({other.name}) and no store: give the node a directory of its own"
            )
