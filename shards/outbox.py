"""What a round has to say, gathered for each peer and each client connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from primitives.ids import GroupId, NodeId
from primitives.limits import CLIENT_FRAME_BYTES_MAX, KEEPALIVE_LEASES_MAX
from primitives.records import count_answers
from raftgroup.types import Message, MessageKind
from router.frames import ANSWER_OVERHEAD_BYTES, FrameKind, encode_answers, encode_control
from shards.peerwire import (
    BEATS,
    SectionKind,
    are_alike,
    encode_answer_section,
    encode_beat,
    encode_raft,
    readdressed,
    section,
)
from shards.ports import Effects, Origin, Priority

INTERNAL = -1
"""Connections below zero are the node itself; the number tells which part of it waits."""

OPENED = INTERNAL - 1
"""Connection number by which a driver's own OPEN records are answered; the request is group and slot."""
NOBODY = Origin(NodeId(0), INTERNAL, 0)
"""Who waits for what a leader logs of its own."""

EARLY_GROUPS: Final = 4
"""Answers of so many groups are waited for, or those of one group in so many, whichever is more."""

_URGENT = frozenset(
    (
        MessageKind.PRE_VOTE, MessageKind.PRE_VOTE_REPLY, MessageKind.VOTE, MessageKind.VOTE_REPLY,
        MessageKind.TIMEOUT_NOW,
    )
)  # fmt: skip


class Keepalives:
    """Confirmations of one keepalive that this round gives."""

    __slots__ = ("confirmed", "gone")

    def __init__(self) -> None:
        self.confirmed: list[list[int]] = []
        self.gone: list[list[int]] = []

    def frames(self, number: int) -> Iterator[bytes]:
        """The reply to the keepalive ``number``, in frames whose envelopes are within bounds."""
        count = max(len(self.confirmed), len(self.gone), 1)
        for at in range(0, count, KEEPALIVE_LEASES_MAX):
            end = at + KEEPALIVE_LEASES_MAX
            yield encode_control(
                FrameKind.KEEPALIVE_REPLY, [number, self.confirmed[at:end], self.gone[at:end]]
            )


class Outbox:
    """Everything that leaves the node at the end of a round."""

    __slots__ = (
        "_answers", "_answers_early", "_beats", "_early", "_gathered", "_keepalives", "_last_group",
        "_last_raft", "_last_section", "_node", "effects", "internal", "send",
    )  # fmt: skip

    def __init__(self, node: NodeId, answers_early: int) -> None:
        self._node = node
        self._answers_early = self._early = answers_early
        self.send: Callable[[Effects], object] | None = None
        """Takes what is not to wait for the end of the round; None: everything waits."""
        self._begin()

    def _begin(self) -> None:
        self.effects = Effects()
        self._beats: dict[NodeId, list[bytes]] = {}
        self._answers: dict[int, list[tuple[int, bytes]]] = {}
        self._gathered = 0
        """Answers in them."""
        self._last_group = GroupId(0)
        self._last_raft: Message | None = None
        """The message of that group that was encoded last."""
        self._last_section = b""
        self._keepalives: dict[tuple[NodeId, int, int], Keepalives] = {}
        self.internal: list[tuple[Origin, bytes]] = []
        """Answers to what the node asked itself; the engine drains them."""

    def answer(self, origin: Origin, answer: bytes) -> None:
        """Answers whoever asked: a connection here, one on another node (0: nobody), or this node itself."""
        node, connection, request = origin
        if node != self._node:
            if node:
                self.peer(node, Priority.LOG, encode_answer_section(connection, request, answer))
        elif connection < 0:
            self.internal.append((origin, answer))
        else:
            answers = self._answers.get(connection)
            if answers is None:
                answers = self._answers[connection] = []
            answers.append((request, answer))
            self._gathered += count_answers(answer)

    def answering(self) -> Iterable[int]:
        """Connections that this round answers."""
        return self._answers

    def peer(self, node: NodeId, priority: int, data: bytes) -> None:
        """Sends an encoded section to a peer."""
        sections = self.effects.peers.get(node)
        if sections is None:
            sections = self.effects.peers[node] = []
        sections.append((priority, data))

    def raft(self, node: NodeId, group: GroupId, message: Message) -> None:
        """Sends a replica's message to its receiver's node."""
        if message.kind in BEATS:
            beats = self._beats.get(node)
            if beats is None:
                beats = self._beats[node] = []
            beats.append(encode_beat(group, message))
            return
        priority = Priority.CONTROL if message.kind in _URGENT else Priority.LOG
        last = self._last_raft
        if last is not None and group == self._last_group and are_alike(message, last):
            # What a leader sends one follower it sends the others, as a rule, and at once.
            data = readdressed(self._last_section, message.receiver)
        else:
            data = encode_raft(group, message)
            self._last_group, self._last_raft, self._last_section = group, message, data
        self.peer(node, priority, data)

    def client(self, connection: int, frame: bytes) -> None:
        """Sends a whole frame to a client."""
        self.effects.clients.setdefault(connection, []).append(frame)

    def close(self, connection: int) -> None:
        """Closes a client's connection once its frames are out."""
        self.effects.close.append(connection)

    def keepalive(self, node: NodeId, connection: int, number: int) -> Keepalives:
        """This round's confirmations of the keepalive ``number`` of a connection on ``node``."""
        key = (node, connection, number)
        found = self._keepalives.get(key)
        if found is None:
            found = self._keepalives[key] = Keepalives()
        return found

    def expect(self, groups: int) -> None:
        """So many groups led here are about to give answers. The more there are, the more has to come
        together before any of it leaves: clients have calls under way with the others meanwhile, and what
        leaves in small parts comes back in small parts."""
        self._early = self._answers_early * max(1, min(groups, EARLY_GROUPS), groups // EARLY_GROUPS)

    def answer_early(self) -> None:
        """Sends the answers that are there, if they are many: whoever they are for goes on while the round
        serves others."""
        if self._gathered >= self._early and self.send is not None:
            self.send(Effects(clients=self._take_answers()))

    def _take_answers(self) -> dict[int, list[bytes]]:
        """Frames of the answers so far, for each connection; begins anew with these."""
        answers, self._answers, self._gathered = self._answers, {}, 0
        return {
            connection: [encode_answers(part) for part in _parts(given)]
            for connection, given in answers.items()
        }

    def take_peers(self) -> dict[NodeId, list[tuple[int, bytes]]]:
        """What is gathered for peers so far, but for confirmations of keepalives; begins anew with these."""
        self._join_beats()
        peers, self.effects.peers = self.effects.peers, {}
        return peers

    def _join_beats(self) -> None:
        for peer, beats in self._beats.items():
            self.peer(peer, Priority.CONTROL, section(SectionKind.HEARTBEATS, b"".join(beats)))
        self._beats = {}

    def take(self) -> Effects:
        """Encodes what is gathered and begins anew."""
        self._join_beats()
        for (node, connection, number), given in self._keepalives.items():
            for frame in given.frames(number):
                if node == self._node:
                    self.client(connection, frame)
                else:
                    payload = connection.to_bytes(8, "big", signed=True) + frame
                    self.peer(node, Priority.CONTROL, section(SectionKind.KEEPALIVE_REPLY, payload))
        for connection, frames in self._take_answers().items():
            self.effects.clients.setdefault(connection, []).extend(frames)
        effects = self.effects
        self._begin()
        return effects


def _parts(answers: list[tuple[int, bytes]]) -> list[list[tuple[int, bytes]]]:
    """Splits answers so that each frame stays below the client's limit."""
    parts: list[list[tuple[int, bytes]]] = [[]]
    size = 0
    for request, answer in answers:
        size += len(answer) + ANSWER_OVERHEAD_BYTES
        if size > CLIENT_FRAME_BYTES_MAX and parts[-1]:
            parts.append([])
            size = len(answer) + ANSWER_OVERHEAD_BYTES
        parts[-1].append((request, answer))
    return parts
