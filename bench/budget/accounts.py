"""Processor time of one process while it was loaded, by its threads, in the program and in the system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from bench.runs.sampling import ThreadTimes, threads

ROCKSDB_THREADS: Final = "rocksdb:"
"""What the names of its threads begin with."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of one process."""

    user: float = 0.0
    """Of the first thread, in the program."""
    system: float = 0.0
    """The same, in the system."""
    sync: float = 0.0
    """Of other threads: that which syncs the log."""
    rocksdb: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.user + self.system + self.sync + self.rocksdb

    def scaled(self, factor: float) -> Account:
        """Each part so many times."""
        return Account(
            user=self.user * factor, system=self.system * factor, sync=self.sync * factor,
            rocksdb=self.rocksdb * factor,
        )  # fmt: skip


def between(pid: int, before: Mapping[int, ThreadTimes], after: Mapping[int, ThreadTimes]) -> Account:
    """What a process spent from one look at its threads to another."""
    user = system = sync = rocksdb = 0.0
    for thread, now in after.items():
        then = before.get(thread, ThreadTimes(now.name, 0.0, 0.0))
        spent_user, spent_system = now.user - then.user, now.system - then.system
        if thread == pid:
            user, system = spent_user, spent_system
        elif now.name.startswith(ROCKSDB_THREADS):
            rocksdb += spent_user + spent_system
        else:
            sync += spent_user + spent_system
    return Account(user=user, system=system, sync=sync, rocksdb=rocksdb)


def mean(accounts: Sequence[Account]) -> Account:
    """Of several processes."""
    count = len(accounts)
    return Account(
        user=sum(one.user for one in accounts) / count, system=sum(one.system for one in accounts) / count,
        sync=sum(one.sync for one in accounts) / count, rocksdb=sum(one.rocksdb for one in accounts) / count,
    )  # fmt: skip


class Accounting:
    """Accounts of servers and of whoever loads them; see :class:`bench.runs.runner.Watcher`."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids: Final = pids
        self._loader = 0
        self._before: dict[int, dict[int, ThreadTimes]] = {}
        self.servers: list[Account] = []
        """In the order of their processes."""
        self.loader = Account()

    def begin(self, loader: int) -> None:
        """From here on."""
        self._loader = loader
        self._before = {pid: threads(pid) for pid in (*self._pids, loader)}

    def end(self) -> None:
        """Until here."""
        self.servers = [between(pid, self._before[pid], threads(pid)) for pid in self._pids]
        self.loader = between(self._loader, self._before[self._loader], threads(self._loader))
