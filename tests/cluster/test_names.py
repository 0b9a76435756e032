"""Names on real processes: created, listed, deleted and created again, through kills too."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

import quorate
from tests.nodeprocess import NAMES, a_cluster

pytestmark = pytest.mark.cluster


async def listed(
    client: quorate.Client, prefix: str = "", type: str | None = None
) -> list[tuple[str, str, int]]:
    return [(one.name, one.type, one.partitions) async for one in client.primitives(prefix, type)]


async def test_what_was_created_is_listed_and_what_was_deleted_is_gone(tmp_path: Path) -> None:
    with a_cluster(tmp_path) as cluster, trio.fail_after(60):
        async with (
            quorate.connect(cluster.url(NAMES[0])) as client,
            quorate.connect(cluster.url(*NAMES[1:])) as other,
        ):  # fmt: skip
            for number in range(40):
                await client.counter(f"visits/{number:02}").increment()
            wide, late = client.map("wide"), other.map("wide")
            for number in range(200):
                await wide.put(f"key{number}", number)
            await client.lock("guard").acquire()
            assert await listed(other, "visits/", "counter") == [
                (f"visits/{number:02}", "counter", 0) for number in range(40)
            ]
            assert [name for name, _, _ in await listed(other)] == sorted(
                ["guard", "wide", *(f"visits/{number:02}" for number in range(40))]
            )
            assert await listed(other, "w") == [("wide", "map", 16)]
            assert await late.get("key7") == 7
            assert await client.exists("wide")
            with pytest.raises(quorate.TypeMismatch, match=r"'wide' exists as a map, not as a counter"):
                await client.counter("wide").delete()
            with pytest.raises(quorate.TypeMismatch, match=r"'wide' exists as a map, not as a counter"):
                await client.counter("wide").increment()

            assert await wide.delete()
            assert not await wide.delete()
            assert not await client.exists("wide")
            assert await late.get("key7") is None, "an old handle does not see what was deleted"
            assert await late.size() == 0
            await late.put("key8", 8)
            assert await wide.get("key7") is None
            assert await wide.get("key8") == 8

            assert await client.lock("guard").delete()
            assert await other.lock("guard").try_acquire() is not None


async def test_a_deletion_goes_on_when_nodes_are_killed(tmp_path: Path) -> None:
    with a_cluster(tmp_path) as cluster, trio.fail_after(120):
        async with quorate.connect(cluster.url()) as client:
            for round_ in range(6):
                name = NAMES[round_ % 3]
                wide = client.map("wide", partitions=64)
                for number in range(64):
                    await wide.put(f"key{number}", round_)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(wide.delete)
                    await trio.sleep(0.005 * round_)
                    cluster.kill(name)
                    again = client.map("wide", partitions=64)
                    await again.put("fresh", round_)
                    # Either it was put before the deletion, or into the map that came after it.
                    assert await again.get("fresh") in (round_, None)
                cluster.start(name)
                cluster.wait_until_ready(name)
                values = [value async for _, value in client.map("wide").items()]
                assert values in ([], [round_])
