"""What is written down of calls whose results leave something open."""

from __future__ import annotations

import json
import types
from typing import Any, cast

import pytest

from bench.checker.record import Recorder
from bench.recording import Scribe
from primitives.handle import LeaseState
from primitives.holding import Held


class Lock:
    """A handle whose one grant is released with a certain result."""

    NAME, name = "lock", "guard"

    def __init__(self, state: str, released: bool) -> None:
        self.grant = Held.__new__(Grant)
        self.grant.is_in, self.grant.is_released = state, released

    async def acquire(self) -> Held:
        return self.grant


class Grant(Held):
    """A grant in a certain state."""

    token: Any = 7
    is_in: str
    is_released: bool

    @property
    def state(self) -> str:
        return self.is_in

    async def release(self) -> bool:
        return self.is_released


@pytest.mark.parametrize(("state", "released", "ended"), [
    (LeaseState.CONNECTED, True, "ok"), (LeaseState.LOST, False, "ok"), (LeaseState.CONNECTED, False, "info"),
    (LeaseState.SUSPENDED, False, "info"),
])  # fmt: skip
async def test_a_release_that_the_loss_of_the_lease_overtook_is_of_unknown_outcome(
    state: str, released: bool, ended: str
) -> None:
    lines: list[str] = []
    scribe = Scribe(Recorder(lines.append, lambda: 0), "c1", ["guard"])
    grant = await scribe.handle(cast(Any, Lock(state, released))).acquire()
    assert await grant.release() is released
    assert [json.loads(line)["type"] for line in lines[1:]] == ["invoke", "ok", "invoke", ended]


def test_a_caller_that_is_gone_with_its_process_leaves_its_call_open() -> None:
    @types.coroutine
    def nothing() -> Any:
        yield

    class Endless(Lock):
        async def acquire(self) -> Held:
            await nothing()
            return self.grant

    lines: list[str] = []
    scribe = Scribe(Recorder(lines.append, lambda: 0), "c1", ["guard"])
    call = scribe.handle(cast(Any, Endless(LeaseState.CONNECTED, True))).acquire()
    call.send(None)
    call.close()
    assert [json.loads(line)["type"] for line in lines[1:]] == ["invoke"]
