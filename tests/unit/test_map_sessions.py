"""What sessions hold in a map: entries that go with them, and locks of keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from local_group import Group, OnePrimitive, Session
from local_port import LocalPort
from trio.testing import wait_all_tasks_blocked

from primitives.election import Election
from primitives.entries import SLICE_BOUND
from primitives.errors import Code, Retry, SessionClosing, SessionLost
from primitives.lock import Lock
from primitives.many import PUT_MANY_MAX
from primitives.map import Entry, Map
from primitives.mapops import Ask, Flag, MapMachine, Op
from primitives.pages import decode_page
from primitives.queue import Queue
from primitives.watch import EventKind


class Pair:
    """Two clients of one map."""

    def __init__(self, **options: Any) -> None:
        self.group = Group()
        self.near = LocalPort(self.group)
        self.far = LocalPort(self.group)
        self.map = Map(self.near, "", "m", **options)
        self.other = Map(self.far, "", "m")


@pytest.fixture(params=[{}, {"pinned": True}], ids=["spread", "pinned"])
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair(**request.param)


class OnePartition(OnePrimitive):
    """A map's partition in a group, spoken to in bytes."""

    def __init__(self) -> None:
        super().__init__("m", MapMachine.TYPE)

    def bind(self, session: Session, key: bytes, body: bytes = b"v") -> None:
        assert self.do(session, Op.PUT, key, 0, Flag.SESSION, 0, body=body).code == Code.OK

    def keys(self) -> list[bytes]:
        answer = self.group.query(self.slot, self.primitive, 0, MapMachine.TYPE, Ask.PAGE, [b"", 1000, False])
        keys = [key for key, _ in decode_page(answer.result)[0]]
        size = self.group.query(self.slot, self.primitive, 0, MapMachine.TYPE, Ask.SIZE, [])
        assert int.from_bytes(size.result, "big") == len(keys)
        for key in (b"a", b"b", b"c"):
            found = self.group.query(self.slot, self.primitive, 0, MapMachine.TYPE, Ask.CONTAINS, [key])
            assert (found.code == Code.OK) is (key in keys)
        return keys

    def told(self) -> list[tuple[int, bytes]]:
        history = self.group.applier.history(self.slot, self.primitive, 0)
        assert history is not None
        return [(event.kind, event.key) for event in history.after(history.floor)]


@pytest.fixture
def one() -> OnePartition:
    return OnePartition()


def test_a_sessions_entries_are_void_from_the_entry_that_ended_it(one: OnePartition) -> None:
    a, b = Session(one.group), Session(one.group)
    one.bind(a, b"a")
    one.bind(b, b"b")
    one.do(a, Op.PUT, b"c", body=b"v")
    assert one.keys() == [b"a", b"b", b"c"]
    a.expire()
    assert one.keys() == [b"b", b"c"], "before anything of it is dropped"
    assert one.do(b, Op.REMOVE, b"a").code == Code.CONDITION
    one.group.settle()
    assert one.keys() == [b"b", b"c"]
    assert one.told()[-1] == (EventKind.EXPIRED, b"a")
    assert one.holdings() == 1


def test_ten_thousand_entries_of_a_session_are_void_at_once_and_go_in_slices(one: OnePartition) -> None:
    a = Session(one.group)
    count = 40 * SLICE_BOUND
    for number in range(count):
        one.bind(a, b"%05d" % number)
    one.do(one.creator, Op.PUT, b"z", body=b"v")
    a.expire()
    assert one.keys() == [b"z"]
    assert one.group.settle() >= count // SLICE_BOUND, "in slices"
    assert one.keys() == [b"z"]
    assert one.told().count((EventKind.EXPIRED, b"00007")) == 1
    assert one.rows() == 2, "the count and the entry"


def test_a_void_entry_is_absent_for_whoever_writes(one: OnePartition) -> None:
    a, b = Session(one.group), Session(one.group)
    for key in (b"a", b"b", b"c"):
        one.bind(a, key, b"\x05")
    a.expire()
    assert one.do(b, Op.PUT, b"a", 0, Flag.IF_ABSENT, 0, body=b"w").code == Code.OK
    assert one.do(b, Op.INCREMENT, b"b", 2).result == b"\x02"
    assert one.do(b, Op.COMPARE_AND_SET, b"c", 0, 1, body=b"\x05w").code == Code.CONDITION
    assert one.keys() == [b"a", b"b"]
    kinds = [kind for kind, key in one.told() if key == b"a"]
    assert kinds == [EventKind.PUT, EventKind.EXPIRED, EventKind.PUT]
    one.group.settle()
    assert one.keys() == [b"a", b"b"], "what was set anew is not the session's"
    assert sorted(key for kind, key in one.told() if kind == EventKind.EXPIRED) == [b"a", b"b", b"c"]


def test_as_many_void_entries_as_one_command_sets_are_set(one: OnePartition) -> None:
    a, b = Session(one.group), Session(one.group)
    keys = [b"%03d" % number for number in range(PUT_MANY_MAX)]
    for key in keys:
        one.bind(a, key)
    a.expire()
    args = [part for key in keys for part in (key, 1)]
    assert one.do(b, Op.PUT_MANY, 1000, *args, body=b"w" * len(keys)).code == Code.OK
    assert one.keys() == keys


def test_an_entry_put_again_is_bound_to_whoever_put_it_last(one: OnePartition) -> None:
    a, b = Session(one.group), Session(one.group)
    one.bind(a, b"a")
    one.bind(b, b"a")
    one.bind(a, b"b")
    one.do(b, Op.PUT, b"b", body=b"w")
    one.bind(a, b"c", b"\x01")
    one.do(b, Op.INCREMENT, b"c", 1)
    a.expire()
    assert one.keys() == [b"a", b"b"], "incrementing keeps the entry bound"
    one.group.settle()
    b.expire()
    assert one.keys() == [b"b"]
    one.group.settle()
    assert one.rows() == 2
    assert one.holdings() == 0


def test_clearing_leaves_nothing_of_bound_entries(one: OnePartition) -> None:
    a = Session(one.group)
    for number in range(300):
        one.bind(a, b"%d" % number)
    one.do(one.creator, Op.CLEAR)
    one.bind(a, b"a")
    assert one.keys() == [b"a"]
    a.expire()
    assert one.keys() == []
    one.group.settle()
    assert one.keys() == []
    assert one.rows() == 1
    assert one.holdings() == 0


async def test_a_session_that_is_being_ended_is_granted_nothing_more(pair: Pair) -> None:
    await pair.map.put("k", 1)
    grant = await pair.map.lock("k").acquire()
    pair.near.session.close()
    calls: list[Callable[[], Awaitable[object]]] = [
        pair.map.lock("j").acquire, Lock(pair.near, "", "l").acquire, Lock(pair.near, "", "l").try_acquire,
        Election(pair.near, "", "e").stand, Queue(pair.near, "", "q").take,
        lambda: pair.map.put("k", 2, session=True),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(SessionClosing, match="ask again when its lease is lost") as raised:
            await call()
        assert raised.value.retry is Retry.SAFE
    assert await pair.map.get("k") == 1
    assert await pair.map.put("k", 3), "what holds nothing goes on"
    assert await Election(pair.far, "", "e").leader() is None
    assert await pair.other.lock("j").holder() is None
    assert await grant.release()
    pair.near.lose()
    async with pair.map.lock("j"):
        pass


async def test_an_entry_goes_with_the_client_that_put_it(pair: Pair) -> None:
    await pair.map.put("address", "10.0.0.1", session=True)
    assert await pair.map.put_if_absent("other", 1, session=True)
    assert not await pair.map.put_if_absent("other", 2, session=True)
    entry = await pair.other.entry("address")
    assert isinstance(entry, Entry)
    assert (entry.value, entry.session, entry.expires) == ("10.0.0.1", pair.near.session.number, None)
    async with pair.other.watch("address") as events:
        pair.near.lose()
        with trio.fail_after(1):
            event = await events.__anext__()
        assert (event.kind, event.key) == ("expired", "address")
    assert await pair.other.get("address") is None
    assert await pair.other.size() == 0
    assert await pair.other.get_many(["address", "other"]) == {}


async def test_the_lease_is_kept_as_long_as_entries_need_it(pair: Pair) -> None:
    revision = await pair.map.put("a", 1, session=True)
    await pair.map.get_and_put("b", 1, session=True)
    lease = pair.near.lease(pair.map._ref)
    assert lease.holds == 2
    assert await pair.map.replace("a", 2, revision=revision, session=True)
    assert not await pair.map.replace("a", 2, revision=revision, session=True)
    assert lease.holds == 2
    assert await pair.map.remove("a")
    assert lease.holds == 1
    await pair.map.put("b", 2)
    assert lease.holds == 0
    with pytest.raises(ValueError, match="not both"):
        await pair.map.put("c", 1, ttl=1, session=True)


async def test_a_block_holds_a_keys_lock_alone_and_leaves_it_free(pair: Pair) -> None:
    near, far, another = pair.map.lock("k"), pair.other.lock("k"), pair.other.lock("j")
    tokens: list[int] = []
    for _ in range(3):
        async with near as grant:
            assert await far.try_acquire() is None
            async with another:
                pass
            holder = await far.holder()
            assert holder == (pair.near.session.number, grant.token)
            tokens.append(grant.token)
        assert await far.holder() is None
    assert tokens == sorted(set(tokens))
    assert await pair.map.size() == 0, "a lock is no entry"
    primitive = pair.map._ref.primitive
    assert primitive is not None
    rows = [key for key in pair.group.state() if key[2:12] == primitive.to_bytes() and key[14] >= 4]
    assert rows == [], "a lock that nobody holds has no rows"


async def test_waiters_of_a_key_come_in_order_and_a_cancelled_one_leaves_nothing(pair: Pair) -> None:
    order: list[int] = []

    async def wait(number: int) -> None:
        async with (pair.map if number % 2 else pair.other).lock("k"):
            order.append(number)

    async with trio.open_nursery() as nursery, pair.map.lock("k"):
        for number in range(4):
            nursery.start_soon(wait, number)
            await wait_all_tasks_blocked()
        with trio.move_on_after(0.01) as scope:
            await pair.other.lock("k").acquire()
        assert scope.cancelled_caught
    assert order == [0, 1, 2, 3]
    pair.near.delivers = False
    with trio.move_on_after(0.01):
        await pair.map.lock("k").acquire()
    assert await pair.other.lock("k").holder() is None


async def test_a_lost_lease_ends_the_block_and_frees_the_keys(pair: Pair) -> None:
    with pytest.raises(SessionLost, match="a lock of the map 'm'"):
        async with pair.map.lock("k"), pair.map.lock("j"):
            pair.near.lose()
            await trio.sleep_forever()
    for key in ("k", "j"):
        grant = await pair.other.lock(key).try_acquire()
        assert grant is not None
        assert await grant.release()


def test_many_locks_of_a_dead_session_are_passed_on_in_slices(one: OnePartition) -> None:
    a, b = Session(one.group), Session(one.group)
    keys = [b"%d" % number for number in range(60)]
    for key in keys:
        assert one.do(a, Op.LOCK, key, True).code == Code.OK
        b.send(one.slot, one.primitive, 0, MapMachine.TYPE, Op.LOCK, [key, True], keep=True)
    a.expire()
    one.group.settle()
    for key in keys:
        holder = one.group.query(one.slot, one.primitive, 0, MapMachine.TYPE, Ask.HOLDER, [key]).result
        token = int.from_bytes(holder[8:], "big")
        assert int.from_bytes(holder[:8], "big") == b.number
        assert one.do(b, Op.UNLOCK, key, token).code == Code.OK
        assert one.do(b, Op.UNLOCK, key, token).code == Code.CONDITION
    assert one.rows() == 0
    assert one.holdings() == 0


@pytest.mark.parametrize(
    ("op", "args", "body"),
    [(Op.LOCK, [], b""), (Op.LOCK, [b"k", 1], b""), (Op.LOCK, [b"", True], b""),
     (Op.LOCK, [b"k", True], b"x"), (Op.UNLOCK, [b"k"], b""), (Op.UNLOCK, [b"k", -1], b""),
     (Op.UNLOCK, ["k", 1], b"")],
)  # fmt: skip
def test_a_malformed_command_is_refused(one: OnePartition, op: int, args: list[Any], body: bytes) -> None:
    assert one.do(one.creator, op, *args, body=body).code == Code.BAD_REQUEST
    asked = one.group.query(one.slot, one.primitive, 0, MapMachine.TYPE, Ask.HOLDER, [1])
    assert asked.code == Code.BAD_REQUEST
