"""How two nodes meet on the peer port: who they are, and whether they go on.

The dialler sends HELLO, the acceptor answers WELCOME or REFUSED; both carry the same fields. Then each sends
a FOUNDING frame (see ``founding``), and only when both agree does the connection carry anything else. This
module is the bytes and the checks of the first exchange; it does no input or output.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from primitives.codec import pack, unpack
from primitives.errors import ProtocolError
from primitives.limits import ENVELOPE_BYTES_MAX, UNAUTHENTICATED_FRAME_BYTES_MAX
from shards.peerwire import PeerFrameKind, frame

PEER_VERSION: Final = 1
"""Of the protocol between nodes."""
HELLO_BYTES_MAX: Final = UNAUTHENTICATED_FRAME_BYTES_MAX
FOUNDING_BYTES_MAX: Final = ENVELOPE_BYTES_MAX
"""Largest frame between WELCOME and agreement."""
MEETING_S: Final = 5.0
"""From the connection to agreement; longer, and it is closed."""
REFUSAL_CHARS_MAX: Final = 800


class Purpose:
    """Why a node dials."""

    CARRY: Final = 0
    """To carry everything between the two. Dialled by the node whose name sorts lower."""
    PROBE: Final = 1
    """Only to compare what each was started with. Dialled by either, while it has not formed."""


class Hello(NamedTuple):
    """What HELLO and WELCOME say."""

    version: int
    purpose: int
    name: str
    expected: str
    """The name that the sender thinks the receiver has."""
    store_id: bytes
    boot_id: bytes
    """Drawn at each start of a node."""
    cluster_id: bytes
    """Empty when the sender does not know it yet."""


class RefusalCode:
    """What a refused node does about it."""

    GO: Final = "go"
    """It must not go on: it stops with the text, unless it has formed."""
    PART: Final = "part"
    """No connection between these two; both go on and try again."""

class Refusal(NamedTuple):
    """Why there is no connection."""

    code: str
    text: str


class Parted(Exception):
    """Two nodes do not go on over this connection; the node does. ``told``: the other end said so."""

    def __init__(self, refusal: Refusal, *, told: bool = False) -> None:
        super().__init__(refusal.text)
        self.refusal: Final = refusal
        self.told: Final = told


def encode_hello(kind: int, hello: Hello) -> bytes:
    """A HELLO or WELCOME frame."""
    return frame(kind, pack(list(hello)))


def decode_hello(payload: bytes) -> Hello:
    """What a HELLO or WELCOME frame says. Raises :class:`ProtocolError`; of another version only the number
    is looked at."""
    items = decode_items(payload)
    if not items or type(items[0]) is not int:
        raise ProtocolError("a greeting without a version")
    if items[0] != PEER_VERSION:
        raise ProtocolError(f"it speaks version {items[0]} of the peer protocol, this node {PEER_VERSION}")
    if [type(item) for item in items] != [int, int, str, str, bytes, bytes, bytes]:
        raise ProtocolError("a greeting of another form")
    hello = Hello(*items)
    if hello.purpose not in (Purpose.CARRY, Purpose.PROBE):
        raise ProtocolError(f"a greeting of unknown purpose {hello.purpose}")
    if (len(hello.store_id), len(hello.boot_id)) != (16, 16) or len(hello.cluster_id) not in (0, 16):
        raise ProtocolError("a greeting with ids of another length")
    return hello


def decode_items(payload: bytes) -> list[Any]:
    """The items of a control frame between nodes. Raises :class:`ProtocolError`."""
    try:
        return unpack(payload)
    except ValueError as error:
        raise ProtocolError(f"a frame that cannot be read: {error}") from None


def encode_refused(refusal: Refusal) -> bytes:
    """A REFUSED frame; the sender closes after it."""
    return frame(PeerFrameKind.REFUSED, pack([refusal.code, refusal.text[:REFUSAL_CHARS_MAX]]))


def decode_refused(payload: bytes) -> Refusal:
    """What a REFUSED frame says, on one line. Raises :class:`ProtocolError`."""
    items = decode_items(payload)
    if [type(item) for item in items] != [str, str]:
        raise ProtocolError("a refusal of another form")
    code, text = items
    shown = "".join(character if character.isprintable() else " " for character in text)
    return Refusal(code, shown[:REFUSAL_CHARS_MAX])


def objection(mine: Hello, theirs: Hello, *, dialled: bool) -> Refusal | None:
    """Why ``theirs`` is not taken, or None. ``dialled``: whether this node dialled. Both ends ask, each with
    its own view, and any objection ends the connection."""
    if theirs.boot_id == mine.boot_id or theirs.name == mine.name:
        return Refusal(RefusalCode.PART, f"{mine.name} reached itself: the address is its own")
    if theirs.expected != mine.name:
        return Refusal(RefusalCode.PART, f"this is node {mine.name}, not {theirs.expected}")
    if dialled and theirs.name != mine.expected:
        return Refusal(RefusalCode.PART, f"the address of {mine.expected} is that of node {theirs.name}")
    if theirs.purpose == Purpose.CARRY and not dialled and theirs.name > mine.name:
        return Refusal(RefusalCode.PART, f"{mine.name} dials {theirs.name}, not the other way round")
    if mine.cluster_id and theirs.cluster_id and mine.cluster_id != theirs.cluster_id:
        theirs_hex, mine_hex = theirs.cluster_id.hex(), mine.cluster_id.hex()
        return Refusal(
            RefusalCode.PART,
            f"{theirs.name} belongs to cluster {theirs_hex}, {mine.name} to {mine_hex}",
        )
    return None
