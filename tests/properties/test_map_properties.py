"""A map does what a dict would that forgets by a clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from local_group import Group, Session, create

from primitives.codec import decode_value, encode_value
from primitives.entries import BOUND_BIT, HEADER
from primitives.errors import Code
from primitives.history import AGE_SLACK_MS
from primitives.layout import HostTable, host_prefix
from primitives.limits import HISTORY_AGE_MS, INT_MAX, INT_MIN
from primitives.mapops import Ask, Flag, MapMachine, Op
from primitives.pages import decode_page, decode_series
from primitives.records import Answer

TYPE = MapMachine.TYPE
KEYS = st.sampled_from([b"a", b"b", b"c", b"\x00", b"a\x00", b"\xff\xff"])
VALUES = st.sampled_from([encode_value(value) for value in (None, 0, 1, -1, INT_MAX, INT_MIN, "", "1", [1])])
TTLS = st.one_of(st.just(0), st.integers(1, 50))


@dataclass
class Held:
    """What the model holds under a key."""

    value: bytes
    revision: int
    created: int
    expires: int
    """Log time, or the session that it goes with and ``BOUND_BIT``."""


class MapRules(RuleBasedStateMachine):
    """One partition of a map beside a dict."""

    @initialize(flush_every=st.integers(1, 9))
    def found(self, flush_every: int) -> None:
        self.group = Group(flush_every=flush_every)
        self.session = Session(self.group)
        self.slot, self.primitive = create(self.session, "m", TYPE)
        self.other = Session(self.group)
        self.model: dict[bytes, Held] = {}
        self.cleared = False

    def do(self, op: int, args: list[Any], body: bytes = b"") -> Answer:
        at = self.session.send(self.slot, self.primitive, 0, TYPE, op, args, body)
        return self.session.answers[self.slot, at]

    def ask(self, op: int, args: list[Any]) -> Answer:
        return self.group.query(self.slot, self.primitive, 0, TYPE, op, args)

    def set(self, key: bytes, value: bytes, revision: int, ttl_ms: int) -> None:
        held = self.model.get(key)
        created = revision if held is None else held.created
        expires = self.group.now_ms + ttl_ms + 1 if ttl_ms else 0
        self.model[key] = Held(value, revision, created, expires)

    def shown(self, key: bytes) -> bytes:
        held = self.model.get(key)
        return b"" if held is None else HEADER.pack(held.revision, held.created, held.expires) + held.value

    # -- what is done ----------------------------------------------------------------------------------------

    @rule(key=KEYS, value=VALUES, ttl_ms=TTLS, flags=st.integers(0, 15), stale=st.booleans())
    def put(self, key: bytes, value: bytes, ttl_ms: int, flags: int, stale: bool) -> None:
        held = self.model.get(key)
        expected = 0 if held is None else held.revision - stale
        before = self.shown(key) if flags & Flag.PREVIOUS else b""
        answer = self.do(Op.PUT, [key, ttl_ms, flags, expected], value)
        done = not (flags & Flag.IF_ABSENT and held is not None)
        done = done and not (flags & Flag.IF_REVISION and (held is None or stale))
        assert (answer.code, answer.result) == (Code.OK if done else Code.CONDITION, before)
        if done:
            self.set(key, value, answer.revision, ttl_ms)

    @rule(key=KEYS, value=VALUES)
    def put_plainly(self, key: bytes, value: bytes) -> None:
        self.set(key, value, self.do(Op.PUT, [key], value).revision, 0)

    @rule(key=KEYS, value=VALUES, absent=st.booleans())
    def put_with_the_other_session(self, key: bytes, value: bytes, absent: bool) -> None:
        flags = Flag.SESSION + absent * Flag.IF_ABSENT
        at = self.other.send(self.slot, self.primitive, 0, TYPE, Op.PUT, [key, 0, flags, 0], value)
        answer = self.other.answers[self.slot, at]
        assert (answer.code == Code.OK) is not (absent and key in self.model)
        if answer.code == Code.OK:
            self.set(key, value, answer.revision, 0)
            self.model[key].expires = self.other.number | BOUND_BIT

    @rule()
    def end_the_other_session(self) -> None:
        """What is bound to it is void from that entry on."""
        bound = self.other.number | BOUND_BIT
        self.other.expire()
        self.model = {key: held for key, held in self.model.items() if held.expires != bound}
        self.other = Session(self.group)

    @rule(key=KEYS, value=VALUES, flags=st.integers(0, 15), stale=st.booleans())
    def remove(self, key: bytes, value: bytes, flags: int, stale: bool) -> None:
        held = self.model.get(key)
        expected = 0 if held is None else held.revision - stale
        before = self.shown(key) if flags & Flag.PREVIOUS else b""
        answer = self.do(Op.REMOVE, [key, flags, expected], value)
        done = held is not None and not (flags & Flag.IF_REVISION and stale)
        done = done and not (flags & Flag.IF_VALUE and held is not None and held.value != value)
        assert (answer.code, answer.result) == (Code.OK if done else Code.CONDITION, before)
        if done:
            del self.model[key]

    @rule(key=KEYS, old=VALUES, new=VALUES, ttl_ms=TTLS)
    def compare_and_set(self, key: bytes, old: bytes, new: bytes, ttl_ms: int) -> None:
        held = self.model.get(key)
        answer = self.do(Op.COMPARE_AND_SET, [key, ttl_ms, len(old)], old + new)
        assert (answer.code == Code.OK) is (held is not None and held.value == old)
        if answer.code == Code.OK:
            self.set(key, new, answer.revision, ttl_ms)

    @rule(key=KEYS, n=st.one_of(st.integers(-300, 300), st.integers(INT_MIN, INT_MAX)))
    def increment(self, key: bytes, n: int) -> None:
        held = self.model.get(key)
        answer = self.do(Op.INCREMENT, [key, n])
        number = 0 if held is None else decode_value(held.value)
        if type(number) is not int:
            assert answer.code == Code.CONDITION
        elif not INT_MIN <= number + n <= INT_MAX:
            assert answer.code == Code.OVERFLOW
        else:
            assert answer.result == encode_value(number + n)
            expires = 0 if held is None else held.expires
            self.set(key, answer.result, answer.revision, 0)
            self.model[key].expires = expires

    @rule(entries=st.lists(st.tuples(KEYS, VALUES), max_size=5), ttl_ms=TTLS)
    def put_many(self, entries: list[tuple[bytes, bytes]], ttl_ms: int) -> None:
        args: list[Any] = [ttl_ms]
        for key, value in entries:
            args += (key, len(value))
        answer = self.do(Op.PUT_MANY, args, b"".join(value for _, value in entries))
        assert answer.code == Code.OK
        for key, value in entries:
            self.set(key, value, answer.revision, ttl_ms)

    @rule()
    def clear(self) -> None:
        assert self.do(Op.CLEAR, []).code == Code.OK
        self.model.clear()

    @rule(ms=st.integers(0, 60), settled=st.booleans())
    def wait(self, ms: int, settled: bool) -> None:
        """Time passes; what has expired goes when its expiry is applied."""
        self.group.now_ms += ms
        if settled:
            self.group.settle()
            now_ms = self.group.applier.log_time_ms
            self.model = {
                key: held for key, held in self.model.items() if not held.expires or held.expires > now_ms
            }

    # -- what is asked ---------------------------------------------------------------------------------------

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        answer = self.ask(Ask.GET, [key])
        there = Code.OK if key in self.model else Code.CONDITION
        assert (answer.code, answer.result) == (there, self.shown(key))
        assert self.ask(Ask.CONTAINS, [key]).code == there

    @rule(keys=st.lists(KEYS, min_size=1, max_size=8))
    def get_many(self, keys: list[bytes]) -> None:
        assert decode_series(self.ask(Ask.GET_MANY, list(keys)).result) == [
            self.shown(key) or None for key in keys
        ]

    @rule(rows_max=st.integers(1, 4), values=st.booleans())
    def everything(self, rows_max: int, values: bool) -> None:
        found: list[tuple[bytes, bytes]] = []
        more = True
        while more:
            after = found[-1][0] if found else b""
            rows, more = decode_page(self.ask(Ask.PAGE, [after, rows_max, values]).result)
            assert len(rows) == rows_max or not more
            found += rows
        assert found == [(key, self.shown(key) if values else b"") for key in sorted(self.model)]
        assert int.from_bytes(self.ask(Ask.SIZE, []).result, "big") == len(self.model)

    def teardown(self) -> None:
        """When everything was removed and time has passed, there are no rows but the count and the
        history's sums, which are zero."""
        if not hasattr(self, "group"):
            return
        self.everything(3, True)
        for key in list(self.model):
            self.do(Op.REMOVE, [key])
        self.group.advance(10_000)
        rows = [key for key in self.group.state() if key[2:12] == self.primitive.to_bytes()]
        assert len(rows) <= 1
        self.group.advance(HISTORY_AGE_MS + AGE_SLACK_MS)
        prefix = host_prefix(self.slot, HostTable.HISTORY) + self.primitive.to_bytes() + bytes(2)
        assert [key for key in self.group.state() if key.startswith(prefix)] in ([], [prefix])
        history = self.group.applier.history(self.slot, self.primitive, 0)
        assert history is not None
        assert history.count == history.bytes == 0
        assert self.group.applier.next_deadline_ms is None, "no timer is left"


MapRules.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestMap = MapRules.TestCase
