"""One session's commands in one slot: how far they came, the answers that are stored, those that wait.

Answers that commands of one record have in common, because each is OK and no more, are kept as a *run*, which
costs as much as one. What they are does not depend on how they are kept.

A flush writes one row for it, with all short answers that are not acknowledged, since they soon will be; what
is long, or waits, has a row of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from heapq import nsmallest
from typing import Final

from primitives.errors import Code
from primitives.ids import PrimitiveId
from primitives.layout import HostTable, after, host_prefix
from primitives.records import U64, encode_answer
from primitives.tables import Rows, Sink

Target = tuple[int, PrimitiveId, int]
"""Slot, primitive and partition that a command went to."""

_NUMBERING: Final = struct.Struct(">QQ")
"""The last command and the floor; the short answers follow."""
_SHORT: Final = struct.Struct(">QB")
"""Sequence, and length of what follows, which is as in a row of its own."""
_SHORT_BYTES_MAX: Final = 64
"""Answers up to this size stand in the common row."""
_ANSWER: Final = struct.Struct(">BHQH")
"""One of the states below, then primitive and partition; the answer follows."""
_ANSWERED: Final = 0
_TARGETED: Final = 1
_PENDING: Final = 2


class _Run:
    """Answers of consecutive commands, OK each and no more, at consecutive revisions."""

    __slots__ = ("first", "last", "revision", "target")

    def __init__(self, first: int, last: int, revision: int, target: Target) -> None:
        self.first = first
        """Sequence of the first command."""
        self.last: Final = last
        self.revision = revision
        """Of the first command."""
        self.target: Final = target

    def at(self, sequence: int) -> bytes:
        """The answer of one of them."""
        return encode_answer(Code.OK, self.revision + sequence - self.first)


class Numbering:
    """Numbers of a (session, slot), from one. Changed only when a command is applied."""

    __slots__ = ("_below", "_in_runs", "_runs", "_saved", "_single", "dirty", "floor", "last", "pending",
                 "removed", "session", "slot")  # fmt: skip

    def __init__(self, session: int, slot: int) -> None:
        self.session: Final = session
        self.slot: Final = slot
        self.last = 0
        """Of the last command applied."""
        self.floor = 0
        """Up to here the client acknowledged; what is stored below are its exceptions."""
        self._single: dict[int, tuple[bytes, Target | None]] = {}
        """Answers not acknowledged, with where their commands went, but for those in runs."""
        self._runs: list[_Run] = []
        """In order; all behind the floor."""
        self._in_runs = 0
        """Answers in them."""
        self.pending: dict[int, Target] = {}
        """Commands that are answered late."""
        self._below: dict[int, None] = {}
        """Sequences of answers up to the floor."""
        self._saved: dict[int, bool] = {}
        """Sequences that have a row of their own, and whether it is as it should be."""
        self.dirty = False
        self.removed = False

    @property
    def held(self) -> int:
        """How many answers are stored, for they are not acknowledged."""
        return len(self._single) + self._in_runs

    def stored(self) -> dict[int, tuple[bytes, Target | None]]:
        """The stored answers by sequence, with where their commands went; to be read only."""
        return {**self._single, **self._spread()} if self._runs else self._single

    def _spread(self) -> dict[int, tuple[bytes, Target | None]]:
        """The answers of the runs, one by one."""
        return {
            sequence: (run.at(sequence), run.target)
            for run in self._runs
            for sequence in range(run.first, run.last + 1)
        }

    def _dissolve(self) -> None:
        """Keeps all answers one by one from here on: one of them is about to be told from the others."""
        if self._runs:
            self._single.update(self._spread())
            self._runs.clear()
            self._in_runs = 0

    def find(self, sequence: int) -> tuple[bytes, Target | None] | None:
        """The stored answer of a command, with where it went; None if there is none."""
        for run in self._runs:
            if run.first <= sequence <= run.last:
                return run.at(sequence), run.target
        return self._single.get(sequence)

    def store(self, sequence: int, answer: bytes, target: Target | None) -> None:
        """Stores the answer of the command ``sequence``, which is the next, or waited."""
        self._single[sequence] = (answer, target)
        if sequence <= self.floor:
            self._below[sequence] = None

    def store_run(self, first: int, count: int, revision: int, target: Target) -> None:
        """Stores the answers of the ``count`` commands from ``first``, the next, on: each is OK with no
        result, the first one's at ``revision``."""
        self._runs.append(_Run(first, first + count - 1, revision, target))
        self._in_runs += count

    def replace(self, sequence: int, answer: bytes) -> None:
        """Puts another answer in the place of a stored one; its command is done with."""
        self._dissolve()
        self._single[sequence] = (answer, None)
        if sequence in self._saved:
            self._saved[sequence] = False

    def acknowledge(self, floor: int, exceptions: Collection[int]) -> None:
        """Drops stored answers up to ``floor``, inclusive, but for ``exceptions``. What waits is kept."""
        if self._runs:
            self._acknowledge_runs(floor, exceptions)
        stored = self._single
        if len(exceptions) > 8:
            exceptions = frozenset(exceptions)  # asked for membership alone, so its order does not matter
        if self._below:
            for sequence in list(self._below):
                if sequence <= floor and sequence not in exceptions:
                    del self._below[sequence]
                    del stored[sequence]
        if floor > self.last:
            floor = self.last
        if floor > self.floor:
            if stored:
                for sequence in range(self.floor + 1, floor + 1):
                    if not exceptions or sequence not in exceptions:
                        stored.pop(sequence, None)
                    elif sequence in stored:
                        self._below[sequence] = None
            self.floor = floor

    def _acknowledge_runs(self, floor: int, exceptions: Collection[int]) -> None:
        """Drops what runs have up to ``floor``. Where there are exceptions they are dissolved."""
        if exceptions:
            self._dissolve()
            return
        runs = self._runs
        while runs and runs[0].last <= floor:
            run = runs.pop(0)
            self._in_runs -= run.last - run.first + 1
        if runs and runs[0].first <= floor:
            run = runs[0]
            dropped = floor + 1 - run.first
            run.first += dropped
            run.revision += dropped
            self._in_runs -= dropped

    def drop(self, count: int) -> int:
        """Drops up to ``count`` answers and waiting commands of an ended session; how many it dropped."""
        self._dissolve()
        dropped = 0
        for held in (self._single, self.pending):
            for sequence in nsmallest(count - dropped, held):
                del held[sequence]
                self._below.pop(sequence, None)
                dropped += 1
        return dropped

    def flush(self, sink: Sink) -> None:
        """Writes the rows that changed."""
        self.dirty = False
        common = [_NUMBERING.pack(self.last, self.floor)]
        own: dict[int, tuple[bytes, Target | None]] = {}
        for sequence, (answer, target) in sorted(self.stored().items()):
            if len(answer) <= _SHORT_BYTES_MAX:
                row = _row(_ANSWERED, target, answer)
                common += (_SHORT.pack(sequence, len(row)), row)
            else:
                own[sequence] = answer, target
        key = host_prefix(self.slot, HostTable.NUMBERING) + U64.pack(self.session)
        if self.removed:
            sink.delete(key)
        else:
            sink.put(key, b"".join(common))
        if own or self.pending or self._saved:
            self._flush_own(sink, own)

    def _flush_own(self, sink: Sink, own: dict[int, tuple[bytes, Target | None]]) -> None:
        """Writes the rows of answers that have their own, and of what waits."""
        saved = self._saved
        prefix = host_prefix(self.slot, HostTable.ANSWER) + U64.pack(self.session)
        for sequence in [at for at in saved if at not in own and at not in self.pending]:
            del saved[sequence]
            sink.delete(prefix + U64.pack(sequence))
        for sequence, (answer, target) in own.items():
            if not saved.get(sequence):
                saved[sequence] = True
                sink.put(prefix + U64.pack(sequence), _row(_ANSWERED, target, answer))
        for sequence, target in self.pending.items():
            if sequence not in saved:
                saved[sequence] = False  # its answer will take the row's place
                sink.put(prefix + U64.pack(sequence), _row(_PENDING, target, b""))

    def load(self, sequence: int, row: bytes) -> bool:
        """Takes back what :meth:`flush` wrote; whether it is an answer."""
        state, slot, revision, partition = _ANSWER.unpack_from(row)
        target = (self.slot, PrimitiveId(slot, revision), partition)
        if state == _PENDING:
            self.pending[sequence] = target
        else:
            self.store(sequence, row[_ANSWER.size :], target if state == _TARGETED else None)
        return bool(state != _PENDING)

    def load_own(self, sequence: int, row: bytes) -> None:
        """Takes back a row of its own."""
        self._saved[sequence] = self.load(sequence, row)


def _row(state: int, target: Target | None, answer: bytes) -> bytes:
    if target is None:
        return _ANSWER.pack(state, 0, 0, 0) + answer
    _, primitive, partition = target
    if state == _ANSWERED:
        state = _TARGETED
    return _ANSWER.pack(state, primitive[0], primitive[1], partition) + answer


def decode_numbering(rows: Rows, session: int, slot: int) -> Numbering:
    """Reads a numbering back; an empty one if it has no row."""
    numbering = Numbering(session, slot)
    row = rows.get(host_prefix(slot, HostTable.NUMBERING) + U64.pack(session))
    if row is not None:
        numbering.last, numbering.floor = _NUMBERING.unpack_from(row)
        at = _NUMBERING.size
        while at < len(row):
            sequence, size = _SHORT.unpack_from(row, at)
            at += _SHORT.size + size
            numbering.load(sequence, row[at - size : at])
    prefix = host_prefix(slot, HostTable.ANSWER) + U64.pack(session)
    for key, value in rows.scan(prefix, after(prefix)):
        numbering.load_own(U64.unpack_from(key, len(prefix))[0], value)
    return numbering
