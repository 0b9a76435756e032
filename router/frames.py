"""Frames of the client protocol: header, kinds, limits, and what is in each.

A frame is a header of 8 bytes (payload length u32, kind u8, flags u8, reserved u16, big-endian; flags and
reserved are zero) and its payload. A control frame's payload is ``u32 envelope length | envelope | blob``;
the envelope is one flat CBOR array. Operations and answers carry records and answers behind struct headers.

The :class:`Splitter` serves the peer port too: it knows lengths, not kinds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, Final

from primitives.codec import pack, unpack
from primitives.errors import Code, InvariantViolation, ProtocolError
from primitives.limits import BURST_COMMANDS_MAX, CLIENT_FRAME_BYTES_MAX, ENVELOPE_BYTES_MAX
from primitives.records import U32, U64, Answer

VERSION: Final = 1
"""Of the protocol, told in HELLO and WELCOME."""
HEADER: Final = struct.Struct(">IBBH")
HEADER_BYTES: Final = HEADER.size

_REQUEST: Final = struct.Struct(">IQI")
_ANSWER: Final = struct.Struct(">IQ")
_TOLD: Final = struct.Struct(">IQBQ")
"""The same and the beginning of the answer itself, its code and revision."""
_TOLD_BYTES: Final = _TOLD.size
_PART: Final = struct.Struct(">IBQ")
"""Length, code and revision of an answer within a burst's."""
_PART_BYTES: Final = _PART.size
_new_answer: Final = tuple.__new__
REQUEST_OVERHEAD_BYTES: Final = _REQUEST.size
"""Bytes of an OPS payload that a request takes beside its record."""
ANSWER_OVERHEAD_BYTES: Final = _ANSWER.size
"""Bytes of an ANSWERS payload that an answer takes beside itself."""


class FrameKind:
    """Kinds of frames, with their envelopes. Never renumber. c→n: by the client; n→c: by the node."""

    HELLO: Final = 1
    """c→n [version, client name]; the first frame."""
    WELCOME: Final = 2
    """n→c [version, cluster id, node id, boot id, map version]."""
    REFUSED: Final = 3
    """n→c [code, text]; then the node closes."""
    OPS: Final = 4
    """c→n requests, see :func:`encode_requests`."""
    ANSWERS: Final = 5
    """n→c answers, see :func:`encode_answers`."""
    MAP_REQUEST: Final = 6
    """c→n []."""
    MAP: Final = 7
    """n→c [] and the encoded shard map."""
    KEEPALIVE: Final = 8
    """c→n [n, session id, [[group, session number], …]]."""
    KEEPALIVE_REPLY: Final = 9
    """n→c [n, confirmed [[group, session number, ownership version], …], gone [[group, number], …]]."""
    STATUS_REQUEST: Final = 10
    """c→n [request id, with hashes]."""
    STATUS: Final = 11
    """n→c [request id] and a CBOR map."""
    GOODBYE: Final = 12
    """n→c [text]: the node is stopping."""
    LEADERS: Final = 13
    """n→c [[group, node id], …]: who leads groups that this connection used through another node."""
    WATCH: Final = 14
    """c→n, see :class:`watchframes.WatchRequest`."""
    WATCH_ENDED: Final = 15
    """n→c [watch id, code, text]: no more events come of that watch."""
    EVENTS: Final = 16
    """n→c events, see :mod:`router.watchframes`."""
    MARKS: Final = 17
    """n→c marks, see :class:`watchframes.Mark`."""
    CREDIT: Final = 18
    """c→n [watch id, bytes]: so many more bytes of events may be sent."""
    UNWATCH: Final = 19
    """c→n [watch id]; not answered."""
    WATCHING: Final = 20
    """n→c [watch id, group, revision]: the watch stands, with all events above that revision to come."""
    ADMIN: Final = 21
    """c→n [request id, operation, arguments…]."""
    ADMIN_REPLY: Final = 22
    """n→c [request id, code, text] and an encoded value."""


KIND_NAMES: Final = {
    value: name for name, value in vars(FrameKind).items() if not name.startswith("_")
}
"""For messages to people."""


def encode_frame(kind: int, payload: bytes, frame_bytes_max: int = CLIENT_FRAME_BYTES_MAX) -> bytes:
    """A whole frame; raises :class:`InvariantViolation` if the payload is over the limit."""
    if len(payload) > frame_bytes_max:
        raise InvariantViolation(f"a frame of {len(payload)} bytes, over the limit of {frame_bytes_max}")
    return HEADER.pack(len(payload), kind, 0, 0) + payload


def encode_control(kind: int, items: list[Any], blob: bytes = b"") -> bytes:
    """A whole control frame: an envelope of ``items``, and a blob behind it."""
    envelope = pack(items)
    return encode_frame(kind, b"".join((U32.pack(len(envelope)), envelope, blob)))


def decode_control(payload: bytes) -> tuple[list[Any], bytes]:
    """Envelope and blob of a control frame; raises :class:`ProtocolError`. Decodes no more than
    ``ENVELOPE_BYTES_MAX``."""
    if len(payload) < 4:
        raise ProtocolError("a control frame without the length of its envelope")
    (size,) = U32.unpack_from(payload)
    if size > ENVELOPE_BYTES_MAX:
        raise ProtocolError(f"an envelope of {size} bytes; at most {ENVELOPE_BYTES_MAX} are taken")
    if size > len(payload) - 4:
        raise ProtocolError("an envelope that runs beyond its frame")
    try:
        return unpack(payload[4 : 4 + size]), payload[4 + size :]
    except ValueError as error:
        raise ProtocolError(f"an envelope that cannot be read: {error}") from error


def encode_requests(requests: Iterable[tuple[int, int, bytes]]) -> bytes:
    """A whole OPS frame of (request id, group, record); request ids are the client's, each used once on its
    connection. Each request is ``u32 length of the rest | u64 request id | u32 group | record``."""
    parts = []
    for request, group, record in requests:
        parts.append(request_head(request, group, record))
        parts.append(record)
    return join_requests(parts)


def request_head(request: int, group: int, record: bytes) -> bytes:
    """What goes before a request's record."""
    return _REQUEST.pack(12 + len(record), request, group)


def join_requests(parts: list[bytes]) -> bytes:
    """A whole OPS frame of requests, each in two parts: its head and its record."""
    return encode_frame(FrameKind.OPS, b"".join(parts))


def decode_requests(payload: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Request id, group and record of each request of an OPS frame, read as they are taken; raises
    :class:`ProtocolError`."""
    at, end = 0, len(payload)
    while at < end:
        if at + 16 > end:
            raise ProtocolError("a request cut short")
        size, request, group = _REQUEST.unpack_from(payload, at)
        start = at + 16
        at += 4 + size
        if size < 12 or at > end:
            raise ProtocolError("a request whose length is not its own")
        yield request, group, payload[start:at]


def encode_answers(answers: Iterable[tuple[int, bytes]]) -> bytes:
    """A whole ANSWERS frame of (request id, answer bytes), each ``u32 length of the rest | u64 request id |
    answer``."""
    parts = []
    for request, answer in answers:
        parts.append(_ANSWER.pack(8 + len(answer), request))
        parts.append(answer)
    return encode_frame(FrameKind.ANSWERS, b"".join(parts))


def decode_answers(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """Request id and answer bytes of each answer of an ANSWERS frame, read as they are taken; raises
    :class:`ProtocolError`."""
    at, end = 0, len(payload)
    while at < end:
        if at + 12 > end:
            raise ProtocolError("an answer cut short")
        size, request = _ANSWER.unpack_from(payload, at)
        start = at + 12
        at += 4 + size
        if size < 8 or at > end:
            raise ProtocolError("an answer whose length is not its own")
        yield request, payload[start:at]


class AnswerReader:
    """The answers of an ANSWERS frame, one after the other: what :func:`decode_answers` and ``decode_answer``
    give together, without making anything for each but what is asked for. Those of a burst are given one by
    one, each under the request id that it would have alone."""

    __slots__ = (
        "_at", "_burst_end", "_left", "_payload", "_result_at", "_run_left", "code", "request", "revision",
    )  # fmt: skip

    def __init__(self, payload: bytes) -> None:
        self._payload: Final = payload
        self._at = 0
        self._result_at = 0
        self._burst_end = 0
        self._left = 0
        """Answers that the burst says are still to come of it."""
        self._run_left = 0
        """Answers that are still to come of a run."""
        self.request = 0
        self.code = 0
        """Below 0 if the answer is too short to have one."""
        self.revision = 0

    def next(self) -> bool:
        """Goes on to the next answer, if there is one; raises :class:`ProtocolError` like
        :func:`decode_answers`."""
        if self._run_left:
            self._run_left -= 1
            self.request += 1
            self.revision += 1
            return True
        payload = self._payload
        at, end = self._at, len(payload)
        if at < self._burst_end:
            self.request += 1
            return self._next_part()
        if at >= end:
            return False
        size: int
        if at + _TOLD_BYTES <= end:
            size, self.request, self.code, self.revision = _TOLD.unpack_from(payload, at)
        elif at + 12 <= end:
            size, self.request = _ANSWER.unpack_from(payload, at)
        else:
            raise ProtocolError("an answer cut short")
        if size < _TOLD_BYTES - 4:
            self.code = -1
        self._result_at = at + _TOLD_BYTES
        self._at = at = at + 4 + size
        if size < 8 or at > end:
            raise ProtocolError("an answer whose length is not its own")
        if self.code == Code.BURST:
            self._at, self._burst_end, self._left = self._result_at, at, self.revision
            return self._next_part()
        if self.code == Code.RUN:
            self._begin_run()
        return True

    def _begin_run(self) -> None:
        count = self.revision
        if self._at != self._result_at + 8 or not 0 < count <= BURST_COMMANDS_MAX:
            raise ProtocolError("a run of answers whose length is not its own, or of none or too many")
        self.code = Code.OK
        (self.revision,) = U64.unpack_from(self._payload, self._result_at)
        if self.revision + count > 1 << 64:
            raise ProtocolError("a run of answers beyond the last revision")
        self._run_left = count - 1
        self._result_at = self._burst_end = self._at

    @property
    def is_part(self) -> bool:
        """Whether the present answer is one of a burst's."""
        return self._at <= self._burst_end

    def _next_part(self) -> bool:
        at, end = self._at, self._burst_end
        if at + _PART_BYTES > end:
            raise ProtocolError("an answer of a burst cut short")
        size: int
        size, self.code, self.revision = _PART.unpack_from(self._payload, at)
        self._result_at = at + _PART_BYTES
        self._at = at = at + 4 + size
        if size < _PART_BYTES - 4 or at > end or self.code == Code.BURST or self.code == Code.RUN:
            raise ProtocolError("an answer of a burst whose length is not its own, or a burst's within it")
        self._left -= 1
        if (at == end) is not (self._left == 0):
            raise ProtocolError("a burst of more or fewer answers than it says")
        return True

    def answer(self) -> Answer:
        """The present answer, which has a code."""
        # A named tuple's own constructor runs in the interpreter, and takes longer than all else here.
        result = self._payload[self._result_at : self._at]
        return _new_answer(Answer, (self.code, self.revision, result))


class Splitter:
    """Cuts a stream of bytes into frames. Keeps at most one unfinished frame, and no more than its limit."""

    __slots__ = ("_at", "_buffer", "_chunk", "_left", "frame_bytes_max")

    def __init__(self, frame_bytes_max: int = CLIENT_FRAME_BYTES_MAX) -> None:
        self.frame_bytes_max = frame_bytes_max
        """Largest payload taken; may be changed between two frames."""
        self._chunk = b""
        self._at = 0
        self._buffer = bytearray()
        self._left = 0

    @property
    def buffered_bytes(self) -> int:
        """Bytes received that were not yet taken as frames."""
        return len(self._buffer) + len(self._chunk) - self._at

    def push(self, data: bytes) -> None:
        """Takes what arrived. Raises like :meth:`pop`, which is to be called until it gives None."""
        buffer = self._buffer
        if self._at < len(self._chunk):
            # The caller stopped halfway through the last chunk: keep the rest in order.
            data = self._chunk[self._at :] + data
        if buffer:
            # An unfinished frame: add what it lacks, and no more, so that the rest is copied once only.
            while self._left and data:
                buffer += data[: self._left]
                data = data[self._left :]
                self._left = self._lacking(buffer)
        self._chunk = data
        self._at = 0

    def pop(self) -> tuple[int, bytes] | None:
        """Kind and payload of the next whole frame, or None. Raises :class:`ProtocolError` as soon as a
        header is not one or announces more than the limit; the stream is then of no more use."""
        buffer = self._buffer
        if buffer:
            if self._left:
                return None
            kind, payload = buffer[4], bytes(memoryview(buffer)[HEADER_BYTES:])
            self._buffer = bytearray()
            return kind, payload
        chunk, at = self._chunk, self._at
        start = at + HEADER_BYTES
        if start <= len(chunk):
            size, kind = self._header(chunk, at)
            end = start + size
            if end <= len(chunk):
                self._at = end
                return kind, chunk[start:end]
        if at < len(chunk):
            buffer += memoryview(chunk)[at:]
            self._left = self._lacking(buffer)
        self._chunk, self._at = b"", 0
        return None

    def _lacking(self, buffer: bytearray) -> int:
        """Bytes that the unfinished frame lacks: those of its header first."""
        if len(buffer) < HEADER_BYTES:
            return HEADER_BYTES - len(buffer)
        return self._header(buffer, 0)[0] + HEADER_BYTES - len(buffer)

    def _header(self, data: bytes | bytearray, at: int) -> tuple[int, int]:
        size: int
        size, kind, flags, reserved = HEADER.unpack_from(data, at)
        if size > self.frame_bytes_max:
            raise ProtocolError(f"a frame of {size} bytes; at most {self.frame_bytes_max} are taken here")
        if flags or reserved:
            raise ProtocolError("a frame header whose reserved bits are set")
        return size, kind
