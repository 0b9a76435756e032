"""Writing behind: when the state that groups have applied is written, and their logs are cut.

A group is written some time after it has changed, so that a row which changes over and over is written once,
or as soon as much is unwritten. Groups whose time comes together take turns, so that no round waits for all
of them.
"""

from __future__ import annotations

from typing import Final, Protocol

from primitives.ids import GroupId
from shards.forwarding import Forwarding
from shards.group import GroupDriver
from shards.settings import EngineSettings
from shards.snapshots import Snapshots
from shards.writer import Writer

_NEVER: Final = 1 << 62


class Host(Protocol):
    """What flushes need of the engine."""

    @property
    def groups(self) -> dict[GroupId, GroupDriver]:
        """The replicas here."""

    @property
    def settings(self) -> EngineSettings:
        """Timing and bounds."""

    @property
    def snapshots(self) -> Snapshots:
        """Snapshots on their way."""

    @property
    def forwarding(self) -> Forwarding:
        """Who is connected."""


class Flushes:
    """When each group of a node is written."""

    __slots__ = ("_cut_at_ms", "_due", "_engine", "_writer")

    def __init__(self, engine: Host, writer: Writer, now_ms: int) -> None:
        self._engine: Final = engine
        self._writer: Final = writer
        self._due: Final[dict[GroupId, int]] = {}
        """Groups that have changed since they were written last, with the time that each is due; in order."""
        self._cut_at_ms = now_ms

    def applied(self, now_ms: int, group: GroupId) -> None:
        """The group has changed."""
        self._due.setdefault(group, now_ms + self._engine.settings.flush_interval_ms)

    @property
    def due_ms(self) -> int:
        """When the next group is due; never, if none has changed."""
        return next(iter(self._due.values()), _NEVER)

    def round(self, now_ms: int, active: dict[GroupId, GroupDriver]) -> None:
        """Writes groups, and cuts the logs of all, as far as it is time for that. ``active``: those that may
        have changed in this round."""
        chosen = self._chosen(now_ms, active)
        cuts = now_ms >= self._cut_at_ms
        if not chosen and not cuts:
            return
        engine, batch = self._engine, self._writer.batch()
        for group in chosen:
            del self._due[group]
            driver = engine.groups[group]
            if driver.applying.is_dirty:  # and its state was not replaced by a snapshot since
                driver.flush(batch)
        if cuts:
            self._cut_at_ms = now_ms + engine.settings.log_cut_interval_ms
            for driver in engine.groups.values():
                driver.cut_log(batch, engine.settings, engine.forwarding.up)
        self._writer.write(batch, [])

    def _chosen(self, now_ms: int, active: dict[GroupId, GroupDriver]) -> list[GroupId]:
        """All groups if a snapshot is to be taken. Else those that a marker asks for or that have much
        unwritten, and of those that are due one after the other, until they have much together."""
        if self._engine.snapshots.wants_flush:
            return list(self._due)
        settings = self._engine.settings
        chosen = [
            group for group, driver in active.items()
            if (driver.applying.must_flush or driver.applier.overlay_bytes > settings.flush_bytes)
            and group in self._due
        ]  # fmt: skip
        large, left = set(chosen), settings.flush_slice_bytes
        for group, due_ms in self._due.items():
            if due_ms > now_ms:
                break
            if group not in large:
                chosen.append(group)
                left -= self._engine.groups[group].applier.overlay_bytes
                if left <= 0:
                    break
        return chosen
