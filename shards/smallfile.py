"""Small files that are whole or not there: written beside, synced, renamed, the directory synced.

Each holds one line of JSON and, below it, its CRC-32C in hex, so that people can read it and a flipped bit
is noticed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from shards.checksum import crc32c

NEW_SUFFIX: Final = ".new"
"""Ends the name of a file that is being written; one that a crash left behind means nothing."""


class SmallFileDamaged(Exception):
    """The file is not what was written into it."""


def write_small_file(path: Path, fields: dict[str, Any]) -> None:
    """Writes ``fields`` into ``path``, durably: afterwards the file holds them, whatever happens.

    Blocks for two syncs. Raises ``OSError``; then the file holds what it held before, or ``fields``.
    """
    line = json.dumps(fields, sort_keys=True).encode()
    content = line + b"\n%08x\n" % crc32c(line)
    beside = path.with_name(path.name + NEW_SUFFIX)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        written = 0
        while written < len(content):
            written += os.write(descriptor, content[written:])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    beside.rename(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable. Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_small_file(path: Path) -> dict[str, Any] | None:
    """The fields of a small file, None when there is none.

    Raises :class:`SmallFileDamaged`, and ``OSError`` when it cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    line, _, rest = content.partition(b"\n")
    if rest != b"%08x\n" % crc32c(line):
        raise SmallFileDamaged(f"{path} fails its checksum")
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise SmallFileDamaged(f"{path} holds no fields")
    return fields
