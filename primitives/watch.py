"""Watches: the kinds of events."""

from __future__ import annotations

from typing import Final


class EventKind:
    """Kinds of events, in histories and on the wire. Never renumber. From 16 on they are a machine's own."""

    PUT: Final = 1
    """A key has a new value."""
    REMOVED: Final = 2
    """A key was removed by a command."""
    EXPIRED: Final = 3
    """A key went because its time to live, or the session that it was bound to, ended."""
    CLEARED: Final = 4
    """Everything went at once; no key is named."""
    DELETED: Final = 5
    """The primitive itself was deleted: the last event there is."""
