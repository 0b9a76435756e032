"""What clients put into control frames is checked before it reaches the engine."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from router.frames import FrameKind, encode_control
from shards.core import Core
from shards.dispatch import Dispatch

SESSION = b"s" * 16


class _Out:
    def __init__(self) -> None:
        self.frames: list[tuple[int, int]] = []
        self.closed: list[int] = []

    def client(self, connection: int, frame: bytes) -> None:
        self.frames.append((connection, frame[4]))

    def close(self, connection: int) -> None:
        self.closed.append(connection)


@pytest.mark.parametrize(
    ("kind", "items"),
    [
        (FrameKind.KEEPALIVE, [[], SESSION, []]), (FrameKind.KEEPALIVE, [{}, SESSION, [[1, 2]]]),
        (FrameKind.KEEPALIVE, [-1, SESSION, []]), (FrameKind.KEEPALIVE, [1, "text", []]),
        (FrameKind.KEEPALIVE, [1, [], [[1, 2]]]), (FrameKind.KEEPALIVE, [1, SESSION, [[[], 2]]]),
        (FrameKind.KEEPALIVE, [1, SESSION, [[1, None]]]), (FrameKind.KEEPALIVE, [1, SESSION, [[1, 2, 3]]]),
        (FrameKind.KEEPALIVE, [1, SESSION, {1: 2}]), (FrameKind.KEEPALIVE, [1, SESSION, [[True, 1.5]]]),
        (FrameKind.KEEPALIVE, [1]), (FrameKind.STATUS_REQUEST, [[], True]),
        (FrameKind.STATUS_REQUEST, [{}, False]), (FrameKind.STATUS_REQUEST, [1, 7]),
        (FrameKind.STATUS_REQUEST, [None, True]), (FrameKind.STATUS_REQUEST, []),
    ],
    ids=repr,
)
def test_an_envelope_of_another_form_is_refused_and_goes_no_further(kind: int, items: list[Any]) -> None:
    out = _Out()
    dispatch = Dispatch(cast(Core, SimpleNamespace(boot_id=bytes(16), out=out, groups={}, shard_map=None)))
    dispatch.frame(0, 7, kind, encode_control(kind, items)[8:])
    assert out.frames == [(7, FrameKind.REFUSED)]
    assert out.closed == [7]
