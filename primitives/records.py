"""The bytes of commands, queries and answers: made once, by whoever asks, and carried unchanged.

A *record* is what a group logs or serves; its first byte is its kind. A client makes the record of a
command once; the same bytes go into the frame, the Raft entry, every follower and every retry. All
integers are big-endian. A record is a struct header, the arguments as one flat CBOR array (at most
``ARGUMENT_BYTES_MAX``), and the *body*: the values, opaque, which servers never decode. Where a command
carries several values, the arguments give the lengths. A *burst* is several commands in one record, for what
they have in common is most of what a short one costs; each is applied, numbered and answered for itself.

An *entry's data* is the group's log time in milliseconds (8 bytes) and then records, each behind its
length (4 bytes). An *answer* is a code (1 byte), a revision (8 bytes) and the result.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from primitives.codec import pack, unpack
from primitives.errors import Code, TooLarge
from primitives.ids import PrimitiveId, Revision, SlotId
from primitives.limits import ARGUMENT_BYTES_MAX, BURST_COMMANDS_MAX


class Kind:
    """First byte of a record. Kinds from ``QUERY`` on are never logged. Never renumber."""

    COMMAND: Final = 1
    REGISTER: Final = 2
    END_SESSION: Final = 3
    EXPIRE: Final = 4
    FIRE: Final = 5
    MARKER: Final = 6
    OPEN: Final = 7
    INTERNAL: Final = 8
    DELETE: Final = 9
    DELETED: Final = 10
    CLOSE: Final = 11
    BURST: Final = 12
    QUERY: Final = 16


class Read:
    """How fresh a query's answer must be."""

    LINEARIZABLE: Final = 0
    SEQUENTIAL: Final = 1
    CAUSAL: Final = 2
    STALE: Final = 3


class Type:
    """A primitive's type on the wire and in the log. Never renumber."""

    SESSION: Final = 0
    """Operations on the session's own numbers: ``NOOP`` and ``WITHDRAW``."""
    CATALOG: Final = 1
    SYSTEM: Final = 2


class SessionOp:
    """Operations of type ``SESSION``."""

    NOOP: Final = 0
    """Takes the number of a command that was called off."""
    WITHDRAW: Final = 1
    """Arguments ``[number]``: removes that command's waiter, or gives its grant back."""


COMMAND_HEADER: Final = struct.Struct(">B16sQHIQQHQHBBHH")
_COMMAND_HEAD: Final = struct.Struct(COMMAND_HEADER.format[:8])
"""Its part that is the same for many commands: kind, session, number, slot and epoch."""
_COMMAND_REST: Final = struct.Struct(f">{COMMAND_HEADER.format[8:]}")
_COMMAND: Final = struct.Struct(">x16sQHIQQ10sHBBHH")
"""The whole, as it is read: without the kind, and with the primitive's id in one."""
_COMMAND_BYTES: Final = _COMMAND.size
QUERY_HEADER: Final = struct.Struct(">BHIHQHBBBQH")
_QUERY: Final = struct.Struct(">xHI10sHBBBQH")
"""Likewise."""
_READ_AT: Final = struct.calcsize(">BHIHQHBB")
"""Where a query says how fresh its answer must be."""
REGISTER_RECORD: Final = struct.Struct(">B16sII")
SESSION_RECORD: Final = struct.Struct(">B16sQ")
FIRE_RECORD: Final = struct.Struct(">BH")
OPEN_HEADER: Final = struct.Struct(">BHHQHBQ")
DELETE_RECORD: Final = struct.Struct(">BHHQH")
DELETED_RECORD: Final = struct.Struct(">BHQ")
INTERNAL_HEADER: Final = struct.Struct(">BBBH")
ANSWER_HEADER: Final = struct.Struct(">BQ")
U32: Final = struct.Struct(">I")
U64: Final = struct.Struct(">Q")
_BURST_KIND: Final = bytes((Kind.BURST,))
_SIZES: Final = tuple(struct.Struct(f">{count}H{count}I") for count in range(BURST_COMMANDS_MAX + 1))
"""By their number, the lengths of a burst's arguments and bodies."""


def u32_at(data: bytes, at: int) -> int:
    """The number of 4 bytes that stands there; raises ``IndexError`` beyond the end."""
    # Byte by byte it takes a third of what a struct does, compiled.
    return data[at] << 24 | data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3]


class Command(NamedTuple):
    """A session's numbered command. ``acknowledged`` and ``exceptions`` drop stored answers."""

    session_id: bytes
    number: int
    slot: SlotId
    epoch: int
    sequence: int
    acknowledged: int
    """Every answer up to this sequence, inclusive, has been received, but for ``exceptions``."""
    primitive: PrimitiveId
    partition: int
    type: int
    op: int
    exceptions: tuple[int, ...]
    args: list[Any]
    body: bytes


class Burst(NamedTuple):
    """A session's commands with consecutive numbers that ask one operation of one partition, in order.

    None of them may be answered late, so all are answered together: the answer has the code ``Code.BURST``,
    the number of answers in the place of its revision, and each answer behind its length (4 bytes). If all
    took effect by this record, each OK with no result, it may have the code ``Code.RUN`` instead, and the
    revision of the first (8 bytes) stands for them.
    What refuses the whole, such as ``SESSION_LOST``, is an answer of one, and stands for that of each.
    """

    session_id: bytes
    number: int
    slot: SlotId
    epoch: int
    sequence: int
    """Of the first command."""
    acknowledged: int
    primitive: PrimitiveId
    partition: int
    type: int
    op: int
    exceptions: tuple[int, ...]
    args: list[list[Any]]
    bodies: list[bytes]


class Query(NamedTuple):
    """A question that changes nothing. ``bound`` is a revision or a maximal age in ms, by ``read``."""

    slot: SlotId
    epoch: int
    primitive: PrimitiveId
    partition: int
    type: int
    op: int
    read: int
    bound: int
    args: list[Any]
    body: bytes


class Register(NamedTuple):
    """A client's first use of a group. Answered with the session's number there as the revision."""

    session_id: bytes
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs of a record
    timeout_ms: int


class EndSession(NamedTuple):
    """The client lets its lease go."""

    session_id: bytes
    number: int


class Expire(NamedTuple):
    """A leader saw no keepalive for the session's timeout."""

    session_id: bytes
    number: int


class Close(NamedTuple):
    """Somebody wants the session to end: from here on no leader renews its lease, so that it expires."""

    session_id: bytes
    number: int


class Fire(NamedTuple):
    """Fires at most ``count`` timers due at the entry's log time, in order of (deadline, creation)."""

    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs of a record


class Marker(NamedTuple):
    """Every replica hashes its state as of this record."""

    nonce: bytes


class Open(NamedTuple):
    """Opens a partition of a primitive whose name lives in another slot."""

    slot: SlotId
    primitive: PrimitiveId
    partition: int
    type: int
    asked: Revision
    """The group's own revision when it asked the name's slot."""
    config: bytes


class Delete(NamedTuple):
    """Deletes a partition of a primitive, if it is open; it will never be."""

    slot: SlotId
    primitive: PrimitiveId
    partition: int


class Deleted(NamedTuple):
    """Each partition of the primitive that was created in ``slot`` at ``revision`` is deleted."""

    slot: SlotId
    revision: Revision


class Internal(NamedTuple):
    """A node's own idempotent operation on a machine of the group, outside any session."""

    type: int
    op: int
    args: list[Any]
    body: bytes


Record = (
    Command | Burst | Register | EndSession | Expire | Fire | Marker | Open | Internal | Delete | Deleted
    | Close
)  # fmt: skip


_PRIMITIVES_KEPT_MAX: Final = 4096
_primitives: Final[dict[bytes, PrimitiveId]] = {}
"""Primitives' ids by their bytes: an object each, so that the ids of most records are the same ones."""


def _primitive_id(data: bytes) -> PrimitiveId:
    found = _primitives.get(data)
    if found is None:
        if len(_primitives) >= _PRIMITIVES_KEPT_MAX:
            _primitives.clear()
        found = _primitives[data] = PrimitiveId.from_bytes(data)
    return found


class BadRecord(ValueError):
    """Bytes that are not a record. From a client: its mistake. From the log: damage."""


def _pack_arguments(args: list[Any]) -> bytes:
    data = pack(args)
    if len(data) > ARGUMENT_BYTES_MAX:
        raise TooLarge(f"arguments of {len(data)} bytes; at most {ARGUMENT_BYTES_MAX} are carried")
    return data


def command_head(session_id: bytes, number: int, slot: int, epoch: int) -> bytes:
    """What the records of a session's commands in a slot begin with."""
    return _COMMAND_HEAD.pack(Kind.COMMAND, session_id, number, slot, epoch)


def join_command(
    head: bytes, sequence: int, acknowledged: int, primitive: PrimitiveId, partition: int, type: int, op: int,
    exceptions: tuple[int, ...], args: bytes, body: bytes,
) -> bytes:  # fmt: skip
    """The record of a command whose arguments are an envelope already, of at most ``ARGUMENT_BYTES_MAX``.
    ``head`` is of :func:`command_head`."""
    rest = _rest(sequence, acknowledged, primitive, partition, type, op, exceptions, len(args))
    return b"".join((head, rest, args, body))


def _rest(
    sequence: int, acknowledged: int, primitive: PrimitiveId, partition: int, type: int, op: int,
    exceptions: tuple[int, ...], last: int,
) -> bytes:  # fmt: skip
    """What stands behind a record's head, exceptions included; ``last`` is the last field of the header."""
    rest = _COMMAND_REST.pack(
        sequence, acknowledged, primitive[0], primitive[1], partition, type, op, len(exceptions), last
    )
    return rest + struct.pack(f">{len(exceptions)}Q", *exceptions) if exceptions else rest


def join_burst(
    head: bytes, sequence: int, acknowledged: int, primitive: PrimitiveId, partition: int, type: int, op: int,
    exceptions: tuple[int, ...], args: list[bytes], bodies: list[bytes],
) -> bytes:  # fmt: skip
    """The record of up to ``BURST_COMMANDS_MAX`` commands, made like :func:`join_command`, of which ``head``
    begins the first one's."""
    count = len(args)
    rest = _rest(sequence, acknowledged, primitive, partition, type, op, exceptions, count)
    sizes = [len(part) for part in args]
    for body in bodies:
        sizes.append(len(body))
    return b"".join((_BURST_KIND, head[1:], rest, _SIZES[count].pack(*sizes), *args, *bodies))


def join_query(
    slot: int, epoch: int, primitive: PrimitiveId, partition: int, type: int, op: int, read: int, bound: int,
    args: bytes, body: bytes,
) -> bytes:  # fmt: skip
    """The record of a query whose arguments are an envelope already, of at most ``ARGUMENT_BYTES_MAX``."""
    header = QUERY_HEADER.pack(
        Kind.QUERY, slot, epoch, primitive[0], primitive[1], partition, type, op, read, bound, len(args)
    )
    return b"".join((header, args, body))


def encode_command(command: Command) -> bytes:
    """The record of ``command``; raises ``TooLarge`` for arguments over ``ARGUMENT_BYTES_MAX``."""
    head = command_head(*command[:4])
    return join_command(head, *command[4:-2], _pack_arguments(command.args), command.body)


def encode_burst(burst: Burst) -> bytes:
    """The record of ``burst``; raises ``TooLarge`` for arguments over ``ARGUMENT_BYTES_MAX``."""
    args = [_pack_arguments(part) for part in burst.args]
    return join_burst(command_head(*burst[:4]), *burst[4:-2], args, burst.bodies)


def encode_query(query: Query) -> bytes:
    """The record of ``query``; raises ``TooLarge`` for arguments over ``ARGUMENT_BYTES_MAX``."""
    return join_query(*query[:-2], _pack_arguments(query.args), query.body)


def is_near(data: bytes) -> bool:
    """Whether a record is a query that any replica may answer: not a linearizable one."""
    return len(data) > _READ_AT and data[0] == Kind.QUERY and data[_READ_AT] != Read.LINEARIZABLE


def encode_register(record: Register) -> bytes:
    """The record of a registration."""
    return REGISTER_RECORD.pack(Kind.REGISTER, record.session_id, record.count, record.timeout_ms)


def encode_end_session(record: EndSession) -> bytes:
    """The record by which a client lets its lease go."""
    return SESSION_RECORD.pack(Kind.END_SESSION, record.session_id, record.number)


def encode_expire(record: Expire) -> bytes:
    """The record by which a leader ends a session that it no longer hears."""
    return SESSION_RECORD.pack(Kind.EXPIRE, record.session_id, record.number)


def encode_close(record: Close) -> bytes:
    """The record by which a lease is renewed no more."""
    return SESSION_RECORD.pack(Kind.CLOSE, record.session_id, record.number)


def encode_fire(record: Fire) -> bytes:
    """The record that fires due timers."""
    return FIRE_RECORD.pack(Kind.FIRE, record.count)


def encode_marker(record: Marker) -> bytes:
    """The record that asks every replica for its hash."""
    return bytes((Kind.MARKER,)) + record.nonce


def encode_open(record: Open) -> bytes:
    """The record that opens a partition."""
    header = OPEN_HEADER.pack(
        Kind.OPEN, record.slot, record.primitive[0], record.primitive[1], record.partition, record.type,
        record.asked,
    )  # fmt: skip
    return header + record.config


def encode_delete(record: Delete) -> bytes:
    """The record that deletes a partition."""
    primitive = record.primitive
    return DELETE_RECORD.pack(Kind.DELETE, record.slot, primitive[0], primitive[1], record.partition)


def encode_deleted(record: Deleted) -> bytes:
    """The record by which a deletion is over."""
    return DELETED_RECORD.pack(Kind.DELETED, record.slot, record.revision)


def encode_internal(record: Internal) -> bytes:
    """The record of a node's own operation; raises ``TooLarge`` like :func:`encode_command`."""
    args = _pack_arguments(record.args)
    header = INTERNAL_HEADER.pack(Kind.INTERNAL, record.type, record.op, len(args))
    return b"".join((header, args, record.body))


def decode_command(data: bytes) -> Command:
    """The command in ``data``; raises :class:`BadRecord`."""
    try:
        (session_id, number, slot, epoch, sequence, acknowledged, primitive, partition, type_, op,
         exception_count, args_bytes) = _COMMAND.unpack_from(data)  # fmt: skip
        at = _COMMAND_BYTES
        exceptions: tuple[int, ...] = ()
        if exception_count:
            exceptions = struct.unpack_from(f">{exception_count}Q", data, at)
            at += 8 * exception_count
        end: int = at + args_bytes
        if args_bytes > ARGUMENT_BYTES_MAX or end > len(data):
            raise BadRecord("arguments too large, or shorter than the header says")
        return tuple.__new__(Command, (
            session_id, number, slot, epoch, sequence, acknowledged, _primitive_id(primitive), partition,
            type_, op, exceptions, unpack(data[at:end]), data[end:],
        ))  # fmt: skip
    except struct.error:
        raise BadRecord("a command cut short") from None
    except ValueError as error:
        raise BadRecord(f"not a command: {error}") from error


def decode_burst(data: bytes) -> Burst:
    """The burst in ``data``; raises :class:`BadRecord`."""
    try:
        (session_id, number, slot, epoch, sequence, acknowledged, primitive, partition, type_, op,
         exception_count, count) = _COMMAND.unpack_from(data)  # fmt: skip
        if not 0 < count <= BURST_COMMANDS_MAX:
            raise BadRecord(f"a burst of {count} commands; 1 to {BURST_COMMANDS_MAX} are taken")
        if type_ <= Type.SYSTEM:
            raise BadRecord(f"a burst for type {type_}, whose commands come one by one")
        at: int = _COMMAND_BYTES
        exceptions: tuple[int, ...] = ()
        if exception_count:
            exceptions = struct.unpack_from(f">{exception_count}Q", data, at)
            at += 8 * exception_count
        layout = _SIZES[count]
        sizes: tuple[int, ...] = layout.unpack_from(data, at)
        at += layout.size
        if at + sum(sizes) != len(data):
            raise BadRecord("a burst whose length is not its own")
        args: list[list[Any]] = []
        bodies: list[bytes] = []
        for index in range(count):
            size = sizes[index]
            if size > ARGUMENT_BYTES_MAX:
                raise BadRecord("arguments too large")
            args.append(unpack(data[at : at + size]))
            at += size
        for index in range(count, 2 * count):
            size = sizes[index]
            bodies.append(data[at : at + size])
            at += size
        return tuple.__new__(Burst, (
            session_id, number, slot, epoch, sequence, acknowledged, _primitive_id(primitive), partition,
            type_, op, exceptions, args, bodies,
        ))  # fmt: skip
    except struct.error:
        raise BadRecord("a burst cut short") from None
    except ValueError as error:
        raise BadRecord(f"not a burst: {error}") from error


def decode_query(data: bytes) -> Query:
    """The query in ``data``; raises :class:`BadRecord`."""
    try:
        (slot, epoch, primitive, partition, type_, op, read, bound,
         args_bytes) = _QUERY.unpack_from(data)  # fmt: skip
        at = QUERY_HEADER.size
        end = at + args_bytes
        if args_bytes > ARGUMENT_BYTES_MAX or end > len(data):
            raise BadRecord("arguments too large, or shorter than the header says")
        return tuple.__new__(Query, (
            slot, epoch, _primitive_id(primitive), partition, type_, op, read, bound,
            unpack(data[at:end]), data[end:],
        ))  # fmt: skip
    except struct.error:
        raise BadRecord("a query cut short") from None
    except ValueError as error:
        raise BadRecord(f"not a query: {error}") from error


def decode_record(data: bytes) -> Record:
    """The loggable record in ``data``; raises :class:`BadRecord`."""
    kind = data[0] if data else 0
    if kind == Kind.COMMAND:
        return decode_command(data)
    if kind == Kind.BURST:
        return decode_burst(data)
    try:
        return _DECODERS[kind](data)
    except KeyError:
        raise BadRecord(f"a record of unknown kind {kind}") from None
    except struct.error:
        raise BadRecord(f"a record of kind {kind} cut short, or too long") from None
    except ValueError as error:
        raise BadRecord(f"not a record of kind {kind}: {error}") from error


def _decode_open(data: bytes) -> Open:
    _, slot, pslot, prevision, partition, type_, asked = OPEN_HEADER.unpack_from(data)
    return Open(slot, PrimitiveId(pslot, prevision), partition, type_, asked, data[OPEN_HEADER.size :])


def _decode_internal(data: bytes) -> Internal:
    _, type_, op, args_bytes = INTERNAL_HEADER.unpack_from(data)
    at = INTERNAL_HEADER.size
    return Internal(type_, op, unpack(data[at : at + args_bytes]), data[at + args_bytes :])


def _decode_delete(data: bytes) -> Delete:
    _, slot, pslot, prevision, partition = DELETE_RECORD.unpack(data)
    return Delete(slot, PrimitiveId(pslot, prevision), partition)


_DECODERS: Final[dict[int, Callable[[bytes], Record]]] = {
    Kind.REGISTER: lambda data: Register(*REGISTER_RECORD.unpack(data)[1:]),
    Kind.END_SESSION: lambda data: EndSession(*SESSION_RECORD.unpack(data)[1:]),
    Kind.EXPIRE: lambda data: Expire(*SESSION_RECORD.unpack(data)[1:]),
    Kind.CLOSE: lambda data: Close(*SESSION_RECORD.unpack(data)[1:]),
    Kind.FIRE: lambda data: Fire(*FIRE_RECORD.unpack(data)[1:]),
    Kind.MARKER: lambda data: Marker(data[1:]),
    Kind.OPEN: _decode_open,
    Kind.INTERNAL: _decode_internal,
    Kind.DELETE: _decode_delete,
    Kind.DELETED: lambda data: Deleted(*DELETED_RECORD.unpack(data)[1:]),
}


def encode_answer(code: int, revision: int, result: bytes = b"") -> bytes:
    """An answer: what is stored under a command's number, and sent."""
    return ANSWER_HEADER.pack(code, revision) + result


def encode_run_answer(count: int, revision: int) -> bytes:
    """The answer of a burst whose ``count`` commands are answered OK each, with no result, at revisions from
    ``revision`` on."""
    return ANSWER_HEADER.pack(Code.RUN, count) + U64.pack(revision)


def encode_burst_answer(answers: list[bytes]) -> bytes:
    """The answer of a burst whose commands have these answers."""
    parts = [ANSWER_HEADER.pack(Code.BURST, len(answers))]
    for answer in answers:
        parts.append(len(answer).to_bytes(4, "big"))
        parts.append(answer)
    return b"".join(parts)


def count_answers(answer: bytes) -> int:
    """How many commands an answer is for."""
    return int(ANSWER_HEADER.unpack_from(answer)[1]) if answer[0] in (Code.BURST, Code.RUN) else 1


class Answer(NamedTuple):
    """A decoded answer."""

    code: int
    revision: Revision
    result: bytes


def decode_answer(data: bytes) -> Answer:
    """The answer in ``data``; raises ``struct.error`` if it is too short."""
    code, revision = ANSWER_HEADER.unpack_from(data)
    return Answer(code, revision, data[ANSWER_HEADER.size :])


def encode_entry(log_time_ms: int, records: Iterable[bytes]) -> bytes:
    """The data of a Raft entry that holds ``records``, each as bytes."""
    parts = [U64.pack(log_time_ms)]
    for record in records:
        parts.append(len(record).to_bytes(4, "big"))
        parts.append(record)
    return b"".join(parts)


def decode_entry(data: bytes) -> tuple[int, Sequence[bytes]]:
    """The log time in ms and the records' bytes of an entry's data; raises :class:`BadRecord`."""
    try:
        (log_time_ms,) = U64.unpack_from(data)
        at, end = 8, len(data)
        records: list[bytes] = []
        while at < end:
            size = u32_at(data, at)
            at += 4
            if at + size > end:
                raise BadRecord("a record runs beyond its entry")
            records.append(data[at : at + size])
            at += size
    except (struct.error, IndexError) as error:
        raise BadRecord(f"not an entry's data: {error}") from error
    return log_time_ms, records
