"""Keepalives: one numbered frame to each node that is asked about leases, and what their answers confirm.

A confirmation counts from the sending of the keepalive that it answers, however late it comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Final

from primitives.errors import ProtocolError
from primitives.ids import GroupId
from primitives.limits import KEEPALIVE_LEASES_MAX
from router.frames import FrameKind, encode_control
from router.session_groups import GroupSession, Standing
from router.session_links import Link
from router.session_settings import SessionSettings


class Keepalives:
    """A session's keepalives that may still be answered."""

    __slots__ = ("_next", "_sent_ms", "_session_id", "_settings")

    def __init__(self, session_id: bytes, settings: SessionSettings) -> None:
        self._session_id: Final = session_id
        self._settings: Final = settings
        self._sent_ms: dict[int, int] = {}
        self._next = 1

    def due(
        self, now_ms: int, groups: Mapping[GroupId, GroupSession]
    ) -> Iterator[tuple[Link, bytes, bool]]:
        """Frames to be sent now, each with its link, and whether an earlier one was not answered in time.
        Leases that are due soon go along."""
        settings = self._settings
        soon_ms = now_ms + settings.keepalive_ms // 4
        alive = [g for g in groups.values() if g.standing is Standing.READY and g.lease is not None]
        if not any(group.keepalive_ms <= now_ms for group in alive):
            return
        together: dict[int, tuple[Link, list[list[int]]]] = {}
        unanswered: set[int] = set()
        for group in alive:
            link, lease = group.link, group.lease
            if group.keepalive_ms > soon_ms or lease is None:
                continue
            overdue = now_ms - lease.confirmed_ms > settings.keepalive_ms + settings.keepalive_urgent_ms
            group.keepalive_ms = now_ms + (settings.keepalive_urgent_ms if overdue else settings.keepalive_ms)
            if link is not None and link.is_up:
                together.setdefault(link.connection, (link, []))[1].append([group.group, lease.number])
                if overdue:
                    unanswered.add(link.connection)
        for link, leases in together.values():
            for at in range(0, len(leases), KEEPALIVE_LEASES_MAX):
                frame = self._frame(now_ms, leases[at : at + KEEPALIVE_LEASES_MAX])
                yield link, frame, link.connection in unanswered

    def _frame(self, now_ms: int, leases: list[list[int]]) -> bytes:
        number = self._next
        self._next += 1
        self._sent_ms[number] = now_ms
        oldest_ms = now_ms - self._settings.timeout_ms
        while (first := next(iter(self._sent_ms))) != number and self._sent_ms[first] < oldest_ms:
            del self._sent_ms[first]
        return encode_control(FrameKind.KEEPALIVE, [number, self._session_id, leases])

    def replied(
        self, now_ms: int, items: list[Any], groups: Mapping[GroupId, GroupSession],
        dirty: MutableMapping[GroupId, GroupSession],
    ) -> None:  # fmt: skip
        """A KEEPALIVE_REPLY: confirms leases, or says that registrations ended. ``dirty`` takes the groups of
        which something changed."""
        try:
            number, confirmed, gone = items
            sent_ms = self._sent_ms.get(number)
            for group_id, session, _version in confirmed:
                group = groups.get(group_id)
                if group is not None and group.number == session and sent_ms is not None:
                    group.confirmed(now_ms, sent_ms)
                    dirty[group_id] = group
            for group_id, session in gone:
                group = groups.get(group_id)
                if group is not None and group.number == session:
                    group.gone()
                    dirty[group_id] = group
        except (TypeError, ValueError) as error:
            raise ProtocolError("a KEEPALIVE_REPLY of another form") from error
