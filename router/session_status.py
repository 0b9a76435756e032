"""Questions to any node for its status; asked again of another one if the connection goes."""

from __future__ import annotations

from typing import Any, Final

from primitives.errors import Code, ProtocolError
from primitives.ids import Revision
from primitives.records import Answer
from router.frames import FrameKind, encode_control
from router.session_calls import NO_ARGUMENTS, Call, CallKind
from router.session_groups import Shared
from router.session_links import Link
from router.session_network import Network


class Statuses:
    """Questions under way."""

    __slots__ = ("_asked", "_network", "_next", "_unsent")

    def __init__(self, network: Network) -> None:
        self._network: Final = network
        self._asked: dict[int, tuple[Call, Link]] = {}
        self._unsent: list[Call] = []
        self._next = 1

    def ask(self, with_hashes: bool) -> Call:
        """A new question."""
        call = Call(CallKind.STATUS, 0, int(with_hashes), NO_ARGUMENTS, b"")
        self._unsent.append(call)
        return call

    def send(self) -> None:
        """Sends what is not sent, if any node is connected."""
        if not self._unsent:
            return
        link = next(iter(self._network.routes.nodes.values()), None)
        if link is None:
            return
        for call in self._unsent:
            self._asked[self._next] = (call, link)
            items = [self._next, bool(call.op)]
            self._network.send(link, encode_control(FrameKind.STATUS_REQUEST, items))
            self._next += 1
        self._unsent.clear()

    def answered(self, items: list[Any], blob: bytes, shared: Shared) -> None:
        """A STATUS came."""
        if len(items) != 1 or type(items[0]) is not int:
            raise ProtocolError("a STATUS of another form")
        asked = self._asked.pop(items[0], None)
        if asked is not None:
            shared.finish(asked[0], Answer(Code.OK, Revision(0), blob))

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
