"""Thousands of random cancellations leave the primitives as if the calls had never been made.

``QUORATE_CANCELLATIONS`` says how many, if other than a few thousand; ``bench.cancellations`` does the same
to a running cluster.
"""

from __future__ import annotations

import os
import socket
from random import Random

import pytest
import trio
from local_group import Group
from local_port import LocalPort
from trio.testing import MockClock

from bench import cancellations
from bench.cancellations import Cancellations
from bench.histories import HistoryViolation
from router.openers import Openers
from tests.mutations.bugs import plant

COUNT = int(os.environ.get("QUORATE_CANCELLATIONS", "3000"))


class LocalClient(Openers):
    """A client of the group inside the test."""

    def __init__(self, group: Group) -> None:
        self.port = LocalPort(group)
        super().__init__("", self.port)


async def disturb(port: LocalPort, dice: Random) -> None:
    """Holds commands, or answers, back for moments."""
    while True:
        await trio.sleep(dice.random() * 0.01)
        port.sends = dice.random() < 0.5
        port.delivers = port.sends or dice.random() < 0.5
        await trio.sleep(dice.random() * 0.01)
        port.open()


async def cancelled(seed: int, count: int) -> Group:
    group = Group(flush_every=5)
    client, other = LocalClient(group), LocalClient(group)
    dice = Random(seed)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(disturb, client.port, dice)
        tally = await Cancellations(client, other, count, dice, "x").run()
        nursery.cancel_scope.cancel()
    assert tally.cancelled.total() >= count
    assert min(tally.cancelled[kind] for kind in ("acquire", "lock a key", "campaign", "take")) > count // 20
    assert tally.completed.total() > count // 20
    return group


async def test_cancelled_calls_leave_the_primitives_as_if_never_called(autojump_clock: MockClock) -> None:
    group = await cancelled(1, COUNT)
    group.settle()
    # Rows: of the queue its state, of the election its state; of locks none. Nobody holds anything.
    kept = [key for key in group.state() if key[2:12] != bytes(10) and key[2:4] != b"\xff\xff"]
    assert len(kept) == 2
    assert not [key for key in group.state() if key[2:4] == b"\xff\xff" and key[14] == 8], "holdings"


async def test_a_planted_element_that_does_not_go_back_is_noticed(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, "element-not-put-back")
    with pytest.raises((HistoryViolation, ExceptionGroup)):
        await cancelled(2, 1500)


def test_a_cluster_that_does_not_answer_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cancellations, "REACH_SECONDS", 0.5)
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        url = f"quorate://127.0.0.1:{unheard.getsockname()[1]}"
        assert cancellations.main(["--url", url, "--count", "10"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"{url}: the cluster did not answer within 0.5 s")
    assert told.err.count("\n") == 1
