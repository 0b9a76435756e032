"""A node inside this process, on disk and without a network: what a block keeps, refuses, leaves behind."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trio
from test_node_run import a_config, running

import quorate
from shards.group import GroupDriver
from shards.ports import StoreFailed
from shards.rocks import RocksStore


async def test_every_call_works_without_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("a socket was made")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(trio.socket, "socket", refuse)
    async with quorate.embedded(tmp_path / "data") as client:
        assert await client.counter("visits").add(5) == 5
        users = client.map("users")
        await users.put_many({f"u{at}": {"age": at} for at in range(100)})
        assert await users.get("u42") == {"age": 42}
        assert await users.size() == 100
        async with client.lock("nightly") as grant:
            assert grant.token > 0
        assert client.session.state == "connected"
        status = await client.status()
        assert status["ready"]
        assert len(status["groups"]) == 5
        usage = status["usage"]
        assert usage["resident_bytes"] > 1 << 20
        assert usage["group_bytes"] >= 0
        assert all(group["memory_bytes"] >= 0 for group in status["groups"])


async def test_a_new_block_finds_what_the_last_one_left_and_nothing_is_held(tmp_path: Path) -> None:
    for at in range(1, 4):
        with trio.fail_after(10):
            async with quorate.embedded(tmp_path) as client:
                assert await client.counter("starts").increment() == at
                assert await client.lock("held").try_acquire() is not None


async def test_a_value_of_the_largest_size_goes_through(tmp_path: Path) -> None:
    async with quorate.embedded(tmp_path, groups=1) as client:
        large = bytes((1 << 20) - 100)
        await client.map("m").put("large", large)
        assert await client.map("m").get("large") == large


async def test_many_callers_share_rounds(tmp_path: Path) -> None:
    async with quorate.embedded(tmp_path) as client:
        counters = [client.counter(f"c{at}") for at in range(8)]

        async def count(counter: quorate.Counter) -> None:
            for _ in range(50):
                await counter.increment()

        async with trio.open_nursery() as nursery:
            for counter in counters * 4:
                nursery.start_soon(count, counter)
        assert [await counter.get() for counter in counters] == [200] * 8


async def test_a_namespace_keeps_names_apart(tmp_path: Path) -> None:
    async with quorate.embedded(tmp_path, namespace="one") as client:
        await client.counter("c").increment()
    async with quorate.embedded(tmp_path, namespace="two") as client:
        assert await client.counter("c").get() == 0


async def test_a_directory_that_is_open_here_is_refused_and_goes_on(tmp_path: Path) -> None:
    async with quorate.embedded(tmp_path) as client:
        with pytest.raises(quorate.DirectoryInUse, match="open in this process already"):
            async with quorate.embedded(tmp_path):
                raise AssertionError("opened twice")
        assert await client.counter("c").increment() == 1
    async with quorate.embedded(tmp_path) as client:
        assert await client.counter("c").increment() == 2


async def test_a_directory_of_a_clusters_node_is_refused(tmp_path: Path) -> None:
    config = await a_config(tmp_path)
    async with running(config):
        with pytest.raises(quorate.DirectoryInUse):
            async with quorate.embedded(config.data):
                raise AssertionError("opened twice")
    with pytest.raises(quorate.StartError, match="is the directory of node 'n1' of a cluster"):
        async with quorate.embedded(config.data):
            raise AssertionError("opened a cluster's node")
    async with running(config):
        pass


async def test_a_cluster_does_not_take_an_embedded_directory(tmp_path: Path) -> None:
    config = await a_config(tmp_path)
    async with quorate.embedded(config.data):
        pass
    with pytest.raises(BaseExceptionGroup) as caught:
        async with running(config):
            raise AssertionError("it runs")
    assert caught.group_contains(quorate.StartError, match="is the directory of node")


async def test_a_directory_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("dear diary")
    with pytest.raises(quorate.StartError, match=r"holds other files \(diary.txt\)"):
        async with quorate.embedded(tmp_path):
            raise AssertionError("opened")
    file = tmp_path / "diary.txt"
    with pytest.raises(quorate.StartError, match="not a directory"):
        async with quorate.embedded(file):
            raise AssertionError("opened")


@pytest.mark.parametrize(
    "wrong", [{"groups": 0}, {"groups": 5000}, {"groups": True}, {"session_timeout": 0.1}]
)
def test_arguments_that_cannot_be_are_refused_at_once(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"groups|timeout"):
        quorate.embedded(tmp_path / "never", **wrong)
    assert not (tmp_path / "never").exists()


class OwnError(Exception):
    """Of the block."""


async def test_what_the_block_raises_comes_out_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(OwnError, match="mine") as caught:
        async with quorate.embedded(tmp_path) as client:
            await client.lock("held").acquire()
            raise OwnError("mine")
    assert caught.value.__cause__ is None
    with trio.fail_after(5):
        async with quorate.embedded(tmp_path) as client, client.lock("held"):
            pass


async def test_a_cancelled_block_ends_cleanly_and_lets_go(tmp_path: Path) -> None:
    with trio.CancelScope() as scope:
        async with quorate.embedded(tmp_path) as client:
            await client.lock("held").acquire()
            await client.counter("c").increment()
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    with trio.fail_after(5):
        async with quorate.embedded(tmp_path) as client:
            assert await client.counter("c").get() == 1
            assert await client.lock("held").try_acquire() is not None


async def test_cancelled_while_it_opens_it_leaves_the_directory_free(tmp_path: Path) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        async with quorate.embedded(tmp_path):
            raise AssertionError("entered")
    async with quorate.embedded(tmp_path) as client:
        assert await client.counter("c").increment() == 1


async def test_no_thread_is_left(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    async with quorate.embedded(tmp_path):
        assert [thread.name for thread in set(threading.enumerate()) - before] == ["log syncer"]
    assert set(threading.enumerate()) <= before


async def test_a_sync_that_fails_cancels_the_block_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(store: RocksStore) -> None:
        raise StoreFailed("the sync failed: input/output error")

    with pytest.raises(quorate.NodeFailed, match="input/output error") as caught:
        async with quorate.embedded(tmp_path) as client:
            await client.counter("c").increment()
            monkeypatch.setattr(RocksStore, "sync", fail)
            with trio.fail_after(5):
                await client.counter("c").increment()
            raise AssertionError("a call was acknowledged though nothing is synced")
    assert isinstance(caught.value, quorate.QuorateError)
    monkeypatch.undo()
    async with quorate.embedded(tmp_path) as client:
        assert await client.counter("c").get() in (1, 2)


async def test_two_directories_are_two_worlds(tmp_path: Path) -> None:
    async with quorate.embedded(tmp_path / "a") as one, quorate.embedded(tmp_path / "b") as two:
        await one.counter("c").add(7)
        assert await two.counter("c").get() == 0


async def test_a_program_without_structlog_hears_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with quorate.embedded(tmp_path) as client:
        await client.counter("c").increment()
    assert capsys.readouterr() == ("", "")


async def test_a_tick_passes_by_groups_that_are_at_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visits = 0
    advance = GroupDriver.advance

    def counted(self: GroupDriver, *arguments: Any) -> Any:
        nonlocal visits
        visits += 1
        return advance(self, *arguments)

    async with quorate.embedded(tmp_path, groups=50) as client:
        await client.counter("c").increment()
        await trio.sleep(0.5)
        monkeypatch.setattr(GroupDriver, "advance", counted)
        await trio.sleep(1)
        # Some twenty ticks went by, of 51 groups each.
        assert visits < 200
        assert await client.counter("c").increment() == 2
