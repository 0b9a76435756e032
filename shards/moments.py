"""Cursors of the database that the store can release: those that read hold them, the store knows them weakly.

Not compiled, since compiled objects cannot be referred to weakly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from shards.ports import StoreFailed


class Cursor(Protocol):
    """A database iterator: it sees one moment, the one at which it was made."""

    def valid(self) -> bool: ...
    def status(self) -> None: ...
    def seek(self, key: bytes) -> None: ...
    def seek_for_prev(self, key: bytes) -> None: ...
    def next(self) -> None: ...
    def prev(self) -> None: ...
    def key(self) -> bytes: ...
    def value(self) -> bytes: ...


class Moment:
    """A cursor, which sees the rows as of its making, until it is released."""

    __slots__ = ("__weakref__", "_cursor", "_options", "failure", "user")

    def __init__(self, cursor: Cursor, options: object, failure: Callable[[Exception], Exception]) -> None:
        self._cursor: Cursor | None = cursor
        # The database's iterator points at the bound within the options without holding them: dropped, it
        # would read whatever takes their place.
        self._options = options
        self.failure: Final = failure
        """What to raise for an error of the cursor."""
        self.user: object = None
        """Who placed the cursor last."""

    @property
    def cursor(self) -> Cursor:
        """The cursor; not to be kept, for it holds the database open. Raises ``StoreFailed``."""
        if self._cursor is None:
            raise StoreFailed("the store is closed")
        return self._cursor

    def release(self) -> None:
        """Drops the cursor; its use fails from now on."""
        self._cursor = None
