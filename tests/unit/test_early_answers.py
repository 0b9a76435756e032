"""Answers that leave a round before it ends: only where nobody watches, for events go before them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bench.micro_rounds import NODES, Three
from bench.micro_steps import GROUP, SLOT, Alone, Session
from primitives.ids import GroupId
from primitives.mapops import MapMachine
from router.frames import HEADER_BYTES, FrameKind, decode_answers, encode_requests
from router.watchframes import FROM_NOW, WatchRequest, encode_watch
from shards.ports import Effects

MANY = 200


def _ask(node: Alone, records: Sequence[bytes], first: int) -> tuple[list[int], list[int]]:
    """Requests that are answered before the end of a round, and at it."""
    early: list[int] = []
    late: list[int] = []
    requests = [(first + n, GROUP, record) for n, record in enumerate(records)]
    node.engine.client_frame(1, FrameKind.OPS, encode_requests(requests)[HEADER_BYTES:])
    for _ in range(8):
        effects = node.round(lambda given: early.extend(_answered(given)))
        late += _answered(effects)
    assert sorted(early + late) == [request for request, _, _ in requests]
    return early, late


def _answered(effects: Effects) -> list[int]:
    frames = [frame for frame in effects.clients.get(1, []) if frame[4] == FrameKind.ANSWERS]
    return [request for frame in frames for request, _ in decode_answers(frame[HEADER_BYTES:])]


def test_many_answers_leave_before_the_round_ends_unless_somebody_watches() -> None:
    node = Alone()
    session = Session(lambda record: node.ask([record])[0])
    records = session.puts(2 * MANY)
    early, late = _ask(node, records[:MANY], 10_000)
    assert len(early) >= MANY // 2 and len(late) < MANY // 2
    request = WatchRequest(
        1, GROUP, SLOT, 1, *session.map, 0, MapMachine.TYPE, FROM_NOW, 0, b"", 1 << 20
    )
    node.engine.client_frame(2, FrameKind.WATCH, encode_watch(request)[HEADER_BYTES:])
    early, late = _ask(node, records[MANY:], 20_000)
    assert not early and len(late) == MANY


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_the_more_groups_have_answers_to_give_the_more_come_together_before_they_leave(
    groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = Three()
    each = 256 // groups
    records = [(GroupId(n + 1), record) for n in range(groups) for record in three.sessions[n].puts(each)]
    leader = three.nodes[NODES[0]]
    sizes: list[int] = []
    carry_out = leader._carry_out

    def count(effects: Effects) -> None:
        if answered := _answered(effects):
            sizes.append(len(answered))
        carry_out(effects)

    monkeypatch.setattr(leader, "_carry_out", count)
    three.put(records)
    for _ in range(8):
        three.turn()
    assert sizes == [64 * min(groups, 4)] * (4 // min(groups, 4))
