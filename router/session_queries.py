"""Queries to a group's leader: those that are to be sent, and those that were."""

from __future__ import annotations

from router.session_calls import Call
from router.session_links import forget_request
from router.session_queue import CallQueue


class Queries(CallQueue):
    """A queue of queries, which knows until each one's answer what it gave out."""

    __slots__ = ("_asked",)

    def __init__(self) -> None:
        super().__init__()
        self._asked: dict[Call, None] = {}
        """Queries sent and not answered, in order."""

    @property
    def is_waiting(self) -> bool:
        """Whether any answer is still to come."""
        return bool(self._asked)

    def take(self) -> Call | None:
        """The next query to be sent; None if there is none."""
        call = self.pop()
        if call is not None:
            self._asked[call] = None
        return call

    def expects(self, call: Call) -> bool:
        """Whether the query's answer is still to come."""
        return call in self._asked

    def settle(self, call: Call) -> None:
        """The query's answer came, or nobody wants it any more."""
        self._asked.pop(call, None)

    def ask_again(self) -> None:
        """Has all queries sent again whose answer has not come."""
        for call in reversed(self._asked):
            forget_request(call)
            self.push_front(call)
        self._asked.clear()
