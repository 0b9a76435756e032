"""Questions to any node: for its status, and administrators'; asked of another one if the connection goes."""

from __future__ import annotations

from typing import Any, Final

from primitives.codec import pack, unpack
from primitives.errors import Code, ProtocolError
from primitives.ids import Revision
from primitives.records import Answer
from router.frames import FrameKind, encode_control
from router.session_calls import NO_ARGUMENTS, Call, CallKind, error_of
from router.session_ledger import Ledger
from router.session_links import Link
from router.session_network import Network

_STATUS: Final = 0
_ADMIN: Final = 1
"""Types of such calls."""


class Questions:
    """Questions under way."""

    __slots__ = ("_asked", "_ledger", "_network", "_next", "_unsent")

    def __init__(self, network: Network, ledger: Ledger) -> None:
        self._network: Final = network
        self._ledger: Final = ledger
        self._asked: dict[int, tuple[Call, Link]] = {}
        self._unsent: list[Call] = []
        self._next = 1

    def status(self, with_hashes: bool, *, token: Any = None) -> Call:
        """Begins to ask some node for its status; the answer's result is a CBOR map."""
        return self._begin(Call(CallKind.STATUS, _STATUS, int(with_hashes), NO_ARGUMENTS, b""), token)

    def admin(self, operation: str, arguments: list[Any], *, token: Any = None) -> Call:
        """Begins an administrator's request to some node; the answer's result is an encoded value."""
        return self._begin(Call(CallKind.STATUS, _ADMIN, 0, pack([operation, *arguments]), b""), token)

    def _begin(self, call: Call, token: Any) -> Call:
        call.token = token
        self._unsent.append(call)
        return self._ledger.count(call)

    def send(self) -> None:
        """Sends what is not sent, if any node is connected."""
        if not self._unsent:
            return
        link = next(iter(self._network.routes.nodes.values()), None)
        if link is None:
            return
        for call in self._unsent:
            self._asked[self._next] = (call, link)
            if call.type == _STATUS:
                frame = encode_control(FrameKind.STATUS_REQUEST, [self._next, bool(call.op)])
            else:
                frame = encode_control(FrameKind.ADMIN, [self._next, *unpack(call.args)])
            self._network.send(link, frame)
            self._next += 1
        self._unsent.clear()

    def answered(self, kind: int, items: list[Any], blob: bytes) -> None:
        """A STATUS or an ADMIN_REPLY came."""
        form = [int] if kind == FrameKind.STATUS else [int, int, str]
        if [type(item) for item in items] != form:
            raise ProtocolError("a STATUS or an ADMIN_REPLY of another form")
        asked = self._asked.pop(items[0], None)
        if asked is None:
            return
        call, shared = asked[0], self._ledger.shared
        if len(items) == 1 or items[1] == Code.OK:
            shared.finish(call, Answer(Code.OK, Revision(0), blob))
        else:
            answer = Answer(items[1], Revision(0), items[2].encode(errors="replace"))
            shared.finish(call, answer, error_of(answer))

    def call_off(self, call: Call) -> None:
        """Nobody waits for it any more."""
        self._unsent = [other for other in self._unsent if other is not call]
        self._asked = {number: asked for number, asked in self._asked.items() if asked[0] is not call}

    def dropped(self, link: Link) -> None:
        """What was asked there is to be asked elsewhere."""
        for number, (call, at) in list(self._asked.items()):
            if at is link:
                del self._asked[number]
                self._unsent.append(call)
