"""What happens to a store between finding its directory and opening its database.

The write-ahead log is judged first (see ``wal``). Damage is marked and refused. A torn tail, which nobody
was ever told is durable, is cut off; what must survive that is recorded until it is seen to have survived,
so that a crash in the middle loses no proof of damage.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from shards.identity import StoreDirectory
from shards.ports import StoreDamaged, StoreFailed
from shards.smallfile import sync_directory
from shards.wal import judge

TORN_SUFFIX: Final = ".torn"
"""Ends the name of a log file that stood behind a torn one; the database does not read it."""
_BINDING_FILE: Final = "rocksdict-config.json"


def prepare(directory: StoreDirectory) -> bool:
    """Sees whether there is a database; False when it has to be made. Raises :class:`StoreDamaged`, the
    directory then being marked, when there was one; :class:`StoreFailed` when the disk fails."""
    try:
        shutil.rmtree(_view(directory), ignore_errors=True)
        if not directory.has_database:
            # Its making was interrupted, before anyone was told of this store: it begins anew.
            shutil.rmtree(directory.database, ignore_errors=True)
            return False
        if not (directory.database / "CURRENT").exists():
            raise StoreDamaged(directory.mark_damaged("its database is gone"))
        # The binding keeps a file of its own there, without syncing it, and fails if that is not whole.
        (directory.database / _BINDING_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise StoreFailed(f"cannot read the store in {directory.path}: {error.strerror}") from error
    return True


@contextmanager
def view_without_log(directory: StoreDirectory) -> Iterator[Path]:
    """A directory with links to the database's files but its write-ahead log, to look into its tables
    before the log was judged. Raises ``OSError``."""
    view = _view(directory)
    view.mkdir(mode=0o700)
    try:
        for path in directory.database.iterdir():
            if path.suffix == ".sst" or path.name.startswith(("CURRENT", "MANIFEST", "OPTIONS", "IDENTITY")):
                (view / path.name).symlink_to(path.absolute())
        yield view
    finally:
        shutil.rmtree(view, ignore_errors=True)


def judge_log(directory: StoreDirectory, oldest: int) -> int:
    """Judges the write-ahead log files from number ``oldest`` on, and cuts off a torn tail. Returns the
    lowest round that the database must hold when it is opened. Blocks.

    Raises :class:`StoreDamaged`, the directory then being marked; :class:`StoreFailed` when the disk fails.
    """
    try:
        verdict = judge(directory.database, oldest)
        if verdict.is_damage:
            reason = f"round {verdict.lost} was synced and is not in the log ({verdict.fault})"
            raise StoreDamaged(directory.mark_damaged(reason))
        required = max(verdict.synced, directory.required_round)
        if verdict.cut is not None:
            directory.require_round(required)
            _cut(*verdict.cut, verdict.beyond)
    except OSError as error:
        raise StoreFailed(f"cannot read the store in {directory.path}: {error.strerror}") from error
    return required


def _view(directory: StoreDirectory) -> Path:
    return directory.path / "view"


def _cut(path: Path, offset: int, beyond: Sequence[Path]) -> None:
    """Cuts the log at its fault: nothing from there on was ever synced."""
    for later in reversed(beyond):
        later.rename(later.with_name(later.name + TORN_SUFFIX))
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, offset)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(path.parent)
