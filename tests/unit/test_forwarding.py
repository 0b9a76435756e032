"""What is passed on to other nodes, and whose the answers are."""

from __future__ import annotations

from typing import Any

import pytest
from by_snapshot import GROUP, Engines

from primitives.catalog import CatalogOp, create_arguments, decode_found
from primitives.errors import Code
from primitives.ids import CATALOG_ID, NodeId, PrimitiveId, Revision, SlotId
from primitives.lock import ACQUIRE, RELEASE, LockMachine
from primitives.records import Answer, Command, Register, Type, decode_answer, encode_command, encode_register
from router.frames import HEADER_BYTES, FrameKind, decode_answers, encode_requests
from shards.forwarding import CONNECTION_BITS, Forwarding

SLOT, EPOCH = SlotId(7), 1


class Caller:
    """A session that sends one command after the other by whichever node and connection."""

    def __init__(self, engines: Engines, id: int, node: NodeId) -> None:
        self.engines = engines
        self.id = bytes([id]) * 16
        self.sequence = 0
        self.number = 0
        answer = self._ask(node, 100 + id, 1, encode_register(Register(self.id, 1, 60_000)))
        assert answer is not None
        self.number = answer.revision

    def command(
        self, node: NodeId, connection: int, request: int, primitive: PrimitiveId, type: int, op: int,
        args: list[Any], body: bytes = b"",
    ) -> Answer | None:  # fmt: skip
        """Sends the next command; the answer, if it comes at once."""
        self.sequence += 1
        return self._ask(node, connection, request, encode_command(Command(
            self.id, self.number, SLOT, EPOCH, self.sequence, 0, primitive, 0, type, op, (), args, body
        )))  # fmt: skip

    def create(self, node: NodeId, name: str) -> PrimitiveId:
        """Makes a lock."""
        args, body = create_arguments("default", name, LockMachine.TYPE, 0, None)
        answer = self.command(
            node, 200, self.sequence, CATALOG_ID, Type.CATALOG, CatalogOp.CREATE, args, body
        )
        assert answer is not None
        assert answer.code == Code.OK, answer
        return PrimitiveId(SLOT, Revision(decode_found(answer.result).revision))

    def _ask(self, node: NodeId, connection: int, request: int, record: bytes) -> Answer | None:
        frame = encode_requests([(request, GROUP, record)])
        self.engines.up[node].client_frame(connection, frame[4], frame[HEADER_BYTES:])
        self.engines.run(50)
        return self.engines_told(node, connection).get(request)

    def engines_told(self, node: NodeId, connection: int) -> dict[int, Answer]:
        """Answers that a connection got, by request."""
        return answers(self.engines, node, connection)


def answers(engines: Engines, node: NodeId, connection: int) -> dict[int, Answer]:
    """Answers that a connection got, by request."""
    return {
        request: decode_answer(answer)
        for frame in engines.told.get((node, connection), []) if frame[4] == FrameKind.ANSWERS
        for request, answer in decode_answers(frame[HEADER_BYTES:])
    }  # fmt: skip


def test_an_answer_to_what_a_former_boot_passed_on_is_nobodys() -> None:
    """Somebody waits for a lock through a node which starts anew; there somebody else, by a connection and a
    request of the same numbers, waits for another lock. The first lock comes free."""
    engines = Engines()
    leader = engines.leader.node
    passing = next(node for node in engines.up if node != leader)
    holder, former, other = (Caller(engines, number, leader) for number in (1, 2, 3))
    first, second = holder.create(leader, "first"), holder.create(leader, "second")
    grant = holder.command(leader, 1, 1, first, LockMachine.TYPE, ACQUIRE, [])
    held = holder.command(leader, 1, 2, second, LockMachine.TYPE, ACQUIRE, [])
    assert grant is not None
    assert held is not None
    assert former.command(passing, 0, 5, first, LockMachine.TYPE, ACQUIRE, []) is None
    engines.crash(passing, kept=True)
    engines.start(passing)
    engines.run(300)
    assert engines.leader.node == leader
    assert other.command(passing, 0, 5, second, LockMachine.TYPE, ACQUIRE, []) is None
    holder.command(leader, 1, 3, first, LockMachine.TYPE, RELEASE, [grant.revision])
    assert answers(engines, passing, 0) == {}
    holder.command(leader, 1, 4, second, LockMachine.TYPE, RELEASE, [held.revision])
    found = answers(engines, passing, 0)[5]
    assert found.code == Code.OK
    assert found.result == int(found.revision).to_bytes(8, "big")
    assert found.revision == engines.leader.groups[GROUP].applier.revision


@pytest.mark.parametrize("connection", [0, 1, (1 << CONNECTION_BITS) - 1, -1, -17])
def test_other_nodes_know_a_connection_by_a_number_of_its_boot(connection: int) -> None:
    boots = [Forwarding(boot) for boot in (bytes(16), b"\0\0\0\1" * 4, b"\x7f" * 16, b"\xff" * 16)]
    for forwarding in boots:
        number = forwarding.outside(connection)
        assert -(1 << 63) <= number < 1 << 63
        assert [boot.inside(number) for boot in boots] == [
            connection if boot is forwarding else None for boot in boots
        ]
