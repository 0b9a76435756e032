"""Hashes of a replica's state at a marker, computed in slices beside normal work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import xxhash

from primitives.records import U32
from shards.ports import StateView

ROWS_A_SLICE: Final = 500
DIGEST_BYTES: Final = 16


class StateHash(NamedTuple):
    """A replica's state at a marker: equal revisions and digests mean equal state."""

    nonce: bytes
    revision: int
    digest: bytes
    rows: int


class HashJob:
    """Walks one snapshot of a group's rows."""

    __slots__ = ("_hash", "_nonce", "_revision", "_rows", "_walk")

    def __init__(self, nonce: bytes, revision: int, snapshot: StateView) -> None:
        self._nonce = nonce
        self._revision = revision
        self._hash = xxhash.xxh3_128()
        self._rows = 0
        self._walk: Iterator[tuple[bytes, bytes]] = snapshot.scan(b"", None)

    def advance(self) -> StateHash | None:
        """Hashes some rows more; the result once all are done."""
        update = self._hash.update
        for _ in range(ROWS_A_SLICE):
            row = next(self._walk, None)
            if row is None:
                return StateHash(self._nonce, self._revision, self._hash.digest(), self._rows)
            key, value = row
            update(U32.pack(len(key)))
            update(key)
            update(U32.pack(len(value)))
            update(value)
            self._rows += 1
        return None
