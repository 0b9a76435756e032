"""What administrators ask of real nodes: groups, sessions, transfers, the end of a session."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

import quorate
from tests.nodeprocess import NAMES, a_cluster

pytestmark = pytest.mark.cluster


async def test_any_node_answers_for_all_groups(tmp_path: Path) -> None:
    with a_cluster(tmp_path) as cluster, trio.fail_after(60):
        async with quorate.connect(cluster.url(NAMES[1])) as client:
            for number in range(20):
                await client.counter(f"c{number}").increment()
            told = await client.admin("groups")
            assert [one["group"] for one in told] == [0, 1, 2, 3, 4]
            for one in told:
                assert one["role"] == "leader"
                assert len(one["replicas"]) == 3
                assert all(0 < replica["match"] <= one["last"] for replica in one["replicas"])
                assert one["first"] == 1
                assert one["commit"] <= one["last"]
            assert sum(one["primitives"] for one in told) == 20
            assert any(one["sessions"] for one in told)

            leads = told[1]["leader"]
            to = leads % 3 + 1
            assert await client.admin("group-transfer", 1, to)
            while (await client.admin("groups"))[1].get("leader") != to:
                await trio.sleep(0.05)
            assert not await client.admin("group-transfer", 1, to)
            mistakes = (["group-transfer", 1, 9], ["group", 77], ["dance"], ["group"], ["session", b"", 1])
            for mistake in mistakes:
                with pytest.raises(quorate.ProtocolError):
                    await client.admin(*mistake)

            await client.map("wide", partitions=4).put("k", 1)
            info = await client.admin("primitive-info", "wide")
            assert (info["type"], info["pinned"], len(info["partitions"])) == ("map", False, 4)
            assert await client.admin("primitive-info", "nothing") is None


async def test_an_ended_session_is_void_a_timeout_later_and_not_before(tmp_path: Path) -> None:
    with a_cluster(tmp_path) as cluster, trio.fail_after(60):
        async with (
            quorate.connect(cluster.url(), session_timeout=2.0) as holder,
            quorate.connect(cluster.url(), session_timeout=2.0) as client,
        ):
            grant = await holder.lock("guard").acquire()
            found = await client.admin("session", holder.session.id)
            assert [one["holdings"] for one in found if one["holdings"]] == [1]
            group = found[0]["group"]
            page = await client.admin("sessions", group, 0)
            assert holder.session.id in [one["id"] for one in page["sessions"]]
            assert page["behind"] is None
            began = trio.current_time()
            assert await client.admin("session-end", holder.session.id) == [one["group"] for one in found]
            assert all(one["ending"] for one in await client.admin("session", holder.session.id))
            assert grant.state != "lost"
            with pytest.raises(quorate.SessionLost):
                async with grant:
                    await trio.sleep_forever()
            lost = trio.current_time()
            await client.lock("guard").acquire()
            taken = trio.current_time()
            assert lost <= taken
            assert 1.9 < taken - began < 6
            assert await client.admin("session-end", "00" * 16) == []
            # Who was ended may begin anew.
            assert await holder.counter("c").increment() == 1
