"""The log over its store behaves as one plain list of entries, whatever is in memory and whatever stored."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raftgroup.log import ENTRY_BYTES, Log
from raftgroup.types import Entry, EntryKind, Index, Term

TAIL_BYTES = 6 * ENTRY_BYTES


class Stored:
    """A store that may hold writes back for a while."""

    def __init__(self) -> None:
        self.shown: list[Entry] = []
        self.waiting: list[Sequence[Entry]] = []
        self.base = 0
        """Entries up to here were cut away."""

    def catch_up(self) -> None:
        for entries in self.waiting:
            self.shown[entries[0].index - 1 :] = entries
        self.waiting.clear()

    def first_index(self) -> Index:
        return Index(self.base + 1)

    def last_index(self) -> Index:
        return Index(len(self.shown))

    def term(self, index: Index) -> Term:
        assert self.base <= index <= len(self.shown)
        return self.shown[index - 1].term if index else Term(0)

    def entries(self, low: Index, high_exclusive: Index, bytes_max: int) -> Sequence[Entry]:
        assert self.base < low < high_exclusive <= len(self.shown) + 1
        count = max(1, bytes_max // ENTRY_BYTES)
        return self.shown[low - 1 : high_exclusive - 1][:count]


class LogMachine(RuleBasedStateMachine):
    """A follower's log, driven by leaders of ever later terms."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Stored()
        self.log = Log(self.store, TAIL_BYTES)
        self.model: list[Entry] = []
        self.term = 1

    @rule(count=st.integers(1, 5))
    def extend(self, count: int) -> None:
        end = len(self.model) + 1
        entries = [
            Entry(Term(self.term), Index(end + at), EntryKind.NORMAL, b"") for at in range(count)
        ]
        self.model += entries
        self.log.extend(entries)

    @rule()
    def append(self) -> None:
        entry = Entry(Term(self.term), Index(len(self.model) + 1), EntryKind.NORMAL, b"")
        self.model.append(entry)
        self.log.append(entry)

    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        """What is committed, and shown by the store, is cut away there."""
        same = 0
        for shown, known in zip(self.store.shown, self.model, strict=False):
            if shown != known:
                break
            same += 1
        if same > self.store.base and not self.store.waiting:
            self.store.base = data.draw(st.integers(self.store.base, same))

    @precondition(lambda self: len(self.model) > self.store.base)
    @rule(data=st.data())
    def replace(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(self.store.base + 1, len(self.model)))
        self.term += 1
        entry = Entry(Term(self.term), Index(index), EntryKind.NORMAL, b"")
        self.model[index - 1 :] = [entry]
        self.log.truncate(Index(index))
        assert self.log.last == index - 1
        assert self.log.last_term == (self.model[index - 2].term if index > 1 else 0)
        self.log.extend([entry])

    @rule(held_back=st.booleans())
    def write(self, held_back: bool) -> None:
        entries = self.log.take_unwritten()
        if entries:
            self.store.waiting.append(entries)
        if not held_back:
            self.store.catch_up()

    @rule(data=st.data(), count=st.integers(1, 6))
    @precondition(lambda self: len(self.model) > self.store.base)
    def slice(self, data: st.DataObject, count: int) -> None:
        low = data.draw(st.integers(self.store.base + 1, len(self.model)))
        high = data.draw(st.integers(low + 1, len(self.model) + 1))
        found = list(self.log.slice(Index(low), Index(high), count * ENTRY_BYTES))
        assert 1 <= len(found) <= count
        assert found == self.model[low - 1 : low - 1 + len(found)]
        assert low + len(found) <= high

    @rule(data=st.data())
    def search(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(self.store.base, len(self.model)))
        floor = data.draw(st.integers(self.store.base, index))
        term = data.draw(st.integers(0, self.term))
        fitting = [at for at in range(floor + 1, index + 1) if self.model[at - 1].term <= term]
        assert self.log.last_not_above(Term(term), Index(index), Index(floor)) == max(fitting, default=floor)

    @invariant()
    def terms_are_those_of_the_model(self) -> None:
        assert self.log.last == len(self.model)
        assert self.log.last_term == (self.model[-1].term if self.model else 0)
        terms = [0, *(entry.term for entry in self.model), None]
        found = [self.log.term(at) for at in range(len(self.model) + 2)]
        base = self.store.base
        assert found[base:] == terms[base:]
        assert all(one in (None, known) for one, known in zip(found[:base], terms[:base], strict=True))

    @invariant()
    def memory_is_bounded_once_the_store_shows_what_was_written(self) -> None:
        if not self.store.waiting:
            unwritten = self.log.last + 1 - self.log.unwritten
            self.log._trim()
            kept = self.log.last + 1 - self.log.offset
            assert kept * ENTRY_BYTES <= max(TAIL_BYTES // 2, unwritten * ENTRY_BYTES)


TestLog = LogMachine.TestCase
TestLog.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
