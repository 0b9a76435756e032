"""What happens to a store between finding its directory and opening its database.

The write-ahead log is judged first (see ``wal``). Damage is marked and refused. A torn tail, which nobody
was ever told is durable, is cut off; what must survive that is recorded until it is seen to have survived,
so that a crash in the middle loses no proof of damage.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from shards.identity import StoreDirectory
from shards.ports import StoreDamaged, StoreFailed
from shards.smallfile import sync_directory
from shards.wal import Verdict, judge

TORN_SUFFIX: Final = ".torn"
"""Ends the name of a log file that stood behind a torn one; the database does not read it."""
_BINDING_FILE: Final = "rocksdict-config.json"


def prepare(directory: StoreDirectory) -> int:
    """Makes the database ready to be opened, and returns the lowest round that it must hold then. Blocks.

    Raises :class:`StoreDamaged` when the log or the lack of a database proves damage, after marking the
    directory; :class:`StoreFailed` when the disk does.
    """
    try:
        if not directory.has_database:
            # Its making was interrupted, before anyone was told of this store: it begins anew.
            shutil.rmtree(directory.database, ignore_errors=True)
            return 0
        if not (directory.database / "CURRENT").exists():
            raise StoreDamaged(directory.mark_damaged("its database is gone"))
        verdict = judge(directory.database)
        if verdict.is_damage:
            reason = f"round {verdict.lost} was synced and is not in the log ({verdict.fault})"
            raise StoreDamaged(directory.mark_damaged(reason))
        required = max(verdict.synced, directory.required_round)
        if verdict.cut is not None:
            directory.require_round(required)
            _cut(verdict)
        # The binding keeps a file of its own there, without syncing it, and fails if that is not whole.
        (directory.database / _BINDING_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise StoreFailed(f"cannot read the store in {directory.path}: {error.strerror}") from error
    return required


def _cut(verdict: Verdict) -> None:
    """Cuts the log at its fault: nothing from there on was ever synced."""
    if verdict.cut is None:
        return
    path, offset = verdict.cut
    for later in reversed(verdict.beyond):
        later.rename(_torn(later))
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, offset)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(path.parent)


def _torn(path: Path) -> Path:
    return path.with_name(path.name + TORN_SUFFIX)
