"""Sessions of a group as replicated state: who lives, how far each one's commands came, stored answers.

Sessions are kept whole in memory, as objects; their rows are written by a flush, so that an answer that is
acknowledged before it costs no write.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from primitives.errors import Code
from primitives.ids import GROUP_SLOT
from primitives.layout import HostTable, after, host_prefix
from primitives.limits import SESSION_TIMEOUT_MS_MAX, SESSION_TIMEOUT_MS_MIN
from primitives.numbering import Numbering, decode_numbering
from primitives.records import U64, Register
from primitives.tables import Rows, Sink, Tables

SESSION_FORMER_KEPT_MS: Final = 600_000
"""How long, in log time, a group remembers the count of a session that ended, so that a registration that
was repeated or delayed does not bring it back."""

_SESSION: Final = struct.Struct(">B16sII")
"""Its state, id, count and timeout; its slots follow, in the order of first use."""
_ENDED: Final = 0
_ALIVE: Final = 1
_CLOSING: Final = 2
_FORMER: Final = struct.Struct(">IQ")
"""Count and number."""


class SessionInfo(NamedTuple):
    """A live session."""

    number: int
    """The revision of its registration here."""
    session_id: bytes
    timeout_ms: int


class Session:
    """One session's state in this group."""

    __slots__ = ("alive", "closing", "count", "id", "info", "number", "numberings")

    def __init__(self, number: int, session_id: bytes, count: int, timeout_ms: int) -> None:
        self.number: Final = number
        self.id: Final = session_id
        self.count: Final = count
        self.info: Final = SessionInfo(number, session_id, timeout_ms)
        self.alive = True
        self.closing = False
        """Whether its lease is renewed no more, while it lives."""
        self.numberings: dict[int, Numbering] = {}
        """By slot, in the order of first use."""

    def row(self) -> bytes:
        """The session's own row."""
        state = (_CLOSING if self.closing else _ALIVE) if self.alive else _ENDED
        head = _SESSION.pack(state, self.id, self.count, self.info.timeout_ms)
        return head + struct.pack(f">{len(self.numberings)}H", *self.numberings)


class Registered(NamedTuple):
    """What a registration came to."""

    code: int
    number: int
    """Of the session, new or found; 0 when refused."""
    former: Session | None
    """One that a higher count ended; it is still to be ended by the caller."""


class SessionTable:
    """All sessions of a group."""

    __slots__ = ("_by_id", "_dirty", "_dirty_numberings", "_former", "_gone", "_sessions_max", "alive",
                 "answer_bytes", "ending")  # fmt: skip

    def __init__(self, tables: Tables, rows: Rows, sessions_max: int) -> None:
        self._sessions_max: Final = sessions_max
        self._former: Final = tables.host_table(host_prefix(GROUP_SLOT, HostTable.FORMER))
        self.alive: dict[int, Session] = {}
        """By number. The authority on who lives."""
        self.ending: dict[int, Session] = {}
        """Ended ones whose holdings and rows are still to go, by number."""
        self._by_id: dict[bytes, Session] = {}
        self._dirty: dict[int, Session] = {}
        self._dirty_numberings: list[Numbering] = []
        self._gone: list[int] = []
        self.answer_bytes = 0
        """About how much a flush of the answers would write."""
        self._load(rows)

    def _load(self, rows: Rows) -> None:
        prefix = host_prefix(GROUP_SLOT, HostTable.SESSION)
        for key, row in rows.scan(prefix, after(prefix)):
            (number,) = U64.unpack_from(key, len(prefix))
            state, session_id, count, timeout_ms = _SESSION.unpack_from(row)
            session = Session(number, session_id, count, timeout_ms)
            slots = row[_SESSION.size :]
            for slot in struct.unpack(f">{len(slots) // 2}H", slots):
                session.numberings[slot] = decode_numbering(rows, number, slot)
            session.closing = state == _CLOSING
            if state != _ENDED:
                self.alive[number] = self._by_id[session_id] = session
            else:
                session.alive = False
                self.ending[number] = session

    def register(self, record: Register, revision: int) -> Registered:
        """Finds or makes the session of a registration; a new one's number is ``revision``.

        A higher count than the present one's makes a new session, an equal one finds the present, a lower
        one is refused; so it is for one that ended not long ago, which nothing brings back.
        """
        if not SESSION_TIMEOUT_MS_MIN <= record.timeout_ms <= SESSION_TIMEOUT_MS_MAX:
            return Registered(Code.BAD_REQUEST, 0, None)
        present = self._by_id.get(record.session_id)
        if present is not None:
            if record.count == present.count:
                code = Code.SESSION_LOST if present.closing else Code.OK
                return Registered(code, present.number, None)
            if record.count < present.count:
                return Registered(Code.REGISTRATION_OLD, 0, None)
        else:
            former = self._former.get(record.session_id)
            if former is not None:
                (count, _) = _FORMER.unpack(former)
                if record.count <= count:
                    old = record.count < count
                    return Registered(Code.REGISTRATION_OLD if old else Code.SESSION_LOST, 0, None)
            if len(self.alive) + len(self.ending) >= self._sessions_max:
                return Registered(Code.OVERLOADED, 0, None)
        session = Session(revision, record.session_id, record.count, record.timeout_ms)
        self.alive[revision] = self._by_id[record.session_id] = session
        self._dirty[revision] = session
        return Registered(Code.OK, revision, present)

    def number_of(self, session_id: bytes) -> int | None:
        """The number of the live session with that id."""
        session = self._by_id.get(session_id)
        return None if session is None else session.number

    def find(self, session_id: bytes, number: int) -> Session | None:
        """The live session of that pair."""
        session = self.alive.get(number)
        return session if session is not None and session.id == session_id else None

    def close(self, session: Session) -> None:
        """The session's lease is renewed no more."""
        session.closing = True
        self._dirty[session.number] = session

    def end(self, session: Session) -> bool:
        """Ends a live session: from now on nothing that it holds is held. Its rows stay, for slices. Whether
        its count is kept, to be forgotten later."""
        number = session.number
        session.alive = False
        del self.alive[number]
        self.ending[number] = session
        self._dirty[number] = session
        if self._by_id[session.id] is not session:
            return False
        del self._by_id[session.id]
        self._former.put(session.id, _FORMER.pack(session.count, number))
        return True

    def forget_former(self, session_id: bytes, number: int) -> None:
        """Forgets the count of an ended session, unless a later one of the same id ended since."""
        former = self._former.get(session_id)
        if former is not None and _FORMER.unpack(former)[1] == number:
            self._former.delete(session_id)

    def numbering(self, session: Session, slot: int) -> Numbering:
        """The session's numbers in ``slot``, begun if it is new there."""
        numbering = session.numberings.get(slot)
        if numbering is None:
            numbering = session.numberings[slot] = Numbering(session.number, slot)
            self._dirty[session.number] = session
        return numbering

    def touch(self, numbering: Numbering) -> None:
        """Notes a change for the next flush."""
        if not numbering.dirty:
            numbering.dirty = True
            self._dirty_numberings.append(numbering)

    def remove_numbering(self, session: Session, numbering: Numbering) -> None:
        """Drops what is left of an ending session in a slot."""
        del session.numberings[numbering.slot]
        numbering.removed = True
        self.touch(numbering)
        self._dirty[session.number] = session

    def remove(self, session: Session) -> None:
        """Drops an ending session of which nothing is left."""
        del self.ending[session.number]
        self._dirty.pop(session.number, None)
        self._gone.append(session.number)

    def flush(self, sink: Sink) -> None:
        """Writes what changed since the last flush."""
        prefix = host_prefix(GROUP_SLOT, HostTable.SESSION)
        for number, session in self._dirty.items():
            sink.put(prefix + U64.pack(number), session.row())
        for number in self._gone:
            sink.delete(prefix + U64.pack(number))
        for numbering in self._dirty_numberings:
            numbering.flush(sink)
        self._dirty.clear()
        self._gone.clear()
        self._dirty_numberings.clear()
        self.answer_bytes = 0
