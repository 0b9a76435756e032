"""The multiplexer over real sockets: who dials, what survives, what is noticed, what is refused."""

from __future__ import annotations

import random
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from by_hand import FrameStream, Witness

from primitives.limits import PEER_FRAME_BYTES_MAX
from router.frames import HEADER_BYTES
from shards import mux as mux_module
from shards.config import Address
from shards.founding import Statement, encode_statement
from shards.handshake import (
    Hello,
    Parted,
    Purpose,
    Refusal,
    RefusalCode,
    decode_hello,
    decode_refused,
    encode_hello,
    encode_refused,
)
from shards.mux import Mux, MuxTiming
from shards.peerwire import PeerFrameKind, SectionKind, frame, section, sections
from shards.ports import Priority

QUICK = MuxTiming(
    connect_s=1, meeting_s=0.3, pause_s_min=0.005, pause_s_max=0.05, probe_s=0.05, beat_s=0.05,
    silent_beats_max=4,
)  # fmt: skip


class Owner(Witness):
    """A node that goes on with every node of the list, and remembers what happens."""

    def __init__(self, name: str, cluster: dict[str, Address], boot_id: bytes) -> None:
        super().__init__()
        self.name = name
        self.boot_id = boot_id
        self.formed = True
        self.events: list[tuple[str, ...]] = []
        self.payloads: list[tuple[str, bytes]] = []
        self.refusal: Refusal | None = None
        """Given to whoever is met."""
        self.refusals: list[Refusal] = []
        listed = tuple(sorted((each, "x:1") for each in cluster))
        self.said = Statement(name, self.store_id, "c:1", "p:1", listed, 1, 1, (), False, (), 0)

    def hello(self, purpose: int, expected: str) -> Hello:
        return Hello(1, purpose, self.name, expected, self.store_id, self.boot_id, b"")

    @property
    def store_id(self) -> bytes:
        return self.name.encode().ljust(16)

    def statement(self) -> bytes:
        return encode_statement(self.said)

    def judge(self, theirs: Statement) -> None:
        if self.refusal is not None:
            raise Parted(self.refusal)

    def refused(self, refusal: Refusal) -> Parted:
        self.refusals.append(refusal)
        self.wake()
        return Parted(refusal, told=True)

    def peer_up(self, name: str, boot_id: bytes, theirs: Statement) -> None:
        self.event("up", name, boot_id.decode().strip())

    def peer_statement(self, name: str, theirs: Statement) -> None:
        self.event("statement", name)

    def peer_sections(self, name: str, payload: bytes) -> None:
        self.payloads += [(name, part) for _, part in sections(payload)]
        self.wake()

    def peer_down(self, name: str) -> None:
        self.event("down", name)

    def event(self, *what: str) -> None:
        self.events.append(what)
        self.wake()

    async def saw(self, *what: str, times: int = 1) -> None:
        await self.until(lambda: self.events.count(what) >= times)


class Place:
    """A node's place in a cluster: its owner, its multiplexer, and a way to end and begin it."""

    def __init__(self, name: str, cluster: dict[str, Address], timing: MuxTiming) -> None:
        self.name, self.cluster, self.timing = name, cluster, timing
        self.boots = 0
        self.owner: Owner
        self.mux: Mux

    @asynccontextmanager
    async def running(self, *, formed: bool = True) -> AsyncIterator[Owner]:
        self.boots += 1
        boot_id = f"{self.name}{self.boots}".encode().ljust(16)
        self.owner = Owner(self.name, self.cluster, boot_id)
        self.owner.formed = formed
        self.mux = Mux(self.name, self.cluster, self.owner, random.Random(1), self.timing)
        listeners = await trio.open_tcp_listeners(self.cluster[self.name][1], host="127.0.0.1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.mux.run, listeners)
            yield self.owner
            nursery.cancel_scope.cancel()


async def places(names: str, timing: MuxTiming = QUICK) -> list[Place]:
    """Places whose ports are free now."""
    cluster: dict[str, Address] = {}
    held = []
    for name in names:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        held.append(listener)
        cluster[name] = ("127.0.0.1", listener.socket.getsockname()[1])
    for listener in held:
        await listener.aclose()
    return [Place(name, cluster, timing) for name in names]


def log(data: bytes, kind: int = SectionKind.RAFT) -> tuple[int, bytes]:
    return Priority.LOG, section(kind, data)


class RawPeer(FrameStream):
    """The other end by hand."""

    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__(stream, PEER_FRAME_BYTES_MAX)

    async def until_refused(self) -> Refusal:
        while (found := await self.next()) is not None:
            if found[0] == PeerFrameKind.REFUSED:
                return decode_refused(found[1])
        raise AssertionError("closed without a refusal")

    async def meet(self, owner: Owner, name: str, **changes: object) -> None:
        """Greets ``owner``'s node as ``name``, up to agreement."""
        hello = Hello(1, Purpose.CARRY, name, owner.name, name.encode().ljust(16), b"boot".ljust(16), b"")
        await self.stream.send_all(encode_hello(PeerFrameKind.HELLO, hello._replace(**changes)))  # type: ignore[arg-type]  # by name
        if (await self.next() or (0,))[0] != PeerFrameKind.WELCOME:
            return
        other = Owner(name, dict.fromkeys((name, owner.name), ("x", 1)), b"")
        await self.stream.send_all(other.statement())
        found = await self.next()
        assert found is not None
        assert found[0] == PeerFrameKind.FOUNDING


Connect = Callable[[Place], Awaitable[RawPeer]]


@pytest.fixture
async def raw() -> AsyncIterator[Connect]:
    """Connects to a node's peer port by hand."""
    streams: list[trio.SocketStream] = []

    async def connect(place: Place) -> RawPeer:
        streams.append(await trio.open_tcp_stream(*place.cluster[place.name]))
        return RawPeer(streams[-1])

    yield connect
    for stream in streams:
        stream.socket.close()


async def test_each_pair_gets_one_connection_and_sections_arrive_in_order() -> None:
    a, b, c = await places("abc")
    async with a.running() as in_a, b.running() as in_b, c.running() as in_c:
        for owner, others in ((in_a, "bc"), (in_b, "ac"), (in_c, "ab")):
            for other in others:
                await owner.saw("up", other, f"{other}1")
        for number in range(100):
            b.mux.send("a", [log(b"%d" % number), log(b"%d!" % number)])
        await in_a.until(lambda: len(in_a.payloads) == 200)
        assert [part for _, part in in_a.payloads[::2]] == [b"%d" % number for number in range(100)]
        assert all(len(owner.events) == 2 for owner in (in_a, in_b, in_c))


async def test_a_big_round_arrives_whole() -> None:
    a, b = await places("ab")
    async with a.running() as in_a, b.running() as in_b:
        await in_a.saw("up", "b", "b1")
        a.mux.send("b", [log(bytes(300_000)) for _ in range(20)])
        await in_b.until(lambda: len(in_b.payloads) == 20)
        assert all(len(part) == 300_000 for _, part in in_b.payloads)


async def test_a_restarted_peer_comes_up_with_its_new_boot_and_nothing_queued_for_the_old_one() -> None:
    a, b = await places("ab")
    async with a.running() as in_a:
        async with b.running():
            await in_a.saw("up", "b", "b1")
            # More than the connection takes: the rest waits for b's first boot, and for no other.
            a.mux.send("b", [log(b"old".ljust(1 << 20)) for _ in range(30)])
            assert a.mux.statistics()["b"].queued_bytes > 0
        await in_a.saw("down", "b")
        a.mux.send("b", [log(b"while it is down")])
        async with b.running() as again:
            await in_a.saw("up", "b", "b2")
            a.mux.send("b", [log(b"new")])
            await again.until(lambda: bool(again.payloads))
            assert again.payloads == [("a", b"new")]
        assert in_a.events[:3] == [("up", "b", "b1"), ("down", "b"), ("up", "b", "b2")]


async def test_heartbeats_overtake_what_a_slow_peer_has_not_taken(raw: Connect) -> None:
    (b,) = await places("b")
    async with b.running() as in_b:
        peer = await raw(b)
        await peer.meet(in_b, "a")
        await in_b.saw("up", "a", "boot")
        b.mux.send("a", [log(b"x".ljust(1 << 20)) for _ in range(30)])
        b.mux.send("a", [(Priority.CONTROL, section(SectionKind.RAFT, b"heartbeat"))])
        before = 0
        while True:
            found = await peer.next()
            assert found is not None
            parts = [part for _, part in sections(found[1])]
            if b"heartbeat" in parts:
                break
            before += len(parts)
        assert before < 15


async def test_a_peer_that_falls_silent_is_noticed_and_one_that_only_pings_is_not(raw: Connect) -> None:
    (b,) = await places("b")
    async with b.running() as in_b:
        peer = await raw(b)
        await peer.meet(in_b, "a")
        await in_b.saw("up", "a", "boot")
        for _ in range(10):
            await trio.sleep(QUICK.beat_s)
            await peer.stream.send_all(frame(PeerFrameKind.PING, b""))
        assert ("down", "a") not in in_b.events
        await in_b.saw("down", "a")  # The socket still stands.


async def test_idle_connections_stay_up() -> None:
    a, b = await places("ab")
    async with a.running() as in_a, b.running() as in_b:
        await in_a.saw("up", "b", "b1")
        await trio.sleep(QUICK.beat_s * QUICK.silent_beats_max * 3)
        assert ("down", "b") not in in_a.events
        assert ("down", "a") not in in_b.events


async def test_a_newer_connection_of_a_peer_takes_the_place_of_the_older(raw: Connect) -> None:
    (b,) = await places("b")
    async with b.running() as in_b:
        older, newer = await raw(b), await raw(b)
        await older.meet(in_b, "a")
        await in_b.saw("up", "a", "boot")
        await newer.meet(in_b, "a", boot_id=b"later".ljust(16))
        await in_b.saw("up", "a", "later")
        assert in_b.events == [("up", "a", "boot"), ("down", "a"), ("up", "a", "later")]
        assert await older.next() is None
        b.mux.send("a", [log(b"new")])
        found = await newer.next()
        while found is not None and found[0] == PeerFrameKind.PING:
            found = await newer.next()
        assert found == (PeerFrameKind.SECTIONS, log(b"new")[1])
        assert len(in_b.events) == 3  # The older one's end changed nothing.


GARBAGE = {
    "text": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes": bytes(range(255, 0, -1)),
    "oversized": struct.pack(">IBBH", 4097, PeerFrameKind.HELLO, 0, 0),
    "huge": struct.pack(">IBBH", 0xFFFFFFFF, PeerFrameKind.HELLO, 0, 0),
    "not a greeting": frame(PeerFrameKind.SECTIONS, section(1, b"x")),
    "no envelope": frame(PeerFrameKind.HELLO, b"\xff\xff"),
    "another version": frame(PeerFrameKind.HELLO, b"\x82\x02\x00"),
}


@pytest.mark.parametrize("what", GARBAGE)
async def test_garbage_closes_its_connection_and_the_node_goes_on(raw: Connect, what: str) -> None:
    a, b = await places("ab")
    async with a.running() as in_a, b.running() as in_b:
        await in_a.saw("up", "b", "b1")
        peer = await raw(b)
        await peer.stream.send_all(GARBAGE[what])
        refusal = await peer.until_refused()
        if what == "another version":
            assert "speaks version 2 of the peer protocol, this node 1" in refusal.text
        a.mux.send("b", [log(b"still here")])
        await in_b.until(lambda: bool(in_b.payloads))
        assert len(in_b.events) == 1


async def test_a_connection_that_does_not_say_who_it_is_is_closed_in_time(raw: Connect) -> None:
    (b,) = await places("b")
    async with b.running():
        peer = await raw(b)
        await peer.stream.send_all(b"\0")
        assert "did not say who it is" in (await peer.until_refused()).text


async def test_connections_that_have_not_met_are_bounded(
    raw: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mux_module, "MEETINGS_MAX", 3)
    (b,) = await places("b")
    async with b.running() as in_b:
        waiting = [await raw(b) for _ in range(3)]
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert await (await raw(b)).next() is None
        for peer in waiting:
            await peer.until_refused()  # They ran out of time, and made room.
        peer = await raw(b)
        await peer.meet(in_b, "a")
        await in_b.saw("up", "a", "boot")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"expected": "z"}, "this is node b, not z"),
        ({"name": "b"}, "reached itself"),
        ({"name": "c"}, "b dials c, not the other way round"),
    ],
)
async def test_a_greeting_that_does_not_fit_is_refused(
    raw: Connect, changes: dict[str, str], text: str
) -> None:
    (b,) = await places("b")
    async with b.running() as in_b:
        peer = await raw(b)
        hello = Hello(1, Purpose.CARRY, "a", "b", bytes(16), bytes(16), b"")._replace(**changes)  # type: ignore[arg-type]  # by name
        await peer.stream.send_all(encode_hello(PeerFrameKind.HELLO, hello))
        refusal = await peer.until_refused()
        assert refusal.code == RefusalCode.PART
        assert text in refusal.text
        assert not in_b.events


async def test_whoever_is_judged_unfit_is_told_why_and_is_not_up() -> None:
    a, b = await places("ab")
    async with b.running() as in_b:
        in_b.refusal = Refusal(RefusalCode.GO, "wiped")
        async with a.running() as in_a:
            await in_a.until(lambda: bool(in_a.refusals))
            assert in_a.refusals[0] == Refusal(RefusalCode.GO, "wiped")
        assert not in_b.events


async def test_a_node_that_is_not_dialled_asks_why() -> None:
    a, b = await places("ab")
    a.cluster = {"a": a.cluster["a"]}  # It does not know of b, and so does not dial it.
    async with a.running() as in_a:
        in_a.refusal = Refusal(RefusalCode.GO, "not in the list")
        async with b.running(formed=False) as in_b:
            await in_b.until(lambda: bool(in_b.refusals))
            assert in_b.refusals[0].text == "not in the list"
    assert not in_a.events


async def test_a_peer_that_breaks_the_protocol_while_up_is_dropped_and_may_come_back() -> None:
    a, b = await places("ab")
    async with a.running() as in_a, b.running() as in_b:
        await in_a.saw("up", "b", "b1")
        await in_b.saw("up", "a", "a1")
        a.mux.drop("b", "a record fails its checksum")
        await in_b.until(lambda: bool(in_b.refusals))
        assert in_b.refusals[0].text == "a record fails its checksum"
        await in_a.saw("up", "b", "b1", times=2)
        await in_b.saw("up", "a", "a1", times=2)


async def test_a_refusal_shows_no_control_characters() -> None:
    text = decode_refused(encode_refused(Refusal(RefusalCode.PART, "a\nb\x1b[31m"))[8:]).text
    assert text == "a b [31m"


async def test_a_changed_statement_reaches_every_peer_that_is_up() -> None:
    a, b, c = await places("abc")
    async with a.running() as in_a, b.running() as in_b, c.running() as in_c:
        for owner in (in_b, in_c):
            await owner.saw("up", "a", "a1")
        await in_a.saw("up", "b", "b1")
        await in_a.saw("up", "c", "c1")
        a.mux.tell_all(in_a.statement())
        await in_b.saw("statement", "a")
        await in_c.saw("statement", "a")


def test_a_greeting_of_another_form_is_refused() -> None:
    good = Hello(1, 0, "a", "b", bytes(16), bytes(16), b"")
    for change in ({"store_id": b"x"}, {"purpose": 7}, {"cluster_id": b"x"}, {"name": 1}, {"boot_id": b""}):
        with pytest.raises(Exception, match="greeting"):
            decode_hello(encode_hello(PeerFrameKind.HELLO, good._replace(**change))[8:])


async def test_a_statement_that_changes_while_two_nodes_meet_is_told_too(raw: Connect) -> None:
    a, b = await places("ab")
    async with b.running() as in_b:
        peer = await raw(b)
        hello = Hello(1, Purpose.CARRY, "a", "b", b"a".ljust(16), b"boot".ljust(16), b"")
        await peer.stream.send_all(encode_hello(PeerFrameKind.HELLO, hello))
        told = [await peer.next(), await peer.next()]
        assert [found[0] for found in told if found] == [PeerFrameKind.WELCOME, PeerFrameKind.FOUNDING]
        in_b.said = in_b.said._replace(groups=2)
        b.mux.tell_all(in_b.statement())
        other = Owner("a", a.cluster, b"")
        await peer.stream.send_all(other.statement())
        assert await peer.next() == (PeerFrameKind.FOUNDING, in_b.statement()[HEADER_BYTES:])
        await in_b.saw("up", "a", "boot")
