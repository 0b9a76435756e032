"""The connection's state machine: one table for both ends; whose mistake it is decides the exception."""

from __future__ import annotations

import pytest

from primitives.errors import ProtocolError
from primitives.limits import UNAUTHENTICATED_FRAME_BYTES_MAX
from router.connection import (
    TRANSITIONS,
    Connection,
    LocalMistake,
    Role,
    State,
    Welcome,
    decode_hello,
    decode_refused,
    decode_welcome,
    encode_hello,
    encode_refused,
    encode_welcome,
)
from router.frames import FrameKind, encode_control, encode_frame, encode_requests

WELCOME = Welcome(1, b"c" * 16, 3, b"b" * 16, 7)


def greeted() -> tuple[Connection, Connection]:
    """A client's end and a node's, after their handshake."""
    client, node = Connection(Role.CLIENT), Connection(Role.NODE)
    ((kind, payload),) = node.receive(client.sending(encode_hello("me")))
    assert kind == FrameKind.HELLO
    assert decode_hello(payload) == "me"
    ((kind, payload),) = client.receive(node.sending(encode_welcome(WELCOME)))
    assert kind == FrameKind.WELCOME
    assert decode_welcome(payload) == WELCOME
    return client, node


def test_both_ends_go_through_the_same_states() -> None:
    client, node = greeted()
    assert client.state is node.state is State.OPEN
    list(client.receive(node.sending(encode_control(FrameKind.GOODBYE, ["stopping"]))))
    assert client.state is node.state is State.LEAVING
    list(node.receive(client.sending(encode_requests([(1, 1, b"x")]))))
    list(client.receive(node.sending(encode_refused("x", "y"))))
    assert client.state is node.state is State.CLOSED


def test_a_hello_is_due_first() -> None:
    node = Connection(Role.NODE)
    with pytest.raises(ProtocolError, match="may not send OPS"):
        list(node.receive(encode_requests([(1, 1, b"x")])))
    assert node.state is State.CLOSED


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("role", list(Role))
def test_what_an_end_may_not_send_is_its_own_mistake_there_and_the_peers_here(
    state: State, role: Role
) -> None:
    kinds = {value for name, value in vars(FrameKind).items() if not name.startswith("_")} | {99}
    for kind in kinds - set(TRANSITIONS[state, role]):
        sender = Connection(role)
        sender.state = state
        with pytest.raises(LocalMistake):
            sender.sending(encode_frame(kind, b""))
        receiver = Connection(Role.CLIENT if role is Role.NODE else Role.NODE)
        receiver.state = state
        with pytest.raises(ProtocolError):
            list(receiver.receive(encode_frame(kind, b"")))


def test_before_the_handshake_frames_are_small() -> None:
    node = Connection(Role.NODE)
    with pytest.raises(ProtocolError, match="at most 4096"):
        list(node.receive(encode_frame(FrameKind.HELLO, bytes(UNAUTHENTICATED_FRAME_BYTES_MAX + 1))))


def test_what_follows_the_hello_in_one_chunk_is_seen_after_the_welcome() -> None:
    node = Connection(Role.NODE)
    kinds = []
    for kind, _ in node.receive(encode_hello("me") + encode_frame(FrameKind.OPS, bytes(8000))):
        kinds.append(kind)
        if kind == FrameKind.HELLO:
            node.sending(encode_welcome(WELCOME))
    assert kinds == [FrameKind.HELLO, FrameKind.OPS]


def test_another_version_is_refused() -> None:
    with pytest.raises(ProtocolError, match="version 2"):
        decode_hello(encode_control(FrameKind.HELLO, [2, "me"])[8:])
    with pytest.raises(ProtocolError, match="version 2"):
        decode_welcome(encode_welcome(WELCOME._replace(version=2))[8:])


@pytest.mark.parametrize("items", [[], [1], [1, 2], ["1", "me"], [True, "me"], [1, "me", 3]])
def test_a_hello_of_another_form_is_refused(items: list[object]) -> None:
    with pytest.raises(ProtocolError):
        decode_hello(encode_control(FrameKind.HELLO, items)[8:])


def test_ids_of_another_length_are_refused() -> None:
    with pytest.raises(ProtocolError, match="16 bytes"):
        decode_welcome(encode_welcome(WELCOME._replace(boot_id=b"short"))[8:])


def test_a_refusal_is_read_back() -> None:
    assert decode_refused(encode_refused("busy", "later")[8:]) == ("busy", "later")


def test_a_long_name_is_cut() -> None:
    assert decode_hello(encode_hello("é" * 1000)[8:]) == "é" * 256
