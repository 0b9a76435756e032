"""What a client asks of every group, by a driver that stands for a node with a bound on requests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from primitives.codec import encode_value
from primitives.errors import Code, Overloaded, Unavailable
from primitives.ids import Revision
from primitives.records import Answer
from router.client_admin import ASKED_AT_ONCE, Administrator
from router.client_driver import ClientDriver

TICK_S = 0.05


class BoundedNode:
    """Answers for all groups but ``silent``, and takes ``bound`` requests a tick. Stands for the client's
    driver, too."""

    def __init__(self, groups: int, bound: int, silent: tuple[int, ...] = ()) -> None:
        self.bound, self.silent = bound, silent
        self.taken = self.tick = self.refused = self.open = self.open_most = 0
        self.cancelled: list[int] = []
        self.core: Any = SimpleNamespace(
            shard_map=SimpleNamespace(groups=dict.fromkeys(range(groups))), questions=self,
            catalogs=SimpleNamespace(map=lambda _: None), cancel=self.cancel,
        )  # fmt: skip

    def clock(self) -> int:
        return 0

    def admin(self, operation: str, arguments: list[Any]) -> Any:
        tick = int(trio.current_time() / TICK_S)
        if tick != self.tick:
            self.tick, self.taken = tick, 0
        self.taken += 1
        self.open += 1
        self.open_most = max(self.open_most, self.open)
        return (arguments[0], self.taken <= self.bound)

    async def outcome(self, call: Any) -> Answer | None:
        await trio.lowlevel.checkpoint()
        if call is None:
            return None
        group, taken = call
        if group in self.silent:
            await trio.sleep_forever()
        self.open -= 1
        if not taken:
            self.refused += 1
            raise Overloaded("too many requests of administrators at once")
        if group == 3:
            raise Unavailable("the group's leader does not answer")
        return Answer(Code.OK, Revision(0), encode_value({"group": group}))

    def cancel(self, now_ms: int, call: Any) -> None:
        self.cancelled.append(call[0])


def administrator(node: BoundedNode) -> Administrator:
    return Administrator(cast(ClientDriver, node))


async def test_more_groups_than_a_node_takes_requests_for_at_once_are_all_told_in_order(
    autojump_clock: trio.testing.MockClock,
) -> None:
    node = BoundedNode(groups=500, bound=20)
    told = await administrator(node).ask("", "groups", [])
    assert [one["group"] for one in told] == list(range(500))
    assert [one for one in told if "error" in one] == [
        {"group": 3, "error": "the group's leader does not answer"}
    ]
    assert node.refused
    assert node.open_most <= ASKED_AT_ONCE


async def test_what_was_asked_is_called_off_with_the_caller(autojump_clock: trio.testing.MockClock) -> None:
    node = BoundedNode(groups=8, bound=100, silent=(5,))
    with pytest.raises(trio.TooSlowError):
        with trio.fail_after(1):
            await administrator(node).ask("", "groups", [])
    assert node.cancelled == [5, 6, 7]
