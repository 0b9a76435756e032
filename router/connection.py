"""The client protocol's state machine for one connection; the same for both of its ends.

It knows no socket: bytes go in, frames come out, and what is sent passes through it. One table says which
kinds of frames each end may send in which state. A frame that the other end may not send is a
:class:`~primitives.errors.ProtocolError`; one that we may not send is a :class:`LocalMistake`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple

from primitives.arguments import indefinite
from primitives.errors import InvariantViolation, ProtocolError
from primitives.limits import (
    CLIENT_FRAME_BYTES_MAX,
    NAME_BYTES_MAX,
    NODE_FRAME_BYTES_MAX,
    UNAUTHENTICATED_FRAME_BYTES_MAX,
)
from router.frames import (
    KIND_NAMES,
    VERSION,
    FrameKind,
    Splitter,
    decode_control,
    encode_control,
)

REFUSAL_CHARS_MAX: Final = 1000


class LocalMistake(InvariantViolation):
    """We were about to send what the protocol does not allow: a bug on this side."""


class Role(Enum):
    """An end of a connection."""

    CLIENT = "client"
    NODE = "node"


class State(Enum):
    """A connection's state; both ends go through the same ones."""

    START = "start"
    """The client's HELLO is due."""
    GREETED = "greeted"
    """The node's WELCOME is due, or its refusal."""
    OPEN = "open"
    LEAVING = "leaving"
    """The node is stopping: it still answers."""
    CLOSED = "closed"
    """Refused, or broken by a mistake: no more frames."""


def _to(state: State, *kinds: int) -> dict[int, State]:
    return dict.fromkeys(kinds, state)


_REQUESTS: Final = (
    FrameKind.OPS, FrameKind.MAP_REQUEST, FrameKind.KEEPALIVE, FrameKind.STATUS_REQUEST, FrameKind.WATCH,
    FrameKind.CREDIT, FrameKind.UNWATCH, FrameKind.ADMIN,
)  # fmt: skip
_REPLIES: Final = (
    FrameKind.ANSWERS, FrameKind.MAP, FrameKind.KEEPALIVE_REPLY, FrameKind.STATUS, FrameKind.LEADERS,
    FrameKind.WATCHING, FrameKind.WATCH_ENDED, FrameKind.EVENTS, FrameKind.MARKS, FrameKind.ADMIN_REPLY,
)  # fmt: skip
_REFUSED: Final = _to(State.CLOSED, FrameKind.REFUSED)

TRANSITIONS: Final[dict[tuple[State, Role], dict[int, State]]] = {
    (State.START, Role.CLIENT): _to(State.GREETED, FrameKind.HELLO),
    (State.START, Role.NODE): _REFUSED,
    (State.GREETED, Role.CLIENT): {},
    (State.GREETED, Role.NODE): _to(State.OPEN, FrameKind.WELCOME) | _REFUSED,
    (State.OPEN, Role.CLIENT): _to(State.OPEN, *_REQUESTS),
    (State.OPEN, Role.NODE): _to(State.OPEN, *_REPLIES) | _to(State.LEAVING, FrameKind.GOODBYE) | _REFUSED,
    (State.LEAVING, Role.CLIENT): _to(State.LEAVING, *_REQUESTS),
    (State.LEAVING, Role.NODE): _to(State.LEAVING, *_REPLIES) | _REFUSED,
    (State.CLOSED, Role.CLIENT): {},
    (State.CLOSED, Role.NODE): {},
}
"""For a state and the end that sends: the kinds it may send, each with the state that follows."""


class Connection:
    """One end of a connection. ``role`` is our own end's."""

    __slots__ = ("_ours", "_role", "_splitter", "_state", "_theirs")

    def __init__(self, role: Role) -> None:
        self._role = role
        self._splitter = Splitter(UNAUTHENTICATED_FRAME_BYTES_MAX)
        self.state = State.START

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        is_client = self._role is Role.CLIENT
        self._state = state
        self._ours = TRANSITIONS[state, self._role]
        self._theirs = TRANSITIONS[state, Role.NODE if is_client else Role.CLIENT]
        if self.is_open:
            self._splitter.frame_bytes_max = NODE_FRAME_BYTES_MAX if is_client else CLIENT_FRAME_BYTES_MAX

    @property
    def is_open(self) -> bool:
        """Whether operations may be sent and answered."""
        return self._state is State.OPEN or self._state is State.LEAVING

    def sending(self, frame: bytes) -> bytes:
        """``frame`` (one whole frame), if it may be sent now; raises :class:`LocalMistake` if not."""
        after = self._ours.get(frame[4])
        if after is None:
            raise LocalMistake(self._refusal(self._role, frame[4]))
        if after is not self._state:
            self.state = after
        return frame

    def sending_all(self, frames: Sequence[bytes]) -> bytes:
        """The bytes of whole frames, but for those behind one that ends the connection: nothing may follow
        it. Raises :class:`LocalMistake` for one that may not be sent now."""
        sent = [self.sending(frame) for frame in frames if self.is_open]
        return sent[0] if len(sent) == 1 else b"".join(sent)

    def receive(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Kind and payload of each frame that ``data`` completes. When a frame is given out, the state is the
        one that follows it, so that it can be answered before the next is looked at. Take them all before the
        next call. Raises :class:`ProtocolError`; the state is then CLOSED."""
        try:
            self._splitter.push(data)
            while (frame := self._splitter.pop()) is not None:
                after = self._theirs.get(frame[0])
                if after is None:
                    peer = Role.NODE if self._role is Role.CLIENT else Role.CLIENT
                    raise ProtocolError(self._refusal(peer, frame[0]))
                if after is not self._state:
                    self.state = after
                yield frame
        except ProtocolError:
            self.state = State.CLOSED
            raise

    def _refusal(self, sender: Role, kind: int) -> str:
        name = KIND_NAMES.get(kind, f"kind {kind}")
        return f"a {sender.value} may not send {name} in state {self.state.value!r}"


class Welcome(NamedTuple):
    """What a node says of itself at the start of a connection."""

    version: int
    cluster_id: bytes
    node_id: int
    boot_id: bytes
    map_version: int


def encode_hello(name: str) -> bytes:
    """The client's first frame; ``name`` is for people, cut to ``NAME_BYTES_MAX`` bytes."""
    return encode_control(FrameKind.HELLO, [VERSION, name.encode()[:NAME_BYTES_MAX].decode(errors="ignore")])


def decode_hello(payload: bytes) -> str:
    """The client's name; raises :class:`ProtocolError` for another version too."""
    version, name = _items(payload, FrameKind.HELLO, (int, str))
    if version != VERSION:
        raise ProtocolError(f"protocol version {version} is not spoken here, but {VERSION} is")
    return str(name)


def encode_welcome(welcome: Welcome) -> bytes:
    """The node's first frame."""
    return encode_control(FrameKind.WELCOME, list(welcome))


def decode_welcome(payload: bytes) -> Welcome:
    """What the node said; raises :class:`ProtocolError` for another version too."""
    welcome = Welcome(*_items(payload, FrameKind.WELCOME, (int, bytes, int, bytes, int)))
    if welcome.version != VERSION:
        raise ProtocolError(f"the node speaks protocol version {welcome.version}, not {VERSION}")
    if len(welcome.cluster_id) != 16 or len(welcome.boot_id) != 16:
        raise ProtocolError("a WELCOME with an id that is not of 16 bytes")
    return welcome


def encode_refused(code: str, text: str) -> bytes:
    """The frame after which a node closes. ``code`` is for programs, ``text`` for people, cut to
    ``REFUSAL_CHARS_MAX``."""
    return encode_control(FrameKind.REFUSED, [code, text[:REFUSAL_CHARS_MAX]])


def decode_refused(payload: bytes) -> tuple[str, str]:
    """Code and text of a refusal; raises :class:`ProtocolError`."""
    code, text = _items(payload, FrameKind.REFUSED, (str, str))
    return str(code), str(text)


def _items(payload: bytes, kind: int, types: tuple[type, ...]) -> list[Any]:
    items, _ = decode_control(payload)
    if tuple(type(item) for item in items) != types:
        raise ProtocolError(f"{indefinite(KIND_NAMES[kind])} of another form")
    return items
